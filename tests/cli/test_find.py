"""From a key to every sealed version of a record, its receipt and its evidence package."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run, company, uscc, write_companies


@pytest.mark.usefixtures("delivered")
def test_from_a_key_to_evidence_that_verifies(run: Run, tmp_path: Path) -> None:
    key = f"uscc={uscc(3)}"
    result = run("find", "companies", "--key", key, "--to", tmp_path / "out", "--json")
    assert result.code == 0, result.err
    (record,), (file,) = result.json["records"], result.json["files"]
    assert record["receipt_no"]
    assert Path(file).name == f"companies-{record['batch_no']}-{record['row']}.evidence"
    assert run("verify", file).code == 0
    assert record["batch_no"] in run("find", "companies", "--key", key).out
    assert "封签过的版本" in run("find", "companies", "--key", key, lang="zh").out


def test_every_version_newest_first(delivered: Path, run: Run) -> None:
    write_companies(delivered, [company(3, contact="13900000000"), company(1)])
    assert run("run", "--once").code == 0
    records = run("find", "companies", "--key", f"uscc={uscc(3)}", "--json").json["records"]
    assert len(records) == 2
    assert records[0]["sealed_at"] > records[1]["sealed_at"]
    one = run("find", "companies", "--key", f"uscc={uscc(3)}", "--key", "contact=13900000000")
    assert one.out.count(records[0]["batch_no"]) == 1
    assert records[1]["batch_no"] not in one.out


@pytest.mark.usefixtures("delivered")
def test_what_was_never_sealed_and_what_is_no_field(run: Run) -> None:
    assert run("find", "companies", "--key", f"uscc={uscc(9)}").code == 1
    wrong = run("find", "companies", "--key", "colour=red")
    assert (wrong.code, "its fields: uscc, name" in wrong.err) == (1, True)
    assert run("find", "companies", "--key", "founded=yesterday").code == 1
    assert run("find", "nothing", "--key", "a=b").code != 0


@pytest.mark.usefixtures("delivered")
def test_without_the_whole_key_they_may_be_different_records(run: Run) -> None:
    some = run("find", "companies", "--key", "status=1")
    assert ("sealed records" in some.out, "uscc missing" in some.err) == (True, True)
    whole = run("find", "companies", "--key", f"uscc={uscc(3)}")
    assert ("sealed versions" in whole.out, "missing" in whole.err) == (True, False)
