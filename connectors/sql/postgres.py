"""PostgreSQL's own SQL, whichever driver sends it: session, types, conditions.

A position is PostgreSQL's text of a value, cast back to the value's type; what is compared is
always the table's column itself, so that its type, its collation and its index decide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from exchange.connectors.sql.reader import Horizon, Rows, Settled, Want, shift
from exchange.connectors.sql.text_forms import NUMBER, OTHER, Usual, allowed, classes, limits

ZONE = "Etc/GMT-8"
"""+08:00 in every year; the sign is that of POSIX."""
FACTS = (
    "SELECT current_setting('server_encoding'), to_timestamp(0)::timestamp::text, "
    "localtimestamp::text"
)
"""Encoding of the database; a known instant as the session shows it; the session's clock."""

TABLE_KIND = """
SELECT c.relkind IN ('r', 'p')
   AND NOT EXISTS (
     SELECT 1 FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class k ON k.oid = i.inhrelid
     WHERE i.inhparent = c.oid AND k.relkind = 'f'),
   to_regprocedure('pg_control_system()') IS NOT NULL
   AND has_function_privilege(to_regprocedure('pg_control_system()')::oid, 'execute')
FROM pg_catalog.pg_class c WHERE c.oid = {table}::regclass
"""
"""Whether each row of a table tells which transaction wrote it; whether the server tells who it is.

Views do not, nor do rows that another server keeps.
"""
VERSION = "SELECT current_setting('server_version_num')"
_FIRST_VERSION = 100_000
"""What was made of an older PostgreSQL, as openGauss, lacks parts of what is asked here."""
SNAPSHOT = (
    "SELECT txid_snapshot_xmin(s)::text, txid_snapshot_xmax(s)::text "
    "FROM txid_current_snapshot() AS s"
)
"""The oldest transaction that runs, or the next one; and the next one. Right on a standby, too."""
SERVER = "SELECT system_identifier::text FROM pg_control_system()"
HOLDER = """
SELECT concat_ws(', ', 'pid ' || pid, usename, 'since ' || to_char(xact_start,
  'YYYY-MM-DD HH24:MI:SS'), state), extract(epoch FROM clock_timestamp() - xact_start)::int::text
FROM pg_catalog.pg_stat_activity
WHERE backend_xid IS NOT NULL AND (backend_xid::text::bigint = {number})
UNION ALL
SELECT concat_ws(', ', 'prepared ' || gid, owner, 'since ' || to_char(prepared,
  'YYYY-MM-DD HH24:MI:SS')), extract(epoch FROM clock_timestamp() - prepared)::int::text
FROM pg_catalog.pg_prepared_xacts WHERE transaction::text::bigint = {number}
"""
"""Who has the oldest transaction; others' times are shown to members of pg_read_all_stats only."""
_NUMBERS = 1 << 32
"""A row keeps the lower 32 bits of the number of its transaction."""

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
LIKE_TEXT = {*_TEXTS, "bpchar", "citext"}
_LIMITS = {
    # The least and greatest value that has its place in an order; beyond lie NaN and infinity.
    "numeric": ("-1e131071", "1e131071"),
    "real": ("-3.4028235e38", "3.4028235e38"),
    "double precision": ("-1.7976931348623157e308", "1.7976931348623157e308"),
}


def session(statement_seconds: int, lock_seconds: int) -> dict[str, str]:
    """Return the settings of our transactions: how values are shown, and time limits."""
    return {
        "lock_timeout": str(lock_seconds * 1000),
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
    form: Usual,
) -> str:
    """Spell which rows are wanted; ``value`` binds a value and spells its use, cast to type.

    ``form`` asks for the form of a column of text.
    """
    parts = []
    names = ", ".join(map(column, want.order))
    for position, sign in ((want.after, ">"), (want.upto, "<=")):
        if position is not None:
            values = ", ".join(map(value, want.order, position))
            parts.append(f"({names}) {sign} ({values})")
    for least in (want.since, want.floor):
        if least is not None:
            first = want.order[0]
            parts.append(f"{column(first)} >= {value(first, least)}")
    if want.rows is not Rows.ALL and want.order:
        first = want.order[0]
        apart = [f"{column(name)} IS NULL" for name in want.order]
        if want.rows is not Rows.UNPLACED:
            usual = form(first) if types[first] in LIKE_TEXT else OTHER
            apart += odd(column(first), types[first], clock, usual)
        sign = "NOT " if want.rows is Rows.TIMELY else ""
        parts.append(f"{sign}({' OR '.join(apart)})")
    if want.settled is not None:
        parts += settled(want.settled)
    return " WHERE " + " AND ".join(parts) if parts else ""


