"""What commands write: data to stdout, messages to stderr, in the reader's language."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exchange.cli.layout import fold, table
from exchange.errors import ExchangeError
from exchange.text import Text

USAGE = 64
"""Exit code for a command line that cannot be read (sysexits.h EX_USAGE)."""
WIDTH = 140
"""Columns of a table where nobody knows those of the screen."""
NARROWEST = 40
_LINE_SECONDS = 10.0
_CONTROLS = {code: 0x2400 + code for code in range(0x20) if code not in {0x09, 0x0A}} | {
    0x7F: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), 0xFFFD),
}
"""Control characters and what is shown for each: names and values of a source come from outside,
and a terminal would carry them out."""


def screen_width(environ: Mapping[str, str]) -> int | None:
    """Return the columns of the screen: ``$COLUMNS``, else the terminal's; None without one."""
    columns = environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        return max(int(columns), NARROWEST)
    try:
        return max(os.get_terminal_size(sys.stdout.fileno()).columns, NARROWEST)
    except (OSError, ValueError, AttributeError):
        return None


def shown_path(path: Path) -> str:
    """Write a path as short as it can be typed here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


@dataclass(frozen=True)
class Output:
    """Where one command writes; ``as_json`` turns answers into JSON lines."""

    lang: str
    as_json: bool = False
    width: int | None = None
    """Columns of the screen; None where nobody knows: sentences are not folded then."""

    def t(self, zh: str, en: str) -> str:
        """Pick the sentence of this language."""
        return zh if self.lang == "zh" else en

    def answer(self, data: Any, human: str | None = None, *, verbatim: bool = False) -> None:
        """Write the command's answer to stdout: one JSON line, or text for a person.

        ``verbatim``: a file that is meant to be kept, whose lines are never folded.
        """
        if self.as_json:
            sys.stdout.write(json.dumps(data, ensure_ascii=False, default=str) + "\n")
        elif human is not None:
            sys.stdout.write(
                (human.translate(_CONTROLS) if verbatim else self._folded(human)) + "\n"
            )
        sys.stdout.flush()

    def table(self, title: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Write a table to stdout, narrow enough for the screen; nothing when answers are JSON."""
        if self.as_json:
            return
        texts = [["" if cell is None else str(cell) for cell in row] for row in rows]
        clean = [[cell.translate(_CONTROLS) for cell in row] for row in texts]
        wide = self.width or WIDTH
        lines = [*fold(title.translate(_CONTROLS), wide), *table(heads, clean, wide)]
        sys.stdout.write("\n".join(lines) + "\n\n")
        sys.stdout.flush()

    def page(
        self,
        name: str,
        facts: Sequence[Mapping[str, Any]],
        rows: Iterable[Sequence[object]],
        *,
        title: Text,
        heads: Sequence[Text],
        nothing: Text,
        limit: int,
    ) -> None:
        """Write the newest ``limit`` of something: as JSON under ``name``, or as a table."""
        self.answer({name: facts}, None if facts else self.text(nothing))
        if not facts:
            return
        self.table(self.text(title), [self.text(head) for head in heads], rows)
        if len(facts) == limit:
            self.inform(f"只列出 {limit} 个，可加 --limit", f"the newest {limit}; see --limit")

    def inform(self, zh: str, en: str | None = None) -> None:
        """Write a message for the person to stderr; without ``en`` it is as it is."""
        text = zh if en is None else self.t(zh, en)
        sys.stderr.write(self._folded(text) + "\n")
        sys.stderr.flush()

    def error(self, error: ExchangeError) -> None:
        """Write what happened, why, and what to do next."""
        if self.as_json:
            body = {
                "error": type(error).__name__,
                "what": error.what._asdict(),
                "hint": error.hint._asdict(),
            }
            sys.stderr.write(json.dumps(body, ensure_ascii=False) + "\n")
            return
        self.inform(self.t("错误：", "error: ") + error.what.pick(self.lang))
        self.inform(self.t("下一步：", "next: ") + error.hint.pick(self.lang))

    def text(self, text: Text) -> str:
        """Pick one sentence of a pair."""
        return text.pick(self.lang)

    def _folded(self, text: str) -> str:
        clean = text.translate(_CONTROLS)
        return clean if self.width is None else "\n".join(fold(clean, self.width))


@dataclass
class Progress:
    """Progress with rate on stderr: one moving line on a terminal, a line every 10 s otherwise."""

    output: Output
    label: str
    start: float = field(default_factory=time.monotonic)
    last_line: float = field(default_factory=time.monotonic)
    rows: int = 0

    def add(self, rows: int, note: str = "") -> None:
        """Count ``rows`` more, and show the state when it is time to."""
        self.rows += rows
        now = time.monotonic()
        tty = sys.stderr.isatty()
        if now - self.last_line < (0.2 if tty else _LINE_SECONDS):
            return
        self.last_line = now
        rate = self.rows / max(now - self.start, 1e-9)
        line = self.output.t(
            f"{self.label}：{self.rows:,} 条，{rate:,.0f} 条/秒 {note}",
            f"{self.label}: {self.rows:,} rows, {rate:,.0f} rows/s {note}",
        )
        sys.stderr.write(f"\r\x1b[2K{line}" if tty else line + "\n")
        sys.stderr.flush()

    def count(self, what: str, number: int) -> None:
        """Count what a run reports: the records that it pulls move the line."""
        self.add(number if what == "pulled" else 0)

    def end(self) -> None:
        """Clear the moving line."""
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
