"""Valid things of every kind, a thousand different ones, from one seed: none may be suspected."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, Final

import polars as pl

from exchange.evidence.checkpoint import SignedNote
from exchange.evidence.log import LogReader
from exchange.evidence.package import make_package
from exchange.seal.batch.avro import Schema, parse_schema
from exchange.seal.batch.build import SealedBatch, build, pack
from exchange.seal.batch.columns import encode, frame_schema
from exchange.seal.batch.prove import prove
from exchange.seal.eseal.test_authority import Revoked
from tests.seal.samples import FACTS, NOW
from tests.tamper.hands import Files, Folder, Hand
from tests.tamper.world import (
    DAY,
    LATER,
    SECOND,
    World,
    a_list,
    evidence,
    grow,
    make_receipt,
    make_seal,
    named,
    stamper,
)

SEED: Final = 20261123
BATCHES: Final = 50
"""Of each world, in three partitions; most other things are about one of them."""
PARTITIONS: Final = 3
STAMPED: Final = 4
"""Every fourth batch has a time stamp."""
SIGNED: Final = 10
"""A checkpoint follows every tenth batch."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LETTERS: Final = "加格达奇区王芳 abcXYZ019-_'\"\\\n\t，。😀\0"


def valid_things(world: World, folder: Path) -> Iterator[tuple[str, Hand]]:
    """Give 250 of one world, each with its kind; ``folder`` is for its evidence log."""
    random = Random(f"{SEED} {world.suite.id} {world.version}")  # noqa: S311 - to be repeated
    batches = list(_batches(random, world))
    receipts: list[bytes] = []
    notes: list[SignedNote] = []
    for start in range(0, BATCHES, SIGNED):
        own: list[bytes] = []
        for batch in batches[start : start + SIGNED]:
            last = named(notes[-1]) if notes else ""
            receipts.append(_receipt(random, world, batch, last))
            own += evidence(batch, receipts[-1])
        at = LATER + start * SECOND
        notes.append(grow(folder, own, world.department, world.province, at=at))
    lists = (*world.crls, _list_of_others(world))

    def files(*data: bytes, **more: Any) -> Files:
        return Files(data, lists, **more)

    log = LogReader.at(folder)
    for number, batch in enumerate(batches):
        yield "batch", files(batch.data)
        yield "receipt", files(receipts[number], batch=batch.data)
        proof = prove(batch.data, row=random.randint(1, batch.statement.rows))
        yield "proof", files(proof)
        package = make_package(
            log, proof=proof, receipt=receipts[number], revocation=lists[: number % 3]
        )
        yield "package", files(package)
    yield from (("checkpoint", files(note.to_bytes())) for note in notes)
    for older in range(SIGNED):
        new = notes[-1]
        line = log.consistency(notes[older % 4].checkpoint.head.size, new.checkpoint.head.size)
        data = (notes[older % 4].to_bytes(), new.to_bytes())
        yield "checkpoints of two", files(*data, proof=tuple(line))
    for partition in range(PARTITIONS):
        chain = [item.data for item in batches if item.statement.lane == partition]
        yield "batches", files(*chain)
    for _ in range(20):
        yield "seal", files(_seal(random, world))
    items = [*(note.to_bytes() for note in notes), *receipts]
    for _ in range(12):
        yield "log", Folder.of(folder, *random.sample(items, 5))


def _batches(random: Random, world: World) -> Iterator[SealedBatch]:
    """Seal batches of random schemas and rows, each naming the one before it in its partition."""
    last: dict[int, str] = {}
    for number in range(BATCHES):
        partition = number % PARTITIONS
        (packed,) = pack(encode(*_table(random)))
        facts = replace(
            FACTS,
            batch_no=f"20261123{number + 1:05}",
            lane=partition,
            previous=last.get(partition, ""),
            sealed_at=NOW + number * SECOND,
            source=_text(random),
            rejected=random.randint(0, 2**53 - 1),
        )
        sealer = world.department.sealer
        if number % STAMPED == 0:
            sealer = replace(sealer, stamp=stamper(world, at=facts.sealed_at + SECOND).stamp)
        batch = build(packed, facts, sealer=sealer, seed=random.randbytes(16))
        last[partition] = batch.digest
        yield batch


