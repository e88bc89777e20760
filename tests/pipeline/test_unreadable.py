"""A raw message that is no records of ours: quarantine as a whole, and its resource goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import polars as pl
import pytest

from exchange.log import Message, quarantine_topic, raw_topic
from exchange.log.frames import encode_frame
from exchange.pipeline.dismissal import Selection, dismiss
from exchange.pipeline.messages import KEPT_BYTES, Origin, Original, RefusedEntry
from exchange.pipeline.refused import waiting
from exchange.pipeline.replay import replay
from exchange.validate.isolation import CHECK_FAILED
from exchange.validate.refused_records import UNREADABLE, show
from tests.pipeline.place import Place, records
from tests.support.nodes import make, run

FRAME = pl.DataFrame({"id": ["x1"], "no": ["y1"], "name": ["甲"], "issued": ["2026-01-11"]})
ORIGIN = Origin("other", "p1", "somewhere", datetime(2026, 11, 23, tzinfo=UTC))
OURS = {**ORIGIN.headers(), "rows": "1", "index": "0", "since": "0"}
VALUES: Mapping[str, bytes] = {
    "no frame": b"not a frame",
    "nothing": b"",
    "large": b"x" * (KEPT_BYTES + 1),
    "cut": encode_frame(FRAME)[:-5],
    "more behind it": encode_frame(FRAME) + b"x",
    "another number of records": encode_frame(pl.concat([FRAME, FRAME])),
    "a row that is no number": encode_frame(FRAME.with_columns(_row=pl.lit("first"))),
    "a version that is no number": encode_frame(FRAME.with_columns(_exchange_version=pl.lit("1"))),
}
STRANGE = FRAME.with_columns(
    no=pl.Series([["y1"]]), id=pl.Series([b"\x00\xff"]), issued=pl.struct(a=pl.lit(1))
)
"""Types that no department's database has: a frame all the same, whose record is refused."""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make(tmp_path / "node", {"cases": records(30, dirty=False), "firms": records(10)})


FAILS = """
    rules:
      short: "SUBSTR(name, 1, CASE WHEN id = 'r7' THEN -1 ELSE 1 END) <> 'x' | 名称不符"
"""
"""A rule that the library fails at for one record; nobody foresaw its value."""


def test_it_goes_to_quarantine_as_a_whole(place: Place) -> None:
    path = place.folder / "catalog.yaml"
    path.write_text(path.read_text(encoding="utf-8") + FAILS, encoding="utf-8")
    with place.node() as node:
        node.context.ensure("cases")
        with node.log.transaction("intruder") as tx:
            for value in (*VALUES.values(), encode_frame(STRANGE)):
                tx.append(Message(raw_topic("cases"), value, headers=OURS))
            tx.append(Message(raw_topic("cases"), encode_frame(FRAME), headers={"rows": "1"}))
    with place.receiver():
        done = run(place)
        assert done.errors == {}
        assert done.waiting == 0
    with place.node() as node:
        sealed = sum(row.rows for row in node.store.deliveries.find(resource="cases"))
        assert sealed == 30, "what the source gave is sealed"
        sealed = sum(row.rows for row in node.store.deliveries.find(resource="firms"))
        assert sealed == 9, "one record that the program fails at holds up nobody"
        (failed,) = node.store.quarantine.find(resource="firms", waiting=True)
        assert (failed.rows, failed.reasons) == (1, {f"{CHECK_FAILED}:": 1})
        index = node.store.quarantine.find(resource="cases", waiting=True)
        unreadable = [row for row in index if row.reasons == {UNREADABLE: 1}]
        assert len(unreadable) == len(VALUES) + 1 == len(index) - 1
        assert {row.rows for row in index} == {1}
        resource = node.context.resource("cases")
        kept = list(waiting(node.context, node.store, unreadable))
        told = [r for refused in kept for record in show(refused, resource) for r in record.reasons]
        for offset, (value, reason) in enumerate(zip(VALUES.values(), told, strict=False)):
            place_ = f"exchange.raw.cases/0/{offset}, {len(value)} bytes"
            assert f"{place_}, SHA-256 {sha256(value).hexdigest()}" in reason["en"]
            assert "1 record by its own account" in reason["en"]
            assert "自称 1 条记录" in reason["zh"]
        assert "records unknown" in told[-1]["en"]
        assert "记录数不明" in told[-1]["zh"]
        log = node.log.read(quarantine_topic("cases"), 0, 0, max_entries=100)
        assert max(len(entry.value) for entry in log) == KEPT_BYTES

        again = replay(node.context, node.store, resource, by="test")
        assert again.held == len(unreadable), "what is still unreadable stays"
        chosen = Selection(rule=UNREADABLE)
        count = dismiss(node.context, node.store, "cases", chosen, by="test", reason="别人写入")
        assert count == len(unreadable)
        assert not [
            row
            for row in node.store.quarantine.find(resource="cases", waiting=True)
            if UNREADABLE in row.reasons
        ]
        (*_, entry) = node.store.audit.find()
        assert (entry.action, "别人写入" in entry.detail) == ("quarantine.dismiss", True)


def test_a_replay_reads_it_once_it_can_be_read(place: Place) -> None:
    """A program of a former version could not read it; this one can."""
    data = encode_frame(FRAME)
    original = Original(raw_topic("cases"), 0, 0, len(data), sha256(data).hexdigest(), 1)
    refused = RefusedEntry(
        ORIGIN, 1, {UNREADABLE: 1}, "1", data, "0/0", readable=False, original=original
    )
    strange = replace(refused, original=replace(original, rows=None))
    with place.receiver():
        assert run(place).errors == {}
        with place.node() as node:
            with node.log.transaction("test") as tx:
                for each in (refused, strange):
                    tx.append(each.to_message("cases", 0))
            assert run(place).errors == {}
            resource = node.context.resource("cases")
            again = replay(node.context, node.store, resource, by="test")
            assert (again.rows, again.held) == (1, 1), "nobody knows where the other one is from"
        done = run(place)
        assert (done.errors, done.accepted) == ({}, 1)
    with place.node() as node:
        assert node.store.quarantine.counts()["cases"] == (2, 1, 0, 0)
