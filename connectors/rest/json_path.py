"""Paths into a JSON document: names, dots and ``[n]``; nothing is evaluated."""

from __future__ import annotations

import re
from typing import Any, Final

from exchange.connect import Misconfigured, Text

_STEP = re.compile(r'\.?([^.\[\]"]+)|\[(\d{1,9})\]|\["([^"]*)"\]')

MISSING: Final = object()
"""What a path leads to when it leads nowhere."""

Path = tuple[str | int, ...]


def parse_path(text: str) -> Path:
    """Read a path such as ``data.list``, ``rows[0]`` or ``["a.b"]``; empty: the whole.

    Raises Misconfigured.
    """
    steps: list[str | int] = []
    at = 0
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None or (at == 0 and text.startswith(".")):
            raise Misconfigured(
                Text(f"路径 {text!r} 无法识别", f"{text!r} is no path"),
                hint=Text(
                    '写成 data.list、rows[0] 或 ["a.b"]',
                    'write it as data.list, rows[0] or ["a.b"]',
                ),
            )
        name, number, quoted = match.groups()
        steps.append(int(number) if number is not None else name if name is not None else quoted)
        at = match.end()
    return tuple(steps)


def walk(document: Any, path: Path) -> Any:
    """Return what a path leads to: MISSING where it leads nowhere, None behind a null."""
    for step in path:
        if document is None:
            return None
        if isinstance(step, int):
            if not isinstance(document, list) or step >= len(document):
                return MISSING
            document = document[step]
        elif isinstance(document, dict) and step in document:
            document = document[step]
        else:
            return MISSING
    return document
