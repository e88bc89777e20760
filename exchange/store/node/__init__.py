"""What a node keeps: deliveries, receipts, quarantine, pulls, the register of its seals."""
