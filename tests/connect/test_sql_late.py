"""Transactions that stay open across pulls, on real servers: no row is lost, none comes twice.

Writers begin, write, change, roll back and commit in random order (seeded), with savepoints, and
pulls run in between: rows with lower values are committed after rows with higher ones were
pulled. In the end every row's newest version was delivered, and last. EXCHANGE_SOAK=1 plays all
histories.
"""

from __future__ import annotations

import random
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import count, islice
from typing import TYPE_CHECKING, Any

import psycopg
import pymysql
import pytest
import sqlalchemy as sa

from exchange.connectors.sql import sql
from tests.support.soak import INTERLEAVINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.servers import Server

_tables = count(1)
WRITERS = 4
MOMENTS = 40


class Writer:
    """One connection whose transaction stays open as long as the history says."""

    def __init__(self, connection: Any, number: int, insert: str, change: str) -> None:
        self.connection = connection
        self.number = number
        self.insert = insert
        self.change = change
        self.rows: list[int] = []
        """Rows that it alone changes: nobody waits for a lock."""
        self.fresh: list[int] = []
        self.open = False

    def write(self, dice: random.Random, versions: Iterator[int]) -> None:
        cursor = self.connection.cursor()
        if not self.open:
            cursor.execute("BEGIN")
            self.open = True
            if dice.random() < 0.3:  # the clock of its values stands still from here
                cursor.execute("SELECT 1")
                return
        apart = dice.random() < 0.3
        if apart:
            cursor.execute("SAVEPOINT part")
        rows = [*self.rows, *self.fresh]
        if rows and dice.random() < 0.5:
            cursor.execute(self.change, (next(versions), dice.choice(rows)))
        else:
            row = WRITERS * next(_tables) + self.number
            cursor.execute(self.insert, (row, next(versions)))
            self.fresh.append(row)
            if apart and dice.random() < 0.3:
                cursor.execute("ROLLBACK TO SAVEPOINT part")
                self.fresh.remove(row)
        cursor.close()

    def end(self, *, commit: bool) -> None:
        cursor = self.connection.cursor()
        cursor.execute("COMMIT" if commit else "ROLLBACK")
        cursor.close()
        if commit:
            self.rows += self.fresh
        self.fresh, self.open = [], False


@dataclass
class History:
    """Writers at work on one table, a source that pulls it, and what it brought."""

    connect: Callable[[], Any]
    url: str
    table: str
    column: str
    insert: str
    change: str
    cursor: Any = None
    delivered: list[tuple[int, int]] = field(default_factory=list)
    seen: dict[int, int] = field(default_factory=dict)
    """What a reader has that asks for higher values only."""
    highest: Any = None

    def play(self, seed: int) -> int:
        """Play it; return how many rows that simple reader lost."""
        dice, versions = random.Random(seed), count(1)  # noqa: S311 - a history, no secret
        with ExitStack() as stack:
            writers = [
                Writer(stack.enter_context(closing(self.connect())), n, self.insert, self.change)
                for n in range(WRITERS)
            ]
            for _ in range(MOMENTS):
                self.step(dice, dice.choice(writers), versions)
            for writer in writers:
                if writer.open:
                    writer.end(commit=True)
            self.pull()
            self.pull()
            there = dict(self.ask(f"SELECT id, v FROM {self.table}"))
        assert dict(self.delivered) == there, f"seed {seed}: the newest of every row, and last"
        twice = [version for version, times in Counter(self.delivered).items() if times > 1]
        assert not twice, f"seed {seed}"
        return sum(self.seen.get(row) != v for row, v in there.items())

    def step(self, dice: random.Random, writer: Writer, versions: Iterator[int]) -> None:
        chance = dice.random()
        if chance < 0.5:
            writer.write(dice, versions)
        elif chance < 0.8:
            if writer.open:
                writer.end(commit=dice.random() < 0.8)
        else:
            self.pull(frames=1 if chance < 0.87 else None)  # one is broken off

    def pull(self, frames: int | None = None) -> None:
        options = {"table": self.table, "cursor_column": self.column, "batch_rows": 3}
        source = sql.open({"url": "env:URL", **options}, lambda _: self.url)
        with closing(source.pull(self.cursor)) as stream:
            for pulled in islice(stream, frames):
                self.cursor = pulled.cursor
                if pulled.frame.height:
                    self.delivered.extend(pulled.frame.select("id", "v").iter_rows())
        beyond = "" if self.highest is None else f"WHERE {self.column} > '{self.highest}'"
        for row, v, value in self.ask(f"SELECT id, v, {self.column} FROM {self.table} {beyond}"):
            self.seen[row] = v
            self.highest = value if self.highest is None else max(self.highest, value)

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        with closing(self.connect()) as connection:
            cursor = connection.cursor()
            cursor.execute(statement)
            return list(cursor.fetchall())


