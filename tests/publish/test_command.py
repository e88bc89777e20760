"""The command, from a department's table to the topic."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from exchange.devtools.servers.kafka import Cluster
from exchange.log import records_topic
from tests.cli.conftest import Run, run
from tests.pipeline.place import Place, records, run_once
from tests.publish import registry as served
from tests.publish.place import Decoder, read
from tests.support.nodes import add, make
from tests.support.servers import free_port

__all__ = ["run"]
ROOT = Path(__file__).parents[2]
ROWS = 200


@pytest.fixture
def name() -> str:
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def place(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Place:
    result = make(tmp_path / "node", {name: records(ROWS, dirty=False)})
    monkeypatch.chdir(result.folder)
    return result


def point(place: Place, bootstrap: tuple[str, ...], registry: str) -> None:
    """Point the node at a cluster and a registry."""
    path = place.folder / "exchange.yaml"
    text = re.sub(r"(?m)^(log|registry):.*\n(  .*\n)*", "", path.read_text("utf-8"))
    kafka = f"{{bootstrap: [{', '.join(bootstrap)}], replication: 1, min_insync: 1}}"
    text += f"\nlog:\n  driver: kafka\n  kafka: {kafka}\nregistry: {{url: {registry}}}\n"
    path.write_text(text, "utf-8")


def test_from_the_table_to_the_topic(
    place: Place, name: str, run: Run, empty_broker: Cluster, server: served.Running
) -> None:
    point(place, empty_broker.bootstrap, server.url)
    run_sealing(place)
    result = run("publish", name, "--once", "--json")
    assert (result.code, result.json) == (0, {"published": {name: ROWS}, "errors": {}}), result.err
    decode = Decoder(server.schema)
    items = read(empty_broker.bootstrap, records_topic(name))
    rows = [decode(item.value) for item in items if item.value is not None]
    assert sorted(row["no"] for row in rows) == sorted(f"n{n}" for n in range(1, ROWS + 1))
    assert lag(run, name)["behind"] == 0
    add(place, name, records(50, first=ROWS + 1, dirty=False))
    run_sealing(place)
    assert lag(run, name)["behind"] > 0
    again = run("publish", name, name, "--once")
    assert again.code == 0
    assert re.search(rf"{name} +{re.escape(records_topic(name))} +50", again.out)
    assert lag(run, name)["behind"] == 0


def test_it_goes_on_until_sigterm(
    place: Place, name: str, empty_broker: Cluster, server: served.Running
) -> None:
    point(place, empty_broker.bootstrap, f"http://127.0.0.1:{free_port()}")
    run_sealing(place)
    with process(name) as running:
        assert running.stderr is not None
        text = ""
        while "registry" not in text:  # away: said, and tried again
            text = running.stderr.readline()
            assert text
        error = json.loads(text)
        assert (error["subject"], error["error"]) == (f"publish/{name}", "Transient")
        running.send_signal(signal.SIGTERM)
        assert running.wait(300) == 0
    point(place, empty_broker.bootstrap, server.url)
    with process(name) as running:
        wait_for_records(empty_broker, name, ROWS)
        add(place, name, records(50, first=ROWS + 1, dirty=False))
        run_sealing(place)
        wait_for_records(empty_broker, name, ROWS + 50)
        running.send_signal(signal.SIGTERM)
        assert running.wait(300) == 0


def lag(run: Run, name: str) -> dict[str, int]:
    (result,) = run("status", "--json").json["resources"]
    assert result["resource"] == name
    found: dict[str, int] = result["lag"]["publish"]
    return found


def run_sealing(place: Place) -> None:
    """Pull and seal all that the sources have."""
    with pytest.raises(SystemExit):
        run_once(place.folder, stages=("pull", "seal"))
    outcome = json.loads((place.folder / "outcome.json").read_text("utf-8"))
    assert outcome.get("errors") == {}, outcome


def wait_for_records(broker: Cluster, name: str, count: int) -> None:
    end = time.monotonic() + 300
    while len(read(broker.bootstrap, records_topic(name))) < count:
        assert time.monotonic() < end
        time.sleep(0.5)


@contextmanager
def process(name: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "exchange", "publish", name, "--lang", "en"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def test_a_log_that_nobody_outside_can_read(place: Place, name: str, run: Run) -> None:
    result = run("publish", name, "--once")
    assert result.code == 3
    assert "log.driver: kafka" in result.err
    assert place.folder == Path.cwd()


def test_no_registry_and_no_permission(
    place: Place, name: str, run: Run, empty_broker: Cluster, server: served.Running
) -> None:
    path = place.folder / "exchange.yaml"
    point(place, empty_broker.bootstrap, server.url)
    settings = path.read_text("utf-8")
    path.write_text(re.sub(r"registry:.*\n", "", settings), "utf-8")
    result = run("publish", name, "--once")
    assert result.code == 3
    assert "registry:" in result.err
    path.write_text(settings, "utf-8")
    catalog = place.folder / "catalog.yaml"
    catalog.write_text(catalog.read_text("utf-8").replace("sensitivity: S1", "sensitivity: S4"))
    result = run("publish", name, "--once")
    assert result.code == 3
    assert "registry.readable" in result.err
    named = settings.replace(f"url: {server.url}", f"url: {server.url}, readable: [{name}]")
    path.write_text(named, "utf-8")
    assert run("publish", name, "--once").code == 0
    assert run("publish", "nothing", "--once").code == 1


def test_a_registry_that_is_away(place: Place, name: str, run: Run, empty_broker: Cluster) -> None:
    point(place, empty_broker.bootstrap, f"http://127.0.0.1:{free_port()}")
    run_sealing(place)
    result = run("publish", name, "--once", "--json")
    assert result.code == 4
    assert result.json["published"] == {name: 0}
    assert result.json["errors"][f"publish/{name}"]["error"] == "Transient"
