"""The whole job under measurement: node, receiver and PostgreSQL, each a process of its own.

The node gets the threads of one core. What each process spent is read from the kernel: CPU
seconds of user and system, all threads, start-up included; peak of resident memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Final

from psycopg import sql

from exchange.devtools.bench.measure import cpu_seconds, median, peak_rss, tree_cpu_seconds
from exchange.devtools.bench.person_table import RESOURCE
from exchange.devtools.bench.postgres_connection import database
from exchange.devtools.servers.ports import free_port
from exchange.errors import Misconfigured, Transient
from exchange.node.node import Node
from exchange.node.scaffold import new_node
from exchange.settings import load as load_settings
from exchange.text import Text

ONE_CORE: Final = {
    "POLARS_MAX_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "ARROW_IO_THREADS": "1",
}
URL: Final = "EXCHANGE_BENCH_URL"
"""Environment variable in which the node finds the bench's database."""
MILLION: Final = 1_000_000
TABLE_ROWS: Final = 2_000
_LOOK_SECONDS = 0.02
_STOP_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Run:
    """One ``exchange run --once`` on a new node: what it did, and what it took.

    ``wall`` and the CPU figures are seconds, ``rss`` are bytes at the peak, ``wire`` is bytes
    of the batches that arrived. ``postgres_cpu`` is None without a PostgreSQL of our own.
    """

    source: str
    rows: int
    accepted: int
    quarantined: int
    batches: int
    receipts: int
    wall: float
    node_cpu: float
    receiver_cpu: float
    postgres_cpu: float | None
    node_rss: int
    receiver_rss: int
    wire: int

    def per_million(self, seconds: float) -> float:
        """Return seconds per million rows."""
        return seconds * MILLION / self.rows

    @property
    def rate(self) -> float:
        """Rows per second of wall time, from the start of the process to its end."""
        return self.rows / self.wall


@dataclass(frozen=True, slots=True)
class Feed:
    """What a run reads: its name, the catalog of the node, and its ``sources`` section.

    ``more`` stands at the end of the node's settings.
    """

    name: str
    catalog: str
    sources: str
    more: str = ""


def catalog_text() -> str:
    """Return the bench's catalog: beside the package when installed, else in the checkout."""
    package = Path(str(files("exchange")))
    places = (
        folder / "examples" / "bench" / "catalog.yaml" for folder in (package, package.parent)
    )
    return next(place for place in places if place.exists()).read_text(encoding="utf-8")


def table_feed(table: str = RESOURCE) -> Feed:
    """Read one table of PostgreSQL."""
    return Feed("postgresql", catalog_text(), _source(RESOURCE, RESOURCE, table))


def csv_feed(folder: Path) -> Feed:
    """Read the CSV files of a folder."""
    options = json.dumps({"folder": str(folder), "settle": 0})
    source = f"\n  csv: {{resource: {RESOURCE}, connector: files, with: {options}}}"
    return Feed("csv", catalog_text(), source)


def many_feed(conninfo: str, tables: int) -> Feed:
    """Make and read many small tables, each of a resource of its own."""
    head, mark, body = catalog_text().partition(f"  {RESOURCE}:\n")
    names = [f"bench_{number:03}" for number in range(tables)]
    with database(conninfo) as connection:
        for name in names:
            target = sql.Identifier(name)
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(target))
            connection.execute(
                sql.SQL("CREATE UNLOGGED TABLE {} AS SELECT * FROM {} LIMIT {}").format(
                    target, sql.Identifier(RESOURCE), TABLE_ROWS
                )
            )
    resources = (
        mark.replace(RESOURCE, name) + body.replace("307099/1", f"307099/{number}")
        for number, name in enumerate(names, start=1)
    )
    return Feed(
        f"{tables} tables",
        head + "\n".join(resources),
        "".join(_source(name, name, name) for name in names),
    )


def _source(name: str, resource: str, table: str) -> str:
    options = f"{{url: 'env:{URL}', table: {table}}}"
    return f"\n  {name}: {{resource: {resource}, connector: sql, with: {options}}}"


