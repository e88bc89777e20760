"""Time limits of an outgoing connection."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long one request may take, in seconds; raises ValueError for limits without sense."""

    connect: float = 5.0
    """For one address of the host."""
    read: float = 60.0
    """Of silence."""
    total: float = 300.0
    """For everything."""

    def __post_init__(self) -> None:
        """Refuse limits that make no sense."""
        if not 0 < min(self.connect, self.read) <= max(self.connect, self.read) <= self.total:
            raise ValueError("need 0 < connect, read <= total")
