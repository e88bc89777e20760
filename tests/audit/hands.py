"""What an insider with every key does to a node's files: valid checksums, valid seals."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from exchange.log.embedded.log import OFFSET_BITS
from exchange.seal.batch.build import BatchFacts, SealedBatch, build, open_batch, pack
from exchange.seal.batch.columns import Encoded
from exchange.seal.eseal.signature import Sealer


@dataclass(frozen=True)
class Row:
    """An entry as it lies in the file."""

    offset: int
    time: int
    key: str
    headers: dict[str, str]
    value: bytes


class LogFile:
    """The file of an embedded log, edited by hand; every checksum is made anew."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def rows(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path)) as database, database:
            yield database

    def shard(self, topic: str) -> int:
        with self.rows() as rows:
            found = rows.execute("SELECT id FROM shard WHERE topic = ?", (topic,)).fetchone()
        return int(found[0])

    def entries(self, topic: str) -> list[Row]:
        base = self.shard(topic) << OFFSET_BITS
        with self.rows() as rows:
            found = rows.execute(
                "SELECT id, time, key, headers, value FROM entry WHERE id >= ? AND id < ?"
                " ORDER BY id",
                (base, base + (1 << OFFSET_BITS)),
            ).fetchall()
        return [Row(i - base, time, key, json.loads(h), value) for i, time, key, h, value in found]

    def edit(self, topic: str, row: Row, **changes: Any) -> None:
        """Replace members of an entry; ``headers`` are added to those that it has."""
        headers = row.headers | changes.pop("headers", {})
        new = {"time": row.time, "key": row.key, "value": row.value, **changes}
        address = self.shard(topic) << OFFSET_BITS | row.offset
        text = json.dumps(headers, ensure_ascii=False)
        head = f"{address} {new['time']} {new['key']}\0{text}".encode()
        crc = crc32(new["value"], crc32(head))
        with self.rows() as rows:
            rows.execute(
                "INSERT OR REPLACE INTO entry (id, time, key, headers, crc, value)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (address, new["time"], new["key"], text, crc, new["value"]),
            )

    def drop(self, topic: str, offset: int) -> None:
        """Remove an entry and nothing else."""
        with self.rows() as rows:
            rows.execute(
                "DELETE FROM entry WHERE id = ?", (self.shard(topic) << OFFSET_BITS | offset,)
            )

    def cut(self, topic: str, end: int) -> None:
        """Remove what is from ``end`` on, as if it had never been: end and positions too."""
        shard = self.shard(topic)
        with self.rows() as rows:
            rows.execute(
                "DELETE FROM entry WHERE id >= ? AND id < ?",
                (shard << OFFSET_BITS | end, shard + 1 << OFFSET_BITS),
            )
            rows.execute("UPDATE shard SET next = ? WHERE id = ?", (end, shard))
            rows.execute("UPDATE position SET next = min(next, ?) WHERE shard = ?", (end, shard))

    def append(self, topic: str, row: Row) -> None:
        """Put an entry behind the last one."""
        shard = self.shard(topic)
        with self.rows() as rows:
            (end,) = rows.execute("SELECT next FROM shard WHERE id = ?", (shard,)).fetchone()
            rows.execute("UPDATE shard SET next = next + 1 WHERE id = ?", (shard,))
        self.edit(topic, Row(end, row.time, row.key, row.headers, row.value))

    def run(self, statement: str, *values: object) -> None:
        """Run a statement on the tables as they are."""
        with self.rows() as rows:
            assert rows.execute(statement, values).rowcount > 0

    def state(self, key: str) -> Row:
        """Return the newest state of a key."""
        return [row for row in self.entries("exchange.cursors") if row.key == key][-1]

    def flip(self, pattern: bytes, at: int = 0) -> None:
        """Flip a bit of the file where ``pattern`` stands."""
        data = bytearray(self.path.read_bytes())
        place = data.rindex(pattern) + at
        data[place] ^= 1
        self.path.write_bytes(data)


def resealed(data: bytes, sealer: Sealer, *, without: int = 0, **changes: object) -> SealedBatch:
    """Seal a batch once more: other facts, or without its first records."""
    batch = open_batch(data)
    records = Encoded(batch.schema, memoryview(batch.records), np.asarray(batch.offsets))
    (packed,) = pack(records.slice(without, records.rows))
    said = batch.statement
    names = (
        *("department", "resource", "resource_code", "catalog_version", "catalog_digest"),
        *("batch_no", "lane", "previous", "source", "pull", "accepted", "rejected"),
    )
    facts: dict[str, Any] = {name: getattr(said, name) for name in names}
    for name in ("pulled_at", "sealed_at"):
        facts[name] = datetime.fromisoformat(getattr(said, name))
    return build(packed, BatchFacts(**facts | changes), sealer=sealer, seed=os.urandom(16))
