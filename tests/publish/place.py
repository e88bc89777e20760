"""Sealed batches on a broker to publish, and a reader that has nothing of ours."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import fastavro
import polars as pl
from kafka import KafkaConsumer, TopicPartition

from exchange.catalog.avro import schema_text
from exchange.catalog.loader import loads
from exchange.catalog.model import Catalog, Resource
from exchange.log import Log, Message, sealed_topic
from exchange.pipeline.context import PipelineContext
from exchange.publish.stage import PublishStage
from exchange.seal.batch.avro import parse_schema
from exchange.seal.batch.build import BatchFacts, build, pack
from exchange.seal.batch.columns import encode, frame_schema
from tests.seal.samples import FACTS, sealers

CATALOG = """\
version: "{version}"
area: {{code: 232700, name: 大兴安岭地区}}
departments: {{data: {{code: 11232700MB1C531139, name: 局}}}}
resources:
  {name}:
    code: 307001/1
    title: 工单
    department: data
    share: {share}
    condition: 依申请
    cycle: daily
    sensitivity: {sensitivity}
    key: [{key}]
    fields: {{no: 编号 text(20)!, place: 地点 text(20)!, title: 标题 text(50)!{more}}}
"""


def catalog(
    name: str,
    *,
    key: str = "no",
    more: str = "",
    version: str = "1",
    share: int = 1,
    sensitivity: str = "S1",
) -> Catalog:
    """Make a catalog with one resource; ``more`` fields behind the three it has."""
    return loads(
        CATALOG.format(
            name=name, key=key, more=more, version=version, share=share, sensitivity=sensitivity
        )
    )


def context(
    found: Catalog, log: Log, at: Callable[[str], None] = lambda _: None
) -> PipelineContext:
    return PipelineContext(found, log, lambda: datetime.now(UTC), os.urandom, at)


@dataclass(frozen=True)
class Change:
    """What happened to a record; ``title`` tells one change from another."""

    operation: str
    no: str
    title: str

    @property
    def row(self) -> dict[str, Any]:
        return {
            "cd_operation": self.operation,
            "no": self.no,
            "place": f"{self.no}号",
            "title": self.title,
        }


def changes(count: int, keys: int) -> list[Change]:
    """Make changes: each key is inserted, updated, deleted and inserted again, many times over."""
    turns = "IUUD"
    return [
        Change(turns[place // keys % 4], f"n{place % keys}", f"第{place}次")
        for place in range(count)
    ]


def sealed(
    resource: Resource, rows: Sequence[Mapping[str, Any]], number: int, partition: int = 0
) -> Message:
    """Seal rows as one batch, ready to append."""
    schema = parse_schema(schema_text(resource))
    types = frame_schema(schema)
    frame = pl.DataFrame([{name: row.get(name) for name in types} for row in rows], schema=types)
    (packed,) = pack(encode(frame, schema))
    facts: BatchFacts = replace(
        FACTS, resource=resource.name, batch_no=f"20261123{number:05}", lane=partition
    )
    batch = build(packed, facts, sealer=sealers()[0], seed=os.urandom(16))
    return Message(
        sealed_topic(resource.name),
        batch.data,
        facts.batch_no,
        {
            "rows": str(len(rows)),
            "statement": batch.digest,
            "root": batch.statement.root,
            "pull": "p",
        },
        partition,
    )


def append(log: Log, messages: Sequence[Message]) -> None:
    with log.transaction("sealing") as tx:
        for message in messages:
            tx.append(message)


# --- outside: nothing of ours from here on -----------------------------------------------------


@dataclass(frozen=True)
class ConsumedMessage:
    """A message as a program outside sees it."""

    partition: int
    offset: int
    key: bytes
    value: bytes | None


def read(bootstrap: Sequence[str], topic: str) -> list[ConsumedMessage]:
    """Read everything committed on a topic, by kafka-python alone."""
    consumer = KafkaConsumer(
        bootstrap_servers=list(bootstrap),
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    try:
        consumer.topics()
        partitions = [TopicPartition(topic, n) for n in consumer.partitions_for_topic(topic) or ()]
        consumer.assign(partitions)
        ends = consumer.end_offsets(partitions)
        items: list[ConsumedMessage] = []
        more = bool(partitions)
        while more:  # once at least: closed while it connects, the library leaves a socket open
            for records in consumer.poll(timeout_ms=500).values():
                items += [ConsumedMessage(r.partition, r.offset, r.key, r.value) for r in records]
            more = any(consumer.position(partition) < ends[partition] for partition in partitions)
        return sorted(items, key=lambda item: (item.partition, item.offset))
    finally:
        consumer.close()


class Decoder:
    """Reads the wire format by fastavro and the registry's REST interface."""

    def __init__(self, schema: Callable[[int], Any]) -> None:
        self._ask = schema
        self._schemas: dict[int, Any] = {}

    def __call__(self, message: bytes) -> Any:
        stream = io.BytesIO(message)
        assert stream.read(1) == b"\x00"
        number = int.from_bytes(stream.read(4), "big")
        if number not in self._schemas:
            self._schemas[number] = fastavro.parse_schema(self._ask(number))
        result = fastavro.schemaless_reader(stream, self._schemas[number], None)
        assert not stream.read()
        return result


def by_key(seen: Sequence[ConsumedMessage], decode: Decoder) -> dict[str, list[str | None]]:
    """Return the titles of each key in order, None for a tombstone."""
    values: dict[str, list[str | None]] = {}
    for item in seen:
        title = None if item.value is None else decode(item.value)["title"]
        values.setdefault(decode(item.key)["no"], []).append(title)
    return values


def expected(made: Sequence[Change]) -> dict[str, list[str | None]]:
    values: dict[str, list[str | None]] = {}
    for item in made:
        values.setdefault(item.no, []).append(None if item.operation == "D" else item.title)
    return values


def lines(text: bytes) -> Iterator[Any]:
    return (json.loads(line) for line in text.splitlines())


def drain(stage: PublishStage) -> int:
    """Publish what is there; return how many records."""
    counts = iter(stage.step, None)
    return sum(counts)
