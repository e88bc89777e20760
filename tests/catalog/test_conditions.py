"""Conditions are tried together; the verdict on each is the one that it gets alone."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from exchange.catalog.frames import BadCondition, Conditions
from exchange.catalog.loader import loads
from tests.catalog.conftest import SMALL

GOOD = (
    "money >= 0",
    "born <= today",
    "note IS NOT NULL OR money > 3",
    "SUBSTR(note, 1, 2) = 'ab'",
    "TRY_CAST(note AS INT) > 3",
)
BAD = (
    "SUM(money) > 3",
    "money > AVG(money)",
    "FIRST(note) = 'a'",
    "CAST(note AS INT) > 3",
    "money + 1",
    "note > 3",
    "nothing > 3",
    "1 = 1",
    "money >",
    "money > 0 " + " OR money > 0" * 200,
)
FIELDS = loads(SMALL).resources["people"].fields


def verdicts(conditions: Conditions, expressions: list[str]) -> list[tuple[str, ...] | str]:
    result: list[tuple[str, ...] | str] = []
    for expression in expressions:
        try:
            result.append(conditions.names(expression))
        except BadCondition as bad:
            result.append(f"{bad.what.en} {bad.hint.en}")
    return result


def test_good_ones_are_good_and_bad_ones_bad() -> None:
    alone = verdicts(Conditions(FIELDS), [*GOOD, *BAD])
    assert [isinstance(verdict, tuple) for verdict in alone] == [True] * 5 + [False] * 10
    together = Conditions(FIELDS)
    together.try_together(GOOD)
    assert together.sound == set(GOOD)


@given(expressions=st.lists(st.sampled_from([*GOOD, *BAD]), max_size=6))
@example(expressions=[GOOD[0], BAD[0]])
@example(expressions=[GOOD[0], BAD[3]])
def test_the_verdict_is_the_one_that_each_gets_alone(expressions: list[str]) -> None:
    together = Conditions(FIELDS)
    together.try_together(expressions)
    alone = verdicts(Conditions(FIELDS), expressions)
    assert verdicts(together, expressions) == alone
    assert together.sound.isdisjoint(BAD)
