"""The stage: brokers, workers, a province and sources, and how each of them is broken and mended.

Everything is a process of its own, ended by its id. Which broker an event means is told by what
it does at that moment: ``leader TOPIC PARTITION``, ``transactions ID``, ``group ID`` (the
coordinator), ``controller``.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from exchange.devtools.servers.kafka import Cluster, brokers
from exchange.devtools.servers.kafka_files import Ports, own
from exchange.devtools.servers.ports import taken_port
from tests.chaos.plan import FAR, GONE, PARTITIONS, WORKERS, Event, What
from tests.chaos.province import FILE as FAULT
from tests.chaos.relay import Relay, relaying
from tests.pipeline.place import (
    LISTED,
    Place,
    Record,
    catalog,
    now,
    records,
    source,
    write_csv,
    write_table,
)

ROOT = Path(__file__).resolve().parents[2]
DISK_BYTES = 160 << 20
"""A broker's disk when it is to be filled."""
FULL = 2
"""The broker that has this disk."""
_ASK_MS = 3000
_STOP_SECONDS = 60.0
_FIRST_ROWS = {"cases": 400, "firms": 60, "listed": 60}

SOURCES = (
    source(
        "sql",
        "cases",
        'url: "sqlite:///cases.db", table: cases, cursor_column: seq, batch_rows: 100',
        when="every: 1s",
    )
    + source(
        "sql",
        "firms",
        'url: "sqlite:///firms.db", table: cases, key: [id], batch_rows: 25',
        when="every: 4s",
    )
    + source('"listed.py:listed"', "listed", "file: listed.csv", when="every: 5s")
)
SETTINGS = """
log:
  driver: kafka
  kafka:
    bootstrap: [{bootstrap}]
    replication: 3
    min_insync: 2
    session_seconds: 6
    transaction_seconds: 10
    request_seconds: 10
  partitions: {{{partitions}}}
"""


# --- processes ----------------------------------------------------------------------------------


@dataclass
class Child:
    """A process that is killed, paused and started again."""

    command: Sequence[str]
    log: Path
    environ: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None
    codes: list[int] = field(default_factory=list)
    """How it ended when nobody had ended it."""

    def start(self) -> None:
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=self.log.parent,
                env={**os.environ, "PYTHONPATH": str(ROOT), **self.environ},
                start_new_session=True,
            )

    def look(self) -> None:
        """Start it again when it has ended by itself, as a service manager would."""
        if self.process is not None and (code := self.process.poll()) is not None:
            self.codes.append(code)
            self.start()

    def send(self, how: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)

    def end(self, how: signal.Signals) -> int | None:
        """End it; None when it had to be killed after all."""
        process, self.process = self.process, None
        if process is None:
            return None
        if process.poll() is None:
            process.send_signal(how)
            process.send_signal(signal.SIGCONT)
        try:
            return process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return None


# --- a small disk -------------------------------------------------------------------------------


@contextmanager
def small_disk() -> Iterator[Path | None]:
    """Mount a small file system in memory; None where this process may not."""
    libc = ctypes.CDLL(None, use_errno=True)
    with tempfile.TemporaryDirectory(prefix="exchange-chaos-disk-") as name:
        options = f"size={DISK_BYTES},mode=700".encode()
        if libc.mount(b"tmpfs", name.encode(), b"tmpfs", 0, options) != 0:
            yield None
            return
        try:
            yield Path(name)
        finally:
            libc.umount2(name.encode(), 2)  # MNT_DETACH: a broker may still hold files


# --- the stage ----------------------------------------------------------------------------------


