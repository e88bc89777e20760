"""Build sealed batches from encoded records, and open them.

``pack`` cuts the records into batches that fit a message and compresses them; ``build`` seals
one of them. The two are apart because a batch gets its number only when it is sealed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from exchange.errors import Integrity, Rejected
from exchange.seal.batch import tree
from exchange.seal.batch.container import (
    MAX_LENGTH,
    MAX_RECORDS,
    SYNC_SIZE,
    Container,
    compress,
    decompress,
    pack_lengths,
    unpack_lengths,
)
from exchange.seal.batch.schema import Schema, parse_schema
from exchange.seal.batch.statement import Statement, instant
from exchange.seal.crypto.suites import Suite, suite
from exchange.seal.eseal.signature import Sealer
from exchange.text import Text

if TYPE_CHECKING:
    from exchange.seal.batch.avro import Ints

MAX_ROWS = 8192
MAX_BYTES = 900 * 1024
"""Largest batch that ``pack`` and ``build`` make: it has to fit a message of 1 MiB."""

SEAL_ROOM = 64 * 1024
"""What ``pack`` keeps free of that for statement, seal and chain."""


class BatchRecords(Protocol):
    """Encoded records, as ``columns.Encoded`` is; see there."""

    @property
    def schema(self) -> Schema:
        """Of all records."""

    @property
    def data(self) -> memoryview:
        """All records end to end."""

    @property
    def offsets(self) -> Ints:
        """Where they begin and, one more, where the last one ends."""

    @property
    def rows(self) -> int:
        """How many."""

    @property
    def operations(self) -> tuple[int, int, int]:
        """How many inserts, updates, deletes."""

    def slice(self, start: int, end: int, /) -> BatchRecords:
        """Return some of them."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Records that fit one batch, and the block they make."""

    records: BatchRecords
    lengths: bytes
    payload: bytes


def pack(
    records: BatchRecords, *, max_rows: int = MAX_ROWS, max_bytes: int = MAX_BYTES
) -> Iterator[Packed]:
    """Cut records into batches of at most ``max_rows`` and ``max_bytes``, in order.

    A piece that compresses too badly is halved. Raises Rejected for a single record that is
    too large.
    """
    for start in range(0, records.rows, max_rows):
        piece = records.slice(start, min(start + max_rows, records.rows))
        yield from _fit(piece, max_bytes - SEAL_ROOM - len(records.schema.text.encode()))


def _fit(records: BatchRecords, room: int) -> Iterator[Packed]:
    import numpy as np  # whoever has records of his own to seal has it

    if len(records.data) <= MAX_RECORDS and np.diff(records.offsets).max() <= MAX_LENGTH:
        lengths, payload = pack_lengths(records.offsets), compress(records.data)
        if len(lengths) + len(payload) <= room:
            yield Packed(records, lengths, payload)
            return
    if records.rows == 1:
        raise Rejected(
            Text(
                f"一条记录有 {len(records.data)} 字节,无法放入一个批次",
                f"a record of {len(records.data)} bytes does not fit a batch",
            ),
            hint=Text("请在目录中限制字段长度", "limit the length of its fields in the catalog"),
        )
    half = records.rows // 2
    yield from _fit(records.slice(0, half), room)
    yield from _fit(records.slice(half, records.rows), room)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFacts:
    """What the statement says beyond the records; see ``Statement`` for each."""

    department: str
    resource: str
    resource_code: str
    catalog_version: str
    catalog_digest: str
    batch_no: str
    lane: int
    previous: str
    pulled_at: datetime
    sealed_at: datetime
    source: str
    pull: str
    accepted: int
    rejected: int


@dataclass(frozen=True, slots=True)
class SealedBatch:
    """A sealed batch file and its statement."""

    data: bytes
    statement: Statement

    @property
    def digest(self) -> str:
        """Hash of the statement (hex): the next statement's ``previous``."""
        return self.statement.digest


