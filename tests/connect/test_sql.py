"""The sql connector against real servers: PostgreSQL by columns, SQLite and MariaDB by rows."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exchange.connect import Denied, ExchangeError, Misconfigured, Transient
from exchange.connect.conformance import CHECKS, Case, Changes
from exchange.connectors import sql as module
from exchange.connectors.sql import sql
from exchange.connectors.sql.databases import PostgresDatabase, database_of
from tests.support.conformity import conform
from tests.support.servers import Server, free_port
from tests.support.servers import postgres as postgres_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from exchange.connect import Pulled, Source

START = datetime(2024, 1, 1, tzinfo=UTC)
ROWS = 500
_numbers = count(1)


def source(url: str, base: Path = Path(), **options: Any) -> Source:
    return sql.open({"url": "env:URL", **options}, lambda _: url, base=base)


def rows(pulls: list[Pulled], *names: str) -> list[tuple[Any, ...]]:
    return [row for p in pulls for row in p.frame.select(names).iter_rows() if p.frame.height]


class Database:
    """A PostgreSQL to fill and change."""

    def __init__(self, url: str) -> None:
        self.url = url

    def run(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def table(self, columns: str) -> str:
        name = f"t{next(_numbers)}"
        self.run(f"CREATE TABLE {name} ({columns})")
        return name

    def pull(self, cursor: Any = None, **options: Any) -> list[Pulled]:
        return list(source(self.url, **options).pull(cursor))


@pytest.fixture
def database(postgres: Server) -> Database:
    return Database(postgres.url)


@pytest.fixture
def people(database: Database) -> str:
    """A table whose update times repeat, so that ties must be broken."""
    name = database.table("id bigint PRIMARY KEY, name text, updated timestamptz")
    database.run(
        f"INSERT INTO {name} SELECT i, '张三' || i, timestamptz '2024-01-01Z' + i / 50 * "
        f"interval '1 second' FROM generate_series(1, {ROWS}) i"
    )
    return name


# --- what every connector must do -------------------------------------------------------------


def connections(database: Database) -> Callable[[], int]:
    def held() -> int:
        result = database.run(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'exchange'"
        )
        return int(result[0][0])

    return held


def changes_of(
    run: Callable[[str], object],
    table: str,
    outage: Callable[[], AbstractContextManager[None]] | None = None,
) -> Changes:
    """Change a table of id, name and updated."""

    def late() -> list[tuple[Any, ...]]:
        run(f"INSERT INTO {table} SELECT 9999, 'late', max(updated) FROM {table}")
        return [(9999, "late")]

    def update() -> list[tuple[Any, ...]]:
        run(f"UPDATE {table} SET name = 'changed', updated = '2024-01-01 12:00:00' WHERE id = 1")
        return [(1, "changed")]

    def delete() -> list[tuple[Any, ...]]:
        run(f"DELETE FROM {table} WHERE id = 2")
        return [(2, name) for name in ("张三2", "李四2", "王五2")]

    return Changes(late=late, update=update, delete=delete, outage=outage)


@contextmanager
def cut_off(database: Database) -> Iterator[None]:
    """End the connections that read at this moment."""
    database.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'exchange'"
    )
    yield


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("mode", ["snapshot", "incremental", "overlap", "query", "universal"])
def test_postgres_conforms(
    mode: str, check: Callable[[Case], None], database: Database, people: str
) -> None:
    modes: dict[str, dict[str, Any]] = {
        "snapshot": {"table": people},
        "incremental": {"table": people, "cursor_column": "updated"},
        "overlap": {"table": people, "cursor_column": "updated", "overlap": 3},
        "query": {
            "query": f"SELECT * FROM {people}",
            "cursor_column": "updated",
            "key": ["id"],
        },
        "universal": {"table": people, "cursor_column": "updated", "overlap": 3},
    }
    options = modes[mode]
    url = database.url
    if mode == "universal":
        url = url.replace("postgresql:", "postgresql+psycopg:")
    wrong = url.replace("p%40ss%3Aw%2Frd", "hunter2")
    nowhere = wrong.replace("@127.0.0.1:", "@127.0.0.1:1")
    conform(
        f"sql PostgreSQL {mode}",
        check,
        Case(
            open=lambda: source(url, batch_rows=70, **options),
            rows=[(i, f"张三{i}") for i in range(1, ROWS + 1)],
            identity=("id", "name"),
            news_only=mode != "snapshot",
            open_count=connections(database),
            secret="hunter2",
            broken={
                "password": lambda: source(wrong, **options),
                "server": lambda: source(nowhere.replace(":1", ":", 1), **options),
                "table": lambda: source(url, table="nowhere"),
                "column": lambda: source(url, **{**options, "columns": ["nowhere"]}),
            },
            changes=changes_of(database.run, people, outage=lambda: cut_off(database)),
        ),
    )


def execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(statement)


@pytest.mark.filterwarnings("ignore:not tested")  # SQLite locks the file while it is read
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("mode", ["snapshot", "incremental", "overlap", "no key"])
def test_sqlite_conforms(mode: str, check: Callable[[Case], None], tmp_path: Path) -> None:
    path = tmp_path / "cases.db"
    with sqlite3.connect(path) as db:
        key = "" if mode == "no key" else "PRIMARY KEY"
        db.execute(f"CREATE TABLE people (id INTEGER {key}, name TEXT, updated TEXT)")
        db.executemany(
            "INSERT INTO people VALUES (?, ?, ?)",
            [(i, f"李四{i}", f"2024-01-01 00:00:{i // 50:02}") for i in range(ROWS)],
        )
    db.close()
    modes: dict[str, dict[str, Any]] = {
        "snapshot": {},
        "incremental": {"cursor_column": "updated"},
        "overlap": {"cursor_column": "updated", "overlap": 3},
        "no key": {},
    }
    options = modes[mode]
    (tmp_path / "text.db").write_bytes(b"no database" * 1000)
    conform(
        f"sql SQLite {mode}",
        check,
        Case(
            open=lambda: source(
                "sqlite:///cases.db", tmp_path, table="people", batch_rows=70, **options
            ),
            rows=[(i, f"李四{i}") for i in range(ROWS)],
            identity=("id", "name"),
            exactly_once=mode != "no key",
            news_only="cursor_column" in options,
            changes=replace(
                changes_of(lambda statement: execute(path, statement), "people"), delete=None
            ),
            broken={
                "file": lambda: source("sqlite:///nowhere.db", tmp_path, table="people"),
                "format": lambda: source("sqlite:///text.db", tmp_path, table="people"),
                "table": lambda: source("sqlite:///cases.db", tmp_path, table="peple"),
            },
        ),
    )
    assert not (tmp_path / "nowhere.db").exists()


@pytest.fixture
def maria_people(mariadb: Server) -> Iterator[str]:
    execute_maria(
        mariadb.url,
        "CREATE TABLE people (id BIGINT PRIMARY KEY, name VARCHAR(40), updated DATETIME)",
    )
    execute_maria(
        mariadb.url,
        "INSERT INTO people SELECT seq, CONCAT('王五', seq), "
        f"'2024-01-01' + INTERVAL seq DIV 50 SECOND FROM seq_1_to_{ROWS}",
    )
    yield mariadb.url
    execute_maria(mariadb.url, "DROP TABLE people")


def execute_maria(url: str, statement: str) -> None:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as db:
        db.exec_driver_sql(statement)


@pytest.mark.filterwarnings("ignore:not tested.*outage")  # PostgreSQL's test has one
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("mode", ["snapshot", "incremental", "overlap"])
def test_mariadb_conforms(mode: str, check: Callable[[Case], None], maria_people: str) -> None:
    modes: dict[str, dict[str, Any]] = {
        "snapshot": {},
        "incremental": {"cursor_column": "updated"},
        "overlap": {"cursor_column": "updated", "overlap": 3},
    }
    options = modes[mode]
    wrong = maria_people.replace(":secret@", ":hunter2@")
    nowhere = f"mysql+pymysql://exchange:hunter2@127.0.0.1:{free_port()}/test"
    conform(
        f"sql MariaDB {mode}",
        check,
        Case(
            open=lambda: source(maria_people, table="people", batch_rows=70, **options),
            rows=[(i, f"王五{i}") for i in range(1, ROWS + 1)],
            identity=("id", "name"),
            news_only=mode != "snapshot",
            changes=changes_of(lambda statement: execute_maria(maria_people, statement), "people"),
            secret="hunter2",
            broken={
                "password": lambda: source(wrong, table="people"),
                "server": lambda: source(nowhere, table="people"),
                "table": lambda: source(maria_people, table="peple"),
                "database": lambda: source(
                    maria_people.replace("/test", "/nowhere"), table="people"
                ),
            },
        ),
    )


# --- types ------------------------------------------------------------------------------------


def test_postgres_types_arrive_exactly(database: Database) -> None:
    name = database.table(
        'id int PRIMARY KEY, small smallint, "Name" varchar(9), code char(6), flag boolean, '
        "price numeric(14,2), big numeric(38,10), free numeric, born date, at timestamptz, "
        "local timestamp, ratio float8, doc jsonb, uid uuid, raw bytea, tags text[], "
        "took interval, clock time, address inet"
    )
    database.run(
        f"INSERT INTO {name} VALUES (1, -2, '张', 'ab', true, -12.30, "
        "1234567890123456789012345678.0123456789, 1.10, '2024-02-29', "
        "'2024-01-01 08:00:00.123456+08', '2024-01-01 08:00:00', 0.1, '{\"甲\": [1]}', "
        "'00000000-0000-0000-0000-0000000000ff', '\\x00ff', '{a,\"b c\"}', '1 day', '12:30', "
        "'10.0.0.1')"
    )
    database.run(f"INSERT INTO {name} VALUES (2)")
    (pulled, _) = database.pull(table=name)
    frame = pulled.frame
    assert dict(frame.schema) == {
        "id": pl.Int32,
        "small": pl.Int16,
        "Name": pl.String,
        "code": pl.String,
        "flag": pl.Boolean,
        "price": pl.Decimal(14, 2),
        "big": pl.Decimal(38, 10),
        "free": pl.String,
        "born": pl.Date,
        "at": pl.Datetime("us", "UTC"),
        "local": pl.Datetime("us"),
        "ratio": pl.Float64,
        **dict.fromkeys(("doc", "uid", "raw", "tags", "took", "clock", "address"), pl.String),
    }
    assert frame.row(0) == (
        *(1, -2, "张", "ab", True, Decimal("-12.30")),
        *(Decimal("1234567890123456789012345678.0123456789"), "1.10", date(2024, 2, 29)),
        datetime(2024, 1, 1, 0, 0, 0, 123456, tzinfo=UTC),
        datetime(2024, 1, 1, 8, 0, 0),  # noqa: DTZ001
        *(0.1, '{"甲": [1]}', "00000000-0000-0000-0000-0000000000ff", "\\x00ff"),
        *('{a,"b c"}', "1 day", "12:30:00", "10.0.0.1/32"),
    )
    assert frame.row(1) == (2, *[None] * 18)


def test_an_empty_table_still_tells_its_types(database: Database) -> None:
    name = database.table("id int PRIMARY KEY, price numeric(5,2), code text")
    pulls = database.pull(table=name)
    assert [p.frame.height for p in pulls] == [0]
    assert dict(pulls[0].frame.schema)["price"] == pl.Decimal(5, 2)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.none()
            | st.decimals(allow_nan=False, allow_infinity=False, places=3).filter(
                lambda d: abs(d) < Decimal(10) ** 15
            ),
            st.none() | st.dates(),
            st.none() | st.datetimes(timezones=st.just(UTC)),
            st.none() | st.text(st.characters(exclude_characters="\0", codec="utf-8")),
            st.none() | st.booleans(),
            st.none() | st.integers(-(2**63), 2**63 - 1),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_values_survive_the_way(database: Database, values: list[tuple[Any, ...]]) -> None:
    name = database.table(
        "n int PRIMARY KEY, a numeric(18,3), b date, c timestamptz, d text, e boolean, f bigint"
    )
    for number, row in enumerate(values):
        database.run(f"INSERT INTO {name} VALUES (%s,%s,%s,%s,%s,%s,%s)", number, *row)
    for url in (database.url, database.url.replace("postgresql:", "postgresql+psycopg:")):
        pulls = list(source(url, table=name).pull())
        assert rows(pulls, *"abcdef") == values
    database.run(f"DROP TABLE {name}")


def test_what_no_column_can_hold_is_told(database: Database) -> None:
    name = database.table("id int PRIMARY KEY, price numeric(5,2), born date, at timestamp")
    database.run(
        f"INSERT INTO {name} VALUES (1, 1.25, '2024-01-01', '2024-01-01'), "
        "(2, 'NaN', '2024-01-01', '2024-01-01'), (3, 1, 'infinity', '2024-01-01'), "
        "(4, 1, '0044-03-15 BC', '-infinity'), (5, NULL, NULL, NULL)"
    )
    (pulled, _) = database.pull(table=name)
    result = dict(pulled.frame.select("id", "_defect").iter_rows())
    assert result[1] is None
    assert result[5] is None
    assert result[2] == "price: NaN"
    assert "born: infinite" in result[3]
    assert "born" in result[4]
    assert "at: infinite" in result[4]
    assert pulled.frame["born"].to_list() == [date(2024, 1, 1)] * 2 + [None] * 3


def test_mariadb_types_arrive_exactly(mariadb: Server) -> None:
    engine = sa.create_engine(mariadb.url, poolclass=sa.NullPool)
    with engine.begin() as db:
        db.exec_driver_sql("SET sql_mode = ''")
        db.exec_driver_sql("SET time_zone = '+08:00'")
        db.exec_driver_sql(
            "CREATE TABLE kinds (id INT PRIMARY KEY, name VARCHAR(9), bit1 BIT(1), "
            "price DECIMAL(14,2), born DATE, local DATETIME(3), at TIMESTAMP(3) NULL, "
            "clock TIME, raw BLOB, doc JSON, ratio DOUBLE, whole BIGINT UNSIGNED)"
        )
        db.exec_driver_sql(
            "INSERT INTO kinds VALUES (1, '张', b'1', -12.30, '2024-02-29', "
            "'2024-01-01 08:00:00.123', '2024-01-01 08:00:00.123', '12:30:00', x'00ff', "
            "'{\"甲\":1}', 0.5, 18446744073709551615), "
            "(2, NULL, NULL, NULL, '0000-00-00', NULL, NULL, NULL, NULL, NULL, NULL, NULL), "
            "(3, NULL, NULL, NULL, '0000-03-01', '0000-03-01', NULL, NULL, NULL, NULL, NULL, NULL)"
        )
    pulled = next(source(mariadb.url, table="kinds").pull())
    assert pulled.frame.row(0)[:-1] == (
        *(1, "张", 1, Decimal("-12.30"), date(2024, 2, 29)),
        datetime(2024, 1, 1, 8, 0, 0, 123000),  # noqa: DTZ001
        datetime(2024, 1, 1, 0, 0, 0, 123000, tzinfo=UTC),
        *("12:30:00", "\\x00ff", '{"甲":1}', 0.5, 18446744073709551615),
    )
    assert pulled.frame.row(2)[4:6] == (None, None)
    assert pulled.frame["_defect"].to_list() == [
        None,
        "born: 0000-00-00 is not Date",
        f"born: 0000-03-01 is not Date; local: 0000-03-01 00:00:00.000 is not {pl.Datetime('us')}",
    ]


def test_sqlite_tells_what_does_not_fit(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "a.db") as db:
        db.execute(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, flag BOOLEAN, r REAL, "
            "price DECIMAL(9,2), born DATE, raw BLOB)"
        )
        db.execute("INSERT INTO t VALUES (1, 5, 1, 0.5, 12.5, '2024-01-01', x'00ff')")
        db.execute("INSERT INTO t VALUES (2, 'five', 2, 'half', 'x', 20240101, NULL)")
    db.close()
    pulled = next(source("sqlite:///a.db", tmp_path, table="t").pull())
    assert pulled.frame.row(0) == (1, 5, True, 0.5, "12.5", "2024-01-01", "\\x00ff", None)
    assert pulled.frame.row(1)[:4] == (2, None, None, None)
    defect = pulled.frame["_defect"][1]
    assert all(part in defect for part in ("n: five", "flag: 2", "r: half"))


# --- cursors ----------------------------------------------------------------------------------


def test_incremental_takes_each_change_once(database: Database, people: str) -> None:
    options: dict[str, Any] = {"table": people, "cursor_column": "updated", "batch_rows": 64}
    pulls = database.pull(**options)
    assert len(rows(pulls, "id")) == ROWS
    cursor = json.loads(json.dumps(pulls[-1].cursor))
    assert rows(database.pull(cursor, **options), "id") == []
    database.run(f"UPDATE {people} SET name = 'new', updated = '2025-01-01Z' WHERE id IN (7, 9)")
    pulls = database.pull(cursor, **options)
    assert rows(pulls, "id", "name") == [(7, "new"), (9, "new")]


def test_overlap_takes_rows_that_were_committed_late(database: Database, people: str) -> None:
    options: dict[str, Any] = {"table": people, "cursor_column": "updated", "overlap": 5}
    cursor = database.pull(**options)[-1].cursor
    newest = START + timedelta(seconds=ROWS // 50)
    database.run(f"INSERT INTO {people} VALUES (9001, 'late', %s)", newest - timedelta(seconds=4))
    database.run(f"INSERT INTO {people} VALUES (9002, 'too late', %s)", START)
    database.run(f"UPDATE {people} SET name = 'changed' WHERE id = {ROWS}")
    pulls = database.pull(cursor, **options)
    assert sorted(rows(pulls, "id", "name")) == [(ROWS, "changed"), (9001, "late")]
    assert rows(database.pull(pulls[-1].cursor, **options), "id") == []


def test_rows_without_a_cursor_value_come_once(database: Database, people: str) -> None:
    options: dict[str, Any] = {"table": people, "cursor_column": "updated"}
    database.run(f"INSERT INTO {people} VALUES (9001, 'timeless', NULL)")
    pulls = database.pull(**options)
    assert len(rows(pulls, "id")) == ROWS + 1
    cursor = pulls[-1].cursor
    database.run(f"INSERT INTO {people} VALUES (9002, 'timeless too', NULL)")
    pulls = database.pull(cursor, **options)
    assert rows(pulls, "id") == [(9002,)]
    database.run(f"UPDATE {people} SET updated = '2025-01-01Z' WHERE id = 9001")
    assert rows(database.pull(pulls[-1].cursor, **options), "id") == [(9001,)]


def test_too_many_rows_without_a_cursor_value_are_an_error(database: Database) -> None:
    name = database.table("id int PRIMARY KEY, updated timestamptz")
    limit = module.MAX_WINDOW_ROWS
    database.run(f"INSERT INTO {name} SELECT i, NULL FROM generate_series(0, {limit}) i")
    with pytest.raises(Misconfigured, match="no value in the cursor column"):
        database.pull(table=name, cursor_column="updated")


def test_a_crowded_overlap_is_cut_and_told(database: Database) -> None:
    name = database.table("id int PRIMARY KEY, updated timestamptz")
    many = module.MAX_WINDOW_ROWS + 1000
    database.run(f"INSERT INTO {name} SELECT i, '2024-01-01Z' FROM generate_series(1, {many}) i")
    # A query's rows do not tell which transaction wrote them.
    options: dict[str, Any] = {"query": f"SELECT * FROM {name}", "key": ["id"]}
    options |= {"cursor_column": "updated", "overlap": 60}
    pulls = database.pull(**options)
    assert [note.kind for note in pulls[-1].notes] == ["overlap"]
    assert len(json.dumps(pulls[-1].cursor)) < 400_000
    database.run(f"INSERT INTO {name} VALUES (%s, '2024-01-01Z')", many + 1)
    again = database.pull(pulls[-1].cursor, **options)
    assert rows(again, "id") == [(many + 1,)], "nothing twice"


def test_settings_that_change_the_order_start_over(database: Database, people: str) -> None:
    cursor = database.pull(table=people, cursor_column="updated")[-1].cursor
    assert len(rows(database.pull(cursor, table=people, cursor_column="id"), "id")) == ROWS


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=12), min_size=1, max_size=5
    ),
    st.integers(1, 7),
    st.sampled_from([0, 3]),
    st.data(),
)
def test_no_history_loses_or_repeats(
    tmp_path_factory: pytest.TempPathFactory,
    history: list[list[tuple[int, bool]]],
    batch: int,
    overlap: int,
    data: st.DataObject,
) -> None:
    """Rows arrive in rounds with a clock that moves on; pulls are killed at any frame."""
    folder = tmp_path_factory.mktemp("history")
    path = folder / "h.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE t (id TEXT PRIMARY KEY, at INTEGER)")
    delivered: list[str] = []
    cursor: Any = None
    serial = count()
    for number, arrivals in enumerate(history):
        with sqlite3.connect(path) as db:
            for tick, timeless in arrivals:
                # Within the overlap a row may come late; else only ahead of everything.
                at = (number + 1) * 100 + (tick if not overlap else 100 - tick % (overlap + 1))
                at = number * 100 + 100 + tick if number == 0 or not overlap else at
                key = f"{tick % 3}-{next(serial)}"
                db.execute("INSERT INTO t VALUES (?, ?)", (key, None if timeless else at))
        db.close()
        for _ in range(2):
            stream = source(
                f"sqlite:///{path}",
                table="t",
                cursor_column="at",
                overlap=overlap,
                batch_rows=batch,
            ).pull(cursor)
            kill_after = data.draw(st.integers(0, 6))
            for frames, pulled in enumerate(stream):
                delivered += pulled.frame["id"].to_list() if pulled.frame.width else []
                cursor = json.loads(json.dumps(pulled.cursor))
                if frames == kill_after:
                    stream.close()
                    break
    final = source(f"sqlite:///{path}", table="t", cursor_column="at", overlap=overlap).pull(cursor)
    for pulled in final:
        delivered += pulled.frame["id"].to_list() if pulled.frame.width else []
    with sqlite3.connect(path) as db:
        everything = [key for (key,) in db.execute("SELECT id FROM t")]
    db.close()
    assert sorted(delivered) == sorted(everything)


def test_connections_share_what_is_known_of_a_database(database: Database) -> None:
    """Types that are made, and made anew, after the first connection come as text; no lock."""
    assert database.pull(table=database.table("id int PRIMARY KEY"))
    shared = database_of("postgresql://one/db")
    assert (shared, database_of("postgresql://two/db")) == (
        database_of("postgresql://one/db"),
        database_of("postgresql://two/db"),
    )
    assert shared is not database_of("postgresql://two/db")
    names = []
    for label in ("新", "旧", "又一个"):
        database.run("DROP TYPE IF EXISTS latest CASCADE")
        database.run(f"CREATE TYPE latest AS ENUM ('{label}')")
        names.append(database.table("id int PRIMARY KEY, kind latest, amount numeric(9, 2)"))
        database.run(f"INSERT INTO {names[-1]} VALUES (1, '{label}', 1.5)")
        expected = [(1, label, Decimal("1.50"))]
        assert rows(database.pull(table=names[-1]), "id", "kind", "amount") == expected
    with ThreadPoolExecutor(8) as pool:
        pulls = pool.map(lambda _: database.pull(table=names[-1]), range(40))
        assert [rows(pull, "id", "kind", "amount") for pull in pulls] == [expected] * 40


def test_who_hangs_while_connecting_holds_up_nobody_for_long(database: Database) -> None:
    address = database.url + "?application_name=exchange"
    shared = PostgresDatabase(address, wait_seconds=0.01)
    with shared._turn() as own_turn:
        assert own_turn
        connection = shared.connect()  # of a database of its own
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            assert cursor.fetchone() == (1,)
        shared.close(connection)
    connection = shared.connect()
    shared.close(connection)


def test_a_key_that_is_not_unique_is_an_error(database: Database) -> None:
    name = database.table("a int, b int")
    database.run(f"INSERT INTO {name} SELECT 1, i FROM generate_series(1, 10) i")
    with pytest.raises(Misconfigured, match="not unique"):
        database.pull(table=name, key=["a"], batch_rows=3)
    with pytest.raises(Misconfigured, match="no primary key"):
        database.pull(table=name, cursor_column="a")


# --- consistency, faults, limits --------------------------------------------------------------


def test_one_pull_sees_one_state(database: Database, people: str) -> None:
    options: dict[str, Any] = {"table": people, "cursor_column": "updated", "batch_rows": 50}
    stream = source(database.url, **options).pull()
    height = next(stream).frame.height
    database.run(f"INSERT INTO {people} VALUES (9001, 'meanwhile', '2030-01-01Z')")
    database.run(f"DELETE FROM {people} WHERE id > 400")
    height += sum(p.frame.height for p in stream)
    assert height == ROWS


def test_nothing_can_be_written(database: Database, people: str) -> None:
    database.run(
        f"CREATE OR REPLACE FUNCTION wipe() RETURNS int LANGUAGE sql AS "
        f"'DELETE FROM {people} RETURNING 1'"
    )
    with pytest.raises(ExchangeError, match="read-only"):
        database.pull(query="SELECT wipe() AS n")
    assert database.run(f"SELECT count(*) FROM {people}") == [(ROWS,)]


def test_names_are_quoted_and_values_are_bound(database: Database) -> None:
    odd = 'we"ird; DROP TABLE x --'
    quoted = '"we""ird; DROP TABLE x --"'
    name = f"Odd Name {next(_numbers)}"
    database.run('CREATE SCHEMA IF NOT EXISTS "Dept A"')
    database.run(f'CREATE TABLE "Dept A"."{name}" ({quoted} text PRIMARY KEY, v int)')
    keys = sorted(["a'; DROP TABLE x; --", "b\\", 'c"', "d''", "{e}", "%s", ":f", "七"])
    for key in keys:
        database.run(f'INSERT INTO "Dept A"."{name}" VALUES (%s, 1)', key)
    for url in (database.url, database.url.replace("postgresql:", "postgresql+psycopg:")):
        cursor: Any = None
        items: list[Any] = []
        for _ in keys:
            stream = source(url, table=f"Dept A.{name}", batch_rows=1).pull(cursor)
            pulled = next(stream)
            items += pulled.frame[odd].to_list()
            cursor = pulled.cursor
            stream.close()
        assert items == keys


@pytest.mark.server
def test_a_database_that_dies_in_mid_pull_is_transient_and_resumes() -> None:
    with postgres_server() as server:
        if not server.owned:
            pytest.fail("this test stops its server: unset EXCHANGE_TEST_POSTGRES")
        database = Database(server.url)
        name = database.table("id int PRIMARY KEY, filler text, updated timestamptz")
        database.run(
            f"INSERT INTO {name} SELECT i, repeat('x', 200), timestamptz '2024-01-01Z' + i / 9 * "
            "interval '1 second' FROM generate_series(1, 200000) i"
        )
        database.run("CHECKPOINT")
        modes: tuple[dict[str, Any], ...] = ({}, {"cursor_column": "updated"})
        for options in modes:
            items: list[int] = []
            cursor: Any = None
            stream = source(server.url, table=name, batch_rows=10_000, **options).pull()
            for pulled in islice(stream, 3):
                items += pulled.frame["id"].to_list()
                cursor = pulled.cursor
            server.kill()
            # What the socket still holds may come; then the end is told as what it is.
            with pytest.raises(Transient) as caught:
                list(stream)
            assert "p%40ss" not in str(caught.value)
            with pytest.raises(Transient):
                list(source(server.url, table=name, **options).pull(cursor))
            server.start()
            while True:
                try:
                    rest = list(source(server.url, table=name, **options).pull(cursor))
                except Transient:  # it still recovers
                    continue
                break
            items += [key for (key,) in rows(rest, "id")]
            assert sorted(items) == list(range(1, 200_001))
            assert len(rows(rest, "id")) < 200_000


def test_a_terminated_session_is_transient(database: Database) -> None:
    stream = source(
        database.url,
        query="SELECT i, repeat('y', 100) AS filler FROM generate_series(1, 2000000) i",
        batch_rows=5_000,
    ).pull()
    next(stream)
    database.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'exchange'"
    )
    with pytest.raises(Transient):
        list(stream)


def test_a_statement_has_a_time_limit(database: Database) -> None:
    with pytest.raises(ExchangeError, match="timeout"):
        database.pull(query="SELECT pg_sleep(5)::text AS nap", statement_seconds=1)


def test_rights_and_names_are_told_apart(database: Database) -> None:
    name = database.table("id int PRIMARY KEY, salary int")
    database.run("DROP ROLE IF EXISTS reader")
    database.run("CREATE ROLE reader LOGIN PASSWORD 'reader'")
    url = database.url.replace("postgres:p%40ss%3Aw%2Frd@", "reader:reader@")
    for address in (url, url.replace("postgresql:", "postgresql+psycopg:")):
        with pytest.raises(Denied, match="permission denied"):
            list(source(address, table=name).pull())
    with pytest.raises(Misconfigured, match=f"did you mean '{name}'"):
        database.pull(table=f"{name}x")
    with pytest.raises(Misconfigured, match="did you mean 'salary'"):
        database.pull(table=name, columns=["id", "salery"])
    with pytest.raises(Misconfigured, match="must include"):
        database.pull(table=name, columns=["salary"])
    with pytest.raises(Misconfigured, match="syntax error"):
        database.pull(query="SELEC 1")


@pytest.mark.parametrize("url", ["http://10.0.0.1/", "file:///etc/passwd", "x", "postgresql://[a"])
def test_other_schemes_are_refused(url: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        list(source(url, table="t").pull())
    assert url not in str(caught.value)


def test_discover_lists_tables_with_keys(database: Database, people: str) -> None:
    values = {entry["name"]: entry for entry in source(database.url).discover()}
    assert values[people]["key"] == ["id"]
    assert [c["name"] for c in values[people]["columns"]] == ["id", "name", "updated"]


def test_discover_tells_comments_keys_and_rows(database: Database, mariadb: Server) -> None:
    name = database.table("id int PRIMARY KEY, code varchar(8), other text, UNIQUE (code)")
    database.run(f"COMMENT ON TABLE {name} IS '表'")
    database.run(f"COMMENT ON COLUMN {name}.code IS '代码'")
    database.run(f"CREATE UNIQUE INDEX ON {name} (other) WHERE id > 5")
    database.run(f"INSERT INTO {name} SELECT i, i::text FROM generate_series(1, 9) i")
    execute_maria(
        mariadb.url,
        "CREATE TABLE noted (id INT PRIMARY KEY, code VARCHAR(8) UNIQUE COMMENT '代码', "
        "other TEXT) COMMENT '表'",
    )
    execute_maria(mariadb.url, "INSERT INTO noted SELECT seq, seq, seq FROM seq_1_to_9")
    for place in (source(database.url, table=name), source(mariadb.url, table="noted")):
        (entry,) = place.discover()
        columns = {column["name"]: column for column in entry["columns"]}
        assert (entry["comment"], entry["key"], entry["unique"]) == ("表", ["id"], [["code"]])
        assert (entry["rows"], entry["more"], entry["kind"]) == (9, False, "table")
        assert (columns["code"]["comment"], columns["code"]["type"]) == ("代码", "VARCHAR(8)")
        assert (columns["id"]["nullable"], columns["code"]["nullable"]) == (False, True)
    execute_maria(mariadb.url, "DROP TABLE noted")
    with pytest.raises(Misconfigured, match="has no table nowhere"):
        source(database.url, table="nowhere").discover()


_MEMORY = """
import os, resource, sys
from exchange.connectors.sql import sql
stream = sql.open({"url": "env:URL", "table": sys.argv[1]}, lambda _: os.environ["URL"]).pull()
n = sum(pulled.frame.height for pulled in stream)
print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_table(database: Database) -> None:
    peaks = []
    for size in (200_000, 1_000_000):
        name = database.table("id int PRIMARY KEY, filler text, price numeric(12,2)")
        database.run(
            f"INSERT INTO {name} SELECT i, repeat('z', 150), i / 100.0 "
            f"FROM generate_series(1, {size}) i"
        )
        result = subprocess.run(
            [sys.executable, "-c", _MEMORY, name],
            env={"URL": database.url, "POLARS_MAX_THREADS": "1", "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        )
        number, peak = map(int, result.stdout.split())
        assert number == size
        peaks.append(peak / 1024)
        database.run(f"DROP TABLE {name}")
    assert peaks[1] < peaks[0] + 40, f"peak RSS in MB: {peaks}"
