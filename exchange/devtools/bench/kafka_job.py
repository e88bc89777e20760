"""The whole job on Apache Kafka: the same node, its log on a cluster, one worker and several.

Broker and workers share the machine. A cluster is started anew for each measurement, so that
none finds the topics of another.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Final

from exchange.devtools.bench.measure import cpu_seconds, peak_rss
from exchange.devtools.bench.person_table import RESOURCE
from exchange.devtools.bench.publishing import PublishingCost, publish_rate
from exchange.devtools.bench.whole_job import (
    ONE_CORE,
    URL,
    Feed,
    Run,
    command,
    make_node,
    receiver,
    run,
)
from exchange.devtools.servers.kafka import brokers
from exchange.devtools.servers.ports import free_port
from exchange.errors import Transient
from exchange.log import Partition, Topic
from exchange.log.kafka import KafkaLog
from exchange.node.node import Node
from exchange.run.status import StatusReader
from exchange.settings import KafkaSettings
from exchange.settings import load as load_settings
from exchange.text import Text

PARTITIONS: Final = 4
"""Partitions of the resource that several workers share."""
MEMBERS: Final = 8
MANY_PARTITIONS: Final = 64
_PATIENCE: Final = 600.0
_LOOK_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class SharedWork:
    """What workers made of a full raw topic: check, seal, deliver.

    ``wall`` runs from the start of the first worker to the last receipt; ``cpu`` are CPU seconds
    of all workers together, ``rss`` the largest peak of one, in bytes.
    """

    workers: int
    rows: int
    wall: float
    cpu: float
    rss: int


@dataclass(frozen=True, slots=True)
class RebalanceTimes:
    """How long partitions were nobody's after the kill of a member, in seconds."""

    partitions: int
    members: int
    seconds: float


def whole(folder: Path, feed: Feed, *, conninfo: str) -> Run:
    """Run the whole job once, from the table to the last receipt, its log on one broker."""
    with brokers(1) as cluster:
        on_kafka = replace(feed, name="kafka", more=_section(cluster.bootstrap))
        return run(folder, on_kafka, conninfo=conninfo)


def publishing(folder: Path, feed: Feed, *, conninfo: str) -> PublishingCost:
    """Seal a table, then publish its records one by one."""
    with brokers(1) as cluster:
        on_kafka = replace(feed, name="kafka", more=_section(cluster.bootstrap))
        run(folder, on_kafka, conninfo=conninfo)
        with Node(load_settings(folder / "exchange.yaml")) as node:
            return publish_rate(node.context, RESOURCE)


def shared(folder: Path, feed: Feed, *, workers: int, conninfo: str) -> SharedWork:
    """Pull everything first; then let so many workers check, seal and deliver it."""
    with brokers(1) as cluster:
        on_kafka = replace(
            feed, name="kafka", more=_section(cluster.bootstrap, partitions=PARTITIONS)
        )
        make_node(folder, on_kafka, port=free_port())
        settings = folder / "exchange.yaml"
        environment = {**os.environ, **ONE_CORE, URL: conninfo}
        pull = command("run", settings, "--once", "--only", "pull", "--json")
        subprocess.run(pull, check=True, stdout=subprocess.DEVNULL, env=environment)  # noqa: S603
        with receiver(folder), Node(load_settings(settings)) as node:
            start = time.perf_counter()
            with _workers(folder, workers, environment) as processes:
                read_status = StatusReader(node)
                _wait(lambda: _drained(read_status), 0.25)
                wall = time.perf_counter() - start
                cpu = sum(cpu_seconds(process.pid) for process in processes)
                rss = max(peak_rss(process.pid) for process in processes)
            rows = sum(pull.pulled for pull in node.store.pulls.find())
    return SharedWork(workers, rows, wall, cpu, rss)


def rebalance(folder: Path) -> RebalanceTimes:
    """Kill a member of a group of many partitions; measure until all partitions have readers."""
    with brokers(1) as cluster:
        settings = KafkaSettings(
            bootstrap=cluster.bootstrap, replication=1, min_insync=1, session_seconds=6
        )
        topic = Topic("exchange.raw.many", MANY_PARTITIONS)
        with _log(settings, folder) as log:
            log.ensure([topic])
        context = multiprocessing.get_context("spawn")
        members: _Members = []
        for number in range(MEMBERS):
            parent_end, child_end = context.Pipe()
            process = context.Process(
                target=_member, args=(settings, folder, topic.name, f"m{number}", child_end)
            )
            process.start()
            members.append((process, parent_end))
        try:
            everything = {(topic.name, partition) for partition in range(MANY_PARTITIONS)}
            _wait(
                lambda: (
                    all(assignments := _assignments(members))
                    and everything == set().union(*assignments)
                )
            )
            process, _ = members.pop()
            process.kill()
            killed = time.perf_counter()
            _wait(lambda: everything == set().union(*_assignments(members)))
            return RebalanceTimes(MANY_PARTITIONS, MEMBERS, time.perf_counter() - killed)
        finally:
            for process, parent_end in members:
                parent_end.close()
                process.join(10)
                process.kill()
                process.join()


@contextmanager
def _workers(
    folder: Path, count: int, environment: dict[str, str]
) -> Iterator[list[subprocess.Popen[bytes]]]:
    processes = []
    try:
        with (folder / "workers.log").open("wb") as log:
            for number in range(count):
                line = command(
                    *("run", folder / "exchange.yaml", "--worker", f"w-{number}"),
                    *("--only", "seal", "--only", "cascade"),
                )
                processes.append(subprocess.Popen(line, stderr=log, env=environment))  # noqa: S603
        yield processes
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            process.communicate(timeout=60)


def _section(bootstrap: Sequence[str], partitions: int = 1) -> str:
    addresses = ", ".join(bootstrap)
    return (
        f"\nlog:\n  driver: kafka\n  partitions: {{{RESOURCE}: {partitions}}}\n"
        f"  kafka: {{bootstrap: [{addresses}], replication: 1, min_insync: 1}}\n"
    )


def _drained(read_status: StatusReader) -> bool:
    """Tell whether every raw message is sealed and every batch has its receipt."""
    return not any(status.behind("seal") or status.behind("cascade") for status in read_status())


def _wait(happened: Callable[[], bool], look: float = _LOOK_SECONDS) -> None:
    end = time.monotonic() + _PATIENCE
    while not happened():
        if time.monotonic() > end:
            raise Transient(
                Text("压测超过时限", "the measured work did not end in time"),
                hint=Text("机器是否另有负载？", "is the machine busy with something else?"),
            )
        time.sleep(look)


@contextmanager
def _log(settings: KafkaSettings, folder: Path, worker: str = "") -> Iterator[KafkaLog]:
    log = KafkaLog(settings, secret=str, base=folder, worker=worker)
    try:
        yield log
    finally:
        log.close()


_Members = list[tuple[SpawnProcess, Connection]]


def _assignments(members: _Members) -> list[frozenset[Partition]]:
    """Ask every member which partitions it has."""
    for _, pipe in members:
        pipe.send(None)
    return [pipe.recv() for _, pipe in members]


def _member(
    settings: KafkaSettings, folder: Path, topic: str, worker: str, pipe: Connection
) -> None:
    """Be a member of a group, and tell which partitions are ours whenever asked."""
    with _log(settings, folder, worker) as log:
        consumer = log.consumer("seal", [topic])
        while True:
            try:
                pipe.recv()
                pipe.send(consumer.assigned())
            except (EOFError, OSError):
                return
