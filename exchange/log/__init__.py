"""The log: durable topics with transactions, one protocol for every driver (D4).

In: messages appended inside a transaction. Out: entries, polled by a consumer group or read
by address. A transaction is all or nothing: appended messages and consumer positions become
visible together. Raises :class:`Fenced` when another worker already moved the position that
a transaction builds on, and :class:`exchange.errors.Transient` when the medium fails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from exchange.errors import Transient

CURSORS = "exchange.cursors"
"""Compacted topic of everything that is only ever read by its newest value per key."""
RECEIPTS = "exchange.receipts"


def raw_topic(resource: str) -> str:
    """Name the topic of what was pulled for ``resource``, before any check."""
    return f"exchange.raw.{resource}"


def sealed_topic(resource: str) -> str:
    """Name the topic of sealed batches of ``resource``."""
    return f"exchange.sealed.{resource}"


def quarantine_topic(resource: str) -> str:
    """Name the topic of refused records of ``resource``."""
    return f"exchange.quarantine.{resource}"


class Fenced(Transient):
    """Another worker of the group moved on; drop what was read and poll again."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it should exist; ``compacted`` keeps the newest entry per key."""

    name: str
    partitions: int = 1
    compacted: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """What a writer appends; headers are short UTF-8 text."""

    topic: str
    value: bytes
    key: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    partition: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """A message with its address; ``offset`` (偏移量) counts from 0 within the partition."""

    topic: str
    partition: int
    offset: int
    key: str
    value: bytes
    headers: Mapping[str, str]
    time: int
    """Append time, milliseconds since 1970 UTC."""


class Consumer(Protocol):
    """One member of a consumer group: each entry of its topics is polled once, in order."""

    def poll(self, *, max_entries: int, max_bytes: int, timeout: float = 0.0) -> list[Entry]:
        """Return the next entries of ONE partition, oldest first; ``[]`` after ``timeout`` s.

        At least one entry is returned when there is one, even when it exceeds ``max_bytes``.
        The read position moves on; the committed position does not.
        """

    def rewind(self) -> None:
        """Return to the committed positions, after a failed or fenced transaction."""

    def close(self) -> None:
        """Leave the group."""


class Transaction(Protocol):
    """Everything done through it becomes visible together, or not at all."""

    def append(self, message: Message) -> None:
        """Append a message at commit."""

    def commit(self, consumer: Consumer, topic: str, partition: int, offset: int) -> None:
        """Set the group's next offset to read; raises :class:`Fenced` when it was moved."""


class Log(Protocol):
    """A driver: ``exchange.log.embedded`` on one machine, ``exchange.log.kafka`` on many."""

    def ensure(self, topics: Sequence[Topic]) -> None:
        """Create the topics that are missing."""

    def topics(self) -> list[Topic]:
        """List the topics, by name."""

    def transaction(self, owner: str) -> AbstractContextManager[Transaction]:
        """Open a transaction; it commits when the block ends and rolls back on an exception.

        ``owner`` names the worker lane: a newer transaction of the same owner in another
        process fences the older one.
        """

    def consumer(self, group: str, topics: Sequence[str]) -> Consumer:
        """Join a consumer group (消费组)."""

    def read(self, topic: str, partition: int, offset: int, *, max_entries: int) -> list[Entry]:
        """Read by address, without a group; raises Integrity when ``offset`` was retained away."""

    def latest(self, topic: str, key: str) -> Entry | None:
        """Return the newest committed entry with this key of a compacted topic."""

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """Return the first kept offset and the next offset to be written."""

    def position(self, group: str, topic: str, partition: int) -> int:
        """Return the committed next offset of a group (the first kept one when none)."""

    def retain(self, topic: str, partition: int, before: int) -> None:
        """Drop entries below offset ``before`` (also below every group's position: refused)."""

    def close(self) -> None:
        """Release files or sockets."""
