"""Several workers on one machine: started, started again when they die, drained together.

In: a command line per worker. Out: the worst exit code. The parent does no work of its own. Each
worker reads from a pipe that only the parent can write to (the parent pipe): when the parent is
gone, however it went, the pipe ends; the worker finishes what is under way and ends too.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from exchange.errors import (
    Denied,
    Integrity,
    Misconfigured,
    Rejected,
    Transient,
)
from exchange.foreign import os_reason
from exchange.text import Text

_LOOK_SECONDS = 0.1
_WORST = tuple(kind.exit_code for kind in (Integrity, Denied, Misconfigured, Transient, Rejected))
_DOUBLINGS = 20


@dataclass(frozen=True)
class Backoff:
    """How long a worker that died is left alone (退避), in seconds."""

    first: float = 0.5
    cap: float = 30.0
    quick: float = 10.0
    """A worker that lived longer than this starts again as if it had never died."""

    def after(self, deaths: int) -> float:
        """Return the wait after so many quick deaths in a row."""
        return min(self.cap, self.first * 2.0 ** min(deaths - 1, _DOUBLINGS))


def worst(codes: Sequence[int]) -> int:
    """Choose the exit code that needs a person most; who was killed may simply go on later."""
    recognised = {code if code in (0, *_WORST) else Transient.exit_code for code in codes}
    return next((code for code in _WORST if code in recognised), 0)


def watch_parent(descriptor: int, on_end: Callable[[], None]) -> None:
    """Call ``on_end`` from a thread when the parent at the other end of the pipe is gone."""

    def wait() -> None:
        while os.read(descriptor, 1):
            pass
        on_end()

    threading.Thread(target=wait, name="parent pipe", daemon=True).start()


@dataclass
class _Worker:
    name: str
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    began: float = 0.0
    due: float = 0.0
    deaths: int = 0
    code: int = 0
    """How it ended last."""


@dataclass
class Supervisor:
    """The workers of one parent, by name; ``announce`` hears of every start and end."""

    commands: Mapping[str, Sequence[str]]
    announce: Callable[[Text], None]
    monotonic: Callable[[], float]
    drain: float
    """Seconds that workers have to finish what is under way; then they are killed."""
    backoff: Backoff = field(default_factory=Backoff)

    def run(self, stop: threading.Event) -> int:
        """Keep every worker running until ``stop`` is set, then drain; return the exit code."""
        workers = [_Worker(name, command) for name, command in self.commands.items()]
        parent_pipe, write_end = os.pipe()
        try:
            while not stop.is_set():
                for worker in workers:
                    self._check(worker, parent_pipe)
                stop.wait(_LOOK_SECONDS)
            return self._drain(workers)
        finally:
            os.close(write_end)
            os.close(parent_pipe)

    def _check(self, worker: _Worker, parent_pipe: int) -> None:
        """Start a worker whose time has come; notice that one died."""
        now = self.monotonic()
        if worker.process is None:
            if now >= worker.due:
                self._start(worker, parent_pipe, now)
        elif (code := worker.process.poll()) is not None:
            worker.process = None
            self._note_end(worker, code, now)

    def _start(self, worker: _Worker, parent_pipe: int, now: float) -> None:
        command = [*worker.command, "--parent-pipe", str(parent_pipe)]
        worker.began = now
        try:
            # A group of its own: what a terminal sends comes to the parent alone.
            worker.process = subprocess.Popen(  # noqa: S603 - our own command line
                command, stdin=subprocess.DEVNULL, pass_fds=(parent_pipe,), process_group=0
            )
        except OSError as error:
            why = os_reason(error)
            self.announce(
                Text(
                    f"{worker.name} 不能启动：{why.zh}",
                    f"{worker.name} cannot be started: {why.en}",
                )
            )
            self._note_end(worker, Transient.exit_code, now)
            return
        number = worker.process.pid
        self.announce(Text(f"{worker.name} 已启动（{number}）", f"{worker.name} runs ({number})"))

    def _note_end(self, worker: _Worker, code: int, now: float) -> None:
        worker.code = code
        worker.deaths = worker.deaths + 1 if now - worker.began < self.backoff.quick else 1
        wait = self.backoff.after(worker.deaths)
        worker.due = now + wait
        how = _how(code)
        self.announce(
            Text(
                f"{worker.name} 已结束（{how.zh}），{wait:g} 秒后重新启动",
                f"{worker.name} ended ({how.en}), it starts again in {wait:g} s",
            )
        )

    def _drain(self, workers: Sequence[_Worker]) -> int:
        """Let every worker finish; kill those that do not in time."""
        for worker in workers:
            if worker.process is not None:
                worker.process.send_signal(signal.SIGTERM)
        end = self.monotonic() + self.drain
        for worker in workers:
            if worker.process is None:
                continue
            try:
                code = worker.process.wait(max(0.0, end - self.monotonic()))
            except subprocess.TimeoutExpired:
                self.announce(
                    Text(
                        f"{worker.name} 在 {self.drain:g} 秒内没有完成，强制结束；未丢失任何数据",
                        f"{worker.name} did not finish in {self.drain:g} s and is killed; "
                        "nothing is lost",
                    )
                )
                worker.process.kill()
                code = worker.process.wait()
            # Whom SIGTERM itself ended had not begun: it would have finished and ended with 0.
            worker.code = 0 if code == -signal.SIGTERM else code
        return worst([worker.code for worker in workers])


def _how(code: int) -> Text:
    if code >= 0:
        return Text(f"退出码 {code}", f"exit {code}")
    name = signal.Signals(-code).name
    return Text(f"信号 {name}", f"by {name}")
