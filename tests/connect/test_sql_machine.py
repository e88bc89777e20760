"""A table that lives while it is pulled, against a model: nothing lost, nothing twice.

Rows are inserted, changed and deleted, at equal times, late, without a time or with one in the
future; pulls are killed behind any frame and go on. In the end the newest version of every row
was delivered last, and no version twice. EXCHANGE_SOAK=1 tries many more lives.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import closing
from datetime import datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import psycopg
import pymysql
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from exchange.connectors.sql import sql
from tests.support.soak import SOAK

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.servers import Server

START = datetime(2026, 1, 1)  # noqa: DTZ001 - as the database shows it
OVERLAP = 3
FUTURE = "2206-01-01 00:00:00"


class Life(RuleBasedStateMachine):
    """One table (id, v, at): ``v`` grows with every change, ``at`` is when it was made."""

    url: str
    execute: Callable[[str], Any]
    declared: str
    counts: Counter[str]

    def __init__(self) -> None:
        super().__init__()
        self.table = f"life_{next(self.serial)}"
        self.execute(f"CREATE TABLE {self.table} ({self.declared})")
        self.now = 0
        self.versions = count(1)
        self.rows: dict[int, tuple[int, str | None]] = {}
        self.delivered: list[tuple[int, int, str | None]] = []
        self.cursor: Any = None
        self.overlap = 0
        self.counts["lives"] += 1

    serial = count()

    def write(self, key: int, at: str | None) -> None:
        version = next(self.versions)
        self.execute(f"DELETE FROM {self.table} WHERE id = {key}")
        moment = "NULL" if at is None else f"'{at}'"
        self.execute(f"INSERT INTO {self.table} VALUES ({key}, {version}, {moment})")
        self.rows[key] = (version, at)
        self.counts["writes"] += 1

    def at(self, back: int) -> str:
        return str(START + timedelta(seconds=self.now - min(back, self.overlap)))

    @precondition(lambda self: self.cursor is None)
    @rule(overlap=st.sampled_from([0, OVERLAP]))
    def choose(self, overlap: int) -> None:
        self.overlap = overlap

    @rule(seconds=st.integers(1, 5))
    def tick(self, seconds: int) -> None:
        self.now += seconds

    @rule(keys=st.lists(st.integers(0, 20), min_size=1, max_size=8), back=st.integers(0, OVERLAP))
    def change(self, keys: list[int], back: int) -> None:
        """Insert or update rows, at the same time, committed late within the overlap."""
        for key in keys:
            self.write(key, self.at(back))

    @rule(key=st.integers(0, 20), at=st.sampled_from([None, FUTURE]))
    def misplace(self, key: int, at: str | None) -> None:
        self.write(key, at)

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.rows)))
        self.execute(f"DELETE FROM {self.table} WHERE id = {key}")
        del self.rows[key]

    @rule(frames=st.integers(1, 4), batch=st.integers(1, 6))
    def pull_and_die(self, frames: int, batch: int) -> None:
        self.pull(frames, batch)

    @rule(batch=st.integers(1, 6))
    def pull_whole(self, batch: int) -> None:
        self.pull(None, batch)

    def pull(self, frames: int | None, batch: int) -> None:
        options = {"cursor_column": "at", "overlap": self.overlap, "batch_rows": batch}
        source = sql.open({"url": "env:URL", "table": self.table, **options}, lambda _: self.url)
        with closing(source.pull(self.cursor)) as stream:
            for place, pulled in enumerate(stream, start=1):
                if pulled.frame.height:
                    for key, version, at in pulled.frame.select("id", "v", "at").iter_rows():
                        self.delivered.append((key, version, None if at is None else str(at)))
                self.cursor = json.loads(json.dumps(pulled.cursor))
                if place == frames:
                    self.counts["kills"] += 1
                    break
        self.counts["pulls"] += 1

    def teardown(self) -> None:
        # Every life ends with a kill, however few steps were drawn.
        self.write(0, self.at(0))
        self.pull(1, 1)
        self.pull(None, 4)
        newest = {key: (version, at) for key, version, at in self.delivered}
        for key, row in self.rows.items():
            assert newest.get(key) == row, f"row {key}: {row} is lost, found {newest.get(key)}"
        twice = {row: n for row, n in Counter(self.delivered).items() if n > 1}
        assert not twice, f"delivered twice: {twice}"
        before = len(self.delivered)
        self.pull(None, 4)
        assert len(self.delivered) == before, "where nothing changes, nothing comes"
        self.execute(f"DROP TABLE {self.table}")


def live(
    url: str, execute: Callable[[str], Any], declared: str, lives: int, steps: int
) -> Counter[str]:
    counts: Counter[str] = Counter()
    members = {
        "url": url,
        "execute": staticmethod(execute),
        "declared": declared,
        "counts": counts,
    }
    run_state_machine_as_test(
        type("ThisLife", (Life,), members),
        settings=settings(
            max_examples=lives * (20 if SOAK else 1),
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    return counts


def say(tell: Callable[[str], None], engine: str, counts: Counter[str]) -> None:
    text = ", ".join(f"{counts[name]} {name}" for name in ("lives", "writes", "pulls", "kills"))
    tell(f"sql: {engine}, a table that lives: {text}: 0 lost, 0 twice, the newest last")
    assert counts["kills"] >= counts["lives"]


def test_a_table_that_lives_in_sqlite(tmp_path: Path, tell: Callable[[str], None]) -> None:
    path = tmp_path / "life.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = OFF")
        declared = "id INTEGER PRIMARY KEY, v INTEGER, at TEXT"
        counts = live(f"sqlite:///{path}", db.execute, declared, 20, 15)
    say(tell, "SQLite", counts)


@pytest.mark.parametrize("way", ["columns", "universal"])
def test_a_table_that_lives_in_postgres(
    way: str, postgres: Server, tell: Callable[[str], None]
) -> None:
    url = postgres.url
    if way == "universal":
        url = url.replace("postgresql:", "postgresql+psycopg:")
    with psycopg.connect(postgres.url, autocommit=True) as db:
        names = db.execute("SELECT tablename FROM pg_tables WHERE tablename LIKE 'life%'")
        for (name,) in names.fetchall():
            db.execute(f"DROP TABLE {name}".encode())
        declared = "id int PRIMARY KEY, v int, at timestamp(0)"
        counts = live(url, lambda statement: db.execute(statement.encode()), declared, 4, 12)
    say(tell, f"PostgreSQL, {way}", counts)


def test_a_table_that_lives_in_mariadb(mariadb: Server, tell: Callable[[str], None]) -> None:
    address = sa.make_url(mariadb.url)
    with pymysql.connect(
        host=address.host,
        port=address.port or 3306,
        user=address.username,
        password=str(address.password),
        database=str(address.database),
        autocommit=True,
    ) as db:
        cursor = db.cursor()
        cursor.execute("SHOW TABLES LIKE 'life%'")
        for (name,) in cursor.fetchall():
            cursor.execute(f"DROP TABLE {name}")
        declared = "id INT PRIMARY KEY, v INT, at DATETIME"
        counts = live(mariadb.url, cursor.execute, declared, 4, 12)
    say(tell, "MariaDB", counts)
