"""Sealed batches: Avro records, hash tree, statement, container, proofs, verification."""
