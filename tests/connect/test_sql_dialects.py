"""Databases that no test can start: the text that their dialect makes of our statements.

What is compared is the table's own column, qualified and quoted; values are bound; nothing is
asked that the database does not know (row values, LIMIT, booleans).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mssql, oracle

from exchange.connectors.sql.reader import Rows, Want
from exchange.connectors.sql.selection import selection
from exchange.connectors.sql.spelling import Spelling

COLUMNS = ("id", "更新时间", "name")
AT = datetime(2026, 1, 1)  # noqa: DTZ001 - as the database shows it
CLOCK = datetime(2026, 2, 1)  # noqa: DTZ001
DIALECTS: dict[str, tuple[Any, str, str]] = {
    "oracle": (oracle.dialect, 'q."更新时间"', "gov.t_case q"),
    "mssql": (mssql.dialect, "q.[更新时间]", "gov.t_case AS q"),
}


def text_of(made: Any, want: Want, condition: str | None = None) -> str:
    dialect = made()
    place = sa.table("t_case", *map(sa.column, COLUMNS), schema="gov").alias("q")
    spelling = Spelling({name: place.c[name] for name in COLUMNS})
    kinds: tuple[sa.types.TypeEngine[Any], ...] = (sa.Integer(), sa.DateTime(), sa.String())
    for name, kind in zip(COLUMNS, kinds, strict=True):
        spelling.define(name, kind, dialect.name)
    statement = selection(place, spelling, want, COLUMNS, clock=CLOCK, condition=condition)
    return " ".join(str(statement.compile(dialect=dialect)).split())


@pytest.mark.parametrize("name", DIALECTS)
def test_a_dialect_spells_what_is_new(name: str) -> None:
    dialect, at, place = DIALECTS[name]
    order = ("更新时间", "id")
    text = text_of(dialect, Want(order, Rows.TIMELY, after=(AT, 5)), "status <> 'a:b'")
    assert text == (
        f"SELECT q.id AS id, {at} AS {at[2:]}, q.name AS name FROM {place} "
        f"WHERE {at} >= :param_1 AND ({at} > :param_1 OR q.id > :param_2) "
        f"AND NOT ({at} IS NULL OR q.id IS NULL OR {at} < :param_3 OR {at} > :param_4) "
        f"AND (status <> 'a:b' ) ORDER BY {at}, q.id"
    )


@pytest.mark.parametrize("name", DIALECTS)
def test_a_dialect_spells_the_stretch_that_is_read_again(name: str) -> None:
    dialect, at, _ = DIALECTS[name]
    want = Want(("更新时间", "id"), Rows.TIMELY, since=AT, floor=AT, upto=(AT, 5))
    text = text_of(dialect, want)
    assert f"WHERE NOT ({at} >= :param_1 AND ({at} > :param_1 OR q.id > :param_2))" in text
    assert f"AND {at} >= :param_3 AND {at} >= :param_4 AND NOT (" in text


@pytest.mark.parametrize("name", DIALECTS)
def test_a_dialect_spells_a_whole_table_and_the_odd(name: str) -> None:
    dialect, at, place = DIALECTS[name]
    assert text_of(dialect, Want()).endswith(f"FROM {place}")
    odd = text_of(dialect, Want(("更新时间", "id"), Rows.ODD))
    nulls = f"{at} IS NULL OR q.id IS NULL"
    assert f"WHERE {nulls} OR {at} < :param_1 OR {at} > :param_2 ORDER BY" in odd
    unplaced = text_of(dialect, Want(("更新时间", "id"), Rows.UNPLACED))
    assert f"WHERE {nulls} ORDER BY" in unplaced
