"""The audit by schedule (定期审计): a process of its own beside the run, its reports, the last one.

The process is the command ``exchange audit``: it changes nothing, it takes its memory and its
processor time elsewhere, and a run that stops ends it. Reports are sealed, and kept as
``audit-TIME.json``; the newest tells when the next one is due, so that a restart makes none twice.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from exchange.errors import ExchangeError, Integrity, Transient
from exchange.text import Text

RETRY: Final = timedelta(minutes=10)
"""After how long an audit that could not be made is tried again."""
_NAME: Final = "audit-%Y%m%dT%H%M%SZ.json"
_MAX_BYTES: Final = 1024 * 1024
_END_SECONDS: Final = 10


@dataclass(frozen=True, slots=True)
class LastAudit:
    """What the newest report says; whoever doubts its seal verifies the file."""

    at: datetime
    result: str
    failed: tuple[str, ...]
    """Names of the checks that failed."""
    path: Path

    def as_dict(self) -> dict[str, object]:
        """Return it for JSON."""
        at = self.at.isoformat(timespec="seconds")
        failed = list(self.failed)
        return {"at": at, "result": self.result, "failed": failed, "report": str(self.path)}

    @property
    def error(self) -> Integrity | None:
        """What a person has to know: that it failed."""
        if self.result == "passed":
            return None
        names = ", ".join(self.failed)[:300]
        return Integrity(
            Text(f"审计未通过：{names}", f"the audit failed: {names}"),
            hint=Text(
                f"运行 exchange audit 查看；报告 {self.path}",
                f"see `exchange audit`; the report is {self.path}",
            ),
        )


def last_audit(folder: Path) -> LastAudit | None:
    """Read the newest report that can be read; None where there is none."""
    for path in reversed(reports(folder)):
        try:
            at = datetime.strptime(path.name, _NAME).replace(tzinfo=UTC)
            with path.open("rb") as stream:
                report: Any = json.loads(stream.read(_MAX_BYTES))["report"]
            lines = [(str(line["name"]), line["result"] == "failed") for line in report["checks"]]
            failed = tuple(name for name, wrong in lines if wrong)
            return LastAudit(at, str(report["result"]), failed, path)
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def reports(folder: Path) -> list[Path]:
    """List the reports, the oldest first."""
    return sorted(folder.glob("audit-*Z.json"))


@dataclass
class ScheduledAudit:
    """Makes audits when they are due; of the main thread alone."""

    command: Sequence[str]
    """``exchange audit`` with its settings; ``--to FILE`` is added."""
    folder: Path
    every: timedelta
    keep: int
    """How many reports stay."""
    clock: Callable[[], datetime]
    _process: subprocess.Popen[bytes] | None = None
    _again: datetime | None = None
    """Not before this time: the last one could not be made."""
    _last: LastAudit | None = None
    _path: Path | None = None
    """Report that is being made."""
    _error: ExchangeError | None = None
    _known: bool = False

    def look(self) -> None:
        """Start an audit that is due; take one in that has ended. Never waits.

        Raises what the last audit found, or why there is none, until the next one.
        """
        if not self._known:
            self._known = True
            self._take()
        if self._process is None:
            if self._is_due():
                self._start()
        elif (code := self._process.poll()) is not None:
            self._process = None
            self._end(code)
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """End an audit that is under way: it has changed nothing."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _is_due(self) -> bool:
        """Tell whether it is time; a time further off than we ever wait is a clock set back."""
        now = self.clock()
        if self._again is not None and now < self._again <= now + RETRY:
            return False
        last = self._last
        return last is None or not now < last.at + self.every <= now + self.every

    def _take(self) -> None:
        self._last = last_audit(self.folder)
        self._error = None if self._last is None else self._last.error

    def _start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._path = self.folder / self.clock().astimezone(UTC).strftime(_NAME)
        command = [*self.command, "--to", str(self._path)]
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _end(self, code: int) -> None:
        if code in {0, Integrity.exit_code} and self._path is not None and self._path.is_file():
            self._again = None
            self._take()
            for path in reports(self.folder)[: -self.keep]:
                path.unlink(missing_ok=True)
            return
        self._again = self.clock() + RETRY
        self._error = Transient(
            Text(f"定期审计未能完成（退出码 {code}）", f"the audit made no report ({code})"),
            hint=Text("运行 exchange audit 查看原因", "`exchange audit` says why"),
        )
