"""What a receiver keeps: batches with their receipts, checkpoints of its callers' logs."""
