"""Prove that one record is in a sealed batch, without showing any other record.

A proof holds the record, its salt, the audit path to the root, and statement, seal,
certificates and schema of the batch: whoever has it needs nothing else, see ``verify_proof``.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from exchange.errors import Integrity, Rejected
from exchange.seal.batch import jcs
from exchange.seal.batch import tree as merkle
from exchange.seal.batch.build import Batch, open_batch
from exchange.seal.batch.reading import walk
from exchange.seal.batch.rows import write_value
from exchange.seal.batch.schema import Column
from exchange.seal.crypto.suites import Suite
from exchange.text import Text

FORMAT = "exchange-proof-1"
MAX_PROOF = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The parts of a proof; ``statement`` are the statement's canonical bytes."""

    record: bytes
    salt: bytes
    index: int
    """Position of the record in the batch, from 0."""
    size: int
    """Number of records in the batch."""
    path: tuple[bytes, ...]
    """Hashes from the record's sibling up to the root (RFC 6962 §2.1.1)."""
    statement: bytes
    seal: bytes
    chain: tuple[bytes, ...]
    schema: str

    def root(self, suite: Suite) -> bytes:
        """Return the root that the path leads to; raises ValueError for one that cannot be."""
        if len(self.salt) != merkle.SALT_SIZE:
            raise ValueError(f"a salt of {len(self.salt)} bytes")
        leaf = merkle.leaf(suite, self.salt, self.record)
        return merkle.root_from_path(suite, leaf, index=self.index, size=self.size, path=self.path)

    def to_bytes(self) -> bytes:
        """Write the proof as canonical JSON."""
        return jcs.encode(
            {
                "format": FORMAT,
                "record": _base64(self.record),
                "salt": self.salt.hex(),
                "index": self.index,
                "size": self.size,
                "path": [each.hex() for each in self.path],
                "statement": jcs.decode(self.statement),
                "seal": _base64(self.seal),
                "chain": [_base64(each) for each in self.chain],
                "schema": self.schema,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a proof; raises ValueError unless ``data`` is what :meth:`to_bytes` writes."""
        if len(data) > MAX_PROOF:
            raise ValueError(f"{len(data)} bytes, more than {MAX_PROOF}")
        match jcs.decode(data):
            case {
                "format": str(kind),
                "record": str(record),
                "salt": str(salt),
                "index": int(index),
                "size": int(size),
                "path": [*path],
                "statement": statement,
                "seal": str(seal),
                "chain": [*chain],
                "schema": str(schema),
                **unknown,
            } if kind == FORMAT and not unknown:
                proof = cls(
                    record=b64decode(record),
                    salt=bytes.fromhex(salt),
                    index=index,
                    size=size,
                    path=tuple(bytes.fromhex(str(each)) for each in path),
                    statement=jcs.encode(statement),
                    seal=b64decode(seal),
                    chain=tuple(b64decode(str(each)) for each in chain),
                    schema=schema,
                )
            case _:
                raise ValueError(f"not an object of the form {FORMAT}")
        if proof.to_bytes() != data:
            raise ValueError("a value is not in its canonical form")
        return proof


def prove(data: bytes, *, row: int | None = None, key: Mapping[str, str] | None = None) -> bytes:
    """Make the proof of one record of a sealed batch.

    The record is chosen by ``row`` (from 1) or by ``key``: field names and values as text
    (dates and times in ISO 8601). Raises Rejected when that names no record or several,
    Integrity when the file is broken. The seal itself is not verified here.
    """
    batch = open_batch(data)
    index = _by_row(batch, row) if row is not None else _by_key(batch, key or {})
    salts, tree = tree_of(batch)
    return Proof(
        record=batch.record(index),
        salt=salts[merkle.SALT_SIZE * index :][: merkle.SALT_SIZE],
        index=index,
        size=batch.rows,
        path=tuple(merkle.path(tree, index)),
        statement=batch.container.statement,
        seal=batch.container.seal,
        chain=batch.container.chain,
        schema=batch.schema.text,
    ).to_bytes()


def tree_of(batch: Batch) -> tuple[bytes, list[list[bytes]]]:
    """Return the salts and the tree of a batch; raises Integrity for another root than stated."""
    salts = merkle.salts(batch.suite, batch.container.salt, batch.rows)
    hashes = merkle.leaves(batch.suite, batch.records, batch.offsets, salts)
    tree = merkle.levels(batch.suite, hashes)
    if tree[-1][0].hex() != batch.statement.root:
        raise _broken("its records do not have the root of its statement")
    return salts, tree


def _by_row(batch: Batch, row: int) -> int:
    if not 1 <= row <= batch.rows:
        raise _no_record(f"{row}", f"the batch has the rows 1 to {batch.rows}")
    return row - 1


def _by_key(batch: Batch, key: Mapping[str, str]) -> int:
    known = {column.name for column in batch.schema.columns}
    if not key or not key.keys() <= known:
        wanted = ", ".join(sorted(key.keys() - known)) or "a key"
        raise _no_record(wanted, f"the fields are {', '.join(sorted(known))}"[:400])
    matches = rows_with(batch, key)
    named = ", ".join(f"{name}={value}" for name, value in key.items())[:400]
    if not matches:
        raise _no_record(named, "no record of the batch has these values")
    if len(matches) > 1:
        rows = ", ".join(str(index + 1) for index in matches[:20])
        raise _no_record(named, f"several records have these values: rows {rows}")
    return matches[0]


def rows_with(batch: Batch, key: Mapping[str, str]) -> list[int]:
    """Return the indices (from 0) of the records whose fields have the values of ``key``.

    A batch without one of these fields has none. Raises Rejected for a value that its field
    cannot have, Integrity for a broken batch.
    """
    wanted = {
        column.name: _written(column, key[column.name])
        for column in batch.schema.columns
        if column.name in key
    }
    # Bytes that stand nowhere in the batch are in no field: most batches end here.
    if len(wanted) < len(key) or any(data not in batch.records for data in wanted.values()):
        return []
    matches = list(range(batch.rows))
    before = batch.offsets[:-1]
    try:
        for cells in walk(batch.records, batch.offsets, batch.schema):
            if (data := wanted.get(cells.column.name)) is not None:
                matches = [i for i in matches if batch.records[before[i] : cells.end[i]] == data]
            before = cells.end
    except ValueError as error:
        raise _broken(str(error)) from error
    return matches


def _written(column: Column, text: str) -> bytes:
    try:
        return write_value(column, text)
    except (ValueError, OverflowError) as error:
        what = f"this is no {column.kind} of that field"
        raise _no_record(f"{column.name}={text}"[:200], what) from error


def _no_record(wanted: str, why: str) -> Rejected:
    return Rejected(
        Text(f"找不到要证明的记录 {wanted}:{why}", f"no record to prove, {wanted}: {why}"),
        hint=Text("请用主键或行号指定一条记录", "name one record by its key or row"),
    )


def _broken(why: str) -> Integrity:
    return Integrity(
        Text(f"封装批次已损坏:{why}", f"the sealed batch is broken: {why}"),
        hint=Text("请用 exchange verify 查看各项检查", "exchange verify shows every check"),
    )


def _base64(data: bytes) -> str:
    return b64encode(data).decode()
