"""Opening a store: the engine, its transactions, and the schema's version."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event, inspect, make_url, text

from exchange.errors import Misconfigured
from exchange.store.audit import AuditTrail
from exchange.store.glance import HEAD
from exchange.store.node.deliveries import Deliveries
from exchange.store.node.pulls import Pulls
from exchange.store.node.quarantine import Quarantine
from exchange.store.node.receipts import Receipts
from exchange.store.node.seals import SealProjection
from exchange.store.parts import PartRows
from exchange.store.receiver.batches import ReceivedBatches
from exchange.store.receiver.checkpoints import WitnessedCheckpoints
from exchange.store.sql_errors import map_errors
from exchange.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from sqlalchemy import URL, Connection, Engine

PATIENCE_SECONDS = 10
STATEMENT_SECONDS = 60


class Store:
    """Everything that people look at; one attribute per subject, one transaction per call."""

    def __init__(
        self, transactions: Transactions, clock: Callable[[], datetime], audit_hash: str
    ) -> None:
        """Use :func:`open_store`."""
        self._transactions = transactions
        self.deliveries = Deliveries(transactions, clock)
        self.receipts = Receipts(transactions)
        self.quarantine = Quarantine(transactions, clock)
        self.pulls = Pulls(transactions)
        self.audit = AuditTrail(transactions, clock, audit_hash)
        self.witnessed_checkpoints = WitnessedCheckpoints(transactions, self.audit)
        self.received_batches = ReceivedBatches(transactions, clock, self.audit)
        self.seals = SealProjection(transactions, self.audit)
        self.parts = PartRows(transactions)

    def __repr__(self) -> str:
        """Show the address without its password."""
        return f"Store({self._transactions.where})"

    def close(self) -> None:
        """Give the connections back."""
        self._transactions.close()


class Transactions:
    """Lends a connection for one read or one write transaction, any thread."""

    def __init__(self, engine: Engine) -> None:
        """Take the engine over."""
        self.engine = engine
        self._writing = engine.execution_options(exchange_writing=True)
        self.where = engine.url.render_as_string(hide_password=True)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Lend a connection for reading."""
        with map_errors(self.where), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Lend a connection that commits at the end, or rolls back on an exception."""
        with map_errors(self.where), self._writing.begin() as connection:
            yield connection

    def close(self) -> None:
        """Close the pool."""
        self.engine.dispose()


def open_store(
    url: str, *, clock: Callable[[], datetime], migrate: bool | None = None, audit_hash: str = "sm3"
) -> Store:
    """Open the store at an SQLAlchemy address.

    ``migrate``: bring the schema up to date first; by default for SQLite only, because a
    shared server is changed when its people say so. Raises Misconfigured for a schema that is
    newer than this release, or older without ``migrate``.
    """
    engine = _engine(url)
    transactions = Transactions(engine)
    try:
        revision = _revision(transactions)
        if revision != HEAD:
            on_file = engine.dialect.name == "sqlite"
            _advance(transactions, revision, allowed=on_file if migrate is None else migrate)
    except BaseException:
        transactions.close()
        raise
    return Store(transactions, clock, audit_hash)


def _engine(url: str) -> Engine:
    with map_errors("***"):  # an address that cannot be parsed may hold a password anywhere
        parsed = make_url(url)
    with map_errors(parsed.render_as_string(hide_password=True)):
        if parsed.get_backend_name() == "sqlite":
            return _sqlite(parsed)
        arguments: dict[str, Any] = {}
        if parsed.get_backend_name() == "postgresql":
            arguments = {
                "connect_timeout": PATIENCE_SECONDS,
                "application_name": "gov-exchange",
                "options": f"-c statement_timeout={STATEMENT_SECONDS}s"
                f" -c lock_timeout={PATIENCE_SECONDS}s",
            }
        return create_engine(
            parsed,
            connect_args=arguments,
            hide_parameters=True,
            pool_pre_ping=True,
            pool_timeout=PATIENCE_SECONDS,
        )


def _sqlite(url: URL) -> Engine:
    """Make an engine whose transactions are SQLite's own, with the write lock taken first."""
    if not url.database or url.database == ":memory:" or url.query.get("mode") == "memory":
        raise Misconfigured(
            Text("存储不能只放在内存里", "the store cannot live in memory"),
            hint=Text("给出文件路径:sqlite:///路径", "give it a file: sqlite:///path"),
        )
    folder = Path(url.database).absolute().parent
    if not folder.is_dir():
        raise Misconfigured(
            Text(f"存储目录 {folder} 不存在", f"store folder {folder} does not exist"),
            hint=Text(
                "先建立该目录,或修改存储地址", "make the folder or correct the store's address"
            ),
        )
    engine = create_engine(
        url,
        connect_args={"timeout": PATIENCE_SECONDS, "isolation_level": None},
        hide_parameters=True,
        pool_timeout=PATIENCE_SECONDS,
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA foreign_keys = ON")
        try:
            connection.execute("PRAGMA journal_mode = WAL")  # kept by the file, once done
        except sqlite3.OperationalError as error:
            # No patience applies here: another connection is at work, and it has just done so.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
        connection.execute("PRAGMA synchronous = FULL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writing = connection.get_execution_options().get("exchange_writing", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


def _revision(transactions: Transactions) -> str:
    with transactions.read() as connection:
        return _revision_in(connection)


def _revision_in(connection: Connection) -> str:
    """Read the schema's revision; empty for an empty database."""
    if not inspect(connection).has_table("alembic_version"):
        return ""
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar() or ""


def _advance(transactions: Transactions, revision: str, *, allowed: bool) -> None:
    where = transactions.where
    if revision > HEAD:
        raise Misconfigured(
            Text(
                f"存储 {where} 的结构版本 {revision} 比本程序的 {HEAD} 新",
                f"store {where} has schema {revision}, newer than this release's {HEAD}",
            ),
            hint=Text("使用更新的程序版本", "run the newer release that made it"),
        )
    if not allowed:
        raise Misconfigured(
            Text(
                f"存储 {where} 的结构版本是「{revision}」,需要 {HEAD}",
                f"store {where} has schema {revision or 'none'}, this release needs {HEAD}",
            ),
            hint=Text("先备份,再运行 exchange migrate", "back it up, then run `exchange migrate`"),
        )
    # Imported here: it costs 0.1 s and is needed once per release.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with transactions.write() as connection:
        if _revision_in(connection) != HEAD:  # else another process was faster
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
