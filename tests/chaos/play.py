"""One seed: set the stage, play the plan, let everything heal, drain, audit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from exchange.errors import Transient
from exchange.log import CURSORS, sealed_topic
from exchange.node.node import Node
from exchange.run.status import StatusReader
from tests.chaos.audit import Findings, audit
from tests.chaos.plan import PARTITIONS, Track, What, plan
from tests.chaos.stage import ROOT, Stage, stage, told

_BEGIN_SECONDS = 60.0
_DRAIN_SECONDS = 90.0
_LOOK_SECONDS = 0.5
_IN_ORDER = (0, -signal.SIGTERM)
"""How a worker ends that is asked to: one that had not begun yet dies of the signal itself."""
_AGAIN = 4
"""The exit code of a worker that may simply be started again."""
_ALARMS = {"Integrity", "Misconfigured", "Rejected", "Traceback"}
"""What no worker has to tell of when nothing but these troubles is there."""
_SHOWN = 8
"""Findings of a kind that are printed."""


@dataclass
class Result:
    """What a seed came to."""

    seed: int
    seconds: float = 0.0
    findings: Findings = field(default_factory=Findings)
    counts: Counter[str] = field(default_factory=Counter)
    undone: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)
    """Whatever else went wrong: a worker that did not stop in order, work that is stuck."""
    told: Counter[str] = field(default_factory=Counter)

    @property
    def ok(self) -> bool:
        return self.findings.clean and not self.wrong

    def lines(self) -> list[str]:
        findings = self.findings
        events = ", ".join(f"{name} {self.counts[name]}" for name in What if self.counts[name])
        items = [name for name in self.counts if name not in {*What}]
        events += "".join(f", {name} {self.counts[name]}" for name in items)
        head = (
            f"seed {self.seed}: {findings.rows:,} rows = {findings.sealed:,} sealed"
            f" + {findings.refused:,} quarantined, {findings.batches:,} batches,"
            f" {findings.receipts:,} receipts · "
            f"lost {len(findings.lost)}, duplicated {len(findings.duplicated)}, "
            f"unverifiable {len(findings.unverifiable)} · {self.seconds:.0f} s"
        )
        lines = [
            head,
            f"  events: {events}",
            f"  workers told of: {', '.join(f'{k} {n}' for k, n in sorted(self.told.items()))}",
        ]
        for kind in ("lost", "duplicated", "unverifiable"):
            lines += [f"  {kind}: {entry}" for entry in getattr(findings, kind)[:_SHOWN]]
        lines += [f"  wrong: {item}" for item in self.wrong]
        return lines + [f"  !!! NOT DONE: {item}" for item in sorted(self.undone)]


def play(seed: int, seconds: float, *, module: str = "exchange", keep: str | None = None) -> Result:
    """Play one seed; ``keep``: where the folder of a seed that fails is kept."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="exchange-chaos-") as name:
        folder = Path(name)
        with stage(folder, [module]) as answer:
            wrong = _play(answer, seed, seconds)
            findings = audit(answer.place, answer.cluster.bootstrap, answer.appended)
            reports = sum((told(log) for log in folder.glob("w-*.log")), Counter())
            wrong += [f"a worker told of {kind}" for kind in _ALARMS & reports.keys()]
            result = Result(
                seed,
                time.monotonic() - began,
                findings,
                answer.counts,
                answer.undone,
                wrong,
                reports,
            )
            if keep and not result.ok:
                _keep(answer, folder, Path(keep) / f"seed-{seed}")
    return result


def _keep(made: Stage, folder: Path, kept: Path) -> None:
    """Copy what the workers, the node and the brokers said and wrote, and what was broken when."""
    shutil.copytree(folder, kept, dirs_exist_ok=True)
    (kept / "events.txt").write_text("\n".join(made.journal) + "\n")
    for number in range(3):
        shutil.copyfile(made.cluster.log(number), kept / f"broker-{number}.log")


