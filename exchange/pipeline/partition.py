"""The state of a partition of a resource; the statements of a partition form a chain.

It is the newest message under :func:`partition_key` on the compacted topic, read and replaced
inside the transaction that seals: numbers and chain can neither be lost nor given out twice.
Partitions of one resource take their batch numbers in blocks from one :class:`Numbers`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Self

from exchange.errors import Transient
from exchange.log import Entry, Message
from exchange.pipeline.messages import STATE_VERSION, state_message, state_of
from exchange.text import Text
from exchange.validate.limits import Tally

if TYPE_CHECKING:
    from exchange.catalog.model import Limits

_LAST_NUMBER = 99_999
BLOCK = 64
"""Batch numbers that a partition takes at once."""


def partition_key(resource: str, partition: int) -> str:
    """Name the state of a partition on the compacted topic."""
    return f"lane/{resource}/{partition}"


def numbers_key(resource: str) -> str:
    """Name the state of a resource's batch numbers on the compacted topic."""
    return f"numbers/{resource}"


def origin(pull: str) -> str:
    """Return the pull that ``pull`` goes on with; itself when it began anew."""
    return pull.partition(".")[0]


def continuation(pull: str) -> str:
    """Name the pull that goes on where ``pull`` was broken off: ``x``, ``x.2``, ``x.3``.

    It is a pull of its own, for a record may have changed meanwhile. What a person let go on
    over the limits stays so until its end.
    """
    number = pull.partition(".")[2]
    return f"{origin(pull)}.{int(number or 1) + 1}"


@dataclass(frozen=True, slots=True)
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
    recent: tuple[tuple[int, int], ...] = ()
    """Newest chunks of the pull: rows, refused."""
    halted: Text | None = None
    """Why it waits for a person."""
    waived: str = ""
    """A pull that a person let go on over the limits."""
    sealed_at: str = ""
    """When the last statement was sealed, as in it; never goes back, whatever the clock does."""

    def to_message(self, resource: str, partition: int) -> Message:
        """Make the message."""
        halted = None if self.halted is None else self.halted._asdict()
        state = asdict(self) | {"version": STATE_VERSION, "halted": halted}
        if not self.sealed_at:  # as it was written before there was one
            del state["sealed_at"]
        return state_message(partition_key(resource, partition), state)

    @classmethod
    def of(cls, entry: Entry | None) -> Self:
        """Read the newest state; that of a new partition when there is none."""
        state = state_of(entry)
        if state.get("halted"):
            state["halted"] = Text(**state["halted"])
        state["recent"] = tuple((rows, refused) for rows, refused in state.get("recent", ()))
        return cls(**state)

    def begin(self, pull: str) -> Self:
        """Start to count anew with a new pull."""
        if pull == self.pull:
            return self
        return replace(self, pull=pull, accepted=0, rejected=0, recent=())

    def has_number(self, today: str) -> bool:
        """Tell whether the partition's block has a number for a batch of ``today``."""
        return self.day >= today and self.number < self.upto

    def next_number(self) -> Self:
        """Take the next number of the block."""
        return replace(self, number=self.number + 1)

    @property
    def batch_no(self) -> str:
        """The batch number (批次号) taken last: date and five digits, unique in the resource."""
        return f"{self.day}{self.number:05d}"

    def judge(self, limits: Limits, accepted: int, rejected: int) -> Self:
        """Count a chunk against the limits; halted when the source has gone bad.

        The chunk is counted in ``rejected`` already.
        """
        tally = Tally(limits, recent=self.recent, rejected=self.rejected - rejected)
        tally.add(accepted, rejected)
        exceeded = None if origin(self.waived) == origin(self.pull) else tally.exceeded()
        return replace(self, recent=tuple(tally.recent), halted=exceeded or self.halted)

    def release(self) -> Self:
        """Go on as a person asked: neither this pull nor what goes on with it is judged again."""
        return replace(self, halted=None, waived=self.pull, recent=())


@dataclass(frozen=True, slots=True)
class Numbers:
    """Which batch numbers of a resource's day are given out, and to which partition."""

    day: str = ""
    """Local date, YYYYMMDD; never goes back, whatever the clock does."""
    last: int = 0
    blocks: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """The block that each partition took last: first and last number."""

    def to_message(self, resource: str) -> Message:
        """Make the message."""
        return state_message(numbers_key(resource), asdict(self) | {"version": STATE_VERSION})

    @classmethod
    def of(cls, entry: Entry | None) -> Self:
        """Read the newest state."""
        return cls(**state_of(entry))

    def block(
        self, partition: int, state: PartitionState, today: str
    ) -> tuple[Numbers, PartitionState]:
        """Give a partition its next block; the same one again when nothing of it was used.

        Raises Transient when the day has no numbers left.
        """
        day = max(self.day, state.day, today)
        whole = self if day == self.day else Numbers(day)
        number = state.number if state.day == day else 0
        first, last = whole.blocks.get(str(partition), (0, 0))
        if last <= number:
            first, last = whole.last + 1, min(whole.last + BLOCK, _LAST_NUMBER)
            if first > last:
                raise Transient(
                    Text("今天的批次号已用完", "today's batch numbers are used up"),
                    hint=Text(
                        "明天自动继续，数据留在日志中", "it goes on tomorrow; the log keeps all"
                    ),
                )
            whole = Numbers(day, last, {**whole.blocks, str(partition): (first, last)})
        return whole, replace(state, day=day, number=max(number, first - 1), upto=last)
