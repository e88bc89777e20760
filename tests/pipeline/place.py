"""A whole node to break: small sources with known rows, a province, runs in processes of their own.

Runs are forked from a server that has imported everything, so that a process costs
milliseconds; each opens the folder anew, as after a crash.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import multiprocessing
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import fastavro
import polars as pl

from exchange.cascade.delivery import Policy, State
from exchange.cli.receiver import receiver_options
from exchange.durable import remove_parts
from exchange.errors import ExchangeError
from exchange.evidence.audit import audit as audit_evidence
from exchange.evidence.entry import EvidenceEntry
from exchange.evidence.log import LogReader
from exchange.log import RECEIPTS, SEALS, Entry, Log, quarantine_topic, raw_topic, sealed_topic
from exchange.log.frames import decode_frame
from exchange.node.node import Node
from exchange.node.scaffold import new_node
from exchange.receipt import SentBatch
from exchange.receipt import check as check_receipt
from exchange.receiver.app import create_app
from exchange.receiver.serve import serve
from exchange.run.runner import STAGES, Runner
from exchange.seal.batch.build import open_batch
from exchange.seal.batch.verify import verify_batch
from exchange.seal.eseal.signature import Sealer
from exchange.seal.pki.trust import Trust
from exchange.settings import Settings, load
from exchange.store.database import open_store
from tests.support.receivers import background

EAGER = Policy(
    base=timedelta(milliseconds=20),
    cap=timedelta(milliseconds=100),
    retry_after_cap=timedelta(milliseconds=100),
)
"""Waits so short that a test can sit them out."""

_CATALOG = """\
version: "1"
area: {code: 232700, name: 大兴安岭地区}
departments:
  data: {code: 11232700MB1C531139, name: 大兴安岭地区营商环境建设监督局}
resources:
"""
_RESOURCE = """\
  {name}:
    code: 3070{number:02}/1
    title: 测试资源{number}
    department: data
    share: 1
    cycle: daily
    sensitivity: S1
    key: [no]{limits}
    fields:
      - {{id: 标识 text(20)!, no: 编号 text(32)!, name: 名称 text({width})!, issued: 日期 date!}}
"""
LISTED = '''\
"""A connector as a department's own programmer writes it: no cursor."""
from pathlib import Path
import fastavro
import polars as pl
from exchange.connect import connector

@connector("listed")
def listed(*, file: str, base: Path):
    yield from pl.read_csv(base / file, infer_schema=False).iter_slices(100)
