"""The statement that reads rows, for any dialect: decided without a connection."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.expression import ColumnElement, FromClause

from exchange.connectors.sql import postgres
from exchange.connectors.sql.reader import Rows, Want
from exchange.connectors.sql.spelling import Spelling

Condition = ColumnElement[bool] | sa.TextClause


def selection(
    place: FromClause,
    spelling: Spelling,
    want: Want,
    columns: Sequence[str],
    *,
    clock: datetime | None,
    condition: str | None,
) -> sa.Select[Any]:
    """Select columns, and behind them what tells positions exactly, in the order that is wanted."""
    exact = [e for name in want.order if (e := spelling.exact(name)) is not None]
    picked = [spelling.picked(name).label(name) for name in columns]
    picked += [e.label(f"_exact{number}") for number, e in enumerate(exact)]
    statement = sa.select(*picked).select_from(place)
    statement = statement.where(*_conditions(spelling, want, clock, condition))
    return statement.order_by(*map(spelling.rank, want.order))


def _conditions(
    spelling: Spelling, want: Want, clock: datetime | None, condition: str | None
) -> list[Condition]:
    parts: list[Condition] = []
    if want.after is not None:
        parts.append(_beyond(spelling, want.order, want.after))
    if want.upto is not None:
        parts.append(sa.not_(_beyond(spelling, want.order, want.upto)))
    first = want.order[0] if want.order else ""
    parts += [
        spelling.rank(first) >= spelling.bound(first, least)
        for least in (want.since, want.floor)
        if least is not None
    ]
    if want.rows is not Rows.ALL and want.order:
        apart: list[ColumnElement[bool]] = [spelling.columns[n].is_(None) for n in want.order]
        if want.rows is not Rows.UNPLACED:
            apart += spelling.odd(first, clock)
        odd = sa.or_(*apart)
        parts.append(sa.not_(odd) if want.rows is Rows.TIMELY else odd)
    if condition is not None:
        own = condition.replace(":", r"\:")
        parts.append(sa.text(f"({own}\n)"))
    if want.settled is not None:
        parts += map(sa.literal_column, postgres.settled(want.settled))
    return parts


def _beyond(spelling: Spelling, names: Sequence[str], values: Sequence[Any]) -> ColumnElement[bool]:
    """Spell (a, b) > (x, y) for databases without row values, so that an index still serves."""
    first, value = spelling.rank(names[0]), spelling.bound(names[0], values[0])
    beyond: ColumnElement[bool] = first > value
    if len(names) == 1:
        return beyond
    rest = _beyond(spelling, names[1:], values[1:])
    return sa.and_(first >= value, sa.or_(beyond, rest))
