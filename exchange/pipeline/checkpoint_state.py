"""What the log knows of the checkpoints of the evidence log."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final, Self

from exchange.log import Entry, Message
from exchange.pipeline.messages import state_message, state_of

CHECKPOINT_KEY: Final = "checkpoint"


@dataclass(frozen=True, slots=True)
class CheckpointState:
    """How many entries the newest checkpoint of the evidence log has, and the newest witnessed."""

    size: int = 0
    witnessed: int = 0

    def to_message(self) -> Message:
        """Make the message."""
        return state_message(CHECKPOINT_KEY, asdict(self))

    @classmethod
    def of(cls, entry: Entry | None) -> Self:
        """Read the newest state."""
        return cls(**state_of(entry))
