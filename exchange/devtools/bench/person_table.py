"""The bench's table ``bench_person``: 15 columns of citizens and enterprises, 1 % of them dirty.

Rows depend on the seed and their number alone: the first million of a table of five is the table
of one million. It is made, written and loaded in chunks, so memory does not grow with it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl
from psycopg import sql

from exchange.devtools import synthetic
from exchange.devtools.bench.postgres_connection import database

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

RESOURCE: Final = "bench_person"
SEED: Final = 20_260_630
CHUNK_ROWS: Final = 50_000
FAR: Final = 70_001
"""Rows between the two records of a duplicate key: never in one chunk."""

COLUMNS: Final = {
    "record_no": "text",
    "name": "text",
    "resident_id": "text",
    "uscc": "text",
    "company": "text",
    "sex": "text",
    "region_code": "text",
    "mobile": "text",
    "birth_date": "date",
    "valid_from": "date",
    "valid_until": "date",
    "amount": "numeric(14,2)",
    "status": "text",
    "is_legal": "boolean",
    "updated_at": "timestamptz",
}
"""Column → PostgreSQL type, in the order of the catalog."""
ZONE: Final = "Asia/Shanghai"
STATUSES: Final = ("01", "02", "03", "09")

_COUNTIES: Final = pl.Series(list(synthetic.COUNTIES))
_COUNTY_BYTES: Final = synthetic.matrix(_COUNTIES)
_START: Final = np.datetime64("2025-01-01T00:00:00.000", "ms")
_STEP: Final = np.timedelta64(5, "s")
_PREFIX: Final = np.frombuffer(b"DXAL", np.uint8)
_FULL_WIDTH: Final = dict(zip("0123456789", "０１２３４５６７８９", strict=True))


class RowFault(StrEnum):
    """What is wrong with a dirty record: one fault each, a tenth of the dirt each."""

    USCC_CHECK = "uscc_check"
    RESIDENT_CHECK = "resident_check"
    NAME_MISSING = "name_missing"
    ENDS_BEFORE_START = "ends_before_start"
    STATUS_UNKNOWN = "status_unknown"
    MOBILE_FULL_WIDTH = "mobile_full_width"
    COMPANY_TOO_LONG = "company_too_long"
    KEY_TWICE = "key_twice"
    AMOUNT_NEGATIVE = "amount_negative"
    SEX_UNLIKE_ID = "sex_unlike_id"


@dataclass(frozen=True, slots=True)
class TableSize:
    """A table in place: its rows, and how many are dirty by kind; ``size`` is bytes of CSV."""

    rows: int
    dirty: Mapping[str, int]
    size: int


def chunks(rows: int, *, seed: int = SEED) -> Iterator[tuple[pl.DataFrame, pl.Series]]:
    """Yield the table in frames of ``CHUNK_ROWS``, each with its dirt (null where a row is clean).

    Faults sit in rows of even number, so that the other record of a duplicate key is clean.
    """
    for chunk, first in enumerate(range(0, rows, CHUNK_ROWS)):
        # A whole chunk is always drawn: a shorter table is a prefix of a longer one.
        frame, dirt = _chunk(np.random.default_rng([seed, chunk]), first + 1)
        yield frame.head(rows - first), dirt.head(rows - first)


def csv_bytes(frame: pl.DataFrame) -> bytes:
    """Return the frame as CSV without a header, as departments export it: times are local."""
    local = pl.col("updated_at").dt.convert_time_zone(ZONE).dt.replace_time_zone(None)
    return (
        frame.with_columns(local)
        .write_csv(include_header=False, datetime_format="%Y-%m-%d %H:%M:%S")
        .encode()
    )


def load_postgres(
    conninfo: str, rows: int, *, table: str = RESOURCE, seed: int = SEED
) -> TableSize:
    """Create the table anew and COPY ``rows`` rows into it.

    Unlogged and frozen: what is measured later is reading, not the aftermath of writing. It has
    no primary key, since keys occur twice. Raises what :func:`database` raises.
    """
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind))
        for name, kind in COLUMNS.items()
    )
    name = sql.Identifier(table)
    dirty: Counter[str] = Counter()
    size = 0
    with database(conninfo) as connection:
        connection.execute(sql.SQL("SET LOCAL TIME ZONE {}").format(sql.Literal(ZONE)))
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(name))
        connection.execute(sql.SQL("CREATE UNLOGGED TABLE {} ({})").format(name, columns))
        into = sql.SQL("COPY {} FROM STDIN (FORMAT csv, FREEZE)").format(name)
        with connection.cursor() as cursor, cursor.copy(into) as copy:
            for frame, dirt in chunks(rows, seed=seed):
                data = csv_bytes(frame)
                copy.write(data)
                dirty.update(dirt.drop_nulls())
                size += len(data)
        connection.execute(sql.SQL("ANALYZE {}").format(name))
    return TableSize(rows, dict(dirty), size)


def write_csv(path: Path, rows: int, *, seed: int = SEED) -> TableSize:
    """Write the table as one UTF-8 CSV file with a header."""
    dirty: Counter[str] = Counter()
    with path.open("wb") as file:
        file.write(",".join(COLUMNS).encode() + b"\n")
        for frame, dirt in chunks(rows, seed=seed):
            file.write(csv_bytes(frame))
            dirty.update(dirt.drop_nulls())
        size = file.tell()
    return TableSize(rows, dict(dirty), size)


def _chunk(random: synthetic.Random, first: int) -> tuple[pl.DataFrame, pl.Series]:
    count = CHUNK_ROWS
    number = np.arange(first, first + count)
    county = random.integers(0, len(_COUNTIES), count)
    codes = _COUNTIES.gather(county)
    births = synthetic.days(random, "1940-01-01", "2007-12-31", count)
    male = random.random(count) < 0.5  # noqa: PLR2004 - one in two
    legal = random.random(count) < 0.7  # noqa: PLR2004 - the others are natural persons
    starts = synthetic.days(random, "2019-01-01", "2026-06-30", count)
    clean = pl.DataFrame(
        {
            "record_no": _record_numbers(number),
            "name": synthetic.person_names(random, count),
            "resident_id": synthetic.column(
                synthetic.resident_ids(random, _COUNTY_BYTES[county], births, male)
            ),
            "uscc": synthetic.column(synthetic.usccs(random, _COUNTY_BYTES[county])),
            "company": synthetic.company_names(random, codes),
            "sex": pl.Series(np.where(male, "1", "2")),
            "region_code": codes,
            "mobile": synthetic.column(synthetic.mobiles(random, count)),
            "birth_date": births,
            "valid_from": starts,
            "valid_until": starts + random.integers(30, 3_650, count),
            "amount": pl.Series(random.integers(0, 500_000_000, count)),
            "status": synthetic.pick(random, STATUSES, count),
            "is_legal": legal,
            "updated_at": _START + number * _STEP,
            "far": _record_numbers(np.where(number > FAR, number - FAR, number - 1)),
            "dirt": _dirt(random, number),
        }
    ).with_columns(
        (pl.col("amount").cast(pl.Decimal(14, 2)) / 100).cast(pl.Decimal(14, 2)),
        pl.col("updated_at").dt.replace_time_zone("UTC"),
        pl.when("is_legal").then("uscc"),
    )
    dirty = clean.with_columns(
        pl.when(pl.col("dirt") == kind).then(spoilt).otherwise(column).alias(column)
        for kind, (column, spoilt) in _SPOILT.items()
    )
    return dirty.select(*COLUMNS), dirty.get_column("dirt")


def _record_numbers(number: np.typing.NDArray[np.int64]) -> pl.Series:
    prefix = np.broadcast_to(_PREFIX, (len(number), len(_PREFIX)))
    return synthetic.column(np.hstack([prefix, synthetic.digits(number, 12)]))


def _dirt(random: synthetic.Random, number: np.typing.NDArray[np.int64]) -> pl.Series:
    kinds = pl.Series(list(RowFault), dtype=pl.String)
    # One row in fifty of every second row is one in a hundred.
    chance = random.integers(0, 50 * len(kinds), len(number))
    index = np.where((number % 2 == 0) & (chance < len(kinds)), chance, len(kinds))
    return kinds.extend(pl.Series([None], dtype=pl.String)).gather(index)


def _next_digit(column: str) -> pl.Expr:
    """Change the last character of a code: always a wrong check digit."""
    wrong = pl.when(pl.col(column).str.ends_with("0")).then(pl.lit("1")).otherwise(pl.lit("0"))
    return pl.col(column).str.head(17) + wrong


_SPOILT: Final[Mapping[RowFault, tuple[str, pl.Expr]]] = {
    RowFault.USCC_CHECK: ("uscc", _next_digit("uscc").fill_null("91232700MA00000000")),
    RowFault.RESIDENT_CHECK: ("resident_id", _next_digit("resident_id")),
    RowFault.NAME_MISSING: ("name", pl.lit(None, pl.String)),
    RowFault.ENDS_BEFORE_START: ("valid_until", pl.col("valid_from").dt.offset_by("-1d")),
    RowFault.STATUS_UNKNOWN: ("status", pl.lit("77")),
    RowFault.MOBILE_FULL_WIDTH: (
        "mobile",
        pl.col("mobile").str.replace_many(list(_FULL_WIDTH), list(_FULL_WIDTH.values())),
    ),
    RowFault.COMPANY_TOO_LONG: ("company", pl.lit("大兴安岭林业集团" * 15)),
    RowFault.KEY_TWICE: ("record_no", pl.col("far")),
    RowFault.AMOUNT_NEGATIVE: ("amount", pl.lit("-0.01").cast(pl.Decimal(14, 2))),
    RowFault.SEX_UNLIKE_ID: (
        "sex",
        pl.when(pl.col("sex") == "1").then(pl.lit("2")).otherwise(pl.lit("1")),
    ),
}
