"""The demo as a user starts it: a process, a table or one JSON line, files that verify."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "exchange", "demo", *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_the_demo_ends_with_one_json_line(tmp_path: Path) -> None:
    result = run("--json", "--folder", str(tmp_path / "demo"), "--scale", "0.2")
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout.splitlines()[-1])
    assert answer["pulled"] == answer["accepted"] + answer["quarantined"]
    assert answer["receipts"] == answer["batches"] > 0
    assert answer["verified"] == 2 * answer["batches"]
    assert answer["quarantined"] > 0
    assert answer["seconds"] > 0
    evidence = sorted((tmp_path / "demo" / "evidence").iterdir())
    assert len(evidence) == answer["verified"]


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "something").touch()
    result = run("--folder", str(tmp_path))
    assert result.returncode == 3
    assert "Traceback" not in result.stderr
