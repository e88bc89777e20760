"""The floor plan holds: who imports whom, what stands where, and what loads when."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from exchange.node.node import Node
from exchange.settings import load
from tests.pipeline.place import catalog, records, write_csv, write_table

ROOT = Path(__file__).parents[1]
HEAVY = ("polars", "pyarrow", "sqlalchemy", "requests", "fastapi", "uvicorn", "numpy")
NODE_ONLY = ("polars", "pyarrow", "sqlalchemy", "alembic", "requests", "fastapi", "uvicorn")
"""Libraries of the extras: a plain `pip install gov-exchange` has none of them."""


def python(code: str, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_no_room_imports_a_room_to_its_right() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run(
        [linter, "--no-cache"], cwd=ROOT, check=False, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stdout + result.stderr


LOADED = """
import json, os, sys
from exchange.cli.main import main
sys.stdout = sys.stderr
assert main(json.loads(sys.argv[1]), os.environ) == 0
print(json.dumps(sorted(name.partition(".")[0] for name in sys.modules)), file=sys.__stdout__)
"""


@pytest.mark.parametrize("command", [["--help"], ["catalog", "--help"], ["version"]])
def test_help_and_version_load_nothing_heavy(command: list[str]) -> None:
    loaded = set(json.loads(python(LOADED, json.dumps(command))))
    assert loaded.isdisjoint(HEAVY)


LIGHT = {
    ("status",): (*HEAVY, "alembic", "cryptography", "asyncio"),
    ("connector", "preview", "lines"): ("sqlalchemy", "alembic", "requests", "cryptography"),
    ("connector", "preview", "rows"): ("pyarrow", "numpy", "alembic", "requests", "cryptography"),
}
"""What a command that people wait for must not load, on one machine."""
SETTINGS = """\
node: {code: "232700", name: 大兴安岭地区}
catalog: catalog.yaml
sources:
  lines: {resource: cases, connector: files, with: {folder: drops, settle: 0}}
  rows: {resource: cases, connector: sql, with: {url: "sqlite:///cases.db", table: cases}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A node with a log, a store and two sources."""
    folder = tmp_path_factory.mktemp("light")
    (folder / "exchange.yaml").write_text(SETTINGS, encoding="utf-8")
    (folder / "catalog.yaml").write_text(catalog("cases"), encoding="utf-8")
    write_csv(folder / "drops" / "cases.csv", records(8))
    write_table(folder / "cases.db", records(8))
    with Node(load(folder / "exchange.yaml")) as node:
        assert node.log.topics()
        assert node.store.deliveries.counts() == {}
    return folder


# 4 s: three interpreters, and the migrations of a store.
@pytest.mark.parametrize("command", LIGHT, ids=" ".join)
def test_what_people_wait_for_loads_nothing_heavy(command: tuple[str, ...], folder: Path) -> None:
    arguments = [*command, "--config", str(folder / "exchange.yaml")]
    loaded = set(json.loads(python(LOADED, json.dumps(arguments))))
    assert loaded.isdisjoint(LIGHT[command])


BLOCKED = """
import os
import sys
from collections import Counter

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in NAMES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

NAMES = set(sys.argv[1].split())
sys.meta_path.insert(0, Absent())
from exchange.cli.main import main
sys.exit(main(sys.argv[2:], os.environ))
"""
"""Run a command on a machine that lacks some libraries."""

VECTORS = ROOT / "tests" / "vectors" / "batch"


@pytest.mark.parametrize("name", ["sm2-sm3.avro", "sm2-sm3.proof.json"])
def test_the_verifier_alone_needs_none_of_the_extras(name: str, tmp_path: Path) -> None:
    root, proof = str(VECTORS / "sm2-sm3.root.pem"), str(tmp_path / "proof.json")
    absent = " ".join(NODE_ONLY)
    verify = ("verify", str(VECTORS / name), "--trust", root, "--json")
    assert json.loads(python(BLOCKED, absent, *verify))["ok"] is True
    batch = str(VECTORS / "sm2-sm3.avro")
    python(BLOCKED, absent, "prove", batch, "--row", "2", "--to", proof)
    verify = ("verify", proof, "--trust", root, "--json")
    assert json.loads(python(BLOCKED, absent, *verify))["ok"] is True


def test_every_room_says_what_it_is() -> None:
    for path in (ROOT / "exchange").glob("*/__init__.py"):
        assert path.read_text().startswith('"""'), path


GROUND = {
    *("__init__", "__main__", "durable", "errors", "foreign", "receipt", "secrets"),
    *("sqlite_codes", "text"),
}
"""Modules that stand beside the rooms: what every room may use, and the receipt."""


def test_every_module_has_a_room() -> None:
    top = ROOT / "exchange"
    rooms = [path.parent.name for path in top.glob("*/__init__.py")]
    assert len(rooms) <= 26
    assert {path.stem for path in top.glob("*.py")} <= GROUND


def test_modules_of_one_name_stand_in_two_rooms_at_most() -> None:
    """A name in a third room says nothing any more; the command line names files by group."""
    places = Counter(
        path.name
        for path in (ROOT / "exchange").rglob("[!_]*.py")
        if path.parent.name not in {"cli", "versions"}
    )
    assert [name for name, count in places.items() if count > 2] == []
