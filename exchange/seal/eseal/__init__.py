"""Electronic seals (电子印章): structures, signatures, folders, life cycle."""