def build(packed: Packed, facts: BatchFacts, *, sealer: Sealer, seed: bytes) -> SealedBatch:
    """Seal one batch.

    ``seed`` is 16 fresh random bytes, kept in the file: the salts of its records come from it.
    Raises Rejected for facts that no statement can hold, Misconfigured when the seal is not
    valid at ``facts.sealed_at`` or the batch with it becomes larger than ``MAX_BYTES``.
    """
    records, in_use = packed.records, sealer.suite
    salts = tree.salts(in_use, seed, records.rows)
    root = tree.records_root(in_use, bytes(records.data), records.offsets, salts)
    inserts, updates, deletes = records.operations
    try:
        statement = Statement(
            suite=in_use.id,
            department=facts.department,
            resource=facts.resource,
            resource_code=facts.resource_code,
            catalog_version=facts.catalog_version,
            catalog_digest=facts.catalog_digest,
            schema=records.schema.fingerprint,
            batch_no=facts.batch_no,
            lane=facts.lane,
            rows=records.rows,
            inserts=inserts,
            updates=updates,
            deletes=deletes,
            root=root.hex(),
            payload=in_use.digest(packed.payload).hex(),
            previous=facts.previous,
            pulled_at=instant(facts.pulled_at),
            sealed_at=instant(facts.sealed_at),
            source=facts.source,
            pull=facts.pull,
            accepted=facts.accepted,
            rejected=facts.rejected,
        )
        content = statement.to_bytes()
    except ValueError as error:
        raise Rejected(
            Text(f"无法写出批次声明:原文：{error}", f"no statement can be made: {error}"),
            hint=Text("请检查目录与来源的设置", "check the catalog and the source's settings"),
        ) from error
    seal = sealer.seal(content, property_info=statement.property_info, at=facts.sealed_at)
    data = Container(
        schema=records.schema.text.encode(),
        statement=content,
        seal=seal,
        chain=sealer.chain,
        salt=seed,
        lengths=packed.lengths,
        sync=root[:SYNC_SIZE],
        rows=records.rows,
        payload=packed.payload,
    ).to_bytes()
    return SealedBatch(data, statement)


@dataclass(frozen=True, slots=True)
class Batch:
    """A sealed batch taken apart; nothing is verified but that it can be read."""

    container: Container
    statement: Statement
    suite: Suite
    schema: Schema
    records: bytes
    offsets: Ints

    @property
    def rows(self) -> int:
        """How many records."""
        return self.container.rows

    def record(self, index: int) -> bytes:
        """Return record ``index`` (from 0) as Avro binary."""
        return self.records[self.offsets[index] : self.offsets[index + 1]]


def open_statement(data: bytes) -> Statement:
    """Read what a sealed batch says of itself, without its records; raises Integrity."""
    try:
        return Statement.from_bytes(Container.from_bytes(data).statement)
    except ValueError as error:
        raise _unreadable(error) from error


def open_batch(data: bytes) -> Batch:
    """Take a sealed batch apart; raises Integrity when it is not one.

    Use :func:`exchange.seal.batch.verify.verify_batch` to learn whether it is genuine.
    """
    try:
        container = Container.from_bytes(data)
        statement = Statement.from_bytes(container.statement)
        records = decompress(container.payload)
        return Batch(
            container=container,
            statement=statement,
            suite=suite(statement.suite),
            schema=parse_schema(container.schema.decode()),
            records=records,
            offsets=unpack_lengths(container.lengths, rows=container.rows, size=len(records)),
        )
    except (ValueError, Rejected) as error:
        raise _unreadable(error) from error


def _unreadable(error: Exception) -> Integrity:
    return Integrity(
        Text(f"不是完好的封装批次:原文：{error}", f"not a sealed batch: {error}"),
        hint=Text("文件可能被截断或改动,请重新获取", "the file was cut or changed; get it again"),
    )
