"""Connectors that come with the house; each imports ``exchange.connect`` and nothing else."""
