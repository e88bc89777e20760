"""The state of a lane: a partition of a resource, whose statements form a chain.

It is the newest message under :func:`lane_key` on the compacted topic, read and replaced inside
the transaction that seals: numbers and chain can neither be lost nor given out twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date

from exchange.catalog.model import Limits
from exchange.errors import Transient
from exchange.text import Text
from exchange.validate.limits import Tally

_LAST_NUMBER = 99_999


def lane_key(resource: str, lane: int) -> str:
    """Name the state of a lane on the compacted topic."""
    return f"lane/{resource}/{lane}"


@dataclass
class Lane:
    """What a lane goes on from."""

    day: str = ""
    """Local date of the last batch number, YYYYMMDD; never goes back, whatever the clock does."""
    number: int = 0
    statement: str = ""
    """Hash of the last statement."""
    pull: str = ""
    accepted: int = 0
    rejected: int = 0
    recent: list[tuple[int, int]] = field(default_factory=list)
    halted: dict[str, str] | None = None
    waived: str = ""
    """A pull that a person let go on over the limits."""

    def begin(self, pull: str) -> None:
        """Start to count anew with a new pull."""
        if pull != self.pull:
            self.pull, self.accepted, self.rejected, self.recent = pull, 0, 0, []

    def next_number(self, today: date) -> str:
        """Return the next batch number (批次号): date and five digits, per resource."""
        day = max(self.day, f"{today:%Y%m%d}")
        number = self.number + 1 if day == self.day else 1
        if number > _LAST_NUMBER:
            raise Transient(
                Text("今天的批次号已用完", "today's batch numbers are used up"),
                hint=Text("明天自动继续，数据留在日志中", "it goes on tomorrow; the log keeps all"),
            )
        self.day, self.number = day, number
        return f"{day}{number:05d}"

    def judge(self, limits: Limits, accepted: int, rejected: int) -> Text | None:
        """Count a chunk against the limits; halts the lane when the source has gone bad."""
        tally = Tally(limits, recent=self.recent, rejected=self.rejected - rejected)
        tally.add(accepted, rejected)
        self.recent = tally.recent
        exceeded = None if self.waived == self.pull else tally.exceeded()
        if exceeded is not None:
            self.halted = exceeded._asdict()
        return exceeded
