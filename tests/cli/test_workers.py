"""Workers: started, started again, drained, and gone when their parent is."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from exchange.cli.run import _reach
from exchange.cli.stop import Stop
from exchange.errors import Transient
from exchange.log import Log
from exchange.node.node import Node
from exchange.run.supervisor import Backoff, Supervisor, worst
from exchange.text import Text
from tests.cli.conftest import Run
from tests.pipeline.place import Place, audit, records, settle
from tests.support.nodes import add
from tests.support.processes import alive, delivered, running, scheduled, wait_for
from tests.support.servers import free_port
from tests.support.web import ask

ROOT = Path(__file__).parents[2]
QUICK = Backoff(first=0.01, cap=0.05, quick=60)


# --- deciding -----------------------------------------------------------------------------------


def test_the_pause_grows_up_to_its_cap() -> None:
    backoff = Backoff(first=0.5, cap=30)
    assert [backoff.after(n) for n in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert backoff.after(10_000) == 30


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([], 0),
        ([0, 0], 0),
        ([0, 1], 1),
        ([1, 4], 4),
        ([4, 3, 0], 3),
        ([3, 5], 5),
        ([5, 6, 4], 6),
        ([0, -9], 4),
        ([139, 1], 4),
    ],
)
def test_the_exit_code_is_the_one_that_needs_a_person_most(codes: list[int], expected: int) -> None:
    assert worst(codes) == expected


# --- supervised small programs ------------------------------------------------------------------


@dataclass
class SupervisorRun:
    """A supervisor in a thread of its own, and what it announced."""

    programs: dict[str, str]
    drain: float = 30
    announced: list[str] = field(default_factory=list)
    code: int | None = None

    @contextmanager
    def running(self) -> Iterator[threading.Event]:
        stop = threading.Event()
        commands = {n: [sys.executable, "-c", text] for n, text in self.programs.items()}
        supervisor = Supervisor(
            commands, lambda what: self.announced.append(what.en), time.monotonic, self.drain, QUICK
        )

        def run() -> None:
            self.code = supervisor.run(stop)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield stop
        finally:
            stop.set()
            thread.join(60)
        assert not thread.is_alive()

    def count(self, pattern: str) -> int:
        return sum(re.search(pattern, line) is not None for line in list(self.announced))


UNTIL_TERM = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit({code}))
print(flush=True)
signal.pause()
"""


def test_what_dies_is_started_again_and_the_last_code_of_each_counts() -> None:
    workers = SupervisorRun({"w-0": "raise SystemExit(3)", "w-1": UNTIL_TERM.format(code=1)})
    with workers.running():
        wait_for(lambda: workers.count(r"^w-0 ended \(exit 3\)") >= 5)
    assert workers.count("^w-1 runs") == 1
    assert workers.announced[0].startswith("w-0 runs (")
    pauses = [
        float(m[1]) for line in workers.announced if (m := re.search(r"again in ([\d.]+) s", line))
    ]
    assert pauses[:5] == [0.01, 0.02, 0.04, 0.05, 0.05]
    assert workers.code == 3


def test_a_program_that_cannot_be_started_is_tried_again() -> None:
    items: list[str] = []
    stop = threading.Event()
    supervisor = Supervisor(
        {"w-0": ["/nowhere/at/all"]}, lambda w: items.append(w.en), time.monotonic, 1, QUICK
    )
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(supervisor.run(stop)))
    thread.start()
    wait_for(lambda: sum("cannot be started: No such file" in line for line in items) >= 2)
    stop.set()
    thread.join(30)
    assert codes == [Transient.exit_code]


def test_who_does_not_finish_in_time_is_killed() -> None:
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile 1: signal.pause()"
    workers = SupervisorRun({"w-0": deaf}, drain=0.2)
    with workers.running():
        wait_for(lambda: workers.count("w-0 runs"))
        pid = int(re.findall(r"\d+", workers.announced[0])[-1])
        wait_for(lambda: ignores(pid, signal.SIGTERM))
    assert workers.count(r"^w-0 did not finish in 0.2 s and is killed") == 1
    assert workers.code == Transient.exit_code
    assert not alive(pid)


