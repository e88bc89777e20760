"""A status sees the same of a file as of the open store, and leaves other stores to it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from exchange.errors import Integrity
from exchange.store.database import open_store
from exchange.store.glance import FileGlance, StoreGlance
from exchange.store.node.deliveries import DeliveryRow
from exchange.store.node.pulls import PullRow
from exchange.store.node.quarantine import QuarantineRow
from exchange.validate.refused_records import UNREADABLE

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def delivery(number: int, state: str) -> DeliveryRow:
    batch_no = f"20261123{number:05}"
    topic = "exchange.sealed.cases"
    return DeliveryRow("cases", batch_no, topic, 0, number, f"s{number}", f"r{number}", 1, state)


def quarantine(resource: str, offset: int) -> QuarantineRow:
    topic = f"exchange.quarantine.{resource}"
    return QuarantineRow(
        *(topic, 0, offset, resource, "source", "p1", "table", 5, {"required:no": 5}, "1", NOW)
    )


def test_a_file_tells_what_its_store_tells(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    assert FileGlance.of(f"sqlite:///{path}") is None
    with closing(open_store(f"sqlite:///{path}", clock=lambda: NOW)) as store:
        store.deliveries.add([delivery(1, "pending"), delivery(2, "receipted")])
        store.deliveries.add([delivery(3, "receipted")])
        store.quarantine.add([quarantine("cases", 0), quarantine("cases", 1), quarantine("x", 0)])
        store.quarantine.decide(
            "exchange.quarantine.cases", 0, 0, [1, 2], state="dismissed", by="test"
        )
        for number, error in enumerate(("away", "", "denied")):
            start = NOW + timedelta(seconds=number % 2)
            end = None if number else NOW
            store.pulls.save(PullRow(f"p{number}", "a", "cases", start, "open", end, 1, "", error))
        open_glance, file = StoreGlance(store), FileGlance.of(f"sqlite:///{path}")
        assert file is not None
        assert file.deliveries() == open_glance.deliveries()
        assert file.deliveries() == {("cases", "pending"): 1, ("cases", "receipted"): 2}
        assert file.waiting() == open_glance.waiting() == {"cases": 8, "x": 5}
        strange = replace(quarantine("x", 1), reasons={UNREADABLE: 1})
        field = replace(quarantine("x", 2), reasons={f"{UNREADABLE}:no": 5, "required:no": 1})
        other = replace(quarantine("x", 3), reasons={f"no.{UNREADABLE}": 5})
        store.quarantine.add([strange, field, other])
        for resource, count in (("x", 2), ("cases", 0), ("y", 0)):
            assert file.unreadable(resource) == open_glance.unreadable(resource) == count
        row = replace(delivery(4, "waiting"), code="503", reason="busy")
        store.deliveries.add([row])
        assert file.blocked("cases") == open_glance.blocked("cases") == ""
        for number, code in ((6, "401"), (5, "424")):
            row = replace(delivery(number, "waiting"), code=code, reason="why")
            store.deliveries.add([row])
        assert file.blocked("cases") == open_glance.blocked("cases") == "424 why"
        for source in ("a", "b"):
            assert file.last_pull(source) == open_glance.last_pull(source)
        last = file.last_pull("a")
        assert last is not None
        assert (last.error, last.ended_at) == ("", None)


@pytest.mark.parametrize("url", ["postgresql://127.0.0.1/x", "sqlite://", "sqlite:///a.db?x=1"])
def test_other_addresses_are_left_to_the_store(url: str) -> None:
    assert FileGlance.of(url) is None


def test_a_file_of_another_release_is_left_to_the_store(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"no database" * 100)
    assert FileGlance.of(f"sqlite:///{path}") is None
    path.unlink()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('0001')")
    assert FileGlance.of(f"sqlite:///{path}") is None


def test_a_damaged_table_is_told_as_the_store_tells_it(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    open_store(f"sqlite:///{path}", clock=lambda: NOW).close()
    glance = FileGlance.of(f"sqlite:///{path}")
    assert glance is not None
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(Integrity, match=r"store\.db"):
        glance.deliveries()
