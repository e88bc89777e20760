from __future__ import annotations

import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from exchange.cli.diagnostics import Grade
from exchange.cli.doctor import SPACE_FAIL, SPACE_WARN, judge_space, judge_validity
from exchange.cli.doctor_outside import judge_clocks
from exchange.evidence.log import EvidenceLog, LogReader
from exchange.pipeline.messages import state_message
from tests.cli.conftest import Run, aim, grades, open_node

NOW = datetime(2026, 11, 23, tzinfo=UTC)


@pytest.mark.usefixtures("province")
def test_a_sound_node(run: Run) -> None:
    first = grades(run("doctor", "--json"))
    assert first.pop("catalog plan") == "warn"
    first.pop("disk")
    first.pop("file modes")  # of the machine that runs the tests
    assert set(first.values()) == {"ok"}
    assert {"python", "crypto", "settings", "seal data", "source companies", "upstream"} <= set(
        first
    )
    assert run("catalog", "apply").code == 0
    result = run("doctor")
    assert result.code == 0
    assert "✓ catalog plan  applied" in result.out
    assert "✓ 数据源 companies" in run("doctor", lang="zh").out


def test_what_others_may_read_is_named_with_the_command_that_ends_it(
    folder: Path, run: Run
) -> None:
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / "log.db").touch()
    (folder / "data" / "log.db").chmod(0o644)
    checks = {check["name"]: check for check in run("doctor", "--json").json["checks"]}
    assert checks["file modes"]["grade"] == "warn"
    command = checks["file modes"]["hint"]["en"].removeprefix("run `").removesuffix("`")
    subprocess.run(command.split(), check=True)
    assert grades(run("doctor", "--json"))["file modes"] == "ok"


def test_a_node_keeps_its_files_to_itself(tmp_path: Path) -> None:
    """As the console script starts, whatever the shell's umask is. Costs two seconds."""
    command = [sys.executable, "-m", "exchange", "init", "node"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, umask=0o022)
    modes = {path: path.stat().st_mode for path in (tmp_path / "node").rglob("*")}
    assert len(modes) > 10
    assert [path for path, mode in modes.items() if mode & 0o077] == []