def horizon(rows: Callable[[str], list[tuple[Any, ...]]], table: str) -> Horizon | None:
    """Ask for the horizon of a table, given as the text of its quoted name."""
    if int(rows(VERSION)[0][0]) < _FIRST_VERSION:
        return None
    literal = "'" + table.replace("'", "''") + "'"
    ((tells, names),) = rows(TABLE_KIND.format(table=literal))
    if not tells:
        return None
    ((oldest, following),) = rows(SNAPSHOT)
    server = rows(SERVER)[0][0] if names else ""
    holder, age = "", None
    if oldest != following:
        found = rows(HOLDER.format(number=int(oldest) % _NUMBERS))
        holder, age = found[0] if found else (f"transaction {oldest}", None)
    return Horizon(int(oldest), int(following), server, holder, None if age is None else int(age))


def settled(want: Settled) -> list[str]:
    """Spell which rows are settled, by the transaction that wrote them.

    A row keeps the lower half of the number only, and keeps it for ever: numbers are compared
    within the short stretch that matters. A row from ages ago whose half lies there by chance
    comes late or twice, never not at all.
    """
    number = f"({_SYSTEM}::text::bigint)"
    parts = []
    running = want.following - want.oldest
    if running:
        parts.append(f"{_distance(number, want.oldest)} >= {running}")
    if want.since is not None and want.oldest - want.since < _NUMBERS // 2:
        parts.append(f"{_distance(number, want.since)} < {want.oldest - want.since}")
    return parts


_SYSTEM = '"q".xmin'
"""The transaction that wrote a row, in our statements."""


def _distance(number: str, start: int) -> str:
    return f"((({number} - {start}) % {_NUMBERS} + {_NUMBERS}) % {_NUMBERS})"


def form_of(column: str) -> str:
    """Spell the form of a text."""
    cases = [
        f"WHEN {' OR '.join(f'{column}::text LIKE {_literal(p)}' for p in patterns)} "
        f"THEN {_literal(name)}"
        for name, patterns in classes()
    ]
    digits = f"WHEN {column}::text ~ '^[0-9]+$' THEN {_literal(NUMBER)}"
    return f"CASE {' '.join(cases)} {digits} ELSE {_literal(OTHER)} END"


def forms(column: str, place: str) -> str:
    """Spell the query for the forms of a column, with the lengths of its values."""
    length = f"length({column}::text)"
    return (
        f"SELECT {form_of(column)}, count(*)::text, min({length}), max({length}) "  # noqa: S608
        f"FROM {place} WHERE {column} IS NOT NULL GROUP BY 1"
    )


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def odd(column: str, kind: str, clock: datetime | None, form: str) -> list[str]:
    """Spell, as alternatives, which values have no place before the clock; NULL apart.

    ``form``: of most values, where they are text. Constants of ours, not bound values: they are
    folded once, not read again for each row.
    """
    if kind in LIKE_TEXT:
        like = [f"{column}::text LIKE {_literal(pattern)}" for pattern in allowed(form)]
        apart = [f"NOT ({' OR '.join(like)})"] if like else []
        ahead = limits(form, clock) if clock is not None else ()
        return apart + [
            f"({column}::text LIKE {_literal(pattern)} AND {column} > {_literal(limit)})"
            for pattern, limit in ahead
        ]
    bounds = _LIMITS.get(kind)
    if clock is not None and kind in _FIRST:
        top = {_DATE: f"{clock:%Y-%m-%d}", _ZONED: f"{clock}+08:00"}.get(kind, str(clock))
        bounds = (_FIRST[kind], top)
    if bounds is None:
        return []
    least, most = bounds
    return [f"{column} < '{least}'::{kind}", f"{column} > '{most}'::{kind}"]


def earlier(kind: str, value: Any, overlap: float) -> Any:
    """Return a position's value moved back by ``overlap``."""
    if kind in NUMERIC and isinstance(value, str):
        return shift(Decimal(value), overlap)
    if kind == _DATE:
        return shift(datetime.fromisoformat(value).date(), overlap)
    return shift(value, overlap)
