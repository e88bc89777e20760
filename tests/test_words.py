"""One name, one meaning: no public class twice, no name that says nothing, no former word."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
FORMER: Final = {
    "corridor": "pipeline",
    "crew": "supervisor",
    "custody": "seal administration",
    "door": "stage, or failpoint",
    "house": "pipeline context",
    "invented": "synthetic",
    "keeper": "evidence writer",
    "keeping": "evidence writer",
    "lane": "partition",
    "leash": "parent pipe",
    "newnode": "scaffold",
    "survey": "status",
}
"""Words that the code had before the glossary, and what stands for each now."""
OF_A_FORMAT: Final = {"statement.py", "build.py", "entry.py"}
"""The statement and the evidence entry have a key ``lane``: their fields are named by it."""
EMPTY: Final = {"found", "told", "one", "each", "some", "done", "made", "said", "given", "those"}
"""Pronouns and participles: as a name they do not say what the value is."""
ROOMS: Final = (
    *("catalog", "cli", "connect", "devtools", "node", "run", "settings", "validate", "publish"),
    "cascade",
)
"""Rooms without a name of ``EMPTY``."""


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def product() -> list[Path]:
    return [path for top in ("exchange", "connectors") for path in (ROOT / top).rglob("*.py")]


def definitions(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and name of all that a module defines or assigns."""
    yield 1, path.stem
    for node in ast.walk(tree(path)):
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.lineno, node.name
            case ast.arg():
                yield node.lineno, node.arg
            case ast.Name(ctx=ast.Store()):
                yield node.lineno, node.id
            case ast.Attribute(ctx=ast.Store()):
                yield node.lineno, node.attr


def parts(name: str) -> set[str]:
    """Cut a name into its words, in the singular."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)
    return {word.lower().removesuffix("s") for word in words}


def test_a_public_class_name_has_one_meaning() -> None:
    """Type aliases count too where a class has their name."""
    classes: defaultdict[str, list[str]] = defaultdict(list)
    aliases: defaultdict[str, list[str]] = defaultdict(list)
    for path in product():
        place = str(path.relative_to(ROOT))
        for node in tree(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes[node.name].append(place)
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                aliases[node.targets[0].id].append(place)
    assert len(classes) > 100
    doubled = {
        name: places + aliases[name]
        for name, places in classes.items()
        if len(places + aliases[name]) > 1
    }
    assert doubled == {}


@pytest.mark.parametrize("top", ["exchange", "connectors", "tests"])
def test_no_name_has_a_word_that_the_glossary_replaced(top: str) -> None:
    names = [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for path in (ROOT / top).rglob("*.py")
        for line, name in definitions(path)
        for word in parts(name) & FORMER.keys()
        if not (word == "lane" and (path.name in OF_A_FORMAT or top == "tests"))
    ]
    assert names == []


@pytest.mark.parametrize("room", ROOMS)
def test_a_name_says_what_its_value_is(room: str) -> None:
    names = [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for path in (ROOT / "exchange" / room).rglob("*.py")
        for line, name in definitions(path)
        if name.strip("_") in EMPTY
    ]
    assert names == []
