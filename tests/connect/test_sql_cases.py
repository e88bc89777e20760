"""Cases from the field: each stands for a kind of fault that sealed a falsehood or lost a row."""

from __future__ import annotations

import json
import sqlite3
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import sqlalchemy as sa

from exchange.connect import Denied, ExchangeError, Misconfigured, Text, Transient
from exchange.connectors.sql import adbc, sql
from exchange.connectors.sql.cursor import CursorState
from exchange.connectors.sql.pulls import Incremental
from exchange.connectors.sql.reader import Address
from tests.support.servers import free_port
from tests.support.servers import mariadb as mariadb_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exchange.connect import Pulled
    from tests.support.servers import Server

_serial = count()


class Engine:
    """One database, its own SQL and its address."""

    def __init__(self, kind: str, url: str) -> None:
        self.kind = kind
        self.url = url

    def run(self, *statements: str) -> None:
        url = self.url.replace("postgresql:", "postgresql+psycopg:")
        with sa.create_engine(url, poolclass=sa.NullPool).begin() as db:
            for statement in statements:
                db.exec_driver_sql(statement.replace("%", "%%"))

    def table(self, columns: str) -> str:
        name = f"case_{next(_serial)}"
        views = "" if self.kind == "sqlite" else " CASCADE"
        self.run(f"DROP TABLE IF EXISTS {name}{views}", f"CREATE TABLE {name} ({columns})")
        return name

    def pull(self, cursor: Any = None, **options: Any) -> list[Pulled]:
        cursor = json.loads(json.dumps(cursor))
        source = sql.open({"url": "env:URL", **options}, lambda _: self.url)
        return list(source.pull(cursor))


def values(pulls: list[Pulled], name: str = "id") -> list[Any]:
    return [v for p in pulls if p.frame.width for v in p.frame[name].to_list()]


def column(pulls: list[Pulled], name: str) -> dict[Any, Any]:
    return dict(zip(values(pulls), values(pulls, name), strict=True))


def defects(pulls: list[Pulled]) -> dict[Any, str]:
    broken = [p.frame for p in pulls if "_defect" in p.frame.columns]
    return {
        row["id"]: row["_defect"]
        for frame in broken
        for row in frame.iter_rows(named=True)
        if row["_defect"] is not None
    }


SERVERS = [
    pytest.param(kind, marks=pytest.mark.server) for kind in ("postgres", "psycopg", "mariadb")
]


