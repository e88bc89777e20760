"""Opening a store, its schema, and what it says when the database fails."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.dialects.mssql import base as mssql
from sqlalchemy.dialects.mysql import reserved_words as mysql
from sqlalchemy.dialects.oracle import base as oracle
from sqlalchemy.dialects.postgresql import base as postgresql
from sqlalchemy.dialects.sqlite import base as sqlite

from exchange.errors import Denied, ExchangeError, Integrity, Misconfigured, Transient
from exchange.store.database import Transactions, open_store
from exchange.store.glance import HEAD
from exchange.store.node.pulls import NoteRow
from exchange.store.sql import metadata
from exchange.store.sql_errors import SQLITE_VERDICTS, SQLSTATE_VERDICTS, map_errors
from exchange.text import Text
from tests.store.conftest import Clock
from tests.support.stored import delivery, receipt, together

if TYPE_CHECKING:
    from exchange.store.database import Store
    from tests.store.conftest import Opener
    from tests.support.servers import Server

NOBODY = 65534
MIGRATIONS = Path(__file__).parents[2] / "exchange/store/migrations"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite3"


def opened(path: Path) -> Store:
    return open_store(f"sqlite:///{path}", clock=Clock())


# schema


def test_migrations_make_exactly_the_tables(store: Store) -> None:
    with store._transactions.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_notes_move_over_to_their_new_key(path: Path) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0004")
        connection.execute(
            text("INSERT INTO source_notes VALUES ('p1', 'a.xls/S', :row, 'group', '北京市')"),
            [{"row": row} for row in range(1, 2_501)],
        )
    engine.dispose()
    with closing(opened(path)) as store:
        notes = [NoteRow("p1", "a.xls/S", row, "group", "北京市") for row in range(1, 2_501)]
        assert store.pulls.notes("p1", limit=3_000) == notes
        assert store.pulls.add_notes(notes) == 0, "they have the key that they would get today"


def test_everything_survives_a_restart(opener: Opener) -> None:
    first = opener()
    first.deliveries.add([delivery(1)])
    first.close()
    assert opener().deliveries.find() != []


def test_a_newer_schema_is_refused(url: str, store: Store) -> None:
    with store._transactions.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for migrate in (None, True):
        with pytest.raises(Misconfigured, match="9999, newer than"):
            open_store(url, clock=Clock(), migrate=migrate)


def test_a_server_is_not_migrated_unasked(url: str) -> None:
    if url.startswith("sqlite"):
        open_store(url, clock=Clock()).close()
        with pytest.raises(Misconfigured, match="schema none"):
            open_store(url.replace("store.", "other."), clock=Clock(), migrate=False)
    else:
        with pytest.raises(Misconfigured, match="schema none"):
            open_store(url, clock=Clock())
        open_store(url, clock=Clock(), migrate=True).close()
        open_store(url, clock=Clock()).close()


def test_processes_may_migrate_at_once(path: Path) -> None:
    results = together(*(lambda: opened(path) for _ in range(4)))
    for result in results:
        assert not isinstance(result, Exception), result
        result.close()  # type: ignore[attr-defined]


def test_a_failed_migration_leaves_nothing(path: Path) -> None:
    """The last table of the first migration is in the way: no other may be made."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE audit_trail (x INTEGER)")
    with pytest.raises(Misconfigured):
        opened(path)
    with closing(sqlite3.connect(path)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    assert tables == {"audit_trail"}


def test_names_are_short_and_reserved_nowhere() -> None:
    reserved = {
        word.lower()
        for words in (
            postgresql.RESERVED_WORDS,
            mysql.RESERVED_WORDS_MYSQL,
            mysql.RESERVED_WORDS_MARIADB,
            oracle.RESERVED_WORDS,
            mssql.RESERVED_WORDS,
            sqlite.SQLiteIdentifierPreparer.reserved_words,
        )
        for word in words
    }
    names = set(metadata.tables)
    for table in metadata.tables.values():
        names |= {column.name for column in table.columns}
        names |= {str(index.name) for index in table.indexes}
        names |= {str(constraint.name) for constraint in table.constraints if constraint.name}
    assert not names & reserved
    assert not [name for name in names if len(name.encode()) > 30]


# addresses


def test_the_password_is_never_shown(postgres: Server) -> None:
    url = make_url(postgres.url)
    assert url.password
    store = Transactions(create_engine(url.set(drivername="postgresql+psycopg")))
    assert url.password not in repr(store.where)
    store.close()
    for broken in (
        url.set(port=1),
        url.set(password="geheim", username="nobody"),
        url.set(database="missing"),
        url.set(drivername="postgresql+nodriver"),
    ):
        with pytest.raises(ExchangeError) as caught:
            open_store(broken.render_as_string(hide_password=False), clock=Clock())
        shown = f"{caught.value} {caught.value.what} {caught.value.hint}"
        assert "geheim" not in shown
        assert url.password not in shown


def test_the_store_shows_its_address_without_password(store: Store, url: str) -> None:
    password = make_url(url).password
    assert repr(store).startswith("Store(")
    assert not isinstance(password, str) or password not in repr(store)


def test_bad_addresses_are_misconfigured(tmp_path: Path) -> None:
    for url in (
        "",
        "no address",
        "oddsql://x/y",
        "sqlite://",
        "sqlite:///:memory:",
        f"sqlite:///{tmp_path}/missing/store.sqlite3",
    ):
        with pytest.raises(Misconfigured):
            open_store(url, clock=Clock())


# failures of PostgreSQL


def test_an_absent_server_is_transient(postgres: Server) -> None:
    url = make_url(postgres.url).set(port=1).render_as_string(hide_password=False)
    with pytest.raises(Transient):
        open_store(url, clock=Clock())


def test_a_wrong_password_is_denied(postgres: Server) -> None:
    url = make_url(postgres.url).set(password="wrong").render_as_string(hide_password=False)
    with pytest.raises(Denied):
        open_store(url, clock=Clock())


def test_a_missing_database_is_misconfigured(postgres: Server) -> None:
    url = make_url(postgres.url).set(database="missing").render_as_string(hide_password=False)
    with pytest.raises(Misconfigured):
        open_store(url, clock=Clock())


def test_a_lost_connection_is_transient_and_comes_back(opener: Opener, url: str) -> None:
    store, other = opener(), opener()
    if url.startswith("sqlite"):
        return
    store.deliveries.add([delivery(1)])
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"

    def lose() -> None:
        with store._transactions.write() as mine:
            mine.execute(text("SELECT 1"))
            with other._transactions.read() as killer:
                killer.execute(text(f"{end} AND datname = current_database()"))
            mine.execute(text("SELECT 1"))

    with pytest.raises(Transient):
        lose()
    assert len(store.deliveries.find()) == 1


def test_missing_tables_are_misconfigured(store: Store) -> None:
    with store._transactions.write() as connection:
        connection.execute(text("DROP TABLE pulls"))
    with pytest.raises(Misconfigured):
        store.pulls.find()


# failures of SQLite


def test_a_locked_file_is_transient(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exchange.store.database.PATIENCE_SECONDS", 0.1)
    with closing(opened(path)) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Transient):
                store.deliveries.add([delivery(1)])
            assert store.deliveries.find() == []
        store.deliveries.add([delivery(1)])


def test_a_full_disk_is_transient_and_leaves_nothing(path: Path) -> None:
    with closing(opened(path)) as store:
        with store._transactions.write() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(Transient, match="no space"):
            store.deliveries.add([delivery(number) for number in range(1000)])
        assert store.deliveries.find() == []
        with store._transactions.write() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
        assert store.deliveries.add([delivery(1)]) == 1


def test_a_damaged_file_is_an_integrity_error(path: Path) -> None:
    opened(path).close()
    path.write_bytes(b"no database any more" * 1000)
    with pytest.raises(Integrity):
        opened(path)


def test_a_read_only_folder_is_denied() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        user = os.geteuid()
        if user == 0:  # root may write anywhere
            os.seteuid(NOBODY)
        try:
            with pytest.raises(Denied):
                opened(folder / "store.sqlite3")
        finally:
            os.seteuid(user)
            folder.chmod(0o755)


# the error map


def test_every_verdict_has_words_and_a_hint() -> None:
    verdicts = {*SQLITE_VERDICTS.values(), *(verdict for _, verdict in SQLSTATE_VERDICTS)}
    for verdict in verdicts:
        error = verdict("here", Text("原因", "why"))
        assert "here" in error.what.en
        assert "here" in error.what.zh
        assert error.hint.zh
        assert error.hint.en


def test_a_bug_of_ours_stays_visible(store: Store) -> None:
    def fail() -> None:
        with map_errors("here"), store._transactions.engine.connect() as connection:
            connection.execute(text("SELECT :missing"))

    with pytest.raises(Exception, match="missing") as caught:
        fail()
    assert not isinstance(caught.value, ExchangeError)


def test_an_error_dealt_with_before_does_not_colour_the_next(store: Store) -> None:
    with store._transactions.write() as connection:
        connection.execute(text("DROP TABLE pulls"))
    store.receipts.add(receipt(1))
    try:
        store.pulls.find()
    except Misconfigured:
        with pytest.raises(Integrity):
            store.receipts.add(replace(receipt(2), receipt_no=receipt(1).receipt_no))


def test_data_of_a_failed_statement_is_not_shown(store: Store) -> None:
    def fail() -> None:
        with store._transactions.write() as connection:
            connection.execute(
                text("INSERT INTO pulls (pull_id, trouble_text) VALUES ('a', :w)"),
                {"w": "张三 13800001111"},
            )

    with pytest.raises(Integrity) as caught:
        fail()
    assert "13800001111" not in f"{caught.value} {caught.value.what} {caught.value.hint}"


def test_head_is_the_newest_revision() -> None:
    folder = Path(__file__).parents[2] / "exchange/store/migrations/versions"
    assert max(folder.glob("r*.py")).name.startswith(f"r{HEAD}_")