@dataclass
class Stage:
    """What a plan is played on."""

    place: Place
    cluster: Cluster
    disk: Path | None
    lines: Sequence[Relay]
    """The far worker's ways to the brokers."""
    front: Relay
    """Everybody's way to the province."""
    province: Child
    workers: Mapping[str, Child]
    appended: dict[str, list[tuple[Record, datetime]]] = field(default_factory=dict)
    """What each source holds, with the time when it surely did."""
    counts: Counter[str] = field(default_factory=Counter)
    journal: list[str] = field(default_factory=list)
    """What was broken when."""
    undone: set[str] = field(default_factory=set)
    """Events that could not be had on this machine."""

    def add(self, resource: str, count: int) -> None:
        """Append rows to a source."""
        had = self.appended.setdefault(resource, [])
        rows = records(count, first=len(had) + 1)
        folder = self.place.folder
        if resource == "listed":
            part = folder / "listed.part"
            write_csv(part, [row for row, _ in had] + rows)
            part.rename(folder / "listed.csv")
        else:
            if not had:  # a reader that stands still must not keep the source from writing
                with closing(sqlite3.connect(folder / f"{resource}.db")) as database:
                    database.execute("PRAGMA journal_mode = WAL")
            write_table(folder / f"{resource}.db", rows)
        had += [(row, now()) for row in rows]

    def do(self, name: str, event: Event, stop: threading.Event) -> None:
        """Play an event of a track: break, wait, mend."""
        self.counts[event.what] += 1
        self.journal.append(f"{now():%H:%M:%S.%f} {name}: {event}")
        with _BREAKS[event.what](self, name, event):
            stop.wait(event.lasts)
        self.journal.append(f"{now():%H:%M:%S.%f} {name}: mended")

    def find(self, event: Event) -> int:
        """Return the broker that has a role now; any when the cluster cannot tell."""
        try:
            with closing(
                KafkaAdminClient(
                    bootstrap_servers=list(self.cluster.bootstrap),
                    request_timeout_ms=_ASK_MS,
                    bootstrap_timeout_ms=_ASK_MS,
                )
            ) as admin:
                result = _holder(admin, *event.whom.split())
        except KafkaError:
            result = -1
        if result < 0:
            self.counts["role unknown"] += 1
            return event.number
        return result

    def leave(self) -> None:
        """End whatever still runs."""
        for child in (*self.workers.values(), self.province):
            child.end(signal.SIGKILL)


# --- what breaks, for as long as a block lasts --------------------------------------------------


@contextmanager
def _rows(on: Stage, _: str, event: Event) -> Iterator[None]:
    on.add(event.whom, event.number)
    yield


@contextmanager
def _killed(on: Stage, name: str, _: Event) -> Iterator[None]:
    on.workers[name].end(signal.SIGKILL)
    yield
    on.workers[name].start()


@contextmanager
def _paused(on: Stage, name: str, _: Event) -> Iterator[None]:
    on.workers[name].send(signal.SIGSTOP)
    yield
    on.workers[name].send(signal.SIGCONT)


@contextmanager
def _cut(on: Stage, _: str, __: Event) -> Iterator[None]:
    for line in on.lines:
        line.silent.set()
    yield
    for line in on.lines:
        line.silent.clear()


@contextmanager
def _broker_killed(on: Stage, _: str, event: Event) -> Iterator[None]:
    number = on.find(event)
    numbers = [number, (number + 1) % 3] if event.what is What.KILL_TWO else [number]
    for item in numbers:
        on.cluster.kill(item)
    yield
    for item in numbers:
        on.cluster.start(item, wait=False)
    for item in numbers:
        on.cluster.start(item)


@contextmanager
def _broker_paused(on: Stage, _: str, event: Event) -> Iterator[None]:
    number = on.find(event)
    on.cluster.pause(number)
    yield
    on.cluster.resume(number)


@contextmanager
def _disk_filled(on: Stage, _: str, event: Event) -> Iterator[None]:
    """Fill a broker's disk and keep it full; a broker that gave up is started again."""
    if on.disk is None:
        on.counts[event.what] -= 1
        on.undone.add("fill a broker's disk: mounting a tmpfs is not allowed here")
        yield
        return
    ballast, over = on.disk / "ballast", threading.Event()
    filling = threading.Thread(target=_fill, args=(ballast, over))
    filling.start()
    yield
    over.set()
    filling.join()
    ballast.unlink()
    if on.cluster.pid(FULL) is None:
        on.counts["brokers that gave up"] += 1
        on.cluster.kill(FULL)
        threading.Event().wait(GONE)
        on.cluster.start(FULL)


def _fill(ballast: Path, over: threading.Event) -> None:
    with ballast.open("wb", buffering=0) as file:
        while not over.is_set():
            try:
                file.write(bytes(1 << 16))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                over.wait(0.01)


@contextmanager
def _faulty(on: Stage, _: str, event: Event) -> Iterator[None]:
    file = on.place.folder / FAULT
    file.write_text(event.whom)
    yield
    file.unlink()


@contextmanager
def _silent(on: Stage, _: str, __: Event) -> Iterator[None]:
    on.front.silent.set()
    yield
    on.front.silent.clear()


@contextmanager
def _twice(on: Stage, _: str, __: Event) -> Iterator[None]:
    on.front.twice = True
    yield
    on.front.twice = False


@contextmanager
def _province_killed(on: Stage, _: str, __: Event) -> Iterator[None]:
    on.province.end(signal.SIGKILL)
    yield
    on.province.start()