@pytest.fixture(params=[*SERVERS, "sqlite"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    kind: str = request.param
    if kind == "sqlite":
        sqlite3.connect(tmp_path / "cases.db").close()
        return Engine(kind, f"sqlite:///{tmp_path}/cases.db")
    server: Server = request.getfixturevalue("mariadb" if kind == "mariadb" else "postgres")
    url = server.url
    if kind == "psycopg":
        url = url.replace("postgresql:", "postgresql+psycopg:")
    return Engine(kind, url)


@pytest.fixture
def maria(mariadb: Server) -> Engine:
    return Engine("mariadb", mariadb.url)


@pytest.fixture
def pg(postgres: Server) -> Engine:
    return Engine("postgres", postgres.url)


# --- one rule of time zones -------------------------------------------------------------------


def test_an_instant_is_the_same_by_table_query_and_view_in_mariadb(maria: Engine) -> None:
    """A TIMESTAMP by query came in the session's time, without a zone: eight hours off."""
    name = maria.table("id INT PRIMARY KEY, at TIMESTAMP NULL, wall DATETIME")
    view = f"{name}_v"
    maria.run(
        "SET time_zone = '+08:00'",
        f"INSERT INTO {name} VALUES (1, '2026-11-01 08:00:00', '2026-11-01 08:00:00')",
        f"CREATE OR REPLACE VIEW {view} AS SELECT id, IFNULL(at, NOW()) AS at, wall, "
        f"CAST(at AS CHAR) AS shown FROM {name}",
    )
    instant = datetime(2026, 11, 1, tzinfo=UTC)
    wall = datetime(2026, 11, 1, 8)  # noqa: DTZ001 - as it is stored: +08:00
    for options in ({"table": name}, {"query": f"SELECT * FROM {name}"}):
        (row,) = maria.pull(**options)[0].frame.select("at", "wall").rows()
        assert row == (instant, wall)
    for options in ({"table": view}, {"query": f"SELECT * FROM {view}"}):
        (row,) = maria.pull(**options)[0].frame.select("at", "wall", "shown").rows()
        assert row == (wall, wall, "2026-11-01 08:00:00")


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_an_instant_is_the_same_by_table_query_and_view_in_postgres(pg: Engine, zone: str) -> None:
    name = pg.table("id int PRIMARY KEY, at timestamptz, wall timestamp")
    pg.run(
        f"INSERT INTO {name} VALUES (1, '2026-11-01 08:00:00+08', '2026-11-01 08:00:00')",
        f"CREATE VIEW {name}_v AS SELECT id, at::timestamp AS at, wall, at::text AS shown "
        f"FROM {name}",
        f"ALTER ROLE postgres SET timezone = '{zone}'",
    )
    instant = datetime(2026, 11, 1, tzinfo=UTC)
    wall = datetime(2026, 11, 1, 8)  # noqa: DTZ001 - as it is stored: +08:00
    try:
        for url in (pg.url, pg.url.replace("postgresql:", "postgresql+psycopg:")):
            other = Engine("postgres", url)
            for options in ({"table": name}, {"query": f"SELECT * FROM {name}"}):
                (row,) = other.pull(**options)[0].frame.select("at", "wall").rows()
                assert row == (instant, wall)
            (row,) = other.pull(table=f"{name}_v")[0].frame.select("at", "wall", "shown").rows()
            assert row == (wall, wall, "2026-11-01 08:00:00+08")
    finally:
        pg.run("ALTER ROLE postgres RESET timezone")


# --- the last value again, and values that have no place ---------------------------------------

CLOCKED = {
    "postgres": "id int PRIMARY KEY, v text, at timestamp(0)",
    "psycopg": "id int PRIMARY KEY, v text, at timestamp(0)",
    "mariadb": "id INT PRIMARY KEY, v TEXT, at DATETIME",
    "sqlite": "id INTEGER PRIMARY KEY, v TEXT, at DATETIME",
}


def test_what_equals_the_last_value_comes_and_nothing_twice(engine: Engine) -> None:
    """A row changed, another inserted, in the same second as the last: both never came."""
    name = engine.table(CLOCKED[engine.kind])
    options: dict[str, Any] = {"table": name, "cursor_column": "at"}
    second = "'2026-11-01 08:00:00'"
    engine.run(
        f"INSERT INTO {name} VALUES (1, 'a', '2026-11-01 07:00:00'), "
        f"(5, 'a', {second}), (9, 'a', {second})"
    )
    pulls = engine.pull(**options)
    assert values(pulls) == [1, 5, 9]
    engine.run(
        f"UPDATE {name} SET v = 'b', at = {second} WHERE id = 1",
        f"INSERT INTO {name} VALUES (3, 'b', {second})",
    )
    pulls = engine.pull(pulls[-1].cursor, **options)
    assert column(pulls, "v") == {1: "b", 3: "b"}
    pulls = engine.pull(pulls[-1].cursor, **options)
    assert values(pulls) == []
    engine.run(f"UPDATE {name} SET v = 'c' WHERE id = 5")
    assert column(engine.pull(pulls[-1].cursor, **options), "v") == {5: "c"}


def test_a_future_value_costs_its_row_not_the_source(engine: Engine) -> None:
    """One row dated 2206 hid every later change, and nobody was told."""
    name = engine.table(CLOCKED[engine.kind])
    options: dict[str, Any] = {"table": name, "cursor_column": "at"}
    engine.run(
        f"INSERT INTO {name} VALUES (1, 'a', '2026-11-01 08:00:00'), "
        "(2, 'a', '2206-11-01 08:00:00')"
    )
    pulls = engine.pull(**options)
    assert sorted(values(pulls)) == [1, 2]
    source = sql.open({"url": "env:URL", **options}, lambda _: engine.url)
    assert ["beyond the database's clock: 1;" in t.en for t in source.concerns()] == [True]
    items = [note for p in pulls for note in p.notes]
    assert [note.kind for note in items] == ["clock"]
    what = Text.split(items[0].text).en
    assert what.startswith("rows with a value of at beyond the database's clock")
    engine.run(f"INSERT INTO {name} VALUES (3, 'a', '2026-11-02 08:00:00')")
    pulls = engine.pull(pulls[-1].cursor, **options)
    assert values(pulls) == [3]
    assert not [note for p in pulls for note in p.notes]
    engine.run(f"UPDATE {name} SET v = 'b' WHERE id = 2")
    pulls = engine.pull(pulls[-1].cursor, **options)
    assert column(pulls, "v") == {2: "b"}
    engine.run(f"UPDATE {name} SET at = '2026-11-03 08:00:00' WHERE id = 2")
    assert values(engine.pull(pulls[-1].cursor, **options)) == [2]
    assert source.concerns() == ()


IMPOSSIBLE = {
    "postgres": ("'infinity'", "'-infinity'", "'0044-03-15 08:00:00 BC'"),
    "psycopg": ("'infinity'", "'-infinity'", "'0044-03-15 08:00:00 BC'"),
    "mariadb": ("'0000-00-00 00:00:00'",),
    "sqlite": ("x'ff'",),
}


def test_an_impossible_value_costs_its_row_not_the_source(engine: Engine) -> None:
    """One 0000-00-00 or infinity in the cursor column stopped the source for good."""
    name = engine.table(CLOCKED[engine.kind])
    options: dict[str, Any] = {"table": name, "cursor_column": "at", "batch_rows": 2}
    odd = IMPOSSIBLE[engine.kind]
    rows = [f"({i}, 'a', '2026-11-01 08:00:0{i}')" for i in range(1, 6)]
    rows += [f"({i}, 'a', {value})" for i, value in enumerate(odd, start=10)]
    relaxed = ["SET sql_mode = ''"] if engine.kind == "mariadb" else []
    engine.run(*relaxed, f"INSERT INTO {name} VALUES {', '.join(rows)}")
    pulls = engine.pull(**options)
    impossible = list(range(10, 10 + len(odd)))
    assert sorted(values(pulls)) == [1, 2, 3, 4, 5, *impossible]
    if engine.kind != "sqlite":  # where any value has its place in the order
        assert sorted(defects(pulls)) == impossible
    engine.run(f"INSERT INTO {name} VALUES (6, 'a', '2026-11-01 08:00:06')")
    pulls = engine.pull(pulls[-1].cursor, **options)
    assert values(pulls) == [6]
    engine.run(*relaxed, f"INSERT INTO {name} VALUES (20, 'a', {odd[0]})")
    assert values(engine.pull(pulls[-1].cursor, **options)) == [20]


def test_a_row_may_lie_beyond_the_clock_until_its_time_comes(pg: Engine) -> None:
    """Known rows are dropped when the clock has passed them: here it is moved by hand."""
    name = pg.table("id int PRIMARY KEY, at timestamp")
    pg.run(
        f"INSERT INTO {name} SELECT i, timestamp '2026-01-01' + i * interval '1 day' "
        "FROM generate_series(1, 9) i"
    )
    state, items = CursorState(), []
    for day in (3, 3, 7, 9):
        with adbc.reader(Address(pg.url, name, None, Path(), 2, 10, 60)) as reader:
            reader.clock = datetime(2026, 1, 1) + timedelta(days=day)  # noqa: DTZ001
            pulling = Incremental(reader, ("id", "at"), ("at", "id"), 0, state)
            items += [i for p in pulling.pulls() for i in p.frame["id"].to_list()]
            state = pulling.state
            assert state.at is not None
            assert state.at[1] == day
    assert sorted(items) == list(range(1, 10)), "each once"


# --- values as the database shows them ---------------------------------------------------------


def test_mariadb_values_are_as_it_shows_them(maria: Engine) -> None:
    name = maria.table(
        "id INT PRIMARY KEY, t TIME, t3 TIME(3), y YEAR, z INT(8) ZEROFILL, b BIT(12), "
        "f FLOAT, at DATETIME(3)"
    )
    maria.run(
        "SET sql_mode = ''",
        f"INSERT INTO {name} VALUES (1, '08:30:00', '08:30:00.5', 0, 42, b'101', 0.1, NULL), "
        "(2, '25:30:00', '-00:00:00.25', 2026, 7, 4095, 16777217, '2024-00-15 00:00:00'), "
        "(3, '-838:59:59', '838:59:59.999', 1999, 0, 0, 1.5e10, '2024-02-29 08:00:00.120')",
    )
    for options in ({"table": name}, {"query": f"SELECT * FROM {name}"}):
        pulls = maria.pull(**options)
        assert column(pulls, "t") == {1: "08:30:00", 2: "25:30:00", 3: "-838:59:59"}
        assert column(pulls, "t3") == {1: "08:30:00.500", 2: "-00:00:00.250", 3: "838:59:59.999"}
        assert column(pulls, "y") == {1: "0000", 2: "2026", 3: "1999"}
        assert column(pulls, "z") == {1: "00000042", 2: "00000007", 3: "00000000"}
        assert column(pulls, "b") == {1: 5, 2: 4095, 3: 0}
        assert column(pulls, "f") == {1: 0.1, 2: 16777200.0, 3: 1.5e10}
        assert "at: 2024-00-15 00:00:00.000 is not" in defects(pulls)[2]


def test_postgres_values_are_as_it_shows_them(pg: Engine) -> None:
    name = pg.table("id int PRIMARY KEY, f float4, b bit(12), t time, i interval, m money")
    pg.run(
        f"INSERT INTO {name} VALUES (1, 0.1, B'000000000101', '24:00', '1 mon 25:30', 1234.5), "
        "(2, 16777217, NULL, NULL, '-3 days', -1)"
    )
    for url in (pg.url, pg.url.replace("postgresql:", "postgresql+psycopg:")):
        pulls = Engine("postgres", url).pull(table=name)
        assert column(pulls, "f") == {1: 0.1, 2: 16777216.0}
        assert column(pulls, "b") == {1: "000000000101", 2: None}
        assert column(pulls, "t") == {1: "24:00:00", 2: None}
        assert column(pulls, "i") == {1: "1 mon 25:30:00", 2: "-3 days"}
        assert column(pulls, "m") == {1: "$1,234.50", 2: "-$1.00"}


def test_a_text_that_is_not_utf8_costs_its_row_not_the_table(tmp_path: Path) -> None:
    """One SQLite text with GBK bytes stopped the table: "check that the database runs"."""
    with sqlite3.connect(tmp_path / "a.db") as db:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, code TEXT, at TEXT)")
        bad = "张".encode("gbk").hex()
        db.execute("INSERT INTO t VALUES (1, '李', 'a', '2026-11-01')")
        db.execute(f"INSERT INTO t VALUES (2, CAST(x'{bad}' AS TEXT), 'b', '2026-11-01')")
        db.execute(f"INSERT INTO t VALUES (3, '王', CAST(x'{bad}' AS TEXT), '2026-11-01')")
        db.execute("INSERT INTO t VALUES (4, '赵', 'd', '2026-11-01')")
    db.close()
    engine = Engine("sqlite", f"sqlite:///{tmp_path}/a.db")
    for options in ({}, {"key": ["code"]}, {"cursor_column": "at", "key": ["code"]}):
        names: dict[int, str | None] = {}
        told: dict[int, str] = {}
        cursor: Any = None
        for _ in range(4):
            source = sql.open(
                {"url": "env:URL", "table": "t", "batch_rows": 1, **options}, lambda _: engine.url
            )
            pulled = next(source.pull(cursor))
            names |= column([pulled], "name")
            told |= defects([pulled])
            cursor = json.loads(json.dumps(pulled.cursor))
        assert names == {1: "李", 2: None, 3: "王", 4: "赵"}, options
        assert told == {2: "name: \\xd5c5 is not UTF-8", 3: "code: \\xd5c5 is not UTF-8"}


# --- addresses and errors ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "secret", ["hun@ter2", "hun/ter2", "hun#ter2", "hun?ter2", "hun%ter2", "hun ter2", "h[unter2"]
)
@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg", "mysql+pymysql"])
def test_a_raw_special_character_shows_nothing_of_the_password(scheme: str, secret: str) -> None:
    url = f"{scheme}://user:{secret}@127.0.0.1:1/db"
    source = sql.open({"url": "env:URL", "table": "t"}, lambda _: url)
    for attempt in (lambda: list(source.pull()), source.check, source.discover):
        with pytest.raises(Misconfigured) as caught:
            attempt()
        error = caught.value
        text = " ".join((*error.what, *error.hint, str(error), repr(error.__cause__)))
        assert "percent-encode special characters" in text
        for part in ("hun", "ter2", "unter"):
            assert part not in text


