"""The audit by schedule: when it is due, what it keeps, what a run and status say of it. 3 s."""

from __future__ import annotations

import json
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from exchange.cli.main import main
from exchange.errors import ExchangeError, Integrity, Transient
from exchange.evidence.audit_report import verify_report
from exchange.run.audit_schedule import RETRY, ScheduledAudit, last_audit, reports
from exchange.run.outcome import Where
from exchange.run.runner import Runner
from tests.pipeline.place import EAGER, Place, records
from tests.support.nodes import make, run

START = datetime(2026, 11, 23, 1, 2, 3, tzinfo=UTC)
WRITES = """\
import json, pathlib, sys
code, text = int(sys.argv[1]), sys.argv[2]
if text:
    pathlib.Path(sys.argv[-1]).write_text(text)
sys.exit(code)
"""
DAY = timedelta(days=1)


def report(result: str, *failed: str) -> str:
    checks = [{"name": "log.file", "result": "passed"}]
    checks += [{"name": name, "result": "failed"} for name in failed]
    return json.dumps({"report": {"result": result, "checks": checks}})


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


def scheduled(folder: Path, clock: Clock, code: int, text: str, keep: int = 2) -> ScheduledAudit:
    command = [sys.executable, "-c", WRITES, str(code), text]
    return ScheduledAudit(command, folder, DAY, keep, clock)


def finish(audits: ScheduledAudit) -> ExchangeError | None:
    """Look until the audit under way has ended; return what is told then."""
    process = audits._process
    assert process is not None
    process.wait()
    try:
        audits.look()
    except ExchangeError as error:
        return error
    return None


def test_it_is_made_when_it_is_due_and_reports_stay_as_many_as_wanted(tmp_path: Path) -> None:
    clock = Clock()
    audits = scheduled(tmp_path, clock, 0, report("passed"))
    for day in range(4):
        clock.now = START + day * DAY
        audits.look()
        assert finish(audits) is None
        clock.now += timedelta(hours=23)
        audits.look()
        assert audits._process is None, "not due yet"
    assert [path.name for path in reports(tmp_path)] == [
        "audit-20261125T010203Z.json",
        "audit-20261126T010203Z.json",
    ]
    again = scheduled(tmp_path, clock, 0, report("passed"))
    again.look()
    assert again._process is None, "a restart makes none twice"
    clock.now = START - 30 * DAY
    again.look()
    assert finish(again) is None, "a clock that was set back waits for nothing"


def test_a_failed_one_is_told_until_the_next(tmp_path: Path) -> None:
    clock = Clock()
    audits = scheduled(tmp_path, clock, 6, report("failed", "store.pulls"))
    audits.look()
    error = finish(audits)
    assert isinstance(error, Integrity)
    assert "store.pulls" in error.what.en
    for one in (audits, scheduled(tmp_path, clock, 0, report("passed"))):
        with pytest.raises(Integrity, match=r"store\.pulls"):
            one.look()
        clock.now += DAY
    with pytest.raises(Integrity):
        one.look()  # it starts now
    assert finish(one) is None


def test_one_without_a_report_is_tried_again(tmp_path: Path) -> None:
    clock = Clock()
    audits = scheduled(tmp_path, clock, 4, "")
    audits.look()
    assert isinstance(finish(audits), Transient)
    with pytest.raises(Transient):
        audits.look()
    assert audits._process is None, "not at once"
    clock.now += RETRY
    with pytest.raises(Transient):
        audits.look()
    assert audits._process is not None
    audits.close()
    assert audits._process is None


def test_a_running_node_audits_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place: Place = make(tmp_path / "node", {"cases": records(40)})
    settings = place.folder / "exchange.yaml"
    settings.write_text(settings.read_text("utf-8") + "audit: {every: 1d}\n", "utf-8")
    config, folder = f"--config={settings}", place.folder / "data" / "audits"
    with place.receiver():
        with place.node() as node:
            node.take_up_catalog()
        assert run(place).errors == {}
        command = [sys.executable, "-m", "exchange", "audit", config]
        stop, told = threading.Event(), []

        def report_of(where: Where, error: ExchangeError) -> None:
            told.append((where, error))
            stop.set()

        with place.node() as node:
            audits = ScheduledAudit(command, folder, DAY, 2, node.clock)
            runner = Runner(node, policy=EAGER, audits=audits)
            runner.heartbeat = lambda _outcome: stop.set() if reports(folder) else None
            runner.forever(stop, report_of)
            trust = node.trust(place.settings.trust)
    assert told == []
    last = last_audit(folder)
    assert last is not None
    assert last.error is None
    verified = verify_report(last.path.read_bytes(), trust=trust)
    assert (verified.ok, verified.facts["result"]) == (True, "passed")
    assert main(["status", "--json", config], {}) == 0
    shown = json.loads(capsys.readouterr().out)["audit"]
    assert (shown["result"], shown["failed"]) == ("passed", [])
    failed = json.dumps({"report": {"result": "failed", "checks": [
        {"name": "store.pulls", "result": "failed"}]}})  # fmt: skip
    last.path.write_text(failed)
    assert main(["status", "--json", config], {}) == 0
    (item,) = json.loads(capsys.readouterr().out)["attention"]
    assert (item["subject"], item["do"]) == ("audit", "exchange audit")
