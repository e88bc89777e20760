"""The node (节点): opens what ``exchange.yaml`` names, makes a new one, administers its seals."""
