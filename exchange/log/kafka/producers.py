"""Writers: one transactional producer per owner, the least recently used ones closed.

A transaction is gathered in memory and sent when it is complete, so that it is open for
milliseconds. Whatever goes wrong, the producer is thrown away: the next one of the same owner
makes the cluster decide what the last one left open, before anything else happens.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from kafka import KafkaProducer, errors
from kafka.structs import OffsetAndMetadata, TopicPartition

from exchange.kafka_client import opened
from exchange.log.kafka.bulk import add, chunks, partitions_of
from exchange.log.kafka.client import PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kafka.structs import ConsumerGroupMetadata

    from exchange.log import Partition

CAP = 64
"""Producers kept open: each has a thread and a connection to each broker."""
_BATCH_BYTES = 900_000
"""Messages that share a batch: below the limit of a topic's messages (see ``topics``)."""
_REQUEST_BYTES = 8_000_000
_RETRY_MS = 2
"""Between two transactions of an owner the cluster needs a moment to finish the first."""
_AGAIN_MS = 100
"""Between two attempts to write a batch that a broker cannot take now."""
_LINGER_MS = 1_000
"""A batch waits until it is full or the transaction ends, whichever comes first."""
_ABORT_SECONDS = 2.0
_STOP_SECONDS = 5.0
_NEWS_SECONDS = 1.0


class Record(NamedTuple):
    """A message as it is sent; without ``partition`` its key decides, as in Java."""

    topic: str
    partition: int | None
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


Positions = tuple["ConsumerGroupMetadata", "Mapping[Partition, int]"]
"""A member, and the offsets that move in its name."""


class _Producer(KafkaProducer):  # type: ignore[misc]  # the library has no types
    """kafka-python's producer with a time limit on everything."""

    def __init__(self, *, monotonic: Callable[[], float], **config: Any) -> None:
        self._monotonic = monotonic
        super().__init__(**config)
        self._accumulator.config["retry_backoff_ms"] = _AGAIN_MS

    def send_transaction(
        self, records: Sequence[Record], positions: Sequence[Positions], seconds: float
    ) -> dict[Partition, int]:
        """Send it all and commit; returns the offset after the last record of each partition."""
        deadline = self._monotonic() + seconds
        manager = self._transaction_manager
        try:
            self._learn(records, deadline)
            self.begin_transaction()
            sent = [
                self.send(
                    record.topic,
                    record.value,
                    record.key,
                    record.headers,
                    record.partition,
                )
                for record in records
                if record.partition is not None
            ]
            sent += self._by_key(records)
            moving = None
            for member, partitions in positions:  # one at a time: the library mixes up groups
                if moving is not None:
                    self._await(moving, deadline)
                moving = manager.send_offsets_to_transaction(_offsets(partitions), member)
            with suppress(errors.UnknownError):  # of a batch that was split; its records tell
                self.flush(seconds)
            ends: dict[Partition, int] = {}
            for result in sent:
                written = result.get(max(0.0, deadline - self._monotonic()))
                ends[written.topic, written.partition] = written.offset + 1
            if moving is not None:
                self._await(moving, deadline)
            self._await(manager.begin_commit(), deadline)
        except errors.KafkaError as error:
            why = manager.last_error or error
            with suppress(errors.KafkaError):  # free the partitions for their readers
                self._await(manager.begin_abort(), self._monotonic() + _ABORT_SECONDS)
            raise why from error
        return ends

    def _by_key(self, records: Sequence[Record]) -> list[Any]:
        """Send the records whose key decides: there may be very many."""
        topics: dict[str, list[tuple[bytes, bytes | None]]] = defaultdict(list)
        for record in records:
            if record.partition is None:
                topics[record.topic].append((record.key or b"", record.value))
        sent = []
        for topic, pairs in topics.items():
            shares: dict[int, list[tuple[bytes, bytes | None]]] = defaultdict(list)
            numbers = partitions_of([key for key, _ in pairs], len(self.partitions_for(topic)))
            for number, pair in zip(numbers, pairs, strict=True):
                shares[number].append(pair)
            sent += [
                add(self, TopicPartition(topic, number), chunk)
                for number, share in shares.items()
                for chunk in chunks(share, _BATCH_BYTES)
            ]
        return sent

    def stop(self) -> None:
        """End thread and connections without waiting for anything."""
        self._unregister_cleanup()
        self._closed = True
        self._sender.force_close()
        self._sender.join(_STOP_SECONDS)

    def _learn(self, records: Sequence[Record], deadline: float) -> None:
        """Know the partitions that are written to; one may be a moment old."""
        partitions = {(record.topic, record.partition or 0) for record in records}
        for topic, _ in partitions:  # so that one answer tells of all of them
            self._sender.add_topic(topic)
        for topic, partition in partitions:
            while partition not in self.partitions_for(topic):
                if self._monotonic() >= deadline:
                    raise errors.UnknownTopicOrPartitionError(f"{topic}/{partition}")
                known = threading.Event()
                self._metadata.request_update().add_both(lambda *_, known=known: known.set())
                self._sender.wakeup()
                known.wait(_NEWS_SECONDS)

    def _await(self, result: Any, deadline: float) -> None:
        self._sender.wakeup()
        if not result.wait(1000 * max(0.0, deadline - self._monotonic())):
            raise errors.KafkaTimeoutError("the transaction was not finished in time")