def test_no_node(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("doctor")
    assert result.code == 3
    assert "✗ settings" in result.out
    assert "→" in result.out


def test_each_fault_is_found_and_the_worst_decides(province: Path, run: Run) -> None:
    aim(province, "http://127.0.0.1:1")
    away = run("doctor", "--json")
    assert away.code == 4
    assert grades(away)["upstream"] == "fail"
    (province / "companies.db").unlink()
    (province / "seals" / "data" / "seal.esl").write_bytes(b"broken")
    result = run("doctor", "--json")
    assert result.code == 6
    answer = grades(result)
    assert [answer[name] for name in ("seal data", "source companies", "upstream")] == ["fail"] * 3
    assert answer["store"] == "ok"
    assert not result.json["ok"]


def test_a_broken_catalog_is_named(folder: Path, run: Run) -> None:
    (folder / "catalog.yaml").write_text("resources: []\n", encoding="utf-8")
    result = run("doctor", "--json")
    answer = grades(result)
    assert (answer["catalog"], answer["source companies"]) == ("fail", "fail")
    assert "catalog plan" not in answer


def test_a_software_key_in_production_is_called_out(folder: Path, run: Run) -> None:
    with (folder / "exchange.yaml").open("a", encoding="utf-8") as stream:
        stream.write("production: true\n")
    result = grades(run("doctor", "--json"))
    assert (result["seal data"], result["register"]) == ("warn", "warn")
    assert run("seal", "file", "data", "--number", "备-7").code == 0
    assert grades(run("doctor", "--json"))["register"] == "ok"


def test_the_evidence_log_and_whether_anybody_outside_has_seen_it(
    delivered: Path,
    run: Run,
) -> None:
    assert "4 entries, 4 of them witnessed" in run("doctor").out
    (delivered / "data" / "evidence" / "witnessed").unlink()
    assert grades(run("doctor", "--json"))["evidence"] == "warn"


def test_the_witness_is_asked_what_it_saw_of_the_log(delivered: Path, run: Run) -> None:
    assert "it has seen 4 entries" in run("doctor").out
    evidence = delivered / "data" / "evidence"
    origin = LogReader.at(evidence).origin
    entries = [LogReader.at(evidence).entry(number) for number in range(4)]
    for kept, words in (([], "here are 0"), (entries[:1], "here are 1"), (entries[::-1], "rewr")):
        shutil.rmtree(evidence)
        if kept:
            evidence.mkdir()
            with EvidenceLog.open(evidence, origin=origin) as log:
                log.append(kept)
        done = run("doctor")
        assert done.code == 6
        assert words in done.out
        evidence.mkdir(exist_ok=True)


def test_an_authority_for_stamps_that_is_away(folder: Path, run: Run) -> None:
    with (folder / "exchange.yaml").open("a", encoding="utf-8") as stream:
        stream.write('tsa: {url: "https://127.0.0.1:1/tsa", trust: [seals/root.pem]}\n')
    assert grades(run("doctor", "--json"))["tsa"] == "fail"


def test_a_node_without_upstream_or_trust(folder: Path, run: Run) -> None:
    text = (folder / "exchange.yaml").read_text(encoding="utf-8")
    start, end = text.index("upstream:"), text.index("sources:")
    text = text[:start] + text[end:]
    (folder / "exchange.yaml").write_text(
        text.replace("trust: [seals/root.pem]\n", ""), encoding="utf-8"
    )
    result = grades(run("doctor", "--json"))
    assert (result["upstream"], result["trust"]) == ("warn", "warn")


@pytest.mark.usefixtures("folder")
def test_a_clock_that_was_moved_back(run: Run) -> None:
    with open_node() as node:
        node.clock = lambda: datetime.now(UTC) + timedelta(hours=2)
        node.context.ensure("companies")
        with node.log.transaction("test") as tx:
            tx.append(state_message("x", {}))
    assert grades(run("doctor", "--json"))["clock"] == "warn"


@pytest.mark.parametrize(
    ("begins", "ends", "grade"),
    [
        (-10, 400, Grade.OK),
        (-10, 59, Grade.WARN),
        (-10, -1, Grade.FAIL),
        (1, 400, Grade.FAIL),
    ],
)
def test_validity(begins: int, ends: int, grade: Grade) -> None:
    result = judge_validity("seal", NOW + timedelta(days=begins), NOW + timedelta(days=ends), NOW)
    assert result.grade is grade
    assert bool(result.code) is (grade is Grade.FAIL)


def test_space() -> None:
    assert judge_space(SPACE_FAIL - 1).grade is Grade.FAIL
    assert judge_space(SPACE_WARN - 1).grade is Grade.WARN
    assert judge_space(SPACE_WARN).grade is Grade.OK


@pytest.mark.parametrize("apart", [timedelta(minutes=30), timedelta(days=2)])
def test_clocks_that_disagree_are_told(apart: timedelta) -> None:
    assert judge_clocks(timedelta(seconds=-3)).grade is Grade.OK
    assert judge_clocks(timedelta(seconds=31)).grade is Grade.WARN
    for ahead, word in ((apart, "ahead"), (-apart, "behind")):
        diagnostic = judge_clocks(ahead)
        assert (diagnostic.grade, diagnostic.code) == (Grade.FAIL, 3)
        assert f"{round(apart.total_seconds())} s {word}" in diagnostic.text.en


@pytest.mark.usefixtures("province")
def test_the_provinces_clock_is_read_from_its_answer() -> None:
    with open_node() as node:
        ahead = node.upstream.clock_ahead()
        assert ahead is not None
        assert abs(ahead) < timedelta(seconds=60)
    with open_node() as node:
        node.clock = lambda: datetime.now(UTC) + timedelta(days=2)
        behind = node.upstream.clock_ahead()
    assert behind is not None
    assert abs(behind + timedelta(days=2)) < timedelta(seconds=60)