def test_a_password_without_its_at_sign_shows_nothing() -> None:
    url = "postgresql://user:hunter2/db"
    with pytest.raises(Misconfigured) as caught:
        list(sql.open({"url": "env:URL", "table": "t"}, lambda _: url).pull())
    assert "hunter2" not in f"{caught.value}{caught.value.__cause__}"


@pytest.mark.parametrize(
    ("url", "option"),
    [
        ("mysql+pymysql://u:p@127.0.0.1:1/db?charset=gbk", "charset"),
        ("mariadb+pymysql://u:p@127.0.0.1:1/db?charset=latin1", "charset"),
        ("postgresql://u:p@127.0.0.1:1/db?client_encoding=GBK", "client_encoding"),
    ],
)
def test_an_encoding_in_the_address_is_refused(url: str, option: str) -> None:
    """It was overridden in silence."""
    with pytest.raises(Misconfigured, match=f"{option} cannot be chosen"):
        list(sql.open({"url": "env:URL", "table": "t"}, lambda _: url).pull())


def test_a_latin1_column_with_gbk_bytes_is_read_by_a_query(maria: Engine) -> None:
    """The page says how: the bytes as they are, and then in their own encoding."""
    name = maria.table("id INT PRIMARY KEY, name VARCHAR(40) CHARACTER SET latin1")
    gbk = "北京".encode("gbk").hex()
    maria.run(f"INSERT INTO {name} VALUES (1, x'{gbk}')")
    query = f"SELECT id, CONVERT(CAST(name AS BINARY) USING gbk) AS name FROM {name}"
    assert column(maria.pull(query=query, key=["id"]), "name") == {1: "北京"}
    utf8 = Engine("mariadb", f"{maria.url}?charset=utf8mb4")
    assert column(utf8.pull(query=query, key=["id"]), "name") == {1: "北京"}


