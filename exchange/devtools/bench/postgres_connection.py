"""The bench's PostgreSQL: the only importer of psycopg here, with the map of its errors."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg

from exchange.errors import Misconfigured, Transient
from exchange.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECT_SECONDS = 10


@contextmanager
def database(conninfo: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """Open a connection, commit at the end of the block, close it.

    Raises :class:`Transient` when the server is away and :class:`Misconfigured` when it refuses
    a statement.
    """
    try:
        with psycopg.connect(conninfo, connect_timeout=CONNECT_SECONDS) as connection:
            yield connection
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise Transient(
            Text(
                f"连不上压测用的 PostgreSQL：原文：{error}", f"PostgreSQL is out of reach: {error}"
            ),
            hint=Text(
                "请检查它是否在运行, 以及连接串", "check that it runs, and the connection string"
            ),
        ) from error
    except psycopg.Error as error:
        raise Misconfigured(
            Text(f"PostgreSQL 拒绝了语句：原文：{error}", f"PostgreSQL refused: {error}"),
            hint=Text(
                "请给压测一个可建表的空数据库",
                "give the bench an empty database where it may create tables",
            ),
        ) from error
