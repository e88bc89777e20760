"""What a database offers: tables with columns, types, comments, keys and counts of rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.reflection import ObjectKind

from exchange.connect import Misconfigured, Text
from exchange.connectors.sql import engines
from exchange.connectors.sql.address import near
from exchange.connectors.sql.reader import Address

MAX_TABLES = 500
MAX_COUNTED = 100_000
"""Rows that are counted; a larger table is said to have more."""
COUNTING = timedelta(seconds=8)
_OURS = ("information_schema", "pg_catalog", "pg_toast")


def tables(where: Address, now: Callable[[], datetime]) -> list[dict[str, Any]]:
    """List tables and views (bounded), or the one of ``where``, JSON-able.

    Rows are counted for :data:`COUNTING` at most: what is left has no count.

    Of each ``name``, ``kind``, ``comment``, ``columns`` (name, type, nullable, comment),
    ``key``, ``unique``, ``rows`` (None where they were not counted), ``more`` (there are more
    rows) and ``with``: the settings that choose it. Raises Misconfigured for an unknown table.
    """
    with engines.connection(where) as connection, quiet():
        engines.begin(connection, where)
        inspector = sa.inspect(connection)
        wanted = None if where.table is None else parts(where.table)
        found: list[dict[str, Any]] = []
        for schema in [wanted[0]] if wanted else _schemas(connection, inspector):
            found += _listed(inspector, schema, None if wanted is None else wanted[1])
        if where.table is not None and not found:
            raise Misconfigured(
                Text(f"数据库里没有表 {where.table}", f"the database has no table {where.table}"),
                hint=near(where.table, names(inspector)),
            )
        until = now() + COUNTING
        for entry in found[:MAX_TABLES]:
            if entry["kind"] == "table" and now() < until:
                entry.update(_counted(connection, entry["name"]))
        return found[:MAX_TABLES]


@contextmanager
def quiet() -> Iterator[None]:
    """Pass over SQLAlchemy's warnings of types that it does not know: we do not need them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sa.exc.SAWarning)
        yield


def parts(table: str) -> tuple[str | None, str]:
    """Take ``schema.table`` apart."""
    schema, dot, name = table.rpartition(".")
    return (schema if dot else None), name


def names(inspector: sa.Inspector) -> list[str]:
    """Name the tables and views of the usual schema (bounded)."""
    return [*inspector.get_table_names(), *inspector.get_view_names()][:MAX_TABLES]


def _schemas(connection: sa.Connection, inspector: sa.Inspector) -> list[str | None]:
    """Return the usual schema (None), and PostgreSQL's others: elsewhere they are databases."""
    if engines.kind_of(connection) != "postgresql":
        return [None]
    usual = inspector.default_schema_name
    others = [s for s in inspector.get_schema_names() if s != usual and not s.startswith(_OURS)]
    return [None, *sorted(others)]


def _listed(inspector: sa.Inspector, schema: str | None, name: str | None) -> list[dict[str, Any]]:
    what: dict[str, Any] = {"schema": schema, "kind": ObjectKind.ANY}
    if name is not None:
        what["filter_names"] = [name]
    columns = inspector.get_multi_columns(**what)
    keys = _known(inspector.get_multi_pk_constraint, what)
    automatic = inspector.dialect.name == "sqlite"  # it has constraints as indexes of their own
    indexes = _known(
        inspector.get_multi_indexes, what | {"include_auto_indexes": True} if automatic else what
    )
    comments = _known(inspector.get_multi_table_comment, what)
    views = set(inspector.get_view_names(schema))
    return [
        {
            "name": place[1] if schema is None else f"{schema}.{place[1]}",
            "kind": "view" if place[1] in views else "table",
            "comment": (comments.get(place) or {}).get("text") or "",
            "columns": [_column(column) for column in columns[place]],
            "key": list((keys.get(place) or {}).get("constrained_columns") or ()),
            "unique": [list(i["column_names"]) for i in indexes.get(place) or () if _whole(i)],
            "with": {"table": place[1] if schema is None else f"{schema}.{place[1]}"},
        }
        for place in sorted(columns, key=lambda place: place[1])
    ]


def _whole(index: Mapping[str, Any]) -> bool:
    """Tell an index that makes whole rows unique: of columns, without a condition."""
    some = any(key.endswith("_where") for key in index.get("dialect_options") or ())
    return bool(index["unique"]) and None not in index["column_names"] and not some


def _known(ask: Callable[..., Mapping[Any, Any]], what: dict[str, Any]) -> Mapping[Any, Any]:
    """Ask what not every dialect can tell."""
    try:
        return ask(**what)
    except NotImplementedError:
        return {}


def _column(said: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": said["name"],
        "type": str(said["type"]),
        "nullable": bool(said.get("nullable", True)),
        "comment": said.get("comment") or "",
    }


def _counted(connection: sa.Connection, table: str) -> dict[str, Any]:
    """Count the rows up to a bound; a table that may not be read has no count."""
    schema, name = parts(table)
    one: sa.Select[Any] = sa.select(sa.literal_column("1").label("n")).select_from(
        sa.table(name, schema=schema)
    )
    counting = sa.select(sa.func.count()).select_from(one.limit(MAX_COUNTED + 1).subquery())
    try:
        if engines.kind_of(connection) == "postgresql":
            with connection.begin_nested():
                rows = int(connection.execute(counting).scalar_one())
        else:
            rows = int(connection.execute(counting).scalar_one())
    except sa.exc.ProgrammingError:  # no right to read it
        return {"rows": None, "more": False}
    return {"rows": min(rows, MAX_COUNTED), "more": rows > MAX_COUNTED}