'''


@dataclass(frozen=True)
class Record:
    """One row of a source. ``id`` is its own; ``no`` is the key that must not repeat."""

    id: str
    no: str
    name: str
    issued: str


def records(count: int, *, first: int = 1, dirty: bool = True) -> list[Record]:
    """Make rows; every 40th has no valid date, every 97th repeats the key of the 50th before."""
    items = []
    for number in range(first, first + count):
        bad = dirty and number % 40 == 7
        twin = dirty and number % 97 == 60
        items.append(
            Record(
                id=f"r{number}",
                no=f"n{number - 50 if twin else number}",
                name=f"名称{number}",
                issued="2026-13-01" if bad else f"2026-0{number % 9 + 1}-11",
            )
        )
    return items


def catalog(*names: str, limits: Mapping[str, str] = {}, width: int = 50) -> str:
    """Write a catalog with these resources, all alike."""
    return _CATALOG + "".join(
        _RESOURCE.format(
            name=name,
            number=number,
            width=width,
            limits=f"\n    limits: {limits[name]}" if name in limits else "",
        )
        for number, name in enumerate(names, start=1)
    )


def write_table(path: Path, rows: Sequence[Record], *, table: str = "cases") -> None:
    """Write rows into a SQLite table, behind those that are there; ``seq`` grows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute(
            f"CREATE TABLE IF NOT EXISTS {table}"
            " (seq INTEGER PRIMARY KEY, id TEXT, no TEXT, name TEXT, issued TEXT)"
        )
        database.executemany(
            f"INSERT INTO {table} (id, no, name, issued) VALUES (:id, :no, :name, :issued)",
            [asdict(row) for row in rows],
        )


def write_csv(path: Path, rows: Sequence[Record]) -> None:
    """Write rows as a UTF-8 file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame([asdict(row) for row in rows]).write_csv(path)


def source(connector: str, resource: str, options: str, *, name: str = "", when: str = "") -> str:
    """Write one source of the settings."""
    schedule = f", {when}" if when else ""
    return (
        f"\n  {name or resource}: {{resource: {resource}, connector: {connector}{schedule}, "
        f"with: {{{options}}}}}"
    )


@dataclass
class Place:
    """The folder of a node and of its province."""

    folder: Path
    sources: dict[str, list[Record]] = field(default_factory=dict)
    """What each resource's source holds."""
    whole: frozenset[str] = frozenset()
    """Resources whose source is delivered whole with every pull."""

    @classmethod
    def make(cls, folder: Path, catalog_text: str, sources: str) -> Place:
        """Make a node with a catalog as :func:`catalog` writes it; nobody serves its province."""
        shutil.copytree(_pattern(), folder)
        (folder / "catalog.yaml").write_text(catalog_text, encoding="utf-8")
        path = folder / "exchange.yaml"
        head, mark, rest = path.read_text(encoding="utf-8").partition("sources: {}\n")
        assert (mark, rest) == ("sources: {}\n", "")
        path.write_text(f"{head}sources:{sources}\n", encoding="utf-8")
        return cls(folder)

    @property
    def settings(self) -> Settings:
        return load(self.folder / "exchange.yaml")

    @property
    def province(self) -> Settings:
        return load(self.folder / "province" / "exchange.yaml")

    def call(self, endpoint: str) -> None:
        """Point the node at a province."""
        path = self.folder / "exchange.yaml"
        lines = path.read_text(encoding="utf-8").splitlines()
        changed = [
            f"  endpoint: {endpoint}" if line.startswith("  endpoint:") else line for line in lines
        ]
        path.write_text("\n".join(changed) + "\n", encoding="utf-8")

    def node(self, **options: Any) -> Node:
        return Node(self.settings, **options)

    @contextlib.contextmanager
    def receiver(
        self,
        wrap: Callable[[Any, Sealer], Any] = lambda app, _sealer: app,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> Iterator[str]:
        """Serve the province from a thread; the node is pointed at it."""
        settings = receiver_options(self.province, os.environ, port=0)
        assert self.province.receiver is not None
        sealer = Node(self.province).seals.open(self.province.receiver.seal)
        with contextlib.closing(open_store(settings.store, clock=clock, migrate=True)) as store:
            app = create_app(settings, store=store, sealer=sealer, clock=clock, entropy=os.urandom)
            with background(wrap(app, sealer)) as endpoint:
                self.call(endpoint)
                yield endpoint


@functools.cache
def _pattern() -> Path:
    """Make the node that others are copies of: keys, seals and two stores take their time."""
    # Kept by the finalizer of its own, until this process ends.
    home = tempfile.TemporaryDirectory(prefix="exchange-node-")
    weakref.finalize(_pattern, home.cleanup)
    folder = Path(home.name) / "node"
    written = folder.with_name("catalog.yaml")
    written.write_text(catalog("cases"), encoding="utf-8")
    new_node(
        folder,
        now=datetime.now(UTC) - timedelta(hours=1),
        entropy=os.urandom,
        catalog=written,
        sources=" {}",
    )
    place = Place(folder)
    with place.receiver(), place.node() as node:
        assert node.store  # made now, and the province's too: copies need no migration
    place.call("http://127.0.0.1:1")
    return folder


def now() -> datetime:
    return datetime.now(UTC)


# --- processes ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Failpoints:
    """The names that a process passed, in order."""

    names: list[str]

    def strikes(self, each: int) -> list[tuple[str, int]]:
        """Choose where to kill: ``each`` of the first, the middle and the last time at a failpoint.

        One failpoint begins with the first time, the next with the middle, the next with the last.
        """
        return [
            (name, number)
            for turn, (name, count) in enumerate(Counter(self.names).items())
            for number in sorted(
                {(1, (count + 1) // 2, count)[(turn + step) % 3] for step in range(each)}
            )
        ]


class Striker:
    """Counts the failpoints passed; kills its own process at one of them."""

    def __init__(self, stage: str = "", number: int = 0) -> None:
        self.names: list[str] = []
        self._stage = stage
        self._number = number
        self._lock = threading.Lock()

    def __call__(self, name: str) -> None:
        with self._lock:
            self.names.append(name)
            if name == self._stage and self.names.count(name) == self._number:
                os.kill(os.getpid(), signal.SIGKILL)


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            __name__,
            "exchange.connectors.sql",
            "exchange.connectors.files",
            "exchange.connectors.sql.universal",
            "exchange.log.embedded.log",
            "alembic.command",
            "exchange.http.transport",
        ]
    )
    return context


def start(target: Callable[..., None], *arguments: Any) -> ForkServerProcess:
    """Start a function of a test module in a process of its own."""
    process = _context().Process(target=target, args=arguments)
    process.start()
    return process


def finish(process: ForkServerProcess, seconds: float = 300) -> int:
    """Wait for it; return its exit code, negative for a signal."""
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise AssertionError("a process did not end in time")
    return process.exitcode


def run_once(
    folder: Path,
    stage: str = "",
    number: int = 0,
    stages: Sequence[str] = STAGES,
    names: Sequence[str] | None = None,
) -> None:
    """Run the node once, to be killed at a failpoint; exits as the command does."""
    strike = Striker(stage, number)
    try:
        with Place(folder).node(failpoint=strike) as node:
            outcome = Runner(node, policy=EAGER, stages=stages).once(names)
    except ExchangeError as error:
        (folder / "outcome.json").write_text(json.dumps({"error": str(error)}))
        sys.exit(error.exit_code)
    told = vars(outcome) | {
        "errors": {str(where): str(error) for where, error in outcome.errors.items()},
        "halted": sorted(map(str, outcome.halted)),
    }
    (folder / "outcome.json").write_text(json.dumps(told))
    (folder / "failpoints.json").write_text(json.dumps(strike.names))
    worst = outcome.error()
    sys.exit(worst.exit_code if worst is not None else 0)


def run_province(folder: Path, port: int, stage: str = "", number: int = 0) -> None:
    """Serve the province until SIGTERM, or until it is killed at a failpoint."""
    strike = Striker(stage, number)
    place = Place(folder)
    settings = receiver_options(place.province, os.environ, port=port)
    assert place.province.receiver is not None
    sealer = Node(place.province).seals.open(place.province.receiver.seal)
    with contextlib.closing(open_store(settings.store, clock=now, migrate=True)) as store:
        remove_parts(settings.folder)
        app = create_app(
            settings, store=store, sealer=sealer, clock=now, entropy=os.urandom, failpoint=strike
        )
        serve(app, host="127.0.0.1", port=port, announce=lambda _: None)
    (folder / "province-failpoints.json").write_text(json.dumps(strike.names))


def settle(place: Place, runs: int = 5) -> int:
    """Run until nothing waits; return how many runs that took."""
    for count in range(1, runs + 1):
        code = finish(start(run_once, place.folder))
        if code == 0 and json.loads((place.folder / "outcome.json").read_text())["waiting"] == 0:
            return count
    text = (place.folder / "outcome.json").read_text()
    raise AssertionError(f"not settled after {runs} runs: {text}")


# --- what must hold afterwards ------------------------------------------------------------------


@dataclass
class Counts:
    """What was found, over all resources."""

    rows: int = 0
    sealed: int = 0
    refused: int = 0
    batches: int = 0
    receipts: int = 0


def partitions(log: Log, topic: str) -> range:
    """Return the partitions of a topic."""
    (result,) = [item for item in log.topics() if item.name == topic]
    return range(result.partitions)


def entries(log: Log, topic: str) -> Iterator[Entry]:
    """Read a whole topic, partition by partition."""
    for partition in partitions(log, topic):
        offset = log.bounds(topic, partition)[0]
        while page := log.read(topic, partition, offset, max_entries=100):
            yield from page
            offset = page[-1].offset + 1


def ids(value: bytes) -> list[str]:
    """Read the ids of a sealed batch."""
    return [row["id"] for row in fastavro.reader(io.BytesIO(value))]  # type: ignore[index, call-overload]


def audit(place: Place, *, pulls: bool = True, wrong: int = 0, witnessed: bool = True) -> Counts:
    """Compare source, log, store and province; nothing lost, nothing twice.

    ``wrong``: how many receipts were kept as evidence; ``pulls``: whether the store knows them;
    ``witnessed``: whether the province has signed all of the evidence log along.
    """
    counts = Counts()
    with place.node() as node:
        receipts: dict[str, bytes] = {}
        for entry in entries(node.log, RECEIPTS):
            wrong -= entry.headers["kind"] == "wrong"
            if entry.headers["kind"] in {"wrong", "refusal"}:
                continue
            assert entry.key not in receipts, f"two receipts of {entry.key}"
            receipts[entry.key] = entry.value
        trust = node.trust(place.settings.trust)
        upstream = node.trust(place.settings.upstream.trust)  # type: ignore[union-attr]
        names: set[str] = set()
        for resource, rows in place.sources.items():
            result = _resource(node, resource, trust)
            if pulls:
                _pulls(node, result)
            _rows(resource, rows, result, whole=resource in place.whole)
            for batch_no, value in result.batches.items():
                key = f"{resource}/{batch_no}"
                names.add(key)
                sent = SentBatch.of(open_batch(value).statement)
                assert check_receipt(receipts[key], trust=upstream, batch=sent).ok
            counts.rows += len(rows) * (len(result.pulls) if resource in place.whole else 1)
            counts.sealed += sum(len(part) for part, _ in result.pulls.values())
            counts.refused += sum(len(part) for _, part in result.pulls.values())
            counts.batches += len(result.batches)
        assert receipts.keys() == names
        assert wrong == 0
        _evidence(place, node, receipts, witnessed=witnessed)
        counts.receipts = len(receipts)
        _province(place, node, names)
    assert counts.rows == counts.sealed + counts.refused
    return counts


@dataclass
class _Contents:
    batches: dict[str, bytes] = field(default_factory=dict)
    pulls: dict[str, tuple[list[str], list[str]]] = field(default_factory=dict)
    """Sealed and refused ids by pull."""


def _resource(node: Node, resource: str, trust: Trust) -> _Contents:
    """Read what became of a resource; its chain, its numbers and the store agree."""
    result = _Contents()
    ends: dict[int, tuple[str, str]] = {}
    for entry in entries(node.log, sealed_topic(resource)):
        assert verify_batch(entry.value, trust=trust).ok
        statement = open_batch(entry.value).statement
        previous, last = ends.get(entry.partition, ("", ""))
        assert statement.lane == entry.partition
        assert statement.batch_no == entry.key > last, "a partition's batch numbers only ever rise"
        assert statement.previous == previous, "the chain of statements is whole"
        assert entry.key not in result.batches, "no batch number of a resource comes twice"
        ends[entry.partition] = (statement.digest, entry.key)
        result.batches[entry.key] = entry.value
        result.pulls.setdefault(statement.pull, ([], []))[0].extend(ids(entry.value))
    count = 0
    for entry in entries(node.log, quarantine_topic(resource)):
        if entry.headers["kind"] != "records":
            continue
        count += 1
        refused = result.pulls.setdefault(entry.headers["pull"], ([], []))[1]
        refused.extend(decode_frame(entry.value)["id"].to_list())
    raw = raw_topic(resource)
    for partition in partitions(node.log, raw):
        assert not node.log.read(
            raw, partition, node.log.position("seal", raw, partition), max_entries=1
        )

    deliveries = node.store.deliveries.find(resource=resource, limit=10_000)
    assert {row.batch_no for row in deliveries} == result.batches.keys()
    assert {row.state for row in deliveries} <= {State.RECEIPTED}
    stored = {
        row.batch_no: row for row in node.store.receipts.find(resource=resource, limit=10_000)
    }
    assert stored.keys() == result.batches.keys()
    index = node.store.quarantine.find(resource=resource, limit=10_000)
    assert len(index) == count
    assert sum(row.rows for row in index) == sum(len(part) for _, part in result.pulls.values())
    return result


def _pulls(node: Node, found: _Contents) -> None:
    """Compare the pulls that the store shows."""
    pulls = {row.pull: row for row in node.store.pulls.find(limit=10_000)}
    for pull, (sealed, refused) in found.pulls.items():
        row = pulls[pull]
        assert row.state == "done"
        assert (row.accepted, row.quarantined) == (len(sealed), len(refused))
        assert row.pulled == len(sealed) + len(refused)


def _rows(resource: str, rows: Sequence[Record], found: _Contents, *, whole: bool) -> None:
    """Compare with the source: by pull when each delivers everything, else over all pulls."""
    parts = list(found.pulls.values())
    if not whole:
        parts = [([i for s, _ in parts for i in s], [i for _, r in parts for i in r])]
    for sealed, refused in parts:
        every = Counter(sealed) + Counter(refused)
        assert every == Counter(row.id for row in rows), f"{resource}: {every - Counter()}"


def _evidence(place: Place, node: Node, receipts: dict[str, bytes], *, witnessed: bool) -> None:
    """Compare the evidence log: every statement and receipt once, all of it witnessed."""
    folder = place.settings.resolve(place.settings.evidence.folder)
    trust = node.trust(place.settings.trust)
    upstream = node.trust(place.settings.upstream.trust)  # type: ignore[union-attr]
    verification = audit_evidence(folder, trust=trust, witnesses=upstream)
    assert verification.ok, verification.failed
    log = LogReader.at(folder)
    expected = set()
    for resource in place.sources:
        for entry in entries(node.log, sealed_topic(resource)):
            statement = open_batch(entry.value).statement
            expected.add(EvidenceEntry.of_statement(statement).to_bytes())
            content = receipts[f"{resource}/{entry.key}"]
            expected.add(EvidenceEntry.of_receipt(content, statement).to_bytes())
    items = [log.entry(index) for index in range(log.size)]
    assert len(set(items)) == len(items), "no entry twice"
    sealed = {entry for entry in items if b'"version"' not in entry}
    refusals = {entry for entry in sealed if b'"type":"refusal"' in entry}
    told = {
        (entry.key, f"sm3:{sm3(entry.value).hex()}")
        for entry in entries(node.log, RECEIPTS)
        if entry.headers["kind"] == "refusal"
    }
    leaf_of = (
        (one["resource"], one["batch_no"], one["digest"]) for one in map(json.loads, refusals)
    )
    assert {(f"{name}/{number}", digest) for name, number, digest in leaf_of} == told
    assert sealed - refusals == expected
    leaves(node, (json.loads(entry) for entry in items if b'"version"' in entry), place.sources)
    seen = log.witnessed()
    size = 0 if seen is None else seen.checkpoint.head.size
    assert (log.size == size) == witnessed, "all is witnessed"


def leaves(node: Node, kept: Iterable[dict[str, Any]], resources: Iterable[str]) -> None:
    """Compare the leaves of what is not sealed: every refused message once, pulls, the trail."""
    by_type: dict[str, list[dict[str, Any]]] = {
        "messages": [],
        "pull": [],
        "audit": [],
        "retention": [],
    }
    for leaf in kept:
        by_type[leaf["type"]].append(leaf)
    found = [
        (leaf["topic"], leaf["lane"], offset)
        for leaf in by_type["messages"]
        for offset in range(leaf["first"], leaf["next"])
    ]
    stand = {
        (entry.topic, entry.partition, entry.offset): entry
        for topic in (*map(quarantine_topic, resources), SEALS)
        for entry in entries(node.log, topic)
    }
    assert stand.keys() <= set(found), "every message of quarantine and step of a seal has its leaf"
    assert len(found) == len(set(found)), "and one only"
    for leaf in by_type["messages"]:
        hashes = b""
        places = [(leaf["topic"], leaf["lane"], n) for n in range(leaf["first"], leaf["next"])]
        messages = [stand[one] for one in places if one in stand]
        for entry in messages:
            head = {"headers": dict(entry.headers), "key": entry.key, "offset": entry.offset}
            text = json.dumps(head, sort_keys=True, separators=(",", ":"))
            hashes += sm3(text.encode()) + sm3(entry.value)
        assert leaf["count"] == len(messages)
        assert leaf["digest"] == f"sm3:{sm3(hashes).hex()}"
    assert len({leaf["log"] for leaf in by_type["messages"] + by_type["pull"]}) <= 1
    for name in node.settings.sources:
        newest = node.context.latest(f"pull/{name}")
        assert newest is not None
        state = json.loads(newest.value)
        text = json.dumps(state["cursor"], sort_keys=True, separators=(",", ":"))
        own = [leaf for leaf in by_type["pull"] if leaf["source"] == name][-1]
        assert own["digest"] == f"sm3:{sm3(text.encode()).hex()}"
        if state["rows"]:
            told = (own["pull"], own["rows"], own["done"], own["offset"])
            assert told == (state["pull"], state["rows"], state["done"], newest.offset)
    lines = {row.number: row.digest for row in node.store.audit.find()}
    for leaf in by_type["audit"]:
        assert (leaf["trail"], leaf["digest"]) == (lines[1], lines[leaf["number"]])


def sm3(data: bytes) -> bytes:
    return hashlib.new("sm3", data).digest()


def _province(place: Place, node: Node, sent: set[str]) -> None:
    """Compare with what the province keeps: one row and one file for each batch."""
    settings = receiver_options(place.province, os.environ, port=0)
    with contextlib.closing(open_store(settings.store, clock=now)) as store:
        received = {
            f"{row.resource}/{row.batch_no}": row
            for row in store.received_batches.find(limit=10_000)
        }
    assert received.keys() == sent
    files = {path for path in settings.folder.rglob("*") if path.is_file()}
    assert files == {settings.folder / row.path for row in received.values()}
    for key, row in received.items():
        resource, batch_no = key.split("/")
        delivery = node.store.deliveries.get(resource, batch_no)
        receipt = node.store.receipts.get(resource, batch_no)
        assert delivery is not None
        assert receipt is not None
        assert (delivery.statement, receipt.content) == (row.statement, row.receipt)
        (entry,) = node.log.read(delivery.topic, delivery.partition, delivery.offset, max_entries=1)
        assert (settings.folder / row.path).read_bytes() == entry.value


def outcome(place: Place) -> dict[str, Any]:
    """Read what the last run of :func:`run_once` told."""
    document: dict[str, Any] = json.loads((place.folder / "outcome.json").read_text())
    return document