@contextmanager
def raises(kind: type[ExchangeError], match: str) -> Iterator[None]:
    with pytest.raises(kind, match=match) as caught:
        yield
    assert caught.type is kind
    assert caught.value.hint.zh


def test_every_error_of_postgres_says_what_to_do(pg: Engine) -> None:
    closed = f"127.0.0.1:{free_port()}"
    server = pg.url.partition("@")[2]
    cases: list[tuple[str, type[ExchangeError], str]] = [
        (pg.url.replace(server, f"{closed}/db"), Transient, "refused"),
        (pg.url.replace("p%40ss%3Aw%2Frd", "wrong"), Denied, "authentication failed"),
        (pg.url.replace("postgres:p%40", "nobody:p%40"), Denied, "nobody"),
        (f"{pg.url}x", Misconfigured, "does not exist"),
        (f"{pg.url}?sslmode=require", Misconfigured, "SSL"),
        (f"{pg.url}?sslmode=bad", Misconfigured, "sslmode"),
        (f"{pg.url}?nonsense=1", Misconfigured, "nonsense"),
        (f"{pg.url}?options=-c%20nonsense%3D1", Misconfigured, "nonsense"),
    ]
    for url, kind, match in cases:
        for address in (url, url.replace("postgresql:", "postgresql+psycopg:")):
            with raises(kind, match):
                Engine("", address).pull(table="t")


