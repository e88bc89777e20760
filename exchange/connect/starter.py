"""A new connector to start from: plugin, settings, data, tests; it runs and conforms as made."""

from __future__ import annotations

import keyword
import re
import sys
from importlib.metadata import entry_points
from pathlib import Path

from exchange.durable import write_file
from exchange.errors import Misconfigured
from exchange.text import Text

_IMPORTED = ("exchange", "polars", "pytest")
_NAME = re.compile("[a-z][a-z0-9_]{0,39}")

_PLUGIN = '''\
"""{name}: say here which system this connector reads."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import polars

from exchange.connect import Pulled, Text, connector, slices


@connector("{name}")
def {name}(
    *,
    path: Annotated[Path, Text("CSV 文件", "a CSV file")],
    base: Path,
) -> Iterator[Pulled]:
    """Pull every record of a CSV file, each time: late records, changes and all."""
    frame = polars.read_csv(base / path, infer_schema=False).sort("id")
    for piece in slices(frame, 10_000, 8 * 1024 * 1024):
        yield Pulled(piece, locator=str(path))


# To pull only what is new, take a parameter `cursor`, and mind late records: docs/connectors.md.
'''
_DATA = """\
id,name,updated
1,甲,2026-11-01 08:00:00
2,乙,2026-11-01 08:00:00
3,丙,2026-11-02 09:30:00
"""
_TESTS = '''\
"""The connector {name} does what every connector must do; run `pytest` in this folder."""

from pathlib import Path

import pytest

from exchange.connect import find
from exchange.connect.conformance import CHECKS, Case, Changes

HERE = Path(__file__).parent
ROWS = [("1", "甲"), ("2", "乙"), ("3", "丙")]


@pytest.fixture
def case(tmp_path):
    """Give each check its own data: it changes it."""
    data = tmp_path / "data.csv"
    data.write_bytes((HERE / "data.csv").read_bytes())
    connector = find("{name}.py:{name}", base=HERE)

    def rewrite(change):
        data.write_text(change(data.read_text("utf-8")), "utf-8")

    def late():
        rewrite(lambda text: text + "4,丁,2026-11-02 09:30:00\\n")
        return [("4", "丁")]

    def update():
        rewrite(lambda text: text.replace("1,甲,2026-11-01 08:00:00", "1,改,2026-11-03 10:00:00"))
        return [("1", "改")]

    def delete():
        rewrite(lambda text: text.replace("1,甲,2026-11-01 08:00:00\\n", ""))
        return [("1", "甲")]

    return Case(
        open=lambda: connector.open({{"path": "data.csv"}}, lambda reference: "", base=tmp_path),
        rows=ROWS,
        identity=("id", "name"),
        changes=Changes(late=late, update=update, delete=delete),
        broken={{"no file": lambda: connector.open({{"path": "none.csv"}}, lambda reference: "")}},
    )


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conforms(check, case):
    check(case)
'''
_PROJECT = """\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "exchange-{dashed}"
version = "0.1.0"
dependencies = ["gov-exchange[node]"]

[project.entry-points."exchange.connectors"]
{name} = "{name}:{name}"

[tool.setuptools]
py-modules = ["{name}"]
"""


def _reserved() -> frozenset[str]:
    """Return the names that Python, what the files import, or a connector has."""
    connectors = entry_points(group="exchange.connectors").names
    return frozenset({*keyword.kwlist, *sys.stdlib_module_names, *connectors, *_IMPORTED})


def new_connector(folder: Path, name: str) -> list[Path]:
    """Write the files of a connector into a new or empty folder; return their paths.

    Raises Misconfigured for a name that is none, or a folder that holds something.
    """
    if not _NAME.fullmatch(name) or name in _reserved():
        raise Misconfigured(
            Text(f"连接器名“{name}”无效", f"'{name}' is no name of a connector"),
            hint=Text(
                "小写字母开头，只含小写字母、数字、下划线，不与已有的连接器或模块同名",
                "a small letter, then a–z, 0–9 and _; no connector or module that there is",
            ),
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Misconfigured(
            Text(f"目录 {folder} 不是空的", f"the folder {folder} is not empty"),
            hint=Text("请用 --to 指定一个新目录", "name a new folder with --to"),
        )
    files = {
        f"{name}.py": _PLUGIN,
        "data.csv": _DATA,
        f"test_{name}.py": _TESTS,
        "pyproject.toml": _PROJECT,
    }
    paths = []
    for file, template in files.items():
        content = template
        if template is not _DATA:
            content = template.format(name=name, dashed=name.replace("_", "-"))
        write_file(folder / file, content.encode())
        paths.append(folder / file)
    return paths
