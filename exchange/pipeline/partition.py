"""The state of a partition of a resource; the statements of a partition form a chain.

It is the newest message under :func:`partition_key` on the compacted topic, read and replaced
inside the transaction that seals: numbers and chain can neither be lost nor given out twice.
Partitions of one resource take their batch numbers in blocks from one :class:`Numbers`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from exchange.catalog.model import Limits
from exchange.errors import Transient
from exchange.text import Text
from exchange.validate.limits import Tally

_LAST_NUMBER = 99_999
BLOCK = 64
"""Batch numbers that a partition takes at once."""


def partition_key(resource: str, partition: int) -> str:
    """Name the state of a partition on the compacted topic."""
    return f"lane/{resource}/{partition}"


def numbers_key(resource: str) -> str:
    """Name the state of a resource's batch numbers on the compacted topic."""
    return f"numbers/{resource}"


@dataclass
class Numbers:
    """Which batch numbers (批次号) of a resource's day are given out, and to which partition."""

    day: str = ""
    """Local date, YYYYMMDD; never goes back, whatever the clock does."""
    last: int = 0
    blocks: dict[str, tuple[int, int]] = field(default_factory=dict)
    """The block that each partition took last: first and last number."""

    def block(self, partition: int, state: PartitionState, today: str) -> None:
        """Give a partition its next block; the same one again when nothing of it was used.

        Raises Transient when the day has no numbers left.
        """
        day = max(self.day, state.day, today)
        if day != self.day:
            self.day, self.last, self.blocks = day, 0, {}
        number = state.number if state.day == day else 0
        first, last = self.blocks.get(str(partition), (0, 0))
        if last <= number:
            first, last = self.last + 1, min(self.last + BLOCK, _LAST_NUMBER)
            if first > last:
                raise Transient(
                    Text("今天的批次号已用完", "today's batch numbers are used up"),
                    hint=Text(
                        "明天自动继续，数据留在日志中", "it goes on tomorrow; the log keeps all"
                    ),
                )
            self.last, self.blocks[str(partition)] = last, (first, last)
        state.day, state.number, state.upto = day, max(number, first - 1), last


@dataclass
class PartitionState:
    """What a partition goes on from."""

    day: str = ""
    """Local date of the last batch number, YYYYMMDD; never goes back, whatever the clock does."""
    number: int = 0
    upto: int = 0
    """Last number of the block that this partition has taken."""
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

    def has_number(self, today: str) -> bool:
        """Tell whether the partition's block has a number for a batch of ``today``."""
        return self.day >= today and self.number < self.upto

    def next_number(self) -> str:
        """Return the next batch number (批次号): date and five digits, per resource."""
        self.number += 1
        return f"{self.day}{self.number:05d}"

    def judge(self, limits: Limits, accepted: int, rejected: int) -> Text | None:
        """Count a chunk against the limits; halts the partition when the source has gone bad."""
        tally = Tally(limits, recent=self.recent, rejected=self.rejected - rejected)
        tally.add(accepted, rejected)
        self.recent = tally.recent
        exceeded = None if self.waived == self.pull else tally.exceeded()
        if exceeded is not None:
            self.halted = exceeded._asdict()
        return exceeded
