"""The prefecture node (地市节点) of government data sharing."""

__version__ = "0.1.0"
