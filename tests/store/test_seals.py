"""The register of seals: kept with its audit line, or not at all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from exchange.errors import ExchangeError, Integrity
from exchange.store.node.seals import SealRow
from exchange.store.sql import Stale
from tests.support.stored import START

if TYPE_CHECKING:
    from exchange.store.database import Store

ROW = SealRow("23270000000001", "data", "in_use", applied_at=START, content=b"\x30\x00\xff")


def save(store: Store, row: SealRow, detail: str = "why") -> SealRow:
    return store.seals.save(row, actor="cli:li", action="seal.test", detail=detail)


def test_a_row_comes_back_as_it_was_with_its_audit_line(store: Store) -> None:
    kept = save(store, ROW, "data: 申请")
    assert store.seals.find() == [kept]
    assert (kept.version, kept.content, kept.applied_at) == (1, ROW.content, START)
    (line,) = store.audit.find(subject=ROW.es_id)
    assert (line.actor, line.action, line.detail) == ("cli:li", "seal.test", "data: 申请")
    assert store.audit.find(subject="other") == []
    assert store.audit.check() == (1, line.digest)


def test_the_state_is_read_alone(store: Store) -> None:
    assert store.seals.state(ROW.es_id) is None
    kept = save(store, ROW)
    assert store.seals.state(ROW.es_id) == "in_use"
    save(store, replace(kept, state="suspended"))
    assert store.seals.state(ROW.es_id) == "suspended"


def test_seals_are_found_by_name(store: Store) -> None:
    save(store, ROW)
    other = save(store, replace(ROW, es_id="23270000000002", name="market", content=b""))
    assert store.seals.find(name="market") == [other]
    assert [row.name for row in store.seals.find()] == ["data", "market"]


def test_a_step_that_somebody_else_took_first_is_refused_and_leaves_no_line(store: Store) -> None:
    kept = save(store, ROW)
    save(store, replace(kept, state="suspended"))
    with pytest.raises(Stale):
        save(store, replace(kept, state="cancelled"))
    with pytest.raises(Integrity, match="exists already"):
        save(store, replace(ROW, name="another"))
    assert store.seals.state(ROW.es_id) == "suspended"
    assert store.audit.head()[0] == 2


def test_of_many_at_once_one_is_first(store: Store) -> None:
    kept = save(store, ROW)

    def take(number: int) -> bool:
        try:
            save(store, replace(kept, state="suspended", reason=f"{number}"))
        except ExchangeError:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(take, range(6))) == 1
    assert store.audit.check()[0] == 2
