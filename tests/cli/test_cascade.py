from __future__ import annotations

from pathlib import Path

import pytest

from exchange.cascade.delivery import State
from exchange.errors import Misconfigured
from exchange.log import RECEIPTS
from exchange.node.node import Node
from exchange.run.runner import Runner
from exchange.seal.pki.trust import Trust
from tests.cli.conftest import Run, Struck, company, open_node, serving, write_companies
from tests.receipt.seals import make_party


def receipts_in_log(node: Node) -> list[str]:
    first, end = node.log.bounds(RECEIPTS, 0)
    if first == end:
        return []
    entries = node.log.read(RECEIPTS, 0, first, max_entries=100)
    return [entry.key for entry in entries if entry.headers["kind"] == "receipt"]


@pytest.fixture
def refused(folder: Path, run: Run) -> str:
    """Have the province refuse the first batch and take the second; returns the first's number."""
    with serving(folder, trust=Trust((make_party("stranger").root,))):
        assert run("run", "--once").code == 1
    (batch,) = run("cascade", "list", "--state", "refused", "--json").json["deliveries"]
    write_companies(folder, [company(number) for number in range(20, 24)])
    with serving(folder):
        assert run("run", "--once", "--json").json["receipts"] == 1
    number: str = batch["batch_no"]
    return number


@pytest.mark.usefixtures("delivered")
def test_list_in_both_languages(run: Run) -> None:
    assert "已回执" in run("cascade", "list", lang="zh").out
    assert "receipted" in run("cascade", "list", "companies").out
    (row,) = run("cascade", "list", "--json").json["deliveries"]
    assert (row["state"], row["rows"], row["attempts"]) == ("receipted", 5, 1)
    assert run("cascade", "list", "--state", "refused").out == "no batches\n"
    assert run("cascade", "list", "--state", "lost").code == Misconfigured.exit_code
    assert run("cascade", "list", "firms").code == 1
    assert "--limit" in run("cascade", "list", "--limit", "1").err


def test_a_refused_batch_is_sent_again_as_it_was(folder: Path, run: Run, refused: str) -> None:
    put_back = run("cascade", "retry", "companies")
    assert put_back.code == 0
    assert "1 batch will be sent again" in put_back.out
    with serving(folder):
        result = run("run", "--once", "--only", "cascade", "--json")
        assert (result.code, result.json["receipts"], result.json["waiting"]) == (0, 1, 0)
        assert run("run", "--once", "--only", "cascade", "--json").json["receipts"] == 0
    states = {
        row["batch_no"]: row["state"] for row in run("cascade", "list", "--json").json["deliveries"]
    }
    assert states[refused] == "receipted"
    assert set(states.values()) == {"receipted"}
    with open_node() as node:
        assert sorted(receipts_in_log(node)) == [f"companies/{number}" for number in sorted(states)]
        (entry,) = node.store.audit.find()
        assert (entry.action, entry.subject) == ("cascade.retry", f"companies/{refused}")
        assert entry.detail.startswith("refused")


@pytest.mark.parametrize(
    "failpoint",
    [
        f"{stage}:{when}"
        for stage in ("delivery", "send", "receipt", "settle")
        for when in ("before", "after")
    ],
)
def test_a_kill_while_it_is_sent_again_loses_nothing(
    folder: Path, run: Run, refused: str, failpoint: str
) -> None:
    assert run("cascade", "retry", "companies", refused).code == 0

    def strike(place: str) -> None:
        if place == failpoint:
            raise Struck

    with serving(folder):
        with open_node() as node:
            node.failpoint = strike
            with pytest.raises(Struck):
                Runner(node, stages=("cascade",)).once()
        assert run("run", "--once", "--only", "cascade").code == 0
    with open_node() as node:
        row = node.store.deliveries.get("companies", refused)
        assert row is not None
        assert row.state == State.RECEIPTED
        assert receipts_in_log(node).count(f"companies/{refused}") == 1
        assert len(receipts_in_log(node)) == 2


@pytest.mark.usefixtures("delivered")
def test_retry_of_what_needs_none(run: Run) -> None:
    (row,) = run("cascade", "list", "--json").json["deliveries"]
    again = run("cascade", "retry", "companies", row["batch_no"])
    assert again.code == 1
    assert "nothing to send again" in again.err
    assert run("cascade", "retry", "companies", "--json").json["batches"] == []
    assert run("cascade", "retry", "companies", "2026010100001").code == 1
    assert run("cascade", "retry", "firms").code == 1


def test_export_writes_what_verify_reads(delivered: Path, run: Run) -> None:
    (row,) = run("cascade", "list", "--json").json["deliveries"]
    result = run("cascade", "export", "companies", row["batch_no"], "--to", "out", "--json")
    assert result.code == 0
    assert result.json["batch"] == f"out/companies-{row['batch_no']}.avro"
    assert result.json["receipt"] == f"out/companies-{row['batch_no']}.receipt.json"
    assert run("verify", result.json["batch"], result.json["receipt"]).code == 0
    (delivered / "file").write_text("", encoding="utf-8")
    assert run("cascade", "export", "companies", row["batch_no"], "--to", "file").code == 3


@pytest.mark.usefixtures("folder")
def test_export_without_a_receipt(run: Run) -> None:
    assert run("run", "--once", "--only", "pull").code == 0
    assert run("run", "--once", "--only", "seal").code == 0
    (row,) = run("cascade", "list", "--json").json["deliveries"]
    assert row["state"] == "pending"
    result = run("cascade", "export", "companies", row["batch_no"], lang="zh")
    assert (result.code, len(result.out.splitlines())) == (0, 1)
    assert "还没有回执" in result.err
