from __future__ import annotations

import csv
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from python_calamine import CalamineWorkbook

from exchange.cli.corrections import read_corrections
from exchange.log import CURSORS
from exchange.pipeline.dismissal import Selection, dismiss
from exchange.pipeline.replay import replay
from exchange.store.node.pulls import NoteRow, PullRow
from exchange.validate.sheet import SHEET
from tests.cli.conftest import Run, Struck, company, open_node, uscc, write_companies


@pytest.fixture
def held(folder: Path, run: Run) -> Path:
    """Pull and seal, without a province: two records of seven are refused."""
    assert run("run", "--once", "--only", "pull").code == 0
    assert run("run", "--once", "--only", "seal").code == 0
    return folder


def waiting(run: Run) -> int:
    messages = run("quarantine", "list", "--json").json["messages"]
    return sum(message["waiting"] for message in messages)


def sealed(run: Run) -> int:
    rows = run("cascade", "list", "--json").json["deliveries"]
    return sum(row["rows"] for row in rows)


def corrected(folder: Path, run: Run, fix: Callable[[dict[str, str]], None]) -> Path:
    """Export, correct as a department would, and save as CSV."""
    assert run("quarantine", "export", "companies", "--to", "bad.xlsx").code == 0
    with CalamineWorkbook.from_path(folder / "bad.xlsx") as book:
        titles, names, *rows = book.get_sheet_by_name(SHEET).to_python()
    path = folder / "fixed.csv"
    with path.open("w", encoding="gb18030", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerows((titles, names))
        for row in rows:
            cells = dict(zip(map(str, names), map(str, row), strict=True))
            fix(cells)
            writer.writerow(cells.values())
    return path


@pytest.mark.usefixtures("held")
def test_list_and_show(run: Run) -> None:
    answer = run("quarantine", "list", "--json").json
    (message,) = answer["messages"]
    assert message["address"] == "companies/0/0"
    assert (message["rows"], message["waiting"]) == (2, 2)
    assert message["reasons"]["table:status"] == 1
    assert answer["notes"] == []
    assert "companies/0/0" in run("quarantine", "list", lang="zh").out
    assert run("quarantine", "list", "firms").code == 1


@pytest.mark.usefixtures("held")
def test_show_gives_every_reason_and_hides_people(run: Run) -> None:
    result = run("quarantine", "show", "companies/0/0")
    assert result.code == 0
    assert "✗ contact is not formed as mobile number  [pattern]" in result.out
    assert "138****1111" in result.out
    assert "13800001111" not in result.out
    assert "联系电话：格式不符" in run("quarantine", "show", "companies/0/0", lang="zh").out
    records = run("quarantine", "show", "companies/0/0", "--json").json["records"]
    assert [len(record["reasons"]) for record in records] == [1, 2]
    assert [record["state"] for record in records] == [None, None]
    short = run("quarantine", "show", "companies/0/0", "--rows", "1")
    assert "1 of 2 records" in short.err


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize("address", ["companies/0/99", "companies/0", "firms/0/0", "companies"])
def test_show_of_nothing(run: Run, address: str) -> None:
    refused = run("quarantine", "show", address)
    assert refused.code == 1
    assert "quarantine list" in refused.err


@pytest.mark.usefixtures("held")
def test_notes_are_summed_up(run: Run) -> None:
    with open_node() as node:
        pull = PullRow("p1", "companies", "companies", datetime.now(UTC), "done")
        node.store.pulls.save(pull)
        notes = [NoteRow("p1", "a.xls/表1", row, "group", "一、本科") for row in range(1, 4)]
        node.store.pulls.add_notes([*notes, NoteRow("p1", "a.xls/表1", 9, "title", "台账")])
    (note,) = run("quarantine", "list", "--json").json["notes"]
    assert (note["locator"], note["kinds"]) == ("a.xls/表1", {"group": 3, "title": 1})
    assert "group 3, title 1" in run("quarantine", "list", "companies").out


@pytest.mark.usefixtures("held")
def test_notes_of_a_source_are_listed(run: Run) -> None:
    with open_node() as node:
        names = ("说明", "码表")
        notes = [NoteRow("p1", "a.xls/表1", 0, "sheet", name) for name in names]
        node.store.pulls.save(PullRow("p1", "companies", "companies", datetime.now(UTC), "done"))
        node.store.pulls.add_notes([*notes, NoteRow("p1", "", 0, "passed over", "数据.zip")])
    answer = run("source", "notes", "companies", "--json").json
    assert {note["text"] for note in answer["notes"]} == {*names, "数据.zip"}
    assert answer["more"] is False
    first = run("source", "notes", "companies", "--rows", "1", "--json").json
    assert (len(first["notes"]), first["more"]) == (1, True)
    assert "码表" in run("source", "notes", "companies").out
    assert run("source", "notes", "nobody").code == 3


def test_a_corrected_file_goes_back_once(held: Path, run: Run) -> None:
    def fix(cells: dict[str, str]) -> None:
        if cells["status"] == "9":
            cells["status"] = "2"
        else:
            cells["uscc"] = uscc(7)
            cells["contact"] = "13900002222"

    path = corrected(held, run, fix)
    back = run("quarantine", "replay", "companies", "--file", path, "--json").json
    assert (back["rows"], back["held"], back["unknown"]) == (2, 0, 0)
    assert back["pull"].startswith("replay-")
    again = run("quarantine", "replay", "companies", "--file", path)
    assert again.code == 0
    assert "0 records went back" in again.out
    assert "2 records of the file are not waiting" in again.err
    assert waiting(run) == 0
    assert run("run", "--once", "--only", "seal", "--json").json["accepted"] == 2
    assert sealed(run) == 7
    states = run("quarantine", "show", "companies/0/0", "--json").json["records"]
    assert {record["state"] for record in states} == {"replayed"}
    with open_node() as node:
        (entry,) = node.store.audit.find()
        assert (entry.action, entry.subject) == ("quarantine.replay", "companies")


@pytest.mark.usefixtures("held")
def test_uncorrected_records_come_back_to_quarantine(run: Run) -> None:
    assert run("quarantine", "replay", "companies", lang="zh").out == "2 条已送回待检\n"
    assert run("run", "--once", "--only", "seal", "--json").json["quarantined"] == 2
    assert waiting(run) == 2
    assert run("quarantine", "replay", "companies", "--json").json["rows"] == 2


def test_a_part_of_the_records(held: Path, run: Run) -> None:
    path = corrected(held, run, lambda _cells: None)
    lines = path.read_text(encoding="gb18030").splitlines()
    path.write_text("\n".join(lines[:3]), encoding="gb18030")
    back = run("quarantine", "replay", "companies", "--file", path)
    assert "1 record went back" in back.out
    assert waiting(run) == 1
    left = corrected(held, run, lambda cells: cells.update(uscc=uscc(7), contact=""))
    assert [line[:5] for line in left.read_text(encoding="gb18030").splitlines()[2:]] == ["0-0-1"]
    assert run("quarantine", "replay", "companies", "--file", left, "--json").json["rows"] == 1
    assert run("run", "--once", "--only", "seal", "--json").json["accepted"] == 1
    assert waiting(run) == 1
    assert run("quarantine", "replay", "companies", "--json").json["rows"] == 1


def test_another_resources_file_is_refused(held: Path, run: Run) -> None:
    path = corrected(held, run, lambda _cells: None)
    text = path.read_text(encoding="gb18030").replace("contact", "owner")
    path.write_text(text, encoding="gb18030")
    refused = run("quarantine", "replay", "companies", "--file", path)
    assert refused.code == 1
    assert "owner" in refused.err
    text = text.replace("owner", "contact").replace("0-0-1", "一-二")
    path.write_text(text, encoding="gb18030")
    assert run("quarantine", "replay", "companies", "--file", path).code == 1
    assert waiting(run) == 2


def test_repeats_stay_unless_they_are_named(folder: Path, run: Run) -> None:
    write_companies(folder, [company(1), company(1, name="又一次"), company(2)])
    assert run("run", "--once", "--only", "pull").code == 0
    assert run("run", "--once", "--only", "seal").code == 0
    back = run("quarantine", "replay", "companies")
    assert "0 records went back" in back.out
    assert "1 repeats stay" in back.err
    path = corrected(folder, run, lambda cells: cells.update(uscc=uscc(3)))
    assert run("quarantine", "replay", "companies", "--file", path, "--json").json["rows"] == 1
    assert run("run", "--once", "--only", "seal", "--json").json["accepted"] == 1


@pytest.mark.parametrize("failpoint", ["replay:before", "replay:after"])
@pytest.mark.parametrize("with_file", [False, True])
def test_a_kill_replays_nothing_twice(held: Path, run: Run, failpoint: str, with_file: Any) -> None:
    path = corrected(held, run, lambda _cells: None)
    corrections = read_corrections(path) if with_file else None

    def strike(place: str) -> None:
        if place == failpoint:
            raise Struck

    with open_node() as node:
        node.failpoint = strike
        resource = node.context.resource("companies")
        with pytest.raises(Struck):
            replay(node.context, node.store, resource, by="test", corrections=corrections)
    assert waiting(run) == 2
    file = ("--file", path) if with_file else ()
    back = run("quarantine", "replay", "companies", *file, "--json").json
    assert back["rows"] == (2 if failpoint == "replay:before" else 0)
    assert waiting(run) == 0
    assert run("run", "--once", "--only", "seal", "--json").json["quarantined"] == 2


@pytest.mark.usefixtures("held")
def test_a_dismissed_record_stays(run: Run) -> None:
    with open_node() as node:
        topic = node.store.quarantine.find()[0].topic
        node.store.quarantine.decide(topic, 0, 0, [0], state="dismissed", by="test")
    assert run("quarantine", "replay", "companies", "--json").json["rows"] == 1
    with open_node() as node:
        kept = node.log.latest(CURSORS, "replayed/companies/0/0")
        assert kept is not None
        assert b"[1]" in kept.value


@pytest.mark.usefixtures("held")
def test_records_are_dismissed_for_a_reason(run: Run) -> None:
    by_rule = ("quarantine", "dismiss", "companies", "--rule", "table:status")
    dry = run(*by_rule, "--reason", "历史数据", "--json").json
    assert (dry["rows"], dry["applied"]) == (1, False)
    assert dry["messages"] == {"companies/0/0": 1}
    assert dry["reasons"] == {"table:status": 1}
    assert waiting(run) == 2, "a dry run changes nothing"
    result = run(*by_rule, "--reason", "历史数据", "--apply")
    assert result.code == 0
    assert "companies: 1 record" in result.out
    (message,) = run("quarantine", "list", "--json").json["messages"]
    assert (message["waiting"], message["dismissed"]) == (1, 1)
    assert "table:status" not in message["reasons"], "reasons are those of what waits"
    assert sum(message["reasons"].values()) == 2
    records = run("quarantine", "show", "companies/0/0", "--json").json["records"]
    assert [record["state"] for record in records] == ["dismissed", None]
    again = run(*by_rule, "--reason", "历史数据", "--apply", "--json")
    assert (again.code, again.json["rows"]) == (0, 0)
    assert "no waiting record matches" in again.err
    with open_node() as node:
        (entry,) = node.store.audit.find()
        assert (entry.action, entry.subject) == ("quarantine.dismiss", "companies")
        assert "历史数据" in entry.detail
        (row,) = node.store.quarantine.find()
        decision = node.store.quarantine.decisions(row.topic, 0, 0)[0]
        assert (decision.state, decision.note) == ("dismissed", "历史数据")


@pytest.mark.usefixtures("held")
def test_an_export_is_named_as_what_it_is(folder: Path, run: Run) -> None:
    assert run("quarantine", "export", "companies", "--to", "bad.pdf").code == 1
    assert not (folder / "bad.pdf").exists()


@pytest.mark.usefixtures("held")
def test_records_are_dismissed_by_address_or_pull(run: Run) -> None:
    command = ("quarantine", "dismiss", "companies", "--reason", "x", "--json")
    pull = run("quarantine", "list", "--json").json["messages"][0]["pull"]
    assert run(*command, "--pull", pull).json["rows"] == 2
    assert run(*command, "--pull", "none").json["rows"] == 0
    assert run(*command, "--address", "companies/0/0").json["rows"] == 2
    assert run(*command, "--address", "0-0-1", "--rule", "table").json["rows"] == 0
    assert run(*command, "--address", "0-0-1", "--apply").json["rows"] == 1
    assert waiting(run) == 1
    assert run(*command, "--address", "0-0-1", "--address", "0-0-0").json["rows"] == 1


@pytest.mark.usefixtures("held")
def test_a_dismissal_says_which_and_why(run: Run) -> None:
    assert run("quarantine", "dismiss", "companies", "--reason", "x").code == 1
    blank = run("quarantine", "dismiss", "companies", "--rule", "table", "--reason", " ", "--apply")
    assert blank.code == 1
    wrong = run("quarantine", "dismiss", "companies", "--address", "0/0", "--reason", "x")
    assert wrong.code == 1
    assert waiting(run) == 2


@pytest.mark.parametrize("failpoint", ["dismiss:before", "dismiss:audited", "dismiss:after"])
@pytest.mark.usefixtures("held")
def test_a_killed_dismissal_is_audited_and_can_be_repeated(run: Run, failpoint: str) -> None:
    def strike(place: str) -> None:
        if place == failpoint:
            raise Struck

    with open_node() as node:
        node.failpoint = strike
        with pytest.raises(Struck):
            dismiss(
                node.context, node.store, "companies", Selection(rule="table"), by="w", reason="x"
            )
        audited = len(node.store.audit.find())
        assert audited == (failpoint == "dismiss:after")
        dismissed = node.store.quarantine.counts()["companies"][2]
        assert (dismissed > 0) == bool(audited), "nothing is given up without its entry"
    command = ("quarantine", "dismiss", "companies", "--rule", "table", "--reason", "x", "--apply")
    assert run(*command).code == 0
    assert waiting(run) == 1


def test_what_is_broken_at_the_source_is_listed(folder: Path, run: Run) -> None:
    drops = folder / "drops"
    drops.mkdir()
    head = "uscc,name,founded,contact,status"
    rows = [f"{uscc(1)},企业一,2020-01-02,13800001111,1", f"{uscc(2)},企业,二,2020-01-02,,1"]
    (drops / "a.csv").write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    path = folder / "exchange.yaml"
    text = path.read_text(encoding="utf-8")
    start, end = text.index("    connector: sql"), text.index("table: companies}") + 17
    files = "    connector: files\n    with: {folder: drops, settle: 0}"
    path.write_text(text[:start] + files + text[end:], encoding="utf-8")
    assert run("run", "--once", "--only", "pull").code == 0
    assert run("run", "--once", "--only", "seal").code == 0
    (message,) = run("quarantine", "list", "--json").json["messages"]
    ((told, count),) = message["defects"].items()
    assert (count, "6" in told) == (1, True)
    listed = "".join(run("quarantine", "list").out.split())
    assert "".join(told[:20].split())[:8] in listed
    shown = run("quarantine", "show", message["address"]).out
    assert told in " ".join(shown.split()), "a line is folded at blanks"
