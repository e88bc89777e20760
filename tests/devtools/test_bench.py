"""The whole bench on few rows: every part runs, every row arrives, every figure is there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from exchange.cli import bench as command
from exchange.cli.output import Output
from exchange.devtools.bench import suite
from exchange.devtools.bench.person_table import write_csv
from exchange.devtools.bench.whole_job import (
    MILLION,
    Run,
    copy_without_kernel,
    csv_feed,
    environment_for,
    run,
)
from exchange.errors import Transient
from exchange.seal.crypto.suites import SUITES
from exchange.text import Text

if TYPE_CHECKING:
    from tests.support.servers import Server

ROWS = 3_000


def sizes(measured: list[suite.Measurement], kind: str) -> list[Any]:
    return [item["rows"] for item in measured if item["kind"] == kind]


@pytest.fixture(scope="module")
def measured(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> list[suite.Measurement]:
    items: list[Text] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(suite.SERVER, postgres.url)
        plan = suite.Workload(ROWS, times=1, large=2 * ROWS, tables=3, rounds=2, entries=1_000)
        result = list(suite.measure(plan, tmp_path_factory.mktemp("bench"), items.append))
    assert items
    return result


def test_every_row_of_every_run_is_sealed_or_quarantined(
    measured: list[suite.Measurement],
) -> None:
    runs = [item for item in measured if item["kind"] == "run"]
    assert [(item["source"], item["rows"]) for item in runs] == [
        ("postgresql", ROWS),
        ("3 tables", 3 * 2_000),
        ("postgresql", 2 * ROWS),
        ("csv", ROWS),
    ]
    for item in runs:
        assert item["accepted"] + item["quarantined"] == item["rows"]
        assert item["receipts"] == item["batches"] > 0
        assert item["node_cpu"] > 0
        assert item["node_rss"] > 50 * suite.MEGABYTE
        assert item["wire"] > 40 * item["accepted"]
    same = [(entry["accepted"], entry["quarantined"]) for entry in runs if entry["rows"] == ROWS]
    assert len(set(same)) == 1
    assert sizes(measured, "floor") == sizes(measured, "row at a time") == [ROWS]


def test_the_summary_has_every_target(measured: list[suite.Measurement]) -> None:
    values = {figure.name: figure for figure in suite.figures(measured)}
    # On so few rows the start of the processes is most of the time: no verdict on these.
    few = {"postgresql.node", "postgresql.receiver", "postgresql.rate", "row_path.ratio"}
    assert {values[name].ok for name in few} == {None}
    scaled = [
        {**item, "rows": item["rows"] * 1_000} if item["kind"] == "run" else item
        for item in measured
    ]
    values = {entry.name: entry for entry in suite.figures(scaled)}
    targets = {name: item.target for name, item in values.items() if item.target is not None}
    assert targets == {
        "postgresql.node": 6.5,
        "postgresql.receiver": 6,
        "postgresql.rate": 100_000,
        "postgresql.rss": 512,
        "csv.receiver": 6,
        "csv.rss": 512,
        "3 tables": 60,
        "row_path.ratio": 7,
        "step.validate": 1.3,
        "step.encode": 2,
        "help": 300,
        "hash": 3,
        "verify": 150_000,
        "audit": 30,
        "package.bare": 4096,
    }
    assert values["hash"].value == pytest.approx(
        values["step.leaves"].value + values["step.tree"].value
    )
    assert values["hash.ratio"].value == pytest.approx(
        values["hash"].value
        / (values["step.leaves, in Python"].value + values["step.tree, in Python"].value)
    )
    assert values["package.whole"].value > values["package.bare"].value > 1_000
    assert {f"step.seal: {name}" for name in SUITES} <= values.keys()
    # A server that was given is somebody else's: its processes are not counted.
    assert "postgresql.server" not in values
    assert {f"stage.{name}" for name in ("pull", "seal", "cascade")} <= values.keys()


def test_runs_with_and_without_the_kernel_stand_side_by_side(
    measured: list[suite.Measurement],
) -> None:
    one = next(item for item in measured if item["kind"] == "run")
    other = {**one, "kind": "run in Python", "node_cpu": 2 * one["node_cpu"]}
    values = {figure.name: figure for figure in suite.figures([*measured, other])}
    assert values["postgresql.kernel.node"].value == pytest.approx(0.5)
    assert values["postgresql.kernel.receiver"].value == pytest.approx(1)
    doubled = 2 * one["node_cpu"] * MILLION / ROWS
    assert values["postgresql.in_python.node"].value == pytest.approx(doubled)


def test_the_copy_without_the_kernel_runs_and_hashes_in_python(tmp_path: Path) -> None:
    package = copy_without_kernel(tmp_path / "copy")
    result = subprocess.run(
        [sys.executable, "-m", "exchange", "version", "--lang", "en"],
        env=environment_for(package),
        check=True,
        capture_output=True,
        text=True,
    )
    assert "hashing in Python" in result.stdout


def test_a_target_is_reached_from_its_own_side() -> None:
    text = Text("", "")
    assert suite.Figure("", text, 5, "s", 6).ok
    assert suite.Figure("", text, 7, "s", 6).ok is False
    assert suite.Figure("", text, 7, "rows/s", 6, at_most=False).ok
    assert suite.Figure("", text, 7, "s").ok is None


def test_without_a_server_files_are_measured_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(suite.SERVER, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("exchange.devtools.servers.postgres.INSTALLED", tmp_path)
    command.measure_all(Output("en", as_json=True), rows=ROWS, full=False)
    out, result = capsys.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    assert "PostgreSQL is missing" in result
    assert [line["source"] for line in lines if line["kind"] == "run"] == ["csv"]
    assert lines[0]["kind"] == "machine"
    summary = lines[-1]
    assert summary["kind"] == "summary"
    assert summary["rows"] == ROWS
    assert summary["figures"]["csv.rss"]["target"] == 512


def test_a_person_sees_a_table(
    measured: list[suite.Measurement],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(suite, "measure", lambda *_: iter(measured))
    command.measure_all(Output("zh"), rows=ROWS, full=False)
    out = capsys.readouterr().out
    assert "叶 + 树（SM3）" in out
    assert "≤ 1.30" in out


def test_a_node_that_fails_is_an_error_with_what_it_said(tmp_path: Path) -> None:
    drop = tmp_path / "drop"
    drop.mkdir()
    write_csv(drop / "broken.csv", 10)
    (drop / "broken.csv").write_text("record_no\nonly this\n")
    with pytest.raises(Transient, match="run --once"):
        run(tmp_path / "node", csv_feed(drop))


def test_per_million_and_rate() -> None:
    result = Run("csv", 500_000, 0, 0, 0, 0, 5.0, 3.0, 2.0, None, 0, 0, 0)
    assert result.per_million(result.node_cpu) == 6.0
    assert result.rate == 100_000
