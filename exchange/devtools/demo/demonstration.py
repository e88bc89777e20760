"""The demo: a temporary node with real departments' sources, the whole job, proof from disk."""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

from exchange.catalog.loader import load as load_catalog
from exchange.catalog.model import Resource
from exchange.devtools.demo.sources import DemoSources, write_sources
from exchange.errors import Transient
from exchange.node.node import Node
from exchange.node.scaffold import new_node
from exchange.receipt import SentBatch
from exchange.receipt import check as check_receipt
from exchange.run.outcome import RunOutcome
from exchange.run.runner import ProgressHook, Runner
from exchange.seal.batch.build import open_batch
from exchange.seal.batch.verify import verify_batch
from exchange.settings import load as load_settings
from exchange.store.node.deliveries import DeliveryRow
from exchange.text import Text

_START_SECONDS = 30


@dataclass(frozen=True)
class ResourceResult:
    """What became of one resource."""

    resource: Resource
    form: Text
    pulled: int
    accepted: int
    quarantined: int
    batches: int
    receipts: int
    reasons: dict[str, int]


@dataclass(frozen=True)
class DemoResult:
    """What the demo did; ``verified`` counts files that verify, batches and receipts."""

    node: Path
    results: list[ResourceResult]
    outcome: RunOutcome
    files: list[Path]
    verified: int
    seconds: float

    @property
    def whole(self) -> bool:
        """Whether nothing is lost and everything verifies."""
        outcome = self.outcome
        return (
            not outcome.errors
            and outcome.pulled == outcome.accepted + outcome.quarantined
            and outcome.receipts == outcome.batches
            and self.verified == len(self.files) == 2 * outcome.batches
        )


def example(name: str) -> Path:
    """Return a file of the examples: beside the package when installed, else in the checkout."""
    installed = Path(str(files("exchange"))) / "examples" / name
    checkout = Path(str(files("exchange"))).parent
    beside = checkout / name if (checkout / name).exists() else checkout / "examples" / name
    return installed if installed.exists() else beside


def run_demo(folder: Path, *, scale: float, seed: int, progress: ProgressHook) -> DemoResult:
    """Make the node in ``folder`` (new or empty) and run the whole job on it."""
    start = time.monotonic()
    sources = prepare(folder, scale=scale, seed=seed)
    node_folder = folder / "node"
    settings = load_settings(node_folder / "exchange.yaml")
    with receiver(node_folder / "province" / "exchange.yaml"), Node(settings) as node:
        node.take_up_catalog()
        outcome = Runner(node, progress).once()
        results = [
            _result(node, source.resource, sources) for source in sources.by_resource.values()
        ]
        paths = export(node, folder / "evidence")
        verified = sum(verify_files(node, batch, receipt) for batch, receipt in paths)
    flat = [path for pair in paths for path in pair]
    return DemoResult(node_folder, results, outcome, flat, verified, time.monotonic() - start)


def prepare(folder: Path, *, scale: float, seed: int) -> DemoSources:
    """Write the departments' sources and the node that reads them."""
    catalog = example("catalog.yaml")
    sources = write_sources(
        folder / "departments",
        catalog=load_catalog(catalog),
        divisions=example("divisions-heilongjiang.csv"),
        seed=seed,
        scale=scale,
    )
    new_node(
        folder / "node",
        now=datetime.now(UTC),
        entropy=secrets.token_bytes,
        catalog=catalog,
        sources=_sources(sources),
        port=_free_port(),
    )
    return sources


def _sources(sources: DemoSources) -> str:
    lines = [""]
    for source in sources.by_resource.values():
        if source.table:
            options = f'{{url: "sqlite:///{source.path}", table: {source.table}, key: [id]}}'
            connector = "sql"
        else:
            options = f'{{folder: "{source.path}", settle: 0}}'  # they are finished
            connector = "files"
        lines.append(
            f"  {source.resource}: {{resource: {source.resource}, connector: {connector}, "
            f"every: 15m, with: {options}}}"
        )
    return "\n".join(lines)


@contextlib.contextmanager
def receiver(settings: Path) -> Iterator[str]:
    """Run the test province in a process of its own; yields its address."""
    command = [sys.executable, "-m", "exchange", "receiver", "serve", "--config", str(settings)]
    log = settings.parent / "receiver.log"
    with log.open("wb") as talk:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=talk)  # noqa: S603
    try:
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        line = process.stdout.readline()
        if not line:
            raise Transient(
                Text("模拟省级平台没有启动", "the test province did not start"),
                hint=Text(f"见 {log}", f"see {log}"),
            )
        yield json.loads(line)["url"]
    finally:
        process.terminate()
        try:
            process.wait(_START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _result(node: Node, resource: str, sources: DemoSources) -> ResourceResult:
    pulls = [pull for pull in node.store.pulls.find() if pull.resource == resource]
    refusals = node.store.quarantine.find(resource=resource)
    reasons: Counter[str] = Counter()
    for row in refusals:
        reasons.update(row.reasons)
    deliveries = node.store.deliveries.find(resource=resource, limit=100_000)
    source = sources.by_resource[resource]
    form = Text("SQLite 数据库", "SQLite database") if source.table else _form(source.path)
    return ResourceResult(
        node.catalog.resources[resource],
        form,
        sum(pull.pulled for pull in pulls),
        sum(pull.accepted for pull in pulls),
        sum(pull.quarantined for pull in pulls),
        len(deliveries),
        sum(1 for row in deliveries if row.receipt_no),
        dict(reasons.most_common()),
    )


def _form(folder: Path) -> Text:
    names = sorted(path.suffix for path in folder.iterdir())
    if names and names[0] == ".xlsx":
        return Text("Excel 文件", "Excel file")
    first = next(folder.iterdir()).read_bytes()
    try:
        first.decode()
    except UnicodeDecodeError:
        return Text("GBK 编码 CSV", "CSV in GBK")
    return Text("UTF-8 编码 CSV", "CSV in UTF-8")


def export(node: Node, folder: Path) -> list[tuple[Path, Path]]:
    """Write every receipted batch and its receipt as files; return their paths in pairs."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs = []
    for row in node.store.deliveries.find(limit=100_000):
        receipt = node.store.receipts.get(row.resource, row.batch_no)
        if receipt is not None:
            stem = folder / f"{row.resource}-{row.batch_no}"
            batch_path, receipt_path = stem.with_suffix(".avro"), stem.with_suffix(".receipt.json")
            batch_path.write_bytes(sealed_bytes(node, row))
            receipt_path.write_bytes(receipt.content)
            pairs.append((batch_path, receipt_path))
    return pairs


def sealed_bytes(node: Node, row: DeliveryRow) -> bytes:
    """Read a sealed batch from the log by its address."""
    return node.log.read(row.topic, row.partition, row.offset, max_entries=1)[0].value


def verify_files(node: Node, batch: Path, receipt: Path) -> int:
    """Verify a batch and its receipt as they stand on the disk; return how many verify."""
    settings = node.settings
    upstream = settings.upstream
    data = batch.read_bytes()
    good = verify_batch(data, trust=node.trust(settings.trust)).ok
    checks = check_receipt(
        receipt.read_bytes(),
        trust=node.trust(upstream.trust if upstream is not None else ()),
        batch=SentBatch.of(open_batch(data).statement),
    )
    return int(good) + int(checks.ok)
