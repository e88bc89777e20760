"""Order and position: every type of key is resumed exactly, on every engine and way."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import sqlalchemy as sa

from exchange.connectors.sql import sql
from tests.support.soak import SOAK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.servers import Server

ROWS = 9
# The long run tries every type in every mode; `make test` two modes, and some types only where
# the way is shared.


def broken_off(url: str, **options: Any) -> list[int]:
    """Pull with a kill behind every frame; return the numbers of all rows brought."""
    items: list[int] = []
    cursor: Any = None
    for _ in range(ROWS):
        source = sql.open({"url": "env:URL", "batch_rows": 4, **options}, lambda _: url)
        stream = source.pull(cursor)
        pulled = next(stream)
        items += pulled.frame["n"].to_list() if pulled.frame.width else []
        cursor = json.loads(json.dumps(pulled.cursor))
        if next(stream, None) is None:
            return items
        stream.close()
    raise AssertionError("the pull never ends")


def modes(table: str) -> Iterator[dict[str, Any]]:
    """Ways to pull a table: of equal times the key alone decides."""
    yield {"query": f"SELECT * FROM {table}", "key": ["k", "n"]}
    yield {"table": table, "cursor_column": "at"}
    if SOAK:
        yield {"table": table}
        yield {"table": table, "cursor_column": "k"}


POSTGRES = {
    # The values of keys: an expression of the number i, whose text sorts in another order.
    "numeric(18,0)": "i * 7 - 30",
    "numeric": "i / 4.0 - 7",
    "bigint": "i * 1000000007::bigint - 30",
    "float8": "i / 3.0::float8 - 7",
    "real": "i / 3.0::real - 7",
    "inet": "('10.0.0.0'::inet + i * 13)",
    "cidr": "(('10.' || i || '.0.0/16')::cidr)",
    "macaddr": "lpad(to_hex(i * 7), 12, '0')::macaddr",
    "interval": "i * interval '36 hours' - interval '20 days'",
    "oid": "(i * 7)::oid",
    "money": "(i * 37.5 - 300)::numeric::money",
    "bit(8)": "i::bit(8)",
    "varbit": "(i::bit(8))::varbit",
    "uuid": "md5(i::text)::uuid",
    "char(9)": "'k' || i",
    "text": "'k' || i || ''''",
    'text COLLATE "C"': "chr(65 + i) || 'x'",
    "citext": "chr(65 + i % 26 + 32 * (i % 2)) || i",
    "bytea": "decode(lpad(to_hex(i * 37), 4, '0'), 'hex')",
    "date": "date '2026-01-01' + i * 9 - 300",
    "timestamp": "timestamp '2026-01-01' + i * interval '1.000001 second'",
    "timestamptz": "timestamptz '2026-01-01Z' - i * interval '3.000001 hour'",
    "time": "time '00:00' + i * interval '7 minute'",
    "timetz": "timetz '00:00+00' + i * interval '7 minute'",
    "integer[]": "ARRAY[i - 9, i % 3]",
    "int4range": "int4range(i - 30, i)",
    "jsonb": "jsonb_build_object('a', i)",
    '"char"': 'chr(40 + i)::"char"',
    "grade": "(ARRAY['z','a','m'])[i % 3 + 1]::grade",
    "boolean": "i % 2 = 0",
}


@pytest.fixture(scope="module")
def postgres_tables(postgres: Server) -> dict[str, str]:
    """A table for each type of key: (k, n), and one time for all rows."""
    tables = {}
    with psycopg.connect(postgres.url, autocommit=True) as db:
        db.execute("CREATE EXTENSION IF NOT EXISTS citext")
        db.execute("DROP TYPE IF EXISTS grade CASCADE")
        db.execute("CREATE TYPE grade AS ENUM ('z', 'a', 'm')")
        for place, (kind, value) in enumerate(POSTGRES.items()):
            name = f"ordered_{place}"
            db.execute(f"DROP TABLE IF EXISTS {name}")
            db.execute(
                f"CREATE TABLE {name} (k {kind}, n int, at timestamp DEFAULT '2026-11-01 08:00:00',"
                " PRIMARY KEY (k, n))"
            )
            db.execute(f"INSERT INTO {name} SELECT {value}, i FROM generate_series(1, {ROWS}) i")
            tables[kind] = name
    return tables


EVERYTHING = Counter(range(1, ROWS + 1))


SHARED = POSTGRES if SOAK else ("numeric", "inet", "interval", "grade", "timestamptz", "bytea")
WAYS = [(kind, "columns") for kind in POSTGRES] + [(kind, "universal") for kind in SHARED]


@pytest.mark.parametrize(("kind", "way"), WAYS)
def test_every_type_of_key_is_resumed_in_postgres(
    kind: str, way: str, postgres: Server, postgres_tables: dict[str, str]
) -> None:
    url = postgres.url
    if way == "universal":
        url = url.replace("postgresql:", "postgresql+psycopg:")
    table = postgres_tables[kind]
    for options in modes(table):
        assert Counter(broken_off(url, **options)) == EVERYTHING, options


MARIADB = {
    "BIGINT": "seq * 1000000007 - 30",
    "BIGINT UNSIGNED": "18446744073709551615 - seq",
    "INT ZEROFILL": "seq * 7",
    "DECIMAL(30,4)": "seq * 100000000000000000000.0001 - 7",
    "FLOAT": "seq / 3 - 7",
    "DOUBLE": "seq / 3e0 - 7",
    "BIT(16)": "seq * 37",
    "YEAR": "1990 + seq",
    "DATE": "'2026-01-01' + INTERVAL seq * 9 - 300 DAY",
    "DATETIME(6)": "'2026-01-01' + INTERVAL seq * 1000001 MICROSECOND",
    "TIMESTAMP(3) NULL": "'2026-01-01' + INTERVAL seq * 1001 MICROSECOND",
    "TIME(3)": "SEC_TO_TIME(seq * 9999 - 300000)",
    "VARCHAR(20)": "CONCAT('k', seq, '''')",
    "VARCHAR(20) COLLATE utf8mb4_bin": "CONCAT(CHAR(65 + seq), 'x')",
    "VARBINARY(20)": "UNHEX(LPAD(HEX(seq * 37), 4, '0'))",
    "ENUM('z','a','m')": "seq % 3 + 1",
    "SET('z','a','m')": "seq % 8",
    "UUID": "CONCAT('00000000-0000-0000-', LPAD(seq, 4, '0'), '-000000000000')",
    "INET6": "CONCAT('::', HEX(seq * 13))",
}


@pytest.fixture(scope="module")
def mariadb_tables(mariadb: Server) -> dict[str, str]:
    tables = {}
    engine = sa.create_engine(mariadb.url, poolclass=sa.NullPool)
    with engine.begin() as db:
        for place, (kind, value) in enumerate(MARIADB.items()):
            name = f"ordered_{place}"
            db.exec_driver_sql(f"DROP TABLE IF EXISTS {name}")
            db.exec_driver_sql(
                f"CREATE TABLE {name} (k {kind}, n INT, at DATETIME DEFAULT '2026-11-01 08:00:00',"
                " PRIMARY KEY (k, n))".replace(" NULL,", ",")
            )
            db.exec_driver_sql(
                f"INSERT INTO {name} (k, n) SELECT {value}, seq FROM "
                f"(SELECT CAST(seq AS SIGNED) AS seq FROM seq_1_to_{ROWS}) s".replace("%", "%%")
            )
            tables[kind] = name
    return tables


@pytest.mark.parametrize("kind", MARIADB)
def test_every_type_of_key_is_resumed_in_mariadb(
    kind: str, mariadb: Server, mariadb_tables: dict[str, str]
) -> None:
    table = mariadb_tables[kind]
    for options in modes(table):
        assert Counter(broken_off(mariadb.url, **options)) == EVERYTHING, options


SQLITE: dict[str, Callable[[int], Any]] = {
    "INTEGER": lambda i: i * 7 - 30,
    "TEXT": lambda i: f"k{i}'",
    "TEXT COLLATE NOCASE": lambda i: f"{'k' if i % 2 else 'K'}{i}",
    "REAL": lambda i: i / 3 - 7,
    "DECIMAL(9,2)": lambda i: i / 4 - 7,
    "DATE": lambda i: f"2026-{i % 12 + 1:02}-{i % 27 + 1:02}",
    "BLOB": lambda i: bytes((i, 255 - i)),
    "ANY": lambda i: (i, f"k{i}", i / 7, bytes((i,)))[i % 4],
}


@pytest.mark.parametrize("kind", SQLITE)
def test_every_type_of_key_is_resumed_in_sqlite(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    with sqlite3.connect(path) as db:
        db.execute(
            f"CREATE TABLE t (k {kind} NOT NULL, n INT NOT NULL, at TEXT, PRIMARY KEY (k, n))"
        )
        rows = [(SQLITE[kind](i), i, "2026-11-01 08:00:00") for i in range(1, ROWS + 1)]
        db.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
    db.close()
    for options in modes("t"):
        counter = Counter(broken_off(f"sqlite:///{path}", **options))
        assert counter == EVERYTHING, options


def test_a_numeric_key_of_sixty_thousand_rows_is_resumed(
    postgres: Server, tell: Callable[[str], None]
) -> None:
    """The order was that of the text, the comparison that of the number: rows were lost."""
    with psycopg.connect(postgres.url, autocommit=True) as db:
        db.execute("DROP TABLE IF EXISTS many")
        db.execute("CREATE TABLE many (id numeric(18,0) PRIMARY KEY, n int, at timestamp)")
        db.execute(
            "INSERT INTO many SELECT i, i, '2026-11-01 08:00:00' FROM generate_series(1, 60000) i"
        )
    for options in ({}, {"cursor_column": "at"}):
        items: list[int] = []
        cursor: Any = None
        kills = 0
        for limit in (7, 13, 1000):
            source = sql.open(
                {"url": "env:URL", "table": "many", "batch_rows": 1000, **options},
                lambda _: postgres.url,
            )
            stream = source.pull(cursor)
            for place, pulled in enumerate(stream, start=1):
                items += pulled.frame["n"].to_list() if pulled.frame.width else []
                cursor = json.loads(json.dumps(pulled.cursor))
                if place == limit:
                    kills += 1
                    break
            stream.close()
        twice = len(items) - len(set(items))
        lost = 60_000 - len(set(items))
        tell(f"sql: numeric key, {options or 'snapshot'}: 60000 rows, {kills} kills, {lost} lost")
        assert (lost, twice) == (0, 0)
