"""The log: durable topics with transactions, one protocol for every driver (D4).

In: messages appended inside a transaction. Out: entries, polled by a consumer group or read
by address. A transaction is all or nothing: appended messages and consumer positions become
visible together. Raises :class:`Fenced` when another worker already moved the position that
a transaction builds on, :class:`exchange.errors.Transient` when the medium fails, and
:class:`exchange.errors.Integrity` when what was kept is not what was written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from exchange.errors import Integrity, Misconfigured, Rejected, Transient
from exchange.text import Text

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from contextlib import AbstractContextManager

CURSORS = "exchange.cursors"
"""Compacted topic of everything that is only ever read by its newest value per key."""
RECEIPTS = "exchange.receipts"
EVIDENCE = "exchange.evidence"
"""What is in the evidence log (存证日志), in its order."""
SEALS = "exchange.seals"
"""Every step of the register of seals (电子印章台账), in its order."""
SOURCES = "exchange.sources"
"""Holds no messages: who reads one of its partitions pulls that share of the sources."""

MAX_VALUE_BYTES = 1_000_000
"""Largest value of a message: Kafka's default limit of 1 MiB, less room for its envelope."""


def raw_topic(resource: str) -> str:
    """Name the topic of what was pulled for ``resource``, before any check."""
    return f"exchange.raw.{resource}"


def sealed_topic(resource: str) -> str:
    """Name the topic of sealed batches of ``resource``."""
    return f"exchange.sealed.{resource}"


def quarantine_topic(resource: str) -> str:
    """Name the topic of refused records of ``resource``."""
    return f"exchange.quarantine.{resource}"


def records_topic(resource: str) -> str:
    """Name the topic of the records of ``resource`` for programs outside, one message each."""
    return f"exchange.records.{resource}"


def publish_group(resource: str) -> str:
    """Name the consumer group that publishes the records of ``resource``: one per resource.

    A group shares all sealed partitions out among its members; a member that publishes other
    resources would be given partitions that it does not read.
    """
    return f"publish.{resource}"


Partition = tuple[str, int]
"""A topic and one of its partitions (分区)."""


class Fenced(Transient):
    """Another worker of the group moved on; drop what was read and poll again."""


GAP_HINT = Text(
    "核对该主题的保留期;从来源补数,再由管理员移动该组的位置",
    "check the topic's retention; pull the missing rows again, then move the group's"
    " position by hand",
)


def gap(group: str, partition: Partition, position: int, first: int) -> Integrity:
    """Tell that entries were dropped before a group read them."""
    topic, number = partition
    return Integrity(
        Text(
            f"{topic}/{number} 的条目 {position} 至 {first - 1} 在「{group}」读取前已被清理",
            f"entries {position} to {first - 1} of {topic}/{number} were dropped"
            f" before {group} read them",
        ),
        hint=GAP_HINT,
    )


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it should exist; ``compacted`` keeps the newest entry per key."""

    name: str
    partitions: int = 1
    compacted: bool = False

    def __post_init__(self) -> None:
        """Refuse what a driver could not create."""
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", self.name) or self.partitions < 1:
            raise Misconfigured(
                Text(
                    f"主题「{self.name}」({self.partitions} 个分区)不合规则",
                    f"topic {self.name!r} with {self.partitions} partitions cannot exist",
                ),
                hint=Text(
                    "名称用 1–249 个字母、数字、点、下划线或连字符,至少一个分区",
                    "use 1-249 letters, digits, dots, underscores or hyphens, and 1 partition up",
                ),
            )
        if self.compacted and self.partitions != 1:
            raise Misconfigured(
                Text(
                    f"压缩主题「{self.name}」只能有一个分区",
                    f"compacted topic {self.name!r} must have exactly one partition",
                ),
                hint=Text(
                    "只有一个分区时,「最新」才有唯一的顺序",
                    "only one partition gives 'newest' a single order; set partitions to 1",
                ),
            )


@dataclass(frozen=True, slots=True)
class Message:
    """What a writer appends; headers are short UTF-8 text."""

    topic: str
    value: bytes
    key: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    partition: int = 0

    def __post_init__(self) -> None:
        """Refuse a value that not every driver can carry."""
        if len(self.value) > MAX_VALUE_BYTES:
            raise Rejected(
                Text(
                    f"主题「{self.topic}」的消息有 {len(self.value)} 字节,上限 {MAX_VALUE_BYTES}",
                    f"a message for {self.topic} has {len(self.value)} bytes,"
                    f" the limit is {MAX_VALUE_BYTES}",
                ),
                hint=Text("减少每条消息的行数", "put fewer rows into a message"),
            )


@dataclass(frozen=True, slots=True)
class Entry:
    """A message with its address.

    ``offset`` (偏移量) rises within the partition. Whether it leaves gaps is the driver's
    affair: the next offset to read is that of the last entry read plus one.
    """

    topic: str
    partition: int
    offset: int
    key: str
    value: bytes
    headers: Mapping[str, str]
    time: int
    """Append time, milliseconds since 1970 UTC; never falls within a partition."""


class Consumer(Protocol):
    """One member of a consumer group: each entry of its topics is polled once, in order."""

    def poll(
        self,
        *,
        max_entries: int,
        max_bytes: int,
        timeout: float = 0.0,
        skip: Collection[Partition] = (),
    ) -> list[Entry]:
        """Return the next entries of ONE partition, oldest first; ``[]`` after ``timeout`` s.

        At least one entry is returned when there is one, even when it exceeds ``max_bytes``
        (bytes of values). Partitions in ``skip`` are left alone this time. The read position moves
        on; the committed position does not.
        """

    def assigned(self) -> frozenset[Partition]:
        """Return the partitions of its topics that this member reads now; others read the rest."""

    def rewind(self) -> None:
        """Return to the committed positions; duty of the caller after any failed transaction."""

    def close(self) -> None:
        """Leave the group; the group's positions stay."""


