"""Engines of the universal way: limits, sessions and what each database calls its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import exc

from exchange.connect import ExchangeError, Misconfigured, Text, database_error
from exchange.connectors.sql import postgres
from exchange.connectors.sql.reader import Address, check_zone
from exchange.connectors.sql.values import Damaged

_READ_ONLY = {
    # What opens a read-only transaction at one consistent state, by kind of database.
    "sqlite": ("PRAGMA query_only = ON", "BEGIN"),
    "mysql": (
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "SET SESSION time_zone = '+08:00'",
        "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
    ),
    "postgresql": ("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY",),
    "oracle": ("ALTER SESSION SET TIME_ZONE = '+08:00'", "SET TRANSACTION READ ONLY"),
}
_KNOWN_INSTANT = {
    # 1970-01-01T00:00Z as the session shows it.
    "mysql": "SELECT CAST(FROM_UNIXTIME(0) AS CHAR)",
    "postgresql": "SELECT to_timestamp(0)::timestamp::text",
    "oracle": "SELECT TO_CHAR(FROM_TZ(TIMESTAMP '1970-01-01 00:00:00', 'UTC') AT LOCAL, "
    "'YYYY-MM-DD HH24:MI:SS') FROM dual",
}
_CLOCK = {
    "mysql": "SELECT CAST(NOW(6) AS CHAR)",
    "postgresql": "SELECT localtimestamp::text",
    "oracle": "SELECT TO_CHAR(LOCALTIMESTAMP, 'YYYY-MM-DD HH24:MI:SS.FF6') FROM dual",
    "sqlite": "SELECT strftime('%Y-%m-%d %H:%M:%f', 'now', '+8 hours')",
}


@contextmanager
def connection(where: Address) -> Iterator[sa.Connection]:
    """Open a connection within the limits; drop it whatever happens."""
    with border(where):
        engine = _engine(where)
        try:
            opened = engine.connect()
        except TypeError as error:
            # A driver was given an option of the address that it does not know.
            raise database_error(where.locator, str(error), lost_connection=False) from error
        try:
            yield opened
        finally:
            opened.invalidate()


def begin(opened: sa.Connection, where: Address) -> datetime | None:
    """Begin the read-only transaction in our zone; return the database's clock, if known."""
    kind = kind_of(opened)
    _limit(opened, kind, where.statement_seconds)
    if kind == "mysql":
        # Of the locks of tables; a consistent read waits for no row.
        opened.exec_driver_sql(f"SET SESSION lock_wait_timeout = {where.lock_seconds}")
    for statement in _READ_ONLY.get(kind, ()):
        opened.exec_driver_sql(statement)
    if kind == "postgresql":
        for name, value in postgres.session(where.statement_seconds, where.lock_seconds).items():
            opened.exec_driver_sql("SELECT set_config(%s, %s, true)", (name, value))
    if kind in _KNOWN_INSTANT:
        check_zone(opened.exec_driver_sql(_KNOWN_INSTANT[kind]).scalar_one())
    if kind not in _CLOCK:
        return None
    return datetime.fromisoformat(str(opened.exec_driver_sql(_CLOCK[kind]).scalar_one()))


def _limit(opened: sa.Connection, kind: str, seconds: int) -> None:
    """Have the server end a statement that takes too long; what only a driver can limit it does."""
    if kind == "mysql" and getattr(opened.dialect, "is_mariadb", False):
        opened.exec_driver_sql(f"SET SESSION max_statement_time = {seconds}")
    elif kind == "mysql":
        opened.exec_driver_sql(f"SET SESSION max_execution_time = {seconds * 1000}")
    elif kind == "oracle":
        driver: Any = opened.connection.driver_connection
        driver.call_timeout = seconds * 1000  # of a round trip


def forget_unread(cursor: Any) -> None:
    """Have PyMySQL not fetch the rest of a table, row by row, before it closes a cursor.

    Where the server is gone it would fail at that, and print how.
    """
    unread = getattr(cursor, "_result", None)
    if getattr(unread, "unbuffered_active", False):
        unread.unbuffered_active = False  # type: ignore[union-attr]


def kind_of(opened: sa.Connection) -> str:
    """Return the kind of database; MariaDB is a MySQL."""
    return "mysql" if opened.dialect.name == "mariadb" else opened.dialect.name


