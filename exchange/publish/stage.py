"""The stage sealed → records: one more way out of the log, beside the province's.

Exactly once: the messages and the group's position are one transaction of the log.
A partition (分区) is published in its order, and every record of a key goes from one partition to
one partition: so the newest message of a key is its newest state.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, cast

from exchange.catalog.model import Resource, Sensitivity, ShareType
from exchange.errors import ExchangeError, Integrity, Misconfigured, Rejected
from exchange.foreign import original
from exchange.log import (
    Entry,
    Log,
    Partition,
    Topic,
    Transaction,
    publish_group,
    records_topic,
    sealed_topic,
)
from exchange.pipeline.context import PipelineContext
from exchange.pipeline.messages import SealedEntry
from exchange.pipeline.stage import Reading
from exchange.publish.registry import Schemas
from exchange.publish.wire_format import Records, cut_records, key_schema
from exchange.seal.batch.build import Batch, open_batch
from exchange.text import Text

_ENTRIES = 8
_BYTES = 4 * 1024 * 1024
_RECORD_BYTES = 16 * 1024 * 1024
"""Bytes of records from which on a transaction takes no further batch."""
_PERSONAL = (Sensitivity.S3, Sensitivity.S4)


def check_readable(resource: Resource, names: Sequence[str]) -> None:
    """Refuse a resource that not everybody may read, unless the settings name it.

    Raises Misconfigured saying why.
    """
    personal = [field.title for field in resource.fields if field.sensitivity in _PERSONAL]
    if resource.name in names or (resource.share_type is ShareType.UNCONDITIONAL and not personal):
        return
    if resource.share_type is not ShareType.UNCONDITIONAL:
        why = Text("不是无条件共享", "is not shared unconditionally")
    else:
        titles = "、".join(personal[:5])
        why = Text(f"含个人信息（{titles}）", f"holds personal data ({titles})")
    raise Misconfigured(
        Text(f"资源 {resource.name} {why.zh}，不能明文发布", f"resource {resource.name} {why.en}"),
        hint=Text(
            "凡能读该主题者均有权查看时，在 registry.readable 中列出该资源",
            "published records are readable; if all who can read the topic may see them, name the "
            "resource in registry.readable",
        ),
    )


class RecordsTransaction(Transaction, Protocol):
    """A transaction that takes messages for programs outside, too."""

    def put(self, topic: str, key: bytes, value: bytes | None) -> None:
        """Append a message as it is, to the partition of its key; None is a tombstone."""


class RecordsLog(Log, Protocol):
    """A driver on which programs outside can read: Kafka."""

    def transaction(self, owner: str) -> AbstractContextManager[RecordsTransaction]:
        """Open a transaction; as in :class:`exchange.log.Log`."""


@dataclass
class PublishStage:
    """Publishes the partitions of a resource that this worker reads.

    ``foreign`` counts messages of others in the sealed topic; they are passed over, and the
    stage that delivers keeps them in quarantine.
    """

    context: PipelineContext
    resource: Resource
    schemas: Schemas

    def __post_init__(self) -> None:
        """Join the consumer group; nothing is read yet."""
        self._log = cast("RecordsLog", self.context.log)
        self._topic = records_topic(self.resource.name)
        self.context.ensure(self.resource.name)
        self._log.ensure([Topic(self._topic, self.context.partitions(self.resource.name))])
        topics = [sealed_topic(self.resource.name)]
        self._reading = Reading(
            self._log, publish_group(self.resource.name), topics, complete=False
        )
        self.foreign = 0
        self._stuck: set[Partition] = set()

    def close(self) -> None:
        """Leave the consumer group."""
        self._reading.close()

    def step(self) -> int | None:
        """Publish the next batches of a partition; return how many records, None without a batch.

        After 0 there may be more in a moment: partitions move between workers. A partition that
        cannot go on raises why, once: then the others go on without it, until :meth:`retry`.
        """
        entries = self._reading.poll(_ENTRIES, _BYTES, skip=self._stuck)
        if not entries:
            return None
        try:
            return self._reading.attempt(lambda: self._take(entries)) or 0
        except (Integrity, Rejected):
            self._stuck.add((entries[0].topic, entries[0].partition))
            raise

    def retry(self) -> None:
        """Try the partitions again that could not go on."""
        self._stuck.clear()

    def _take(self, entries: Sequence[Entry]) -> int:
        results: list[Records] = []
        size = foreign = 0
        last: Entry | None = None
        for entry in entries:
            if SealedEntry.of(entry) is not None:
                try:
                    batch = self._open(entry)
                    results.append(self._records_of(batch, entry))
                except ExchangeError:
                    if last is None:
                        raise
                    break  # what stands before it is published first
                size += len(batch.records)
            else:
                foreign += 1
            last = entry
            if size >= _RECORD_BYTES:
                break
        assert last is not None  # noqa: S101 - there is an entry, and it did not raise
        self.context.failpoint("publish:before")
        with self._log.transaction(f"publish/{self.resource.name}/{last.partition}") as tx:
            for records in results:
                for key, value in zip(records.keys, records.values, strict=True):
                    tx.put(self._topic, key, value)
            self._reading.commit(tx, last)
        self.context.failpoint("publish:after")
        if last is not entries[-1]:
            self._reading.rewind()
        self.foreign += foreign
        return sum(len(records.keys) for records in results)

    def _open(self, entry: Entry) -> Batch:
        """Take a batch apart; raises Integrity for anything but one of this resource."""
        try:
            batch = open_batch(entry.value)
        except Integrity as error:
            raise _foreign(entry, error.what) from error
        if batch.statement.resource != self.resource.name:
            other = batch.statement.resource
            raise _foreign(entry, Text(f"属于资源 {other}", f"it is of resource {other}"))
        return batch

    def _records_of(self, batch: Batch, entry: Entry) -> Records:
        text, key = batch.schema.text, self.resource.key
        key_id = self.schemas.number(f"{self._topic}-key", key_schema(text, key))
        value_id = self.schemas.number(f"{self._topic}-value", text)
        try:
            return cut_records(
                batch.records,
                batch.offsets,
                batch.schema,
                key,
                key_id=key_id,
                value_id=value_id,
            )
        except ValueError as error:
            raise _foreign(entry, original(error)) from error


def _foreign(entry: Entry, why: Text) -> Integrity:
    where = f"{entry.topic}/{entry.partition}/{entry.offset}"
    return Integrity(
        Text(f"{where} 不是本资源的封签批次：{why.zh}", f"{where} is no batch of ours: {why.en}"),
        hint=Text(
            "该分区停止发布，其他资源不受影响；请查明是谁写入了该主题",
            "this partition is published no further, others go on; find out who wrote to the topic",
        ),
    )
