"""The evidence log by its commands; and what an operator could try, and is caught at."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from exchange.evidence.entry import EvidenceEntry
from exchange.evidence.log import EvidenceLog, LogReader
from tests.cli.conftest import Run, company, serving, write_companies

FOLDER = Path("data/evidence")


@pytest.fixture
def batch(delivered: Path, run: Run) -> str:  # noqa: ARG001 (it must have run)
    (row,) = run("cascade", "list", "--json").json["deliveries"]
    return str(row["batch_no"])


def entry_of(batch_no: str) -> EvidenceEntry:
    """An entry that nobody ever made."""
    return EvidenceEntry(
        type="statement",
        resource="companies",
        lane=0,
        batch_no=batch_no,
        digest=f"sm3:{'0' * 64}",
    )


@pytest.mark.usefixtures("delivered")
def test_a_run_leaves_a_witnessed_log(run: Run) -> None:
    result = run("evidence", "checkpoint", "--to", "now.note", "--json")
    assert result.code == 0
    sizes = result.json["size"], result.json["entries"]
    assert sizes == (4, 4), "statement, receipt, quarantine, pull"
    assert result.json["witnesses"] == ["province"]
    assert run("evidence", "audit", "--known", "now.note").code == 0
    audit = run("evidence", "audit", "--json").json
    assert audit["ok"]
    assert len(audit["checks"]) >= 15
    assert "存证日志" in run("evidence", "audit", lang="zh").out


def test_a_package_of_one_record_verifies(batch: str, run: Run) -> None:
    result = run(
        *("evidence", "export", "companies", batch, "--row", "2", "--to", "one.evidence", "--json")
    )
    assert result.code == 0, result
    assert result.json["bytes"] < 8_000
    checked = run("verify", "one.evidence", "--json").json
    assert checked["ok"]
    assert len(checked["checks"]) >= 20
    data = bytearray(Path("one.evidence").read_bytes())
    data[len(data) // 2] ^= 1
    Path("one.evidence").write_bytes(data)
    assert run("verify", "one.evidence").code in {1, 6}
    assert run("evidence", "export", "companies", batch, "--to", "x").code == 64
    assert (
        run("evidence", "export", "companies", "2026010100001", "--row", "1", "--to", "x").code == 1
    )


def test_growth_is_proved(batch: str, run: Run) -> None:  # noqa: ARG001 (it must have run)
    old, new = LogReader.at(FOLDER).kept(4), LogReader.at(FOLDER).size
    assert old is not None
    lines = run("evidence", "prove", "--from", "1", "--json").json["proof"]
    assert len(lines) == 2
    assert run("evidence", "prove", "--from", "5").code == 1
    assert run("evidence", "prove", "--from", "1", "--to", str(new)).out.split() == lines


def test_a_log_is_made_again_and_may_have_a_new_name(delivered: Path, run: Run) -> None:
    root = LogReader.at(FOLDER).root
    shutil.rmtree(FOLDER)
    assert run("run", "--once", "--only", "evidence").code == 0
    assert LogReader.at(FOLDER).root == root
    assert run("evidence", "audit").code == 0
    shutil.rmtree(FOLDER)
    path = Path("exchange.yaml")
    path.write_text(path.read_text(encoding="utf-8") + "\nevidence: {origin: second}\n")
    assert run("run", "--once", "--only", "evidence").code == 5, "the province names its logs"
    assert (LogReader.at(FOLDER).origin, LogReader.at(FOLDER).size) == ("second", 4)
    allowed = delivered / "province" / "exchange.yaml"
    text = allowed.read_text(encoding="utf-8")
    allowed.write_text(text.replace("origins: [", "origins: [second, "), encoding="utf-8")
    with serving(delivered):
        assert run("run", "--once", "--only", "evidence").code == 0
    assert run("evidence", "audit").code == 0


@pytest.mark.usefixtures("delivered")
def test_a_rewritten_log_is_refused(run: Run) -> None:
    """The operator makes another history, with valid keys: it is not that of the topic.

    Were that rewritten too, the witness has seen the first one: tests/tamper.
    """
    origin = LogReader.at(FOLDER).origin
    shutil.rmtree(FOLDER)
    with EvidenceLog.open(FOLDER, origin=origin) as log:
        log.append([entry_of("2026112300001").to_bytes()])
    result = run("run", "--once", "--only", "evidence")
    assert result.code == 6
    assert "evidence" in result.err + result.out


@pytest.mark.usefixtures("delivered")
def test_a_changed_tile_is_named(run: Run) -> None:
    bundle = max(path for path in (FOLDER / "tile" / "entries").rglob("*") if path.is_file())
    data = bytearray(bundle.read_bytes())
    data[10] ^= 1
    bundle.write_bytes(data)
    result = run("evidence", "audit", "--json")
    assert result.code == 6
    assert not result.json["ok"]


def test_a_receipt_tells_an_audit_that_the_log_is_another_one(delivered: Path, run: Run) -> None:
    write_companies(delivered, [company(number) for number in range(1, 9)])
    assert run("run", "--once").code == 0
    rows = run("cascade", "list", "--json").json["deliveries"]
    first, second = sorted(str(row["batch_no"]) for row in rows)
    for number in (first, second):
        assert run("cascade", "export", "companies", number, "--to", "kept").code == 0
    receipts = [f"kept/companies-{number}.receipt.json" for number in (first, second)]
    answer = run("evidence", "audit", "--known", receipts[0], "--known", receipts[1], "--json").json
    assert answer["ok"]
    assert answer["checks"][-1]["found"] == "receipts that name no checkpoint: 1", "the very first"
    origin = LogReader.at(FOLDER).origin
    shutil.rmtree(FOLDER)
    with EvidenceLog.open(FOLDER, origin=origin) as log:
        log.append([another.to_bytes() for another in (entry_of(first), entry_of(second))])
    assert run("evidence", "audit").code == 0, "it is a good log by itself"
    result = run("evidence", "audit", "--known", receipts[1], "--json")
    assert result.code == 6
    assert [check["name"] for check in result.json["checks"] if not check["ok"]] == ["known"]
