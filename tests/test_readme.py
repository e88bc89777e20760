"""The README's walk runs as it stands, command by command, as a new user would type it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import psycopg
import pytest

from exchange.devtools.synthetic import COUNTIES, column, company_names, days, matrix, pick, usccs
from exchange.node.scaffold import STARTER_CATALOG
from tests.support.servers import Server, free_port
from tests.support.shell import Shell

ROOT = Path(__file__).parents[1]
COMPANIES = 50
NAMED = "91350100M000100Y43"
"""The company that the README proves."""
WRONG = "91350100M000100Y44"
"""A wrong check digit."""

WALKS = {"README.md": "A node of your own", "README.zh-CN.md": "建自己的节点"}


def blocks(page: str) -> list[tuple[str, str]]:
    """Return the fenced blocks of a page's walk as (language, text)."""
    text = (ROOT / page).read_text()
    walk = text.partition(f"## {WALKS[page]}\n")[2].partition("\n## ")[0]
    return re.findall(r"^```(\w+)\n(.*?)^```", walk, re.MULTILINE | re.DOTALL)


def commands(page: str) -> list[str]:
    """Return the commands of a page's walk, without comments."""
    lines = [line for kind, text in blocks(page) if kind == "sh" for line in text.splitlines()]
    return [re.sub(r"\s+# .*", "", line) for line in lines if not line.startswith("# ")]


def test_both_languages_have_the_same_walk() -> None:
    assert commands("README.md") == commands("README.zh-CN.md")
    sources = [text for page in WALKS for kind, text in blocks(page) if text.startswith("sources:")]
    assert sources[0] == sources[1]


@pytest.fixture
def companies(postgres: Server) -> Iterator[str]:
    """Yield the address of a database with a department's table of companies; two are dirty."""
    random = np.random.default_rng(2026)
    counties = pick(random, list(COUNTIES), COMPANIES)
    codes = [*column(usccs(random, matrix(counties)))[: COMPANIES - 2], NAMED, WRONG]
    names = company_names(random, counties)
    founded = days(random, "1999-01-01", "2025-12-31", COMPANIES).astype(object)
    founded[0] = datetime.now().astimezone().date() + timedelta(days=40)
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS t_company")
        connection.execute(
            "CREATE TABLE t_company (uscc text PRIMARY KEY, name text NOT NULL, founded date,"
            " capital numeric(16, 6), status text, clerk text, updated_at timestamp NOT NULL)"
        )
        connection.cursor().executemany(
            "INSERT INTO t_company VALUES (%s, %s, %s, %s, %s, %s, %s)",
            [
                (code, name, day, n * 10, "123"[n % 3], "张三", datetime(2026, 1, 1 + n // 20))  # noqa: DTZ001
                for n, (code, name, day) in enumerate(zip(codes, names, founded, strict=True))
            ],
        )
        yield postgres.url
        connection.execute("DROP TABLE t_company")


def paste(shell: Shell, text: str) -> None:
    """Put a YAML block where the README says: in place of the empty sources, or the resources."""
    head = text.partition("\n")[0]
    name, mark = ("exchange.yaml", "sources: {}\n")
    if head == "resources:":
        name, mark = "catalog.yaml", STARTER_CATALOG[STARTER_CATALOG.index("resources:") :]
    path = shell.folder / name
    before, result, after = path.read_text().partition(mark)
    assert result, f"{name} has no {mark}"
    path.write_text(before + text + after)


def test_the_walk(tmp_path: Path, companies: str) -> None:
    port = free_port()
    shell = Shell(tmp_path)
    steps = [
        step
        for kind, text in blocks("README.md")
        for step in (text.splitlines() if kind == "sh" else [text])
        if not step.startswith("# ")
    ]
    walk(shell, steps, port, companies)

    run = shell.said["exchange run --once"]
    for what, count in (("records pulled", COMPANIES), ("quarantined", 2), ("receipts", 1)):
        assert re.search(rf"{what}\s+{count}\s", run), run
    (held,) = json.loads(shell.run("exchange quarantine list --json"))["messages"]
    assert held["rows"] == 2
    assert {reason.partition(":")[0] for reason in held["reasons"]} == {
        "check_digit",
        "founded_past",
    }
    assert held["address"] in shell.said["exchange quarantine list"]
    verified = [line for line in shell.said if line.startswith("exchange verify")]
    assert len(verified) == 4
    assert "data:image" in (shell.folder / "certificate.html").read_text("utf-8"), "the seal"
    certificate = (shell.folder / "certificate.html").read_text("utf-8")
    for text in ("福州市大数据发展管理委员会", "企业名称", "统一社会信用代码", "附件：核验明细"):
        assert text in certificate, text
    assert "data:image/svg+xml" in certificate, "the seal with the name along its ring"
    for line in verified:
        answer = json.loads(shell.run(f"{line.removesuffix(' --json')} --json"))
        assert answer["ok"] is True
        assert all(check["ok"] for check in answer["checks"])
    (proof,) = (shell.run(f"{line} --json") for line in verified if "--trust" in line)
    assert json.loads(proof)["facts"]["record"]["uscc"] == NAMED


def walk(shell: Shell, steps: list[str], port: int, companies: str) -> None:
    """Take the steps; what follows a background command runs beside it."""
    for place, step in enumerate(steps):
        line = re.sub(r"\s+# .*", "", step)
        if "\n" in step:
            paste(shell, step)
        elif line.startswith("cd "):
            shell.folder /= line.removeprefix("cd ")
        elif line.startswith("export "):
            name, _, _ = line.removeprefix("export ").partition("=")
            shell.environ[name] = companies
        elif line.endswith(" &"):
            with shell.background(line.removesuffix(" &")):
                walk(shell, steps[place + 1 :], port, companies)
                again = json.loads(shell.run("exchange run --once --json"))
                assert (again["pulled"], again["batches"], again["errors"]) == (0, 0, {})
            return
        else:
            if line.startswith("exchange init "):
                line += f" --port {port}"
            shell.run(line.replace("2026112300001", batch_number(shell)))


def batch_number(shell: Shell) -> str:
    """Return the number that the README's reader would find in the list of batches."""
    text = "exchange cascade list"
    if text not in shell.said:
        return ""
    found = json.loads(shell.run(f"{text} --json"))["deliveries"]
    assert [item["state"] for item in found] == ["receipted"]
    number: str = found[0]["batch_no"]
    assert re.fullmatch(r"\d{8}00001", number)
    assert number in shell.said[text]
    return number
