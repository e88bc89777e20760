"""What of a source is not sealed is said: columns unknown to the catalog, finer instants."""

from __future__ import annotations

import json
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path

import pytest

from exchange.cli.main import main
from exchange.node.scaffold import new_node

CATALOG = """\
version: "1"
area: {code: 232700, name: 大兴安岭地区}
departments:
  data: {code: 11232700MB1C531139, name: 大兴安岭地区营商环境建设监督局}
resources:
  visits:
    code: 307001/1
    title: 来访
    department: data
    share: 1
    cycle: daily
    sensitivity: S1
    key: [id]
    fields: {id: 编号 text(10)!, at: 时间 datetime!}
"""
SOURCES = "\n  visits: {resource: visits, connector: files, with: {folder: drop, settle: 0}}"


def test_a_run_says_what_it_leaves_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog, node = tmp_path / "catalog.yaml", tmp_path / "node"
    catalog.write_text(CATALOG, encoding="utf-8")
    new_node(
        node, now=datetime.now(UTC), entropy=secrets.token_bytes, catalog=catalog, sources=SOURCES
    )
    (node / "drop").mkdir()
    (node / "drop" / "a.csv").write_text(
        "id,at,colour\n1,2026-01-02 03:04:05.123456,red\n2,2026-01-02 03:04:05,blue\n"
    )
    monkeypatch.setenv("EXCHANGE_CONFIG", str(node / "exchange.yaml"))
    monkeypatch.setenv("EXCHANGE_LANG", "en")
    for stage in ("pull", "seal"):
        assert main(["run", "--once", "--only", stage, "--json"], os.environ) == 0
    out, result = capsys.readouterr()
    answer = json.loads(out.splitlines()[-1])
    assert answer["accepted"] == 2
    assert answer["ignored"] == {"visits": ["colour"]}
    assert answer["coarsened"] == {"visits": {"at": 1}}
    assert "not sealed: colour" in result