def _play(made: Stage, seed: int, seconds: float) -> list[str]:
    """Play the plan to its end, and let everything come to rest; returns what went wrong."""
    wrong: list[str] = []
    for worker in made.workers.values():
        worker.start()
    with made.place.node() as node:
        if not _until(lambda: _sealed(node), made, _BEGIN_SECONDS):
            wrong.append(f"nothing was sealed within {_BEGIN_SECONDS:.0f} s")
        stop = threading.Event()
        tracks = plan(seed, seconds)
        end = time.monotonic() + seconds
        threads = [
            threading.Thread(target=_track, args=(made, track, end, stop, wrong), daemon=True)
            for track in tracks
        ]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        finally:
            stop.set()
        # Everything is alive again. Every source is pulled to its end once more …
        end = time.monotonic() + _DRAIN_SECONDS
        rest = max(at for rows in made.appended.values() for _, at in rows)
        if not _until(
            lambda: all(_pulled(node, name, rest) for name in PARTITIONS), made, _left(end)
        ):
            wrong += [
                f"{name} is not pulled" for name in PARTITIONS if not _pulled(node, name, rest)
            ]
        # … the workers stop in order …
        for name, worker in made.workers.items():
            code = worker.end(signal.SIGTERM)
            if code not in _IN_ORDER:
                wrong.append(f"{name} did not stop in order: {code}")
            made.counts["ended by themselves"] += len(worker.codes)
            wrong += [f"{name} ended by itself: {item}" for item in worker.codes if item != _AGAIN]
        # … and what they left is sealed and delivered.
        while not (rested := _until(lambda: not _waiting(node), made, 0)) and _left(end):
            _finish(made, "seal", "cascade")
        if not rested:
            wrong += [f"stuck: {entry}" for entry in _waiting(node)]
        _finish(made, "evidence")
    made.province.end(signal.SIGTERM)
    return wrong


def _track(
    made: Stage, track: Track, until: float, stop: threading.Event, wrong: list[str]
) -> None:
    """Play a track; a worker that ends by itself meanwhile is started again.

    Events that would begin too late are left out: on a slow machine brokers take their time.
    """
    try:
        for event in track.events:
            end = time.monotonic() + event.after
            if end > until:
                return
            while (left := end - time.monotonic()) > 0 and not stop.wait(min(left, 0.2)):
                if track.name in made.workers:
                    made.workers[track.name].look()
            made.do(track.name, event, stop)
    except Exception as error:  # noqa: BLE001 - told with the result
        wrong.append(f"the harness failed on track {track.name}: {error!r}")
        stop.set()


def _until(done: Callable[[], bool], made: Stage, seconds: float) -> bool:
    """Wait for it, and look after the workers meanwhile."""
    end = time.monotonic() + seconds
    while True:
        with suppress(Transient):
            if done():
                return True
        if time.monotonic() > end:
            return False
        for worker in made.workers.values():
            worker.look()
        time.sleep(_LOOK_SECONDS)
    return True


def _left(end: float) -> float:
    return max(0.0, end - time.monotonic())


def _sealed(node: Node) -> bool:
    return any(
        node.log.bounds(topic.name, partition)[1] > 0
        for topic in node.log.topics()
        if topic.name == sealed_topic("cases")
        for partition in range(topic.partitions)
    )


def _pulled(node: Node, source: str, since: datetime) -> bool:
    """Tell whether a source was pulled to its end after a time."""
    entry = node.log.latest(CURSORS, f"pull/{source}")
    state = json.loads(entry.value) if entry is not None else {}
    return bool(state) and state["done"] and datetime.fromisoformat(state["began"]) > since


def _waiting(node: Node) -> list[str]:
    """List the partitions that wait to be sealed, delivered or shown."""
    return [
        f"{lag.group} {lag.topic}/{lag.partition}: {lag.behind} since {lag.since}"
        for item in StatusReader(node)()
        for lag in item.lags
        if lag.behind and lag.group != "evidence"
    ]


def _finish(made: Stage, *rooms: str) -> None:
    command = [sys.executable, "-m", "exchange", "run", "--once"]
    with (made.place.folder.parent / "finish.log").open("ab") as out:
        subprocess.run(
            [*command, *(word for room in rooms for word in ("--only", room))],
            cwd=made.place.folder,
            env={**os.environ, **made.workers["w-0"].environ, "PYTHONPATH": str(ROOT)},
            stdout=out,
            stderr=out,
            timeout=_DRAIN_SECONDS,
            check=False,
        )
