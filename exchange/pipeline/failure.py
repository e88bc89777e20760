"""Why the last pull of a source failed: a note in the log that status and doctor read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Self

from exchange.log import Entry, Message
from exchange.pipeline.messages import STATE_VERSION, state_message, state_of
from exchange.text import Text

_NONE = Text("", "")


def failure_key(source: str) -> str:
    """Name the note of why a source's last pull failed."""
    return f"failure/{source}"


@dataclass(frozen=True, slots=True)
class PullFailure:
    """Why the last pull of a source failed, or what it had to leave out."""

    kind: str = ""
    """Name of the error's class; empty: it went well."""
    what: Text = _NONE
    hint: Text = _NONE
    since: str = ""
    """When it failed so for the first time."""

    def is_same(self, other: PullFailure) -> bool:
        """Whether two pulls failed alike."""
        return (self.kind, self.what, self.hint) == (other.kind, other.what, other.hint)

    def to_message(self, source: str) -> Message:
        """Make the message."""
        state = asdict(self) | {"what": self.what._asdict(), "hint": self.hint._asdict()}
        return state_message(failure_key(source), state | {"version": STATE_VERSION})

    @classmethod
    def of(cls, entry: Entry | None) -> Self:
        """Read the newest state; none failed when there is none."""
        state = state_of(entry)
        return cls(**state | {name: Text(**state[name]) for name in ("what", "hint") if state})