class Transaction(Protocol):
    """Everything done through it becomes visible together, or not at all."""

    def append(self, message: Message) -> None:
        """Append a message when the block ends; nobody sees it before, not even this worker."""

    def commit(self, consumer: Consumer, topic: str, partition: int, offset: int) -> None:
        """Set the group's next offset to read when the block ends.

        :class:`Fenced` is raised here or by the end of the block when another member moved
        the position since ``consumer`` polled from it.
        """


class Log(Protocol):
    """A driver: ``exchange.log.embedded.log`` on one machine, ``exchange.log.kafka`` on many."""

    def ensure(self, topics: Sequence[Topic]) -> None:
        """Create the topics and partitions that are missing; refuses to change compaction."""

    def topics(self, names: Sequence[str] | None = None) -> list[Topic]:
        """List the topics that there are, all or those of ``names``, by name.

        Few names are a quick question, whatever the number of topics.
        """

    def transaction(self, owner: str) -> AbstractContextManager[Transaction]:
        """Open a transaction; it commits when the block ends and rolls back on an exception.

        ``owner`` names the worker (one thread at a time). The first transaction of an
        owner in a process registers it; from then on every other process that used the same
        owner gets :class:`Fenced`, once, and registers anew with its next transaction. Read
        what the transaction builds on inside the block, so that a stale read is fenced.
        """

    def claim(self, owner: str) -> bool:
        """Make ``owner`` ours, as a first transaction would; True when it was not.

        True means that others may have written as this owner since it was last ours: what was
        read before is stale.
        """

    def consumer(self, group: str, topics: Sequence[str], *, complete: bool = False) -> Consumer:
        """Join a consumer group (消费组).

        A group new to a topic starts at its first kept entry, and from now on retention
        waits for it. ``complete``: entries dropped before that are a gap: Integrity is raised,
        here or by the first poll.
        """

    def read(self, topic: str, partition: int, offset: int, *, max_entries: int) -> list[Entry]:
        """Read committed entries from an address on, without a group; ``[]`` at the end.

        Raises Integrity when ``offset`` was retained away or lies beyond the end.
        """

    def latest(self, topic: str, key: str) -> Entry | None:
        """Return the newest committed entry with this key of a compacted topic, if any."""

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """Return the first kept offset and the next offset to be written."""

    def position(self, group: str, topic: str, partition: int) -> int:
        """Return the committed next offset of a group (the first kept one when none)."""

    def slowest(self, topic: str, partition: int) -> tuple[str, int]:
        """Return the group that is furthest behind, and its position: retention waits for it.

        An empty name and the end when no group is behind.
        """

    def retain(self, topic: str, partition: int, before: int) -> None:
        """Drop entries below offset ``before``; refused (Rejected) past any group's position."""

    def close(self) -> None:
        """Release files or sockets."""
