"""The connectors that are installed with the node; each imports ``exchange.connect`` only."""
