"""What a department asks of whoever reads its database: which rows, when, how fast."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from exchange.connect import Misconfigured, Transient
from exchange.connectors.sql import sql
from exchange.connectors.sql.condition import checked_condition

if TYPE_CHECKING:
    from exchange.connect import Pulled
    from tests.support.servers import Server

START = datetime(2026, 11, 1, 4, tzinfo=UTC)  # noon in Beijing
TABLE = "department_cases"
ROWS = [
    (1, "已办结", 0, None),
    (2, "草稿", 0, None),
    (3, "已办结", 1, "2026-01-01 00:00:00"),
    (4, "O'Brien; --", 0, None),
]


class Clock:
    def __init__(self) -> None:
        self.moment = START

    def now(self) -> datetime:
        return self.moment

    def sleep(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


@pytest.fixture(params=["sqlite", "postgres", "psycopg", "mariadb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Fill the same table at each kind of database, read each way."""
    create = f"CREATE TABLE {TABLE} (id INT PRIMARY KEY, status VARCHAR(20), flag INT, gone "
    if request.param == "sqlite":
        with closing(sqlite3.connect(tmp_path / "a.db")) as database, database:
            database.execute(f"{create} TEXT)")
            database.executemany(f"INSERT INTO {TABLE} VALUES (?, ?, ?, ?)", ROWS)
        return f"sqlite:///{tmp_path}/a.db"
    server: Server = request.getfixturevalue(
        "mariadb" if request.param == "mariadb" else "postgres"
    )
    address = server.url.replace("postgresql:", "postgresql+psycopg:")
    engine = sa.create_engine(address, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {TABLE}")
        connection.exec_driver_sql(f"{create} TIMESTAMP NULL)")
        connection.exec_driver_sql(f"INSERT INTO {TABLE} VALUES (%s, %s, %s, %s)", ROWS)
    return server.url if request.param == "postgres" else address


def pull(url: str, cursor: Any = None, clock: Clock | None = None, **options: Any) -> list[Pulled]:
    clock = clock or Clock()
    settings = {"url": "env:URL", "table": TABLE, **options}
    source = sql.open(settings, lambda _: url, now=clock.now, sleep=clock.sleep)
    return list(source.pull(cursor))


def ids(pulls: list[Pulled]) -> list[int]:
    return [row for p in pulls if p.frame.height for row in p.frame["id"]]


def test_a_condition_of_the_department_holds_for_every_read(url: str) -> None:
    where = "status <> '草稿' AND (flag = 0 OR id > 2)"
    assert ids(pull(url, where=where)) == [1, 3, 4]
    incremental = pull(url, where=where, cursor_column="id")
    assert ids(incremental) == [1, 3, 4]
    assert ids(pull(url, incremental[-1].cursor, where=where, cursor_column="id")) == []
    assert ids(pull(url, where="status = 'O''Brien; --'")) == [4]
    assert ids(pull(url, where="status LIKE '%ie%' OR status LIKE '%:%'")) == [4]
    with pytest.raises(Misconfigured):
        pull(url, where="nowhere = 1")


def test_marked_rows_are_deletions(url: str) -> None:
    for deleted in ({"column": "flag", "value": 1}, {"column": "flag", "value": "1"}):
        operations = dict(_operations(pull(url, deleted=deleted)))
        assert operations == {1: None, 2: None, 3: "D", 4: None}
    assert dict(_operations(pull(url, deleted={"column": "gone"})))[3] == "D"
    marked = {"column": "status", "value": "已办结"}
    assert dict(_operations(pull(url, deleted=marked, cursor_column="id")))[1] == "D"
    with pytest.raises(Misconfigured, match="no column"):
        pull(url, deleted={"column": "nowhere"})
    with pytest.raises(Misconfigured, match="must include"):
        pull(url, columns=["id"], deleted={"column": "flag"})


def _operations(pulls: list[Pulled]) -> list[tuple[int, str | None]]:
    return [row for p in pulls for row in p.frame.select("id", "cd_operation").iter_rows()]


def test_hours_and_rate(url: str) -> None:
    assert ids(pull(url, hours=["11:00-13:00"])) == [1, 2, 3, 4]
    assert ids(pull(url, hours=["22:00-06:00", "12:00-12:30"])) == [1, 2, 3, 4]
    with pytest.raises(Transient, match="outside the hours"):
        pull(url, hours=["22:00-06:00"])
    with pytest.raises(Misconfigured, match="stretch of a day"):
        pull(url, hours=["at night"])
    clock = Clock()
    assert ids(pull(url, clock=clock, rows_per_second=2)) == [1, 2, 3, 4]
    assert clock.moment - START == timedelta(seconds=2)


def test_a_pull_ends_behind_its_frame_when_the_hours_end(url: str) -> None:
    clock, brought = Clock(), []
    options = {"table": TABLE, "hours": ["11:00-12:01"], "rows_per_second": 0.01, "batch_rows": 2}
    source = sql.open(
        {"url": "env:URL", **options}, lambda _: url, now=clock.now, sleep=clock.sleep
    )
    cursor = None
    for _ in ROWS:
        clock.moment = START
        try:
            for pulled in source.pull(cursor):
                cursor = pulled.cursor
                brought += list(pulled.frame["id"])
        except Transient:
            continue
        break
    assert brought == [1, 2, 3, 4], "each pull went on where the one before ended"


def test_a_server_ends_what_takes_too_long(postgres: Server, mariadb: Server) -> None:
    slow = {
        postgres.url: "SELECT 1 AS id, pg_sleep(60)::text AS s",
        mariadb.url: "SELECT 1 AS id, SUM(SLEEP(20)) AS s FROM seq_1_to_9",
    }
    for url, query in slow.items():
        options = {"url": "env:URL", "query": query, "statement_seconds": 1}
        with pytest.raises(Transient):
            list(sql.open(options, dict.fromkeys(["env:URL"], url).__getitem__).pull())


@pytest.mark.parametrize(
    "text",
    [
        *("1=1; DROP TABLE x", "1=1) OR (1=1", "a = 1 -- b", "a /* b", "(a = 1", "a = 'b"),
        *("a = '\\'", "a = 1 # b", 'a = "b', "a = $$b$$", "a = `b"),
    ],
)
def test_what_could_leave_its_brackets_is_refused(text: str) -> None:
    with pytest.raises(Misconfigured, match="where"):
        checked_condition(text)


@given(st.text(alphabet="ab()'\"`;-/*#\\ $=", max_size=12))
def test_what_is_taken_ends_no_bracket_and_no_statement_of_ours(text: str) -> None:
    """SQLite always comes to what stands behind the brackets, or finds no SQL in them."""
    try:
        checked_condition(text)
    except Misconfigured:
        return
    statement = f"SELECT 1 WHERE ({text}\n) AND no_such_function_of_ours(1)"
    with (
        closing(sqlite3.connect(":memory:")) as database,
        pytest.raises(sqlite3.OperationalError),
    ):
        database.execute(statement)