def _engine(where: Address) -> sa.Engine:
    url = sa.make_url(where.url)
    if url.get_backend_name() == "sqlite":
        return sa.create_engine(url, creator=_sqlite(url, where), poolclass=sa.NullPool)
    driver = url.get_driver_name()
    # A driver that knows none of these limits refuses unknown ones, so each is named.
    limits: dict[str, dict[str, Any]] = {
        "pymysql": {
            "connect_timeout": where.connect_seconds,
            "read_timeout": where.statement_seconds,
            "write_timeout": where.connect_seconds,
            "charset": "utf8mb4",
        },
        "psycopg": {
            "connect_timeout": where.connect_seconds,
            "application_name": "exchange",
            "client_encoding": "UTF8",
        },
        "oracledb": {"tcp_connect_timeout": where.connect_seconds},
        "pymssql": {"login_timeout": where.connect_seconds, "timeout": where.statement_seconds},
        "pyodbc": {"timeout": where.connect_seconds},
    }
    arguments = limits.get(driver, {})
    if driver == "pymysql":
        from pymysql.converters import conversions

        # Values come as the text that the server sends: it is what the database shows.
        arguments["conv"] = {
            kind: how for kind, how in conversions.items() if kind not in range(256)
        }
    # Oracle's drivers ask for so many rows in a round trip, whatever is fetched at once.
    options = {"arraysize": where.batch_rows} if url.get_backend_name() == "oracle" else {}
    engine = sa.create_engine(url, connect_args=arguments, poolclass=sa.NullPool, **options)
    sa.event.listen(
        engine,
        "handle_error",
        lambda error: forget_unread(getattr(error.execution_context, "cursor", None)),
    )
    return engine


def _sqlite(url: sa.URL, where: Address) -> Callable[[], sqlite3.Connection]:
    """Open the file read-only: SQLite would make a missing one."""
    path = (where.base / (url.database or "")).resolve()
    if not path.is_file():
        raise Misconfigured(
            Text(f"找不到 SQLite 文件 {path}", f"there is no SQLite file {path}"),
            hint=Text("路径从配置文件所在目录算起", "paths start at the settings file's folder"),
        )

    def connect() -> sqlite3.Connection:
        opened = sqlite3.connect(
            f"file:{quote(str(path))}?mode=ro",
            uri=True,
            timeout=where.connect_seconds,
            check_same_thread=False,
        )
        opened.text_factory = _decoded
        return opened

    return connect


def _decoded(data: bytes) -> str | Damaged:
    """Decode a text of SQLite; one in another encoding is that row's defect, not the table's."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return Damaged(data)


_DRIVER = Text(
    "请安装该数据库的 Python 驱动，如 gov-exchange[mysql]",
    "install the database's Python driver, such as gov-exchange[mysql]",
)
_VERSIONS = Text(
    "驱动与所装的 SQLAlchemy 版本不合；见 docs/connectors.md",
    "driver and SQLAlchemy do not fit each other, see docs/connectors.md",
)
_EDIT = Text("请修改该数据源的配置", "edit the settings of this source")
_GONE = (exc.OperationalError, exc.InterfaceError, exc.DisconnectionError)


@contextmanager
def border(where: Address) -> Iterator[None]:
    """Turn SQLAlchemy's errors into ours; the statement and its values stay out of the text."""
    try:
        yield
    except ExchangeError:
        raise
    except (exc.NoSuchModuleError, ModuleNotFoundError) as error:
        told = Text("没有该数据库的驱动", "the driver of this database is not installed")
        raise Misconfigured(told, hint=_DRIVER) from error
    except ImportError as error:
        told = Text(
            f"该数据库的驱动无法加载：原文：{error}", f"the database's driver fails: {error}"
        )
        raise Misconfigured(told, hint=_VERSIONS) from error
    except exc.ArgumentError:
        told = Text("数据库地址写法不对", "the database address cannot be read")
        # The cause may repeat the address, and with it the password.
        raise Misconfigured(told, hint=_EDIT) from None
    except exc.SQLAlchemyError as error:
        raise _ours(error, where) from error


def _ours(error: exc.SQLAlchemyError, where: Address) -> ExchangeError:
    original = getattr(error, "orig", None) or error
    arguments: Sequence[Any] = getattr(original, "args", ())
    code = arguments[0] if arguments and isinstance(arguments[0], int) else None
    told = str(arguments[1]) if code is not None and len(arguments) > 1 else str(original)
    return database_error(
        where.locator,
        told,
        state=str(getattr(original, "sqlstate", None) or ""),
        code=code,
        lost_connection=isinstance(error, _GONE)
        or bool(getattr(error, "connection_invalidated", False)),
    )
