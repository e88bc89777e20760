"""The register of seals in the store: a row and its audit line come together, or not at all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from exchange.errors import Rejected
from exchange.store.columns import MAX_TEXT
from exchange.store.node.seals import SealRow, as_stored
from tests.support.stored import START

if TYPE_CHECKING:
    from exchange.store.database import Store

ROW = SealRow(
    "23270000000001",
    "data",
    "in_use",
    applied_at=START,
    content=b"\x30\x00\xff",
    updated_at=START,
    version=1,
)


def show(store: Store, row: SealRow, detail: str = "why") -> bool:
    return store.seals.show(row, actor="cli:li", action="seal.test", detail=detail)


def test_a_row_comes_back_as_it_was_with_its_audit_line(store: Store) -> None:
    assert show(store, ROW, "data: 申请")
    assert store.seals.find() == [ROW]
    (line,) = store.audit.find(subject=ROW.es_id)
    assert (line.actor, line.action, line.detail) == ("cli:li", "seal.test", "data: 申请")
    assert store.audit.find(subject="other") == []
    assert store.audit.check() == (1, line.digest)


def test_the_state_is_read_alone(store: Store) -> None:
    assert store.seals.state(ROW.es_id) is None
    assert show(store, ROW)
    assert store.seals.state(ROW.es_id) == "in_use"
    assert show(store, replace(ROW, state="suspended", version=2))
    assert store.seals.state(ROW.es_id) == "suspended"


def test_seals_are_found_by_name(store: Store) -> None:
    other = replace(ROW, es_id="23270000000002", name="market", content=b"")
    assert show(store, ROW)
    assert show(store, other)
    assert store.seals.find(name="market") == [other]
    assert [row.name for row in store.seals.find()] == ["data", "market"]


def test_a_step_that_was_shown_before_is_passed_over_and_leaves_no_line(store: Store) -> None:
    assert show(store, replace(ROW, state="suspended", version=2))
    assert not show(store, replace(ROW, state="suspended", version=2))
    assert not show(store, ROW)
    assert store.seals.state(ROW.es_id) == "suspended"
    assert store.audit.head()[0] == 1


def test_a_row_is_read_as_it_will_be_stored(store: Store) -> None:
    row = replace(
        ROW,
        reason="理由\0" * MAX_TEXT,
        filed_at=START + timedelta(microseconds=1_999),
        apply_no="",
    )
    assert show(store, row)
    assert store.seals.find() == [as_stored(row)] == [as_stored(as_stored(row))]
    with pytest.raises(Rejected):
        as_stored(replace(ROW, filing_no="9" * 65))


def test_of_many_at_once_one_is_first(store: Store) -> None:
    assert show(store, ROW)

    def take(number: int) -> bool:
        return show(store, replace(ROW, state="suspended", reason=f"{number}", version=2))

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(take, range(6))) == 1
    assert store.audit.check()[0] == 2