def _offsets(partitions: Mapping[Partition, int]) -> dict[TopicPartition, OffsetAndMetadata]:
    return {
        TopicPartition(*partition): OffsetAndMetadata(at, "", -1)
        for partition, at in partitions.items()
    }


class Producers:
    """The producers of a process, by owner; used by any thread, an owner by one at a time."""

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        transaction_seconds: float,
        request_seconds: float,
        monotonic: Callable[[], float],
        cap: int = CAP,
    ) -> None:
        """Connect nothing yet."""
        milliseconds = int(request_seconds * 1000)
        self._config = dict(config) | {
            "monotonic": monotonic,
            "transaction_timeout_ms": int(transaction_seconds * 1000),
            "delivery_timeout_ms": milliseconds + _LINGER_MS,
            "max_block_ms": milliseconds,
            "batch_size": _BATCH_BYTES,
            "max_request_size": _REQUEST_BYTES,
            "linger_ms": _LINGER_MS,
            "retry_backoff_ms": _RETRY_MS,
            "allow_auto_create_topics": False,
            "metrics_enabled": False,
        }
        self._seconds = transaction_seconds
        self._cap = cap
        self._lock = threading.Lock()
        self._open: OrderedDict[str, _Producer] = OrderedDict()
        self._busy: set[str] = set()

    def claim(self, owner: str) -> bool:
        """Make ``owner`` ours; True when it was not: whoever used it before is fenced."""
        with self._lock:
            if owner in self._open:
                self._open.move_to_end(owner)
                return False
        producer = opened(_Producer, transactional_id=PREFIX + owner, **self._config)
        try:
            producer.init_transactions()
        except BaseException:
            producer.stop()
            raise
        with self._lock:
            self._open[owner] = producer
            idle = [name for name in self._open if name not in self._busy and name != owner]
            surplus = [self._open.pop(name) for name in idle[: max(0, len(self._open) - self._cap)]]
        for one in surplus:
            one.stop()
        return True

    @contextmanager
    def using(self, owner: str) -> Iterator[None]:
        """Keep the producer of ``owner``, which is claimed, open while it is used."""
        with self._lock:
            self._busy.add(owner)
        try:
            yield
        finally:
            with self._lock:
                self._busy.discard(owner)

    def send(
        self, owner: str, records: Sequence[Record], positions: Sequence[Positions]
    ) -> dict[Partition, int]:
        """Write a transaction of ``owner``; returns each partition's offset after the last one."""
        with self._lock:
            producer = self._open.get(owner)
        if producer is None:
            raise errors.ProducerFencedError
        try:
            return producer.send_transaction(records, positions, self._seconds)
        except BaseException:
            with self._lock:
                self._open.pop(owner, None)
            producer.stop()
            raise

    def close(self) -> None:
        """Close all of them."""
        with self._lock:
            producers = list(self._open.values())
            self._open.clear()
        for producer in producers:
            producer.stop()
