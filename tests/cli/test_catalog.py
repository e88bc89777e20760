from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import CATALOG, Run, open_node


def edit(folder: Path, old: str, new: str) -> None:
    path = folder / "catalog.yaml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.usefixtures("folder")
def test_check_finds_the_nodes_catalog(run: Run) -> None:
    result = run("catalog", "check")
    assert (result.code, result.out) == (
        0,
        "the catalog is sound: version 1, 1 resource, 5 fields\n",
    )
    assert run("catalog", "check", "--json").json == {"ok": True, "problems": []}
    assert "目录无误" in run("catalog", "check", lang="zh").out


def test_check_names_file_and_line_of_every_problem(folder: Path, run: Run) -> None:
    bad = folder / "bad.yaml"
    bad.write_text(CATALOG.replace("uscc!", "usc!").replace("cycle", "cicle"), encoding="utf-8")
    result = run("catalog", "check", bad)
    assert result.code == 3
    assert len(result.out.splitlines()) >= 2
    assert all(line.startswith(f"{bad}:") for line in result.out.splitlines())
    assert "did you mean" in result.out
    assert "是不是" in run("catalog", "check", bad, lang="zh").out
    answer = run("catalog", "check", bad, "--json").json
    assert not answer["ok"]
    assert {problem["file"] for problem in answer["problems"]} == {str(bad)}
    assert all(problem["line"] > 0 for problem in answer["problems"])


def test_check_works_without_a_node(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    missing = run("catalog", "check")
    assert (missing.code, missing.out) == (3, "")
    assert "exchange init" in missing.err
    (tmp_path / "catalog.yaml").write_text(CATALOG, encoding="utf-8")
    assert run("catalog", "check").code == 0


def test_plan_then_apply_then_nothing(folder: Path, run: Run) -> None:
    planned = run("catalog", "plan")
    assert planned.code == 2
    assert "+ companies: resource companies added" in planned.out
    assert "新增资源" in run("catalog", "plan", lang="zh").out
    assert not run("catalog", "plan", "--json").json["breaking"]
    applied = run("catalog", "apply")
    assert applied.code == 0
    assert (folder / "schemas" / "companies-v1.avsc").is_file()
    assert (folder / "data" / "catalog.applied.json").is_file()
    assert (run("catalog", "plan").code, run("catalog", "apply").code) == (0, 0)
    with open_node() as node:
        (entry,) = node.store.audit.find()
        assert entry.action == "catalog.apply"


def test_a_breaking_change_needs_consent(folder: Path, run: Run) -> None:
    assert run("catalog", "apply").code == 0
    edit(folder, ", contact: 联系电话 mobile S3", "")
    planned = run("catalog", "plan")
    assert planned.code == 2
    assert "! BREAKING companies.contact" in planned.out
    assert "! 破坏性 companies.contact" in run("catalog", "plan", lang="zh").out
    assert run("catalog", "plan", "--json").json["needs_version"] == ["companies"]
    refused = run("catalog", "apply")
    assert refused.code == 1
    assert "--allow-breaking" in refused.err
    edit(folder, "    code: 307001/1", "    code: 307001/1\n    version: 2")
    assert run("catalog", "apply", "--allow-breaking").code == 0
    assert (folder / "schemas" / "companies-v2.avsc").is_file()


@pytest.mark.usefixtures("folder")
def test_explain(run: Run) -> None:
    result = run("catalog", "explain", "companies.uscc")
    assert result.code == 0
    assert "both check digits must hold" in result.out
    assert "两个校验位" in run("catalog", "explain", "companies.uscc", lang="zh").out
    assert run("catalog", "explain", "companies", "--json").json["subject"] == "companies"
    unknown = run("catalog", "explain", "company")
    assert unknown.code == 1
    assert "did you mean 'companies'?" in unknown.err
