"""Pages of the documentation, taken apart."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


DOCS = ROOT / "docs"


def section(page: str, heading: str) -> str:
    """Return what stands under a heading of the second level."""
    match = re.search(
        rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL
    )
    assert match is not None, heading
    return match[1]


def rows(text: str) -> list[list[str]]:
    """Return the cells of every table row but the heads."""
    lines = re.findall(r"^\|(.*)\|$", text, re.MULTILINE)
    tables = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)] for line in lines]
    heads = [n for n, cells in enumerate(tables) if set("".join(cells)) <= set("-:")]
    return [cells for n, cells in enumerate(tables) if n not in heads and n + 1 not in heads]


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]*)`", cell)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