@pytest.mark.parametrize(
    ("driver", "column"),
    [("postgresql", "changed"), ("postgresql", "seq"), ("postgresql+psycopg", "changed")],
)
def test_postgres_loses_no_late_commit(column: str, driver: str, postgres: Server) -> None:
    lost = 0
    with psycopg.connect(postgres.url, autocommit=True) as admin:
        for seed in range(1, INTERLEAVINGS.now + 1):
            table = f"late_{next(_tables)}"
            admin.execute(
                f"CREATE TABLE {table} (id bigint PRIMARY KEY, v int, seq bigserial, "
                "changed timestamptz NOT NULL DEFAULT now())"
            )
            change = f"UPDATE {table} SET v = %s, seq = DEFAULT, changed = now() WHERE id = %s"
            history = History(
                connect=lambda: psycopg.connect(postgres.url, autocommit=True),
                url=postgres.url.replace("postgresql:", f"{driver}:"),
                table=table,
                column=column,
                insert=f"INSERT INTO {table} (id, v) VALUES (%s, %s)",
                change=change,
            )
            lost += history.play(seed)
    assert lost, "a simple reader would have missed some"


@pytest.mark.parametrize("column", ["changed", "seq"])
def test_mariadb_loses_no_late_commit(column: str, mariadb: Server) -> None:
    url = sa.make_url(mariadb.url)

    def connect() -> Any:
        return pymysql.connect(
            host=url.host,
            port=url.port or 0,
            user=url.username,
            password=str(url.password),
            database=url.database,
            autocommit=True,
        )

    lost = 0
    with closing(connect()) as admin:
        for seed in range(1, INTERLEAVINGS.now + 1):
            table = f"late_{next(_tables)}"
            admin.cursor().execute(
                f"CREATE TABLE {table} (id BIGINT PRIMARY KEY, v INT, "
                "seq BIGINT NOT NULL AUTO_INCREMENT UNIQUE, "
                "changed DATETIME(6) NOT NULL DEFAULT NOW(6) ON UPDATE NOW(6))"
            )
            history = History(
                connect=connect,
                url=mariadb.url,
                table=table,
                column=column,
                insert=f"INSERT INTO {table} (id, v) VALUES (%s, %s)",
                change=f"UPDATE {table} SET v = %s WHERE id = %s",
            )
            lost += history.play(seed)
    assert lost, "a simple reader would have missed some"


def test_a_transaction_that_hangs_holds_rows_up_and_a_note_names_it(postgres: Server) -> None:
    table = f"late_{next(_tables)}"
    options = {"url": "env:URL", "table": table, "cursor_column": "changed"}
    source = sql.open(options, lambda _: postgres.url)
    with (
        psycopg.connect(postgres.url, autocommit=True) as admin,
        psycopg.connect(postgres.url) as hanging,
    ):
        admin.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, changed timestamptz)")
        admin.execute(f"INSERT INTO {table} VALUES (1, now())")
        hanging.execute(f"INSERT INTO {table} VALUES (2, now())")
        admin.execute(f"INSERT INTO {table} VALUES (3, now())")
        first = list(source.pull())
        assert [row for p in first for row in p.frame["id"]] == [1]
        second = list(source.pull(first[-1].cursor))
        (note,) = second[-1].notes
        assert (note.kind, not any(p.frame.height for p in second)) == ("transaction", True)
        assert f"pid {hanging.info.backend_pid}" in note.text
        hanging.commit()
        third = list(source.pull(second[-1].cursor))
        assert [row for p in third for row in p.frame["id"]] == [2, 3]
        assert not third[-1].notes


def test_numbers_of_another_server_mean_nothing(postgres: Server) -> None:
    """A table that was moved to another server is read again up to the last position."""
    table = f"late_{next(_tables)}"
    options = {"url": "env:URL", "table": table, "cursor_column": "seq"}
    source = sql.open(options, lambda _: postgres.url)
    with psycopg.connect(postgres.url, autocommit=True) as admin:
        admin.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, seq int)")
        admin.execute(f"INSERT INTO {table} VALUES (1, 10), (2, 20)")
        cursor = list(source.pull())[-1].cursor
        assert cursor is not None
        admin.execute(f"INSERT INTO {table} VALUES (3, 15)")
        for moved in (
            {**cursor, "server": "another"},
            {**cursor, "settled": cursor["settled"] + 1_000_000},
        ):
            ids = {row for p in source.pull(moved) for row in p.frame["id"]}
            assert ids == {1, 2, 3}, moved
        assert [row for p in source.pull(cursor) for row in p.frame["id"]] == [3]