def ignores(pid: int, number: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"SigIgn:\s+(\w+)", status)
    assert match is not None
    return bool(int(match[1], 16) >> (number - 1) & 1)


# --- the command --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--workers", "2"], 3, "it serves one worker"),
        (["--workers", "1", "--name", "a b"], 3, "--name a b cannot be used"),
        (["--workers", "1", "--drain", "soon"], 3, "--drain soon is no duration"),
        (["--once", "--wait", "never"], 3, "--wait never is no duration"),
        (["--workers", "0"], 64, "Invalid value for --workers: it must be 1 or more"),
        (["--workers", "2", "--once"], 64, "neither with --once nor with sources"),
        (["--workers", "2", "companies"], 64, "neither with --once nor with sources"),
        (["--only", "pull", "--only", "push"], 3, "there is no stage push"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_what_makes_no_sense_is_refused(run: Run, options: list[str], code: int, says: str) -> None:
    answer = run("run", *options)
    assert (answer.code, says in answer.err) == (code, True), answer.err


@pytest.mark.usefixtures("province")
def test_two_stages_of_three(run: Run) -> None:
    first = run("run", "--once", "--only", "seal", "--only", "pull", "--json")
    assert (first.json["accepted"], first.json["receipts"]) == (5, 0)
    assert run("run", "--once", "--only", "cascade", "--json").json["receipts"] == 1


class Late(Node):
    """A node whose log answers at the third knock."""

    knocks = 0

    @property
    def log(self) -> Log:
        self.knocks += 1
        if self.knocks < 3:
            raise Transient(Text("连不上", "nobody there"), hint=Text("等", "wait"))
        return Node.log.func(self)  # type: ignore[attr-defined, no-any-return]


class Waits(Stop):
    """Waits for nothing, and counts."""

    waits = 0

    def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002 - theirs
        self.waits += 1
        return False


def test_a_log_that_is_away_at_the_start_is_waited_for(folder: Path) -> None:
    place = Place(folder)
    items: list[str] = []
    stop = Waits()
    with Late(place.settings) as node:
        _reach(node, 60, stop, lambda _zh, en: items.append(en))
        assert (node.knocks, stop.waits) == (3, 2)
    assert items == ["waiting: nobody there"]
    with Late(place.settings) as node, pytest.raises(Transient, match="nobody there"):
        _reach(node, 1e-9, stop, lambda *_: None)
    with Late(place.settings) as node:
        stop.set()
        _reach(node, 60, stop, lambda *_: None)
        assert node.knocks == 0, "asked to stop before it began"


# --- a node with one worker ---------------------------------------------------------------------


def test_a_killed_worker_comes_back_and_sigterm_drains(tmp_path: Path) -> None:
    port = free_port()
    place = scheduled(tmp_path / "node", 300, f"\nmetrics: {{port: {port}}}\n")
    with place.receiver():
        with running(place.folder, "--workers", 1, "--name", "w") as parent:
            wait_for(lambda: delivered(place) == 300)
            wait_for(lambda: ask(port, "/readyz")[0] == 200)
            assert 'worker="w-0"' in ask(port, "/metrics")[2]
            (first,) = parent.pids()
            os.kill(first, signal.SIGKILL)
            wait_for(lambda: parent.said("w-0 ended (by SIGKILL), it starts again in 0.5 s"))
            add(place, "cases", records(100, first=301, dirty=False))
            wait_for(lambda: delivered(place) == 400)
            assert len(parent.pids()) == 2
            parent.process.send_signal(signal.SIGTERM)
            assert parent.process.wait(300) == 0
            assert not any(map(alive, parent.pids()))
            assert parent.said("w-0: stopped")
        settle(place)
    audit(place)


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    place = scheduled(tmp_path / "node", 50)
    with place.receiver():
        with running(place.folder, "--workers", 1, "--name", "w") as parent:
            wait_for(lambda: delivered(place) == 50)
            (worker,) = parent.pids()
            parent.process.kill()
            wait_for(lambda: not alive(worker))
            wait_for(lambda: parent.said("w-0: the parent is gone"))
            wait_for(lambda: parent.said("w-0: stopped"))
        settle(place)
    audit(place)
