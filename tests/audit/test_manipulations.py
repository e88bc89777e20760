"""Every manipulation of the table is told by its command and its check (20 s).

One node is prepared for all: two resources, refused records, a dismissal, receipts, a witnessed
evidence log, a receiver. Each case works on a copy of its folder.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from exchange.audit.findings import CHECKS
from exchange.node.auditing import audit_node
from exchange.node.node import Node
from exchange.node.seal_administration import SealAdministration
from exchange.pipeline.dismissal import Selection, dismiss
from exchange.seal.checks import Verification
from exchange.seal.eseal.lifecycle import Step
from exchange.settings import load
from tests.audit.manipulations import HELD, KNOWN, RECEIVER, TABLE, Copy, Manipulation
from tests.pipeline.place import Place, records
from tests.support.nodes import add, make, run

PAGE = Path(__file__).parents[2] / "docs" / "threat-model.md"
ROWS = 300


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("audit") / "node"
    place = make(folder, {"cases": records(ROWS), "firms": records(ROWS)})
    with place.receiver():
        with place.node() as node:
            node.take_up_catalog()
        assert run(place).errors == {}
        with place.node() as node:
            dismissed = dismiss(
                node.context,
                node.store,
                "cases",
                Selection(rule="type"),
                by="wang",
                reason="无法更正",
            )
            assert dismissed > 0
            SealAdministration(node, "wang").take("data", Step.SUSPEND, "机构调整")
            SealAdministration(node, "wang").take("data", Step.RESUME)
        shutil.copytree(place.folder / "data", folder.with_name("older"))
        add(place, "cases", records(100, first=ROWS + 1))
        assert run(place).errors == {}
        with place.node() as node:
            node.store.audit.append("wang", "partition.release", "cases")
        assert run(place).errors == {}
    return place


def copied(place: Place, folder: Path) -> Copy:
    shutil.copytree(place.folder, folder / "node")
    copy = Place(folder / "node", {name: list(rows) for name, rows in place.sources.items()})
    return Copy(copy, place.folder.with_name("older"))


def audited(copy: Copy, command: str, *known: bytes) -> Verification:
    if command in {RECEIVER, HELD}:
        with Node(load(copy.folder / "province" / "exchange.yaml")) as receiver:
            return audit_node(receiver, known=known)
    with copy.node() as node:
        return audit_node(node, known=known)


def witnessed(place: Place) -> bytes:
    return (place.folder / "data" / "evidence" / "witnessed").read_bytes()


def prepared_receipt(place: Place) -> bytes:
    """Return the newest receipt of a resource, which the node has."""
    with place.node() as node:
        (row,) = node.store.receipts.find(resource="cases", limit=1)
    return row.content


@pytest.mark.parametrize("command", [RECEIVER, HELD, KNOWN])
def test_what_nobody_touched_passes_every_check(
    prepared: Place, tmp_path: Path, command: str
) -> None:
    known = witnessed(prepared) if command == KNOWN else prepared_receipt(prepared)
    found = audited(copied(prepared, tmp_path), command, known)
    assert found.failed == ()
    assert [check.name for check in found.checks[: len(CHECKS)]] == list(CHECKS)
    if command == KNOWN:
        assert found.facts["rows"] == 2 * (2 * ROWS + 100)
        assert found.facts["batches"] == found.facts["receipts"] == 7
        assert found.notes == ()


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.what.replace(" ", "-"))
def test_a_manipulation_is_found(prepared: Place, tmp_path: Path, row: Manipulation) -> None:
    copy = copied(prepared, tmp_path)
    row.do(copy)
    known = (witnessed(prepared),) if row.command == KNOWN else ()
    if row.command == HELD:
        known = (prepared_receipt(prepared),)
    failed = {check.name: check for check in audited(copy, row.command, *known).failed}
    assert row.check in failed
    assert failed[row.check].found, "it says what is there"


def test_the_threat_model_has_the_same_table() -> None:
    numbers = {name: number for number, name in enumerate(CHECKS, start=1)}
    expected = [
        (row.what, f"`{row.command}`", f"{numbers.get(row.check, '–')} `{row.check}`")
        for row in TABLE
    ]
    text = PAGE.read_text(encoding="utf-8").partition("## Manipulations\n")[2]
    lines = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", text.partition("\n## ")[0], re.MULTILINE)
    assert lines[1:] == expected
    assert len(expected) >= 40
