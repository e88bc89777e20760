"""Which lists of records an answer holds: their paths, columns, and a count beside them. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from exchange.connectors.rest.document import Number
from exchange.connectors.rest.json_path import Path, walk

_MAX_LISTS = 50
_MAX_DEPTH = 6
_MAX_COLUMNS = 300
_PLAIN = re.compile(r'[^.\[\]"]+')
_COUNT = re.compile(r"total|count|sum|num|size", re.IGNORECASE)
_TOTAL = re.compile(r"total", re.IGNORECASE)
_ALL = re.compile(r"total|count", re.IGNORECASE)
_PAGE = re.compile(r"page|size", re.IGNORECASE)


def lists_of(document: Any) -> list[dict[str, Any]]:
    """Describe each list of objects: ``with`` names its path, nested values and its count."""
    entries = []
    for path, records, around in _lists(document, (), ()):
        columns, nested = _columns(records[0])
        chosen: dict[str, Any] = {"records": write_path(path)}
        if nested:
            chosen["columns"] = {name: write_path(at) for name, at in columns}
        total = _total(around, len(records))
        if total is not None:
            chosen["total"] = write_path(total)
        entries.append(
            {
                "name": write_path(path) or "answer",
                "kind": "list",
                "with": chosen,
                "rows": len(records),
                "more": True,
                "columns": [{"name": name, "type": "String"} for name, _ in columns],
            }
        )
        if len(entries) == _MAX_LISTS:
            break
    return entries


def count_beside(document: Any, records: Path, rows: int) -> tuple[str, int] | None:
    """Return path and value of a total beside a list that is higher than the list's length."""
    for depth in range(len(records) - 1, -1, -1):
        holder = walk(document, records[:depth])
        if not isinstance(holder, dict):
            continue
        for name, value in holder.items():
            if _ALL.search(name) and isinstance(value, Number) and value[:18].isdigit():
                count = int(value[:18])
                if count > rows and not _PAGE.search(name):
                    return write_path((*records[:depth], name)), count
    return None


def write_path(path: Path) -> str:
    """Write a path as the settings have it."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _PLAIN.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f'["{step}"]'
    return text


def _lists(
    value: Any, path: Path, around: tuple[tuple[Path, dict[str, Any]], ...]
) -> Iterator[tuple[Path, list[Any], tuple[tuple[Path, dict[str, Any]], ...]]]:
    """Yield lists of objects with their paths, and the objects around them, the nearest first."""
    if len(path) > _MAX_DEPTH:
        return
    if isinstance(value, list):
        if value and all(isinstance(item, dict) for item in value):
            yield path, value, around
    elif isinstance(value, dict):
        for name, inner in value.items():
            if '"' not in name:
                yield from _lists(inner, (*path, name), ((path, value), *around))


def _columns(record: dict[str, Any], path: Path = ()) -> tuple[list[tuple[str, Path]], bool]:
    """Return the columns of a record with their paths, and whether any is nested."""
    columns: list[tuple[str, Path]] = []
    nested = False
    for name, value in record.items():
        if '"' in name or isinstance(value, list):
            nested = True
        elif isinstance(value, dict):
            nested = True
            if len(path) < _MAX_DEPTH:
                columns += _columns(value, (*path, name))[0]
        else:
            columns.append(("_".join(map(str, (*path, name))), (*path, name)))
    return columns[:_MAX_COLUMNS], nested


def _total(around: tuple[tuple[Path, dict[str, Any]], ...], rows: int) -> Path | None:
    """Return the path of what looks like the number of all records: a count of at least those."""
    for path, holder in around:
        names = [
            name
            for name, value in holder.items()
            if isinstance(value, Number) and value.isdigit() and int(value[:18]) >= rows
            if _COUNT.search(name) and not _PAGE.search(name)
        ]
        best = sorted(names, key=lambda name: not _TOTAL.search(name))
        if best:
            return (*path, best[0])
    return None
