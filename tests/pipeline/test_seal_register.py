"""The register of seals in the log: a seal seals by what stands there, whatever the store says."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.errors import Denied, ExchangeError, Integrity
from exchange.log import SEALS, Entry
from exchange.log.embedded.log import EmbeddedLog
from exchange.node.auditing import audit_node
from exchange.node.seal_administration import SealAdministration
from exchange.node.seal_projection import show_register
from exchange.node.topics import common_topics
from exchange.pipeline.seal_register import CARRIED, SealEvent, SealRegister
from exchange.seal.eseal.lifecycle import Step
from exchange.store.node.seals import SealRow, as_stored
from exchange.store.sql import Stale
from tests.pipeline.place import Place, now, records
from tests.support.nodes import make, run

if TYPE_CHECKING:
    from exchange.node.node import Node

ROW = SealRow("23270000000001", "data", "in_use")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = make(tmp_path / "node", {"cases": records(60)})
    with place.node() as node:
        node.take_up_catalog()
    return place


def take(node: Node, step: Step, reason: str = "") -> SealRow:
    return SealAdministration(node, "wang").take("data", step, reason)


def edit_store(place: Place, statement: str) -> None:
    with closing(sqlite3.connect(place.folder / "data" / "store.db")) as database, database:
        assert database.execute(statement).rowcount > 0


def names(value: str) -> str:
    return value.replace("\0", "")


TEXT = st.text(st.characters(codec="utf-8"), max_size=60).map(names)


@given(name=TEXT, reason=TEXT, content=st.binary(max_size=60))
def test_a_step_comes_back_from_its_message(name: str, reason: str, content: bytes) -> None:
    row = as_stored(replace(ROW, name=name, reason=reason, content=content, updated_at=now()))
    event = SealEvent(row, "wang", "suspend", reason)
    message = event.to_message()
    entry = Entry(SEALS, 0, 0, message.key, message.value, message.headers, 0)
    assert SealEvent.of(entry) == event
    assert SealEvent.of(replace(entry, value=message.value[:-1])) is None
    assert SealEvent.of(replace(entry, headers={})) is None


def test_of_many_at_once_one_step_is_first(place: Place, tmp_path: Path) -> None:
    with closing(EmbeddedLog(tmp_path / "log.db", clock=now)) as log:
        log.ensure(common_topics(place.settings))
        first = SealRegister(log, now).append(ROW, actor="wang", step="adopt", detail="").row

        def step(number: int) -> bool:
            """Take a step as another process does: with a log of its own."""
            row = replace(first, state="suspended", reason=f"{number}")
            with closing(EmbeddedLog(tmp_path / "log.db", clock=now)) as other:
                try:
                    SealRegister(other, now).append(row, actor="wang", step="suspend", detail="")
                except ExchangeError:
                    return False
            return True

        with ThreadPoolExecutor(6) as pool:
            assert sum(pool.map(step, range(6))) == 1
        register = SealRegister(log, now)
        assert [event.row.version for event in register.history(ROW.es_id)] == [1, 2]
        with pytest.raises(Stale):
            register.append(first, actor="li", step="cancel", detail="")
        with pytest.raises(Integrity, match="exists already"):
            register.append(replace(ROW, name="another"), actor="li", step="adopt", detail="")


def test_a_cancelled_seal_seals_nothing_whatever_the_store_says(place: Place) -> None:
    with place.node() as node:
        take(node, Step.CANCEL, "单位撤销")
    edit_store(place, "UPDATE seals SET seal_state = 'in_use'")
    with place.node() as node, pytest.raises(Denied, match="cancelled"):
        node.seals.ready(node.catalog.resource("cases"))
    edit_store(place, "DELETE FROM seals")
    with place.node() as node, pytest.raises(Denied, match="cancelled"):
        node.seals.ready(node.catalog.resource("cases"))
    with place.node() as node:
        assert node.store.seals.state("23270000000001") is None
        show_register(node)
        assert node.store.seals.state("23270000000001") == "cancelled"
        assert node.store.seals.find() == node.seal_register.rows()


def test_what_a_kill_left_unshown_is_shown_with_its_line_once(place: Place) -> None:
    with place.node() as node:
        row = take(node, Step.SUSPEND, "机构调整")
        node.seal_register.append(
            replace(row, state="in_use", reason=""), actor="li", step="resume", detail="完成"
        )
    with place.node() as node:
        for _ in range(2):
            show_register(node)
        lines = [(line.actor, line.action) for line in node.store.audit.find(subject=row.es_id)]
        assert lines == [("wang", "seal.adopt"), ("wang", "seal.suspend"), ("li", "seal.resume")]
        assert node.store.seals.find() == node.seal_register.rows()


def test_a_register_that_is_in_the_store_alone_becomes_the_first_entries(place: Place) -> None:
    """As a former version left it: suspended, with its lines of the trail."""
    row = replace(ROW, state="suspended", reason="机构调整", version=2, updated_at=now())
    with place.node() as node:
        for version, step in ((1, "adopt"), (2, "suspend")):
            shown = as_stored(replace(row, version=version))
            assert node.store.seals.show(shown, actor="li", action=f"seal.{step}", detail="data")
    with place.node() as node:
        with pytest.raises(Denied, match="suspended"):
            node.seals.ready(node.catalog.resource("cases"))
        assert node.log.bounds(SEALS, 0) == (0, 0), "who only asks carries nothing"
    with place.receiver():
        outcome = run(place)
    assert {str(where) for where in outcome.errors} >= {"seal/cases"}
    with place.node() as node:
        (event,) = node.seal_register.history(ROW.es_id)
        assert (event.step, event.row) == (CARRIED, as_stored(row))
        (line,) = [line for line in node.store.audit.find() if line.action == "seal.carry"]
        assert ROW.es_id in line.detail
        take(node, Step.RESUME)
        administration = SealAdministration(node, "wang")
        history = administration.history(administration.find("data"))
        assert [item["action"] for item in history] == ["seal.adopt", "seal.suspend", "seal.resume"]
    with place.receiver():
        assert run(place).errors == {}
    with place.node() as node:
        assert [check.name for check in audit_node(node).failed] == []
