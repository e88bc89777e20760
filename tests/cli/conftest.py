"""A node as `exchange init` makes it, with small sources, and the province on loopback."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from exchange.catalog.identifiers import organisation_check, uscc_check
from exchange.cli.main import main
from exchange.cli.receiver import receiver_options
from exchange.node.node import Node
from exchange.node.scaffold import new_node
from exchange.receiver.app import create_app
from exchange.seal.pki.trust import Trust
from exchange.settings import load
from exchange.store.database import open_store
from tests.pipeline.place import Place
from tests.support.receivers import background

CATALOG = """\
version: "1"
area: {code: 232700, name: 大兴安岭地区}

departments:
  data: {code: 11232700MB1C531139, name: 大兴安岭地区营商环境建设监督局}

tables:
  company_status: {title: 企业状态, values: {1: 存续, 2: 注销, 3: 吊销}}

resources:
  companies:
    code: 307001/1
    title: 企业基本信息
    department: data
    share: 1
    cycle: daily
    sensitivity: S1
    key: [uscc]
    fields:
      - {uscc: 统一社会信用代码 uscc!, name: 企业名称 text(200)!}
      - {founded: 成立日期 date!, contact: 联系电话 mobile S3}
      - {status: 企业状态 code(company_status)!}
    rules:
      founded_past: founded <= today | 成立日期不晚于今天 | founded not after today
"""
SOURCES = """
  companies:
    resource: companies
    connector: sql
    with: {url: "sqlite:///companies.db", table: companies}
"""


def uscc(number: int) -> str:
    """Return a code with both check digits right."""
    body = f"{number:08d}"
    first = f"91232700{body}{organisation_check(body)}"
    return first + uscc_check(first)


def company(number: int, **changes: Any) -> dict[str, Any]:
    row = {
        "uscc": uscc(number),
        "name": f"企业{number}",
        "founded": "2020-01-02",
        "contact": "13800001111",
        "status": "1",
        "internal": "秘密",
    }
    return row | changes


def write_companies(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Replace the department's table."""
    columns = ("uscc", "name", "founded", "contact", "status", "internal")
    with contextlib.closing(sqlite3.connect(folder / "companies.db")) as database, database:
        database.execute("DROP TABLE IF EXISTS companies")
        database.execute(
            "CREATE TABLE companies (id INTEGER PRIMARY KEY, uscc TEXT, name TEXT, founded TEXT,"
            " contact TEXT, status TEXT, internal TEXT)"
        )
        database.executemany(
            f"INSERT INTO companies ({', '.join(columns)}) VALUES (?, ?, ?, ?, ?, ?)",
            [tuple(row[name] for name in columns) for row in rows],
        )


@dataclass
class Answer:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Answer]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command line in this process."""
    monkeypatch.setenv("EXCHANGE_LANG", "en")
    monkeypatch.delenv("EXCHANGE_CONFIG", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)  # which pytest-xdist sets

    def command(*arguments: object, lang: str = "en") -> Answer:
        monkeypatch.setenv("EXCHANGE_LANG", lang)
        capfd.readouterr()
        code = main([str(argument) for argument in arguments], os.environ)
        out, err = capfd.readouterr()
        return Answer(code, out, err)

    return command


@pytest.fixture(scope="session")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the node that the tests copy: keys, seals and two stores take their time."""
    folder = tmp_path_factory.mktemp("pattern")
    (folder / "given.yaml").write_text(CATALOG, encoding="utf-8")
    new_node(
        folder / "node",
        now=datetime.now(UTC),
        entropy=os.urandom,
        catalog=folder / "given.yaml",
        sources=SOURCES,
        port=1,
    )
    place = Place(folder / "node")
    with place.receiver(), place.node() as node:
        assert node.store  # made now, and the province's too: copies need no migration
    aim(place.folder, "http://127.0.0.1:1")
    return place.folder


@pytest.fixture
def folder(pattern: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a node with five good companies and two bad ones; the current folder is its own."""
    node = tmp_path / "node"
    shutil.copytree(pattern, node)
    good = [company(number) for number in range(1, 6)]
    bad = [company(6, status="9"), company(7, uscc="91232700X", contact="138")]
    write_companies(node, [*good, *bad])
    monkeypatch.chdir(node)
    return node


def aim(folder: Path, endpoint: str) -> None:
    """Point the node at a province."""
    path = folder / "exchange.yaml"
    lines = path.read_text(encoding="utf-8").splitlines()
    aimed = [f"  endpoint: {endpoint}" if "  endpoint:" in line else line for line in lines]
    path.write_text("\n".join(aimed) + "\n", encoding="utf-8")


def open_node() -> Node:
    """Open the node of the current folder."""
    return Node(load(Path("exchange.yaml")))


@contextlib.contextmanager
def serving(folder: Path, *, trust: Trust | None = None, **changes: Any) -> Iterator[None]:
    """Run the province of the node on loopback, and point the node at it."""
    settings = load(folder / "province" / "exchange.yaml")
    assert settings.receiver is not None
    result = dataclasses.replace(receiver_options(settings, os.environ), **changes)
    if trust is not None:
        callers = {
            rid: dataclasses.replace(caller, trust=trust) for rid, caller in result.callers.items()
        }
        result = dataclasses.replace(result, callers=callers)
    with (
        contextlib.closing(open_store(result.store, clock=lambda: datetime.now(UTC))) as store,
        Node(settings) as province,
    ):
        app = create_app(
            result,
            store=store,
            sealer=province.seals.open(settings.receiver.seal),
            clock=lambda: datetime.now(UTC),
            entropy=os.urandom,
        )
        with background(app) as endpoint:
            aim(folder, endpoint)
            yield


@pytest.fixture
def province(folder: Path) -> Iterator[Path]:
    with serving(folder):
        yield folder


@pytest.fixture
def delivered(province: Path, run: Run) -> Path:
    """Run everything once: five records sealed and receipted, two in quarantine."""
    result = run("run", "--once", "--json")
    assert result.code == 0, result.err
    assert (result.json["accepted"], result.json["quarantined"]) == (5, 2)
    return province


class Struck(BaseException):
    """A kill, as far as a test in one process can tell."""


def grades(answer: Answer) -> dict[str, str]:
    return {check["name"]: check["grade"] for check in answer.json["checks"]}
