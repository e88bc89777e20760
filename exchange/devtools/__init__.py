"""Tools beside the product: demo, bench, synthetic data, servers of one's own on loopback."""