def test_every_error_of_mariadb_says_what_to_do(maria: Engine) -> None:
    closed = f"127.0.0.1:{free_port()}"
    server = maria.url.partition("@")[2]
    cases: list[tuple[str, type[ExchangeError], str]] = [
        (maria.url.replace(server, f"{closed}/test"), Transient, "connect"),
        (maria.url.replace(":secret@", ":wrong@"), Denied, "denied"),
        (f"{maria.url}x", Misconfigured, "nknown database"),
        (f"{maria.url}?ssl_verify_cert=true&ssl_verify_identity=true", Misconfigured, "SSL"),
        (f"{maria.url}?nonsense=1", Misconfigured, "nonsense"),
    ]
    for url, kind, match in cases:
        with raises(kind, match):
            Engine("", url).pull(table="t")


@pytest.mark.server
def test_a_mariadb_that_dies_in_mid_pull_is_transient_and_resumes() -> None:
    with mariadb_server() as server:
        if not server.owned:
            pytest.fail("this test stops its server: unset EXCHANGE_TEST_MARIADB")
        maria = Engine("mariadb", server.url)
        name = maria.table("id INT PRIMARY KEY, filler TEXT, at DATETIME")
        maria.run(
            f"INSERT INTO {name} SELECT seq, REPEAT('x', 400), '2026-11-01 08:00:00' "
            "FROM seq_1_to_60000"
        )
        for options in ({}, {"cursor_column": "at"}):
            items: list[int] = []
            cursor: Any = None
            source = sql.open(
                {"url": "env:URL", "table": name, "batch_rows": 1000, **options},
                lambda _: server.url,
            )
            stream = source.pull()
            for _ in range(3):
                pulled = next(stream)
                items += pulled.frame["id"].to_list()
                cursor = pulled.cursor
            server.kill()
            # What the socket still holds may come; then the end is told as what it is.
            with raises(Transient, "cannot read"):
                list(stream)
            with raises(Transient, "cannot read"):
                list(source.pull(cursor))
            server.start()
            items += values(list(source.pull(cursor)))
            assert sorted(items) == list(range(1, 60_001))


def test_a_host_that_pg_hba_does_not_name_is_denied(pg: Engine) -> None:
    with psycopg.connect(pg.url, autocommit=True) as db:
        ((path,),) = db.execute("SHOW hba_file").fetchall()
        ((rules,),) = db.execute("SELECT pg_read_file(current_setting('hba_file'))").fetchall()
        db.execute("DROP ROLE IF EXISTS outsider")
        db.execute("CREATE ROLE outsider LOGIN PASSWORD 'secret'")
        escaped = f"host all outsider 127.0.0.1/32 reject\n{rules}".replace("'", "''")
        write = "COPY (SELECT line FROM regexp_split_to_table('{}', E'\\n') line) TO '{}'"
        db.execute(write.format(escaped, path))
        db.execute("SELECT pg_reload_conf()")
        try:
            url = pg.url.replace("postgres:p%40ss%3Aw%2Frd@", "outsider:secret@")
            for address in (url, url.replace("postgresql:", "postgresql+psycopg:")):
                with raises(Denied, "pg_hba.conf"):
                    Engine("", address).pull(table="t")
        finally:
            plain = rules.replace("'", "''")
            db.execute(write.format(plain, path))
            db.execute("SELECT pg_reload_conf()")