def _receipt(random: Random, world: World, batch: SealedBatch, log: str) -> bytes:
    rows = batch.statement.rows
    accepted = random.randint(0, rows)
    return make_receipt(
        world.province.sealer,
        batch.statement,
        rows_accepted=accepted,
        rows_rejected=rows - accepted,
        message=_text(random),
        received_at=batch.statement.sealed_at,
        log=log,
    )


def _list_of_others(world: World) -> bytes:
    """List certificates of the department's CA that were revoked, none of them in question."""
    gone = (world.province.signer, world.tsa.maker)
    return a_list(world.department.ca, *(Revoked(item.certificate, NOW - DAY) for item in gone))


def _seal(random: Random, world: World) -> bytes:
    digests = {"by_digest": random.choice([True, False])} if world.version > 4 else {}
    return make_seal(
        world.department,
        world.version,
        name=_text(random) + "章",
        es_id=f"{random.randint(0, 10**14):014}",
        valid_until=NOW + random.randint(1, 700) * DAY,
        **digests,
    )


# --- tables ---------------------------------------------------------------------------------------


def _table(random: Random) -> tuple[pl.DataFrame, Schema]:
    """Make one to thirty rows of one to eight columns."""
    columns = [random.choice(_KINDS)(random) for _ in range(random.randint(1, 8))]
    fields: list[dict[str, Any]] = [{"name": "cd_operation", "type": _OPERATION}]
    makers: list[Callable[[], object]] = [lambda: random.choice("IUD")]
    for number, (declared, make) in enumerate(columns):
        if random.random() < 1 / 3:
            fields.append({"name": f"f{number}", "type": ["null", declared], "default": None})
            makers.append(_sometimes(random, make))
        else:
            fields.append({"name": f"f{number}", "type": declared})
            makers.append(make)
    schema = parse_schema(json.dumps({"type": "record", "name": "anything", "fields": fields}))
    rows = [[make() for make in makers] for _ in range(random.randint(1, 30))]
    return pl.DataFrame(rows, schema=frame_schema(schema), orient="row"), schema


def _sometimes(random: Random, make: Callable[[], object]) -> Callable[[], object]:
    return lambda: make() if random.random() < 2 / 3 else None


_OPERATION: Final = {"type": "enum", "name": "Operation", "symbols": ["I", "U", "D"]}
Column = tuple[Any, Callable[[], object]]
"""A declared type, and what makes values of it."""


def _text(random: Random) -> str:
    return "".join(random.choices(_LETTERS, k=random.randint(0, 40)))


def _string(random: Random) -> Column:
    return "string", lambda: _text(random)


def _long(random: Random) -> Column:
    return "long", lambda: random.randint(-(2**63), 2**63 - 1) >> random.randint(0, 63)


def _double(random: Random) -> Column:
    return "double", lambda: random.uniform(-1, 1) * 10.0 ** random.randint(-300, 300)


def _boolean(random: Random) -> Column:
    return "boolean", lambda: random.choice([True, False])


def _date(random: Random) -> Column:
    declared = {"type": "int", "logicalType": "date"}
    return declared, lambda: datetime.fromordinal(random.randint(1, 3_652_059)).date()


def _moment(random: Random) -> Column:
    declared = {"type": "long", "logicalType": "timestamp-millis"}
    return declared, lambda: _EPOCH + timedelta(milliseconds=random.randint(-(10**13), 10**14))


def _decimal(random: Random) -> Column:
    precision = random.randint(1, 38)
    scale = random.randint(0, precision)
    declared = {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}
    bound = 10**precision - 1
    return declared, lambda: Decimal(random.randint(-bound, bound)).scaleb(-scale)


_KINDS: Final = (_string, _long, _double, _boolean, _date, _moment, _decimal)
