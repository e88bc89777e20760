"""Several workers on a real broker: they share the partitions, and lose and double nothing."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from exchange.devtools.servers.kafka import Cluster, brokers
from tests.pipeline.place import Place, audit, records, settle
from tests.support.nodes import add, command
from tests.support.processes import Parent, alive, delivered, running, scheduled, wait_for
from tests.support.servers import free_port
from tests.support.web import ask

LOG = """
log:
  driver: kafka
  kafka: {{bootstrap: [{bootstrap}], replication: 1, min_insync: 1}}
  partitions: {{default: 4}}
"""
PATIENCE = 600
"""Seconds: a resource that erred while partitions moved is left alone for a minute."""


def use(place: Place, cluster: str, extra: str = "") -> None:
    """Point the node at a cluster."""
    path = place.folder / "exchange.yaml"
    path.write_text(path.read_text("utf-8") + LOG.format(bootstrap=cluster) + extra, "utf-8")


def feed(place: Place, rows: int) -> None:
    """Add rows, and wait until the province has confirmed all there are."""
    first = len(place.sources["cases"]) + 1
    add(place, "cases", records(rows, first=first, dirty=False))
    wait_for(lambda: delivered(place) == first + rows - 1, PATIENCE)


def started(parent: Parent, count: int) -> None:
    wait_for(lambda: len(parent.pids()) == count)


def ready(port: int) -> bool:
    try:
        return ask(port, "/readyz")[0] == 200
    except OSError:
        return False


def test_two_workers_share_the_work_through_kills_and_restarts(
    tmp_path: Path, empty_broker: Cluster
) -> None:
    place, port = scheduled(tmp_path / "node", 400), free_port(2)
    with place.receiver():
        use(place, ", ".join(empty_broker.bootstrap), f"\nmetrics: {{port: {port}}}\n")
        with running(place.folder, "--workers", 2, "--name", "w") as parent:
            wait_for(lambda: delivered(place) == 400, PATIENCE)
            started(parent, 2)
            for number in range(2):
                wait_for(lambda at=port + number: ready(at))  # type: ignore[misc]
                page = ask(port + number, "/metrics")[2]
                assert 'driver="kafka"' in page
                assert f'worker="w-{number}"' in page
            for number in range(2):
                os.kill(parent.pids()[number], signal.SIGKILL)
                feed(place, 300)
                started(parent, 3 + number)
            parent.process.send_signal(signal.SIGTERM)
            assert parent.process.wait(300) == 0
            assert not any(map(alive, parent.pids()))
        with running(place.folder, "--workers", 2, "--name", "w") as parent:
            feed(place, 100)
            started(parent, 2)
            parent.process.kill()
            wait_for(lambda: not any(map(alive, parent.pids())))
            wait_for(lambda: parent.said("w-0: stopped") and parent.said("w-1: stopped"))
        settle(place)
        audit(place)
        result: Any = command(place, "status")
        (row,) = result["resources"]
        assert (row["partitions"], row["waiting"]) == (4, 0)
        assert {lag["behind"] for lag in row["lag"].values()} == {0}


def test_a_cluster_that_comes_up_later_is_waited_for(tmp_path: Path) -> None:
    place, port = scheduled(tmp_path / "node", 400), free_port()
    use(place, f"127.0.0.1:{port}")
    with running(place.folder, "--workers", 2) as parent:
        assert parent.process.wait(300) == 4
        wait_for(lambda: parent.said(f"127.0.0.1:{port}"))
        assert parent.pids() == []
    with place.receiver(), running(place.folder, "--workers", 1, "--wait", "5m") as parent:
        wait_for(lambda: parent.said("waiting: "), PATIENCE)
        with brokers(port=port, folders=[tmp_path / "kafka"]):
            wait_for(lambda: delivered(place) == 400, PATIENCE)
            parent.process.send_signal(signal.SIGTERM)
            assert parent.process.wait(300) == 0