_BREAKS: Mapping[What, Callable[[Stage, str, Event], AbstractContextManager[None]]] = {
    What.APPEND: _rows,
    What.KILL_WORKER: _killed,
    What.PAUSE_WORKER: _paused,
    What.CUT_WORKER: _cut,
    What.KILL_BROKER: _broker_killed,
    What.KILL_TWO: _broker_killed,
    What.PAUSE_BROKER: _broker_paused,
    What.FILL_DISK: _disk_filled,
    What.FAULT: _faulty,
    What.SILENT: _silent,
    What.TWICE: _twice,
    What.KILL_PROVINCE: _province_killed,
}


# --- setting it ---------------------------------------------------------------------------------


def _holder(admin: KafkaAdminClient, kind: str, name: str = "", partition: str = "") -> int:
    """Ask who has a role; negative when nobody has."""
    if kind == "controller":
        (topic,) = admin.describe_metadata_quorum()["topics"]
        return int(topic["partitions"][0]["leader_id"])
    inner = {"transactions": "__transaction_state", "group": "__consumer_offsets"}.get(kind)
    (topic,) = admin.describe_topics([inner or name])
    leaders = {part["partition_index"]: part["leader_id"] for part in topic["partitions"]}
    number = java_hash(name) % max(1, len(leaders)) if inner else int(partition)
    return int(leaders.get(number, -1))  # a broker that has just come back may know of none


def java_hash(text: str) -> int:
    """Return what Java's String.hashCode gives, without its sign, as Kafka does."""
    value = 0
    for char in text:
        value = (31 * value + ord(char)) & 0xFFFFFFFF
    return value & 0x7FFFFFFF


@contextmanager
def stage(folder: Path, worker: Sequence[str] = ("exchange",)) -> Iterator[Stage]:
    """Set the stage in an empty folder; the workers are not started yet.

    ``worker``: the module that is run as the command ``exchange``, with its arguments.
    """
    with ExitStack() as stack:
        disk = stack.enter_context(small_disk())
        bound = [stack.enter_context(taken_port()) for _ in range(3)]
        lines = [Relay(port) for port in bound]
        relays = [stack.enter_context(relaying(line)) for line in lines]

        def listeners(number: int, ports: Ports) -> Mapping[str, object]:
            """Let a broker be reached in a second way, through a relay."""
            answer = own(number, ports, Path())
            names = ("CLIENT", "INTERNAL", "CONTROLLER", "FAR")
            far = "FAR://127.0.0.1:"
            return {
                "listeners": f"{answer['listeners']},{far}{bound[number]}",
                "advertised.listeners": f"{answer['advertised.listeners']},{far}{relays[number]}",
                "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in names),
            }

        folders = [folder / f"broker-{number}" for number in range(3)]
        if disk is not None:
            folders[FULL] = disk / "data"
        cluster = stack.enter_context(brokers(3, properties=listeners, folders=folders))

        place = Place.make(folder / "node", catalog(*PARTITIONS), SOURCES)
        place.whole = frozenset({"firms", "listed"})
        (place.folder / "listed.py").write_text(LISTED)
        port = stack.enter_context(taken_port())
        front = Relay(port)
        place.call(f"http://127.0.0.1:{stack.enter_context(relaying(front))}")
        path = place.folder / "exchange.yaml"
        impatient = "upstream:\n  connect_seconds: 2\n  read_seconds: 2\n  total_seconds: 4\n"
        text = path.read_text(encoding="utf-8").replace("upstream:", impatient, 1)
        far = path.with_name("far.yaml")
        ways = {path: cluster.bootstrap, far: [f"127.0.0.1:{port}" for port in relays]}
        for file, addresses in ways.items():
            section = SETTINGS.format(
                bootstrap=", ".join(addresses),
                partitions=", ".join(f"{name}: {count}" for name, count in PARTITIONS.items()),
            )
            file.write_text(text + section, encoding="utf-8")

        province = Child(
            [sys.executable, "-m", "tests.chaos.province", str(place.folder), str(port)],
            folder / "province.log",
            {},
        )
        command = [sys.executable, "-m", *worker, "run", "--wait", "60s"]
        workers = {
            name: Child(
                [*command, "--worker", name],
                folder / f"{name}.log",
                {"EXCHANGE_CONFIG": str(far if name == FAR else path)},
            )
            for name in WORKERS
        }
        result = Stage(place, cluster, disk, lines, front, province, workers)
        for resource, count in _FIRST_ROWS.items():
            result.add(resource, count)
        stack.callback(result.leave)
        with place.node() as node:  # as a parent of workers does: once, before there are several
            node.take_up_catalog()
            assert node.store
        province.start()
        yield result


def told(log: Path) -> Counter[str]:
    """Count what a worker reported, by kind of error."""
    counts: Counter[str] = Counter()
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        counts["Traceback"] += line.startswith("Traceback")
        with suppress(ValueError, TypeError, KeyError):
            counts[json.loads(line)["error"]] += 1
    return +counts  # without zeros
