"""Values out of the usual form: they come once and are told, and hide no later row."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from exchange.connect import Misconfigured, Transient
from exchange.connectors.sql import sql
from exchange.connectors.sql.reader import plain_query

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from exchange.connect import Pulled, Text
    from tests.support.servers import Server

ENGINES = ("sqlite", "postgres", "psycopg", "mariadb")


class Table:
    """A table (id, name, at) in a database; ``at`` is text."""

    def __init__(self, url: str, base: Path, engine: sa.Engine) -> None:
        self.url, self.base, self.engine = url, base, engine
        self.run(
            "DROP TABLE IF EXISTS odd",
            "CREATE TABLE odd (id INT UNIQUE, name TEXT, at VARCHAR(30))",
        )

    def run(self, *statements: str) -> None:
        with self.engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def put(self, *rows: tuple[int | None, str | None]) -> None:
        with self.engine.begin() as connection:
            for number, at in rows:
                values = {"id": number, "at": at}
                connection.execute(sa.text("INSERT INTO odd VALUES (:id, 'n', :at)"), values)

    def concerns(self) -> Sequence[Text]:
        options = {"table": "odd", "key": ["id"], "cursor_column": "at"}
        source = sql.open({"url": "env:URL", **options}, lambda _: self.url, base=self.base)
        return tuple(source.concerns())

    def pull(self, cursor: Any = None, **options: Any) -> list[Pulled]:
        options = {"table": "odd", "key": ["id"], "cursor_column": "at", **options}
        options = {name: value for name, value in options.items() if value is not None}
        source = sql.open({"url": "env:URL", **options}, lambda _: self.url, base=self.base)
        return list(source.pull(cursor))


@pytest.fixture(params=ENGINES)
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Table]:
    if request.param == "sqlite":
        path = tmp_path / "a.db"
        with closing(sqlite3.connect(path)):
            pass
        url, where = "sqlite:///a.db", f"sqlite:///{path}"
    else:
        name = "mariadb" if request.param == "mariadb" else "postgres"
        server: Server = request.getfixturevalue(name)
        url = where = server.url
        if name == "postgres":
            where = url.replace("postgresql://", "postgresql+psycopg://", 1)
            url = where if request.param == "psycopg" else url
    engine = sa.create_engine(where, poolclass=sa.NullPool)
    yield Table(url, tmp_path, engine)
    engine.dispose()


def numbers(pulls: Sequence[Pulled]) -> list[int | None]:
    return [n for p in pulls if p.frame.height for n in p.frame["id"].to_list()]


def notes(pulls: Sequence[Pulled]) -> list[str]:
    return [note.kind for p in pulls for note in p.notes]


@pytest.mark.parametrize("odd", ["2026/01/02 08:00:00", "待定", "2026-01-02T08:00:00", "2026-9-30"])
def test_a_text_of_another_form_comes_once_and_hides_nothing(table: Table, odd: str) -> None:
    table.put((1, "2026-01-01 08:00:00"), (2, odd), (3, "2026-01-03"))
    first = table.pull()
    assert sorted(filter(None, numbers(first))) == [1, 2, 3]
    assert notes(first) == ["clock"]
    table.put((4, "2026-01-03 09:00:00"))
    table.run("UPDATE odd SET at = '2026-01-04 09:00:00' WHERE id = 1")
    second = table.pull(first[-1].cursor)
    assert sorted(filter(None, numbers(second))) == [1, 4]
    assert numbers(table.pull(second[-1].cursor)) == []


@pytest.mark.parametrize(
    ("first", "second"), [("9", "10"), ("2026-9-30 08:00:00", "2026-8-1 08:00:00")]
)
def test_text_that_does_not_sort_by_its_meaning_is_no_cursor(
    table: Table, first: str, second: str
) -> None:
    table.put((1, first), (2, second))
    with pytest.raises(Misconfigured, match="does not sort by its meaning"):
        table.pull()


def test_numbers_and_codes_of_one_length_sort_rightly(table: Table) -> None:
    table.put((1, "000009"), (2, "000010"))
    first = table.pull()
    table.put((3, "000011"))
    assert numbers(table.pull(first[-1].cursor))[-1] == 3
    table.run(
        "UPDATE odd SET at = 'A' || id"
        if "mysql" not in table.url
        else "UPDATE odd SET at = CONCAT('A', id)"
    )
    assert sorted(filter(None, numbers(table.pull()))) == [1, 2, 3]


def test_a_row_without_a_key_stops_nothing(table: Table) -> None:
    table.put((1, "2026-01-01"), (None, "2026-01-02"), (3, "2026-01-03"))
    whole = table.pull(cursor_column=None)
    assert sorted(numbers(whole), key=str) == [1, 3, None]
    # A pull that was broken off behind 1 still brings the row without a place.
    resumed = table.pull({"after": {"id": 1}}, cursor_column=None)
    assert None in numbers(resumed)
    assert 3 in numbers(resumed)
    first = table.pull()
    assert sorted(numbers(first), key=str) == [1, 3, None]
    assert notes(first) == ["key"]
    table.put((4, "2026-01-04"))
    assert numbers(table.pull(first[-1].cursor)) == [4]


@pytest.mark.parametrize("end", [";", " ;\n", " -- all", "\n; "])
def test_a_query_may_end_as_people_end_one(table: Table, end: str) -> None:
    table.put((1, "2026-01-01"))
    query = f"SELECT id, name FROM odd WHERE id IS NOT NULL{end}"
    assert numbers(table.pull(table=None, query=query, cursor_column=None)) == [1]


def test_a_query_keeps_what_is_inside() -> None:
    assert plain_query("SELECT ';' AS a") == "SELECT ';' AS a\n"


def test_a_locked_table_is_not_waited_for(table: Table) -> None:
    if table.url.startswith("sqlite"):
        table.put((1, "2026-01-01"))
        assert numbers(table.pull(lock_seconds=1)) == [1], "a reader of SQLite waits for none"
        return
    lock = "LOCK TABLES odd WRITE" if "mysql" in table.url else "LOCK TABLE odd"
    with table.engine.connect() as holder:
        holder.exec_driver_sql(lock)
        with pytest.raises(Transient):
            table.pull(lock_seconds=1)


def test_a_number_that_is_a_time_in_the_future_is_told(table: Table) -> None:
    table.run("DROP TABLE odd", "CREATE TABLE odd (id INT UNIQUE, name TEXT, at BIGINT)")
    for unit in (1, 1000):
        table.run("DELETE FROM odd", f"INSERT INTO odd VALUES (1, 'n', {1_764_547_200 * unit})")
        assert notes(table.pull()) == []
        assert table.concerns() == ()
        table.run(f"INSERT INTO odd VALUES (2, 'n', {9_999_999_999 * unit})")
        assert notes(table.pull()) == ["clock"]
        (concern,) = table.concerns()
        assert f"{9_999_999_999 * unit} lies in the future" in concern.en
    table.run(
        "DELETE FROM odd", "INSERT INTO odd VALUES (1, 'n', 5), (2, 'n', 9223372036854775807)"
    )
    assert notes(table.pull()) == []
    assert table.concerns() == ()


def test_a_cursor_column_of_another_type_names_the_command(
    postgres: Server, tmp_path: Path
) -> None:
    url = postgres.url
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    table = Table(url, tmp_path, engine)
    table.run("ALTER TABLE odd ALTER at TYPE int USING 1", "INSERT INTO odd VALUES (1, 'n', 6)")
    cursor = table.pull()[-1].cursor
    table.run("ALTER TABLE odd ALTER at TYPE timestamp USING now()")
    with pytest.raises(Misconfigured, match="rewind SOURCE --to-beginning"):
        table.pull(cursor)
    engine.dispose()
