"""PostgreSQL's own SQL, whichever driver sends it: session, types, conditions.

A position is PostgreSQL's text of a value, cast back to the value's type; what is compared is
always the table's column itself, so that its type, its collation and its index decide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from exchange.connectors.sql.reader import Rows, Want, shift, text_limits

ZONE = "Etc/GMT-8"
"""+08:00 in every year; the sign is that of POSIX."""
FACTS = (
    "SELECT current_setting('server_encoding'), to_timestamp(0)::timestamp::text, "
    "localtimestamp::text"
)
"""Encoding of the database; a known instant as the session shows it; the session's clock."""

_INTEGERS = {"smallint", "integer", "bigint"}
_TEXTS = {"text", "character varying", "name"}
_AS_IS = {
    *_INTEGERS,
    *_TEXTS,
    *("double precision", "boolean"),
    *("date", "timestamp without time zone", "timestamp with time zone"),
}
NO_TEXT = _AS_IS - _INTEGERS - _TEXTS | {"real"}
"""Types that come neither as text nor as a number that is its own exact text."""
NUMERIC = {*_INTEGERS, "numeric", "real", "double precision"}
_ZONED, _LOCAL, _DATE = "timestamp with time zone", "timestamp without time zone", "date"
_FIRST = {
    _ZONED: "0001-01-01 00:00:00+00:00",
    _LOCAL: "0001-01-01 00:00:00",
    _DATE: "0001-01-01",
}
_LIKE_TEXT = {*_TEXTS, "bpchar", "citext"}
_LIMITS = {
    # The least and greatest value that has its place in an order; beyond lie NaN and infinity.
    "numeric": ("-1e131071", "1e131071"),
    "real": ("-3.4028235e38", "3.4028235e38"),
    "double precision": ("-1.7976931348623157e308", "1.7976931348623157e308"),
}


def session(statement_seconds: int) -> dict[str, str]:
    """Return the settings of our transactions: how values are shown, and a time limit."""
    return {
        "statement_timeout": str(statement_seconds * 1000),
        "TimeZone": ZONE,
        "DateStyle": "ISO, YMD",
        "IntervalStyle": "postgres",
        "bytea_output": "hex",
        "extra_float_digits": "3",  # the shortest text that is exact
    }


def declared(columns: Sequence[str], source: str) -> str:
    """Spell the query for the types of columns: one row, also where there are none."""
    types = ", ".join(map(type_of, columns))
    return f"SELECT {types} FROM (SELECT 1) AS one LEFT JOIN {source} ON false"  # noqa: S608


def type_of(column: str) -> str:
    """Spell the type of a column as it is written in a cast."""
    return f"format_type(pg_typeof({column})::oid, -1)"


def quoted(name: str) -> str:
    """Quote a name."""
    return '"' + name.replace('"', '""') + '"'


def picked(column: str, kind: str) -> str:
    """Spell how a column is read."""
    if kind == "real":
        # As it is shown (0.1), not as its four bytes fill eight (0.10000000149011612).
        return f"{column}::text::float8"
    return column if kind in _AS_IS else f"{column}::text"


def condition(
    want: Want,
    *,
    column: Callable[[str], str],
    value: Callable[[str, Any], str],
    types: Mapping[str, str],
    clock: datetime | None,
) -> str:
    """Spell which rows are wanted; ``value`` binds a value and spells its use, cast to type."""
    parts = []
    names = ", ".join(map(column, want.order))
    for position, sign in ((want.after, ">"), (want.upto, "<=")):
        if position is not None:
            values = ", ".join(map(value, want.order, position))
            parts.append(f"({names}) {sign} ({values})")
    if want.since is not None:
        first = want.order[0]
        parts.append(f"{column(first)} >= {value(first, want.since)}")
    if want.rows is not Rows.ALL:
        first = want.order[0]
        apart = [f"{column(first)} IS NULL", *odd(column(first), types[first], clock)]
        sign = "" if want.rows is Rows.ODD else "NOT "
        parts.append(f"{sign}({' OR '.join(apart)})")
    return " WHERE " + " AND ".join(parts) if parts else ""


def odd(column: str, kind: str, clock: datetime | None) -> list[str]:
    """Spell, as alternatives, which values have no place before the clock; NULL apart.

    Constants of ours, not bound values: they are folded once, not read again for each row.
    """
    if clock is not None and kind in _LIKE_TEXT:
        return [
            f"({column}::text LIKE '{pattern}' AND {column} > '{limit}')"
            for pattern, limit in text_limits(clock)
        ]
    limits = _LIMITS.get(kind)
    if clock is not None and kind in _FIRST:
        top = {_DATE: f"{clock:%Y-%m-%d}", _ZONED: f"{clock}+08:00"}.get(kind, str(clock))
        limits = (_FIRST[kind], top)
    if limits is None:
        return []
    least, most = limits
    return [f"{column} < '{least}'::{kind}", f"{column} > '{most}'::{kind}"]


def earlier(kind: str, value: Any, overlap: float) -> Any:
    """Return a position's value moved back by ``overlap``."""
    if kind in NUMERIC and isinstance(value, str):
        return shift(Decimal(value), overlap)
    if kind == _DATE:
        return shift(datetime.fromisoformat(value).date(), overlap)
    return shift(value, overlap)
