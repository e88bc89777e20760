"""A source that a person has paused: a note in the log, so that every worker sees it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Self

from exchange.errors import Rejected
from exchange.log import Entry, Message
from exchange.pipeline.messages import STATE_VERSION, state_message, state_of
from exchange.text import Text, with_beijing


def pause_key(source: str) -> str:
    """Name the note of whether a source is paused."""
    return f"pause/{source}"


@dataclass(frozen=True, slots=True)
class Pause:
    """Since when a source is paused (拉取暂停), by whom and why.

    It is not when ``since`` is empty.
    """

    since: str = ""
    by: str = ""
    reason: str = ""

    def to_message(self, source: str) -> Message:
        """Make the message."""
        return state_message(pause_key(source), asdict(self) | {"version": STATE_VERSION})

    @classmethod
    def of(cls, entry: Entry | None) -> Self | None:
        """Read the newest note; None while the source is not paused."""
        pause = cls(**state_of(entry))
        return pause if pause.since else None

    def describe(self) -> Text:
        """Say it to a person."""
        reason = Text(f"：{self.reason}", f": {self.reason}") if self.reason else Text("", "")
        since = with_beijing(self.since)
        return Text(
            f"已由 {self.by} 于 {since} 暂停{reason.zh}",
            f"paused by {self.by} at {since}{reason.en}",
        )

    def refusal(self, source: str) -> Rejected:
        """Refuse to pull the source."""
        text = self.describe()
        return Rejected(
            Text(f"数据源 {source} {text.zh}", f"source {source} is {text.en}"),
            hint=Text(
                f"继续拉取：exchange source resume {source}",
                f"to go on: `exchange source resume {source}`",
            ),
        )
