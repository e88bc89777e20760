"""`exchange receiver list`, `show` and `admit`: what the province received and answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run

DEPARTMENT = "11232700MB1C531139"
PROVINCE = ("--config", "province/exchange.yaml")


def test_a_batch_is_listed_and_shown_with_its_receipt(delivered: Path, run: Run) -> None:
    (sent,) = run("cascade", "list", "--json").json["deliveries"]
    (batch,) = run("receiver", "list", *PROVINCE, "--json").json["batches"]
    address = f"{DEPARTMENT}/companies/{sent['batch_no']}"
    assert batch["address"] == address
    assert (batch["sender"], batch["department"], batch["version"]) == ("rid-232700", DEPARTMENT, 1)
    assert (batch["resource"], batch["rows"]) == ("companies", 5)
    for option, value in (("--sender", "rid-232700"), ("--department", DEPARTMENT)):
        assert address in run("receiver", "list", option, value, *PROVINCE).out
        assert address not in run("receiver", "list", option, "x", *PROVINCE).out
    assert batch["receipt_no"] == sent["receipt_no"]
    assert (delivered / "province" / "received" / batch["file"]).is_file()
    result = run("receiver", "list", "companies", *PROVINCE)
    assert address in result.out
    assert sent["receipt_no"] in result.out

    answer = run("receiver", "show", address, *PROVINCE, "--json").json
    assert answer["receipt"]["receipt"]["receipt_no"] == sent["receipt_no"]
    assert {name: answer[name] for name in batch} == batch
    text = run("receiver", "show", address, *PROVINCE)
    assert sent["receipt_no"] in text.out
    assert batch["file"] in text.out


@pytest.mark.usefixtures("folder")
def test_a_person_admits_a_statement(run: Run) -> None:
    done = run("receiver", "admit", "a" * 64, "--reason", "双方核对", *PROVINCE, "--json")
    assert (done.code, done.json["statement"]) == (0, "a" * 64)
    assert "cascade retry" in done.err
    for statement, reason in (("a" * 63, "x"), ("A" * 64, "x"), ("a" * 64, " ")):
        assert run("receiver", "admit", statement, "--reason", reason, *PROVINCE).code == 1


@pytest.mark.usefixtures("folder")
def test_what_was_not_received_is_said(run: Run) -> None:
    assert run("receiver", "list", *PROVINCE, "--json").json == {"batches": []}
    assert "no batches" in run("receiver", "list", *PROVINCE).out
    for address in ("nobody/companies/1", "companies", "a/b/c/d"):
        refused = run("receiver", "show", address, *PROVINCE)
        assert refused.code == 1
        assert address in refused.err


@pytest.mark.usefixtures("folder")
def test_a_node_that_receives_nothing_says_where_to_look(run: Run) -> None:
    for line in ("list", "serve"):
        refused = run("receiver", line)
        assert refused.code == 3
        assert "province/exchange.yaml" in refused.err
