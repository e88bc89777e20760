"""The log of ``exchange run``: one line for each pull, one for each new error, nothing else.

On stderr a pull is a sentence, an error a JSON line; sentences both on a terminal, JSON lines both
with ``--json``. ``--log FILE`` gets every line as JSON. A source that has nothing new is told once,
until it has something again.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from exchange.cli.output import Output, Progress
from exchange.errors import ExchangeError, Misconfigured
from exchange.foreign import os_reason
from exchange.run.outcome import Where
from exchange.run.source_pulls import PullReport
from exchange.text import Text, beijing


@dataclass
class RunLog:
    """Writes what a run does, as it happens."""

    output: Output
    worker: str
    file: IO[str] | None = None
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _quiet: set[str] = field(default_factory=set)
    """Sources whose last pull brought nothing, which was told."""

    def pull(self, report: PullReport) -> None:
        """Tell of a pull; what failed is told as an error."""
        quiet = report.rows == 0
        if report.error is not None or (quiet and report.source in self._quiet):
            return
        (self._quiet.add if quiet else self._quiet.discard)(report.source)
        self._write(pull_facts(report), pull_text(report), as_text=not self.output.as_json)

    def keep_pull(self, report: PullReport) -> None:
        """Write a pull to the file alone: ``run --once`` tells the sum."""
        if self.file is not None:
            self.file.write(self._line(self.now(), pull_facts(report)) + "\n")
            self.file.flush()

    def error(self, where: Where, error: ExchangeError) -> None:
        """Tell of a new error."""
        facts = {
            "subject": str(where),
            "error": type(error).__name__,
            "what": error.what._asdict(),
            "hint": error.hint._asdict(),
        }
        text = Text(
            f"{where}：{error.what.zh}\n  → {error.hint.zh}",
            f"{where}: {error.what.en}\n  → {error.hint.en}",
        )
        self._write(facts, text, as_text=sys.stderr.isatty() and not self.output.as_json)

    def _write(self, facts: Mapping[str, Any], text: Text, *, as_text: bool) -> None:
        moment = self.now()
        line = self._line(moment, facts)
        if as_text:
            name = f"{self.worker} " if self.worker else ""
            self.output.inform(f"{beijing(moment)[5:]} {name}{self.output.text(text)}")
        else:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
        if self.file is not None:
            self.file.write(line + "\n")
            self.file.flush()

    def _line(self, moment: datetime, facts: Mapping[str, Any]) -> str:
        head = {"at": moment.isoformat(timespec="seconds"), "worker": self.worker}
        return json.dumps(head | dict(facts), ensure_ascii=False)


@dataclass
class RunProgress:
    """The moving line of ``run --once``: records by stage, then batches and receipts."""

    line: Progress
    counts: Counter[str] = field(default_factory=Counter)

    def count(self, what: str, number: int) -> None:
        """Count what a stage has done."""
        self.counts[what] += number
        names = (
            ("accepted", "封签 {} 条", "{} records sealed"),
            ("quarantined", "隔离 {} 条", "{} in quarantine"),
            ("batches", "{} 批", "{} batches"),
            ("receipts", "{} 回执", "{} receipts"),
        )
        output = self.line.output
        parts = [
            output.t(zh, en).format(f"{self.counts[name]:,}")
            for name, zh, en in names
            if self.counts[name]
        ]
        self.line.add(number if what == "pulled" else 0, output.t("，", ", ").join(parts))


@contextmanager
def open_log(path: Path | None) -> Iterator[IO[str] | None]:
    """Open the file of ``--log`` to append to; raises Misconfigured when that cannot be."""
    if path is None:
        yield None
        return
    try:
        file = path.open("a", encoding="utf-8")
    except OSError as error:
        raise Misconfigured(
            Text(
                f"不能写日志文件 {path}：{os_reason(error).zh}",
                f"cannot write the log {path}: {os_reason(error).en}",
            ),
            hint=Text("请修改 --log", "correct --log"),
        ) from error
    with file:
        yield file


def pull_facts(report: PullReport) -> dict[str, Any]:
    """Return a pull as plain values; ``rows`` counts records, ``waiting`` batches."""
    return {
        "source": report.source,
        "resource": report.resource,
        "rows": report.rows,
        "sealed": report.accepted,
        "refused": report.quarantined,
        "waiting": report.waiting,
        "seconds": round(report.seconds, 1),
        "next": None if report.next is None else report.next.isoformat(timespec="seconds"),
    }


def pull_text(report: PullReport) -> Text:
    """Say in a line what a pull did."""
    following = Text("", "")
    if report.next is not None:
        moment = beijing(report.next)[5:]
        following = Text(f"；下次 {moment}", f"; next {moment}")
    if not report.rows:
        return Text(
            f"{report.source}：没有新数据{following.zh}",
            f"{report.source}: nothing new{following.en}",
        )
    rate = report.rows / max(report.seconds, 0.001)
    waiting = Text("", "")
    if report.waiting is not None:
        waiting = Text(
            f"，待回执 {report.waiting:,} 批" if report.waiting else "，已全部回执",
            f", {report.waiting:,} batches wait for a receipt"
            if report.waiting
            else ", all receipted",
        )
    return Text(
        f"{report.source}：拉取 {report.rows:,} 条，封签 {report.accepted:,} 条，"
        f"隔离 {report.quarantined:,} 条{waiting.zh}，"
        f"用时 {report.seconds:.1f} 秒（{rate:,.0f} 条/秒）{following.zh}",
        f"{report.source}: {report.rows:,} records pulled, {report.accepted:,} sealed, "
        f"{report.quarantined:,} in quarantine{waiting.en}, "
        f"{report.seconds:.1f} s ({rate:,.0f} records/s){following.en}",
    )