def make_node(folder: Path, feed: Feed, *, port: int) -> None:
    """Make a node that reads ``feed``, and its test province on ``port``.

    Log and store are made too: what is measured later is a start, not the first one ever.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    catalog = folder.with_suffix(".yaml")
    catalog.write_text(feed.catalog, encoding="utf-8")
    new_node(
        folder,
        now=datetime.now(UTC),
        entropy=secrets.token_bytes,
        catalog=catalog,
        sources=feed.sources,
        port=port,
    )
    settings = folder / "exchange.yaml"
    settings.write_text(settings.read_text(encoding="utf-8") + feed.more, encoding="utf-8")
    with Node(load_settings(settings)) as node:
        node.context.ensure(next(iter(node.catalog.resources)))
        node.store.deliveries.counts()


def copy_without_kernel(folder: Path) -> Path:
    """Copy this package into ``folder`` without the compiled kernel; returns ``folder``.

    Put before all others on the path, the copy hashes in Python and is the same otherwise.
    """
    package = Path(str(files("exchange")))
    unwanted = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(package, folder / package.name, ignore=unwanted)
    return folder


def environment_for(package: Path | None) -> dict[str, str]:
    """Return the environment in which a process runs the copy in ``package``, if one is given."""
    if package is None:
        return dict(os.environ)
    return {**os.environ, "PYTHONPATH": str(package), "PYTHONSAFEPATH": "1"}


@contextlib.contextmanager
def receiver(folder: Path, package: Path | None = None) -> Iterator[int]:
    """Run the node's test province; yields the id of its process.

    ``package``: the folder whose ``exchange`` is to run, by default this one.
    """
    line = command("receiver", folder / "province" / "exchange.yaml", "serve")
    with (folder / "receiver.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603
            line, stdout=subprocess.PIPE, stderr=log, env=environment_for(package)
        )
    try:
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        if not process.stdout.readline():
            raise died("receiver", folder / "receiver.log")
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()


def run(
    folder: Path,
    feed: Feed,
    *,
    conninfo: str = "",
    postgres: int | None = None,
    package: Path | None = None,
) -> Run:
    """Make a node in ``folder``, run it once against its receiver, and take the figures.

    ``postgres`` is the process id of the database server, ``package`` as for :func:`receiver`.
    Raises Transient when a process fails.
    """
    make_node(folder, feed, port=free_port())
    with receiver(folder, package) as province:
        before = cpu_seconds(province)
        served = tree_cpu_seconds(postgres) if postgres is not None else 0.0
        start = time.perf_counter()
        cpu, rss, counts = _run_node(folder, conninfo, package)
        wall = time.perf_counter() - start
        batches = (folder / "province" / "received").rglob("*.avro")
        return Run(
            source=feed.name,
            rows=counts["pulled"],
            accepted=counts["accepted"],
            quarantined=counts["quarantined"],
            batches=counts["batches"],
            receipts=counts["receipts"],
            wall=wall,
            node_cpu=cpu,
            receiver_cpu=cpu_seconds(province) - before,
            postgres_cpu=tree_cpu_seconds(postgres) - served if postgres is not None else None,
            node_rss=rss,
            receiver_rss=peak_rss(province),
            wire=sum(path.stat().st_size for path in batches),
        )


def _run_node(
    folder: Path, conninfo: str, package: Path | None
) -> tuple[float, int, dict[str, int]]:
    """Run the node to its end; return its CPU seconds, its peak memory and its answer."""
    line = command("run", folder / "exchange.yaml", "--once", "--json")
    answer, log = folder / "run.json", folder / "run.log"
    with answer.open("wb") as out, log.open("wb") as talk:
        environment = {**environment_for(package), **ONE_CORE, URL: conninfo}
        process = subprocess.Popen(line, stdout=out, stderr=talk, env=environment)  # noqa: S603
    peak = 0
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        # Looked at often, for a process that has ended keeps its times, but not its peak.
        with contextlib.suppress(Misconfigured):
            peak = max(peak, peak_rss(process.pid))
        time.sleep(_LOOK_SECONDS)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise died("run --once", log)
    counts: dict[str, int] = json.loads(answer.read_text(encoding="utf-8"))
    return usage.ru_utime + usage.ru_stime, peak, counts


def help_seconds(times: int = 5) -> float:
    """Return the median of how long ``exchange --help`` takes."""
    line = [sys.executable, "-m", "exchange", "--help"]

    def once() -> float:
        start = time.perf_counter()
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
        return time.perf_counter() - start

    return median(once() for _ in range(times))


def command(name: str, settings: Path, *options: str) -> list[str]:
    """Return the command line of a process under measurement."""
    return [sys.executable, "-m", "exchange", name, "--config", str(settings), *options]


def died(what: str, log: Path) -> Transient:
    """Say that a process under measurement failed, and what it said last."""
    text = log.read_text(encoding="utf-8", errors="replace").strip()[-2000:]
    return Transient(
        Text(f"被测进程 {what} 失败：{text}", f"the measured process {what} failed: {text}"),
        hint=Text("请先排除以上错误", "mend the above first"),
    )
