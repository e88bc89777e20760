"""The conformance table of docs/connectors.md: what the tests try of each connector.

Every conformance test goes through :func:`conform`, which compares its cell with what happened.
``EXCHANGE_WRITE_TABLE=1 pytest -p no:xdist tests/connect -k conforms`` writes the table anew.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Final

from exchange.connect.conformance import CHECKS, Case, NotTested

PAGE: Final = Path(__file__).parents[2] / "docs" / "connectors.md"
YES, NO = "yes", "not tested"
NAMES: Final = tuple(check.__name__ for check in CHECKS)
_HEAD: Final = "| connector, way | " + " | ".join(f"`{name}`" for name in NAMES) + " |"
_TABLE: Final = re.compile(rf"{re.escape(_HEAD)}\n\|[-| ]+\|\n((?:\|[^\n]+\|\n)+)")
WAYS: Final = (
    *(f"sql PostgreSQL {w}" for w in ("snapshot", "incremental", "overlap", "query", "universal")),
    *(f"sql SQLite {w}" for w in ("snapshot", "incremental", "overlap", "no key")),
    *(f"sql MariaDB {w}" for w in ("snapshot", "incremental", "overlap")),
    *(f"files {way}" for way in ("utf-8", "gb18030", "quoted", "xlsx")),
    "sftp",
    *(f"rest {way}" for way in ("page", "offset", "cursor", "link", "incremental")),
    "soap",
    *(f"webtable {way}" for way in ("page", "link", "incremental")),
    "kafka",
)
"""Every way of a connector that has a conformance test of its own."""


def table() -> dict[str, dict[str, str]]:
    """Read the table: way → check → cell."""
    match = _TABLE.search(PAGE.read_text("utf-8"))
    rows = match[1].splitlines() if match else []
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {way: dict(zip(NAMES, rest, strict=True)) for way, *rest in cells}


def conform(way: str, check: Callable[[Case], None], case: Case) -> None:
    """Run a check; fail where the table says something else about it."""
    assert way in WAYS
    cell = YES
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", NotTested)
            check(case)
    except NotTested as why:
        cell = NO
        warnings.warn(why, stacklevel=2)
    if os.environ.get("EXCHANGE_WRITE_TABLE"):
        _write(way, check.__name__, cell)
    assert table()[way][check.__name__] == cell, "docs/connectors.md says something else"


def _write(way: str, name: str, cell: str) -> None:
    rows = {known: dict.fromkeys(NAMES, NO) for known in WAYS} | table()
    rows[way][name] = cell
    lines = [_HEAD, "|---" * (len(NAMES) + 1) + "|"]
    lines += [f"| {known} | {' | '.join(rows[known].values())} |" for known in WAYS]
    text = "".join(line + "\n" for line in lines)
    page = PAGE.read_text("utf-8")
    PAGE.write_text(_TABLE.sub(lambda _: text, page), "utf-8")
