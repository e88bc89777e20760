"""Seals of a running node: stopped, resumed and given new keys while it works."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Self

import pytest

from exchange.errors import Denied, ExchangeError
from exchange.log import sealed_topic
from exchange.node.node import Node
from exchange.node.seal_administration import SealAdministration
from exchange.run.outcome import Where
from exchange.run.runner import Runner
from exchange.seal.batch.build import open_batch
from exchange.seal.batch.container import Container
from exchange.seal.eseal.folder import Key, read_certificates
from exchange.seal.eseal.lifecycle import Step
from exchange.seal.eseal.structures import read_signature
from tests.pipeline.place import (
    EAGER,
    Place,
    audit,
    catalog,
    entries,
    records,
    settle,
    source,
    write_table,
)

PATIENCE = 300


@pytest.fixture
def place(tmp_path: Path) -> Place:
    options = 'url: "sqlite:///cases.db", table: cases, cursor_column: seq, batch_rows: 40'
    result = Place.make(
        tmp_path / "node", catalog("cases"), source("sql", "cases", options, when="every: 1s")
    )
    feed(result, 200)
    return result


def feed(place: Place, count: int) -> None:
    """Give the department's system more rows."""
    rows = place.sources.setdefault("cases", [])
    more = records(count, first=len(rows) + 1, dirty=False)
    write_table(place.folder / "cases.db", more)
    rows.extend(more)


class Running:
    """A supervised node in a thread of its own."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.errors: list[tuple[Where, ExchangeError]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with self.place.node() as node:
            Runner(node, policy=EAGER).forever(
                self._stop, lambda name, error: self.errors.append((name, error))
            )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@contextmanager
def administration_of(place: Place) -> Iterator[SealAdministration]:
    with place.node() as node:
        yield SealAdministration(node, "test")


def until(what: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def sealed(node: Node) -> int:
    """Count the rows that were sealed."""
    return sum(open_batch(entry.value).rows for entry in entries(node.log, sealed_topic("cases")))


def delivered(place: Place) -> bool:
    with place.node() as node:
        counts = node.store.deliveries.counts()
        rows = sum(row.rows_accepted for row in node.store.receipts.find(limit=10_000))
        return rows == len(place.sources["cases"]) and {s for _, s in counts} == {"receipted"}


def denied(running: Running) -> set[str]:
    """Name the stages that were denied something."""
    return {str(where) for where, error in running.errors if isinstance(error, Denied)}


def passed(node: Node, key: Key) -> bool:
    return key.since is not None and node.clock() > key.since


def test_a_running_node_stops_with_its_seal_and_goes_on_with_it(place: Place) -> None:
    with place.receiver(), Running(place) as running, administration_of(place) as administration:
        until(lambda: delivered(place))
        administration.take("data", Step.SUSPEND, "机构调整")
        before = sealed(administration.node)
        feed(place, 300)
        until(lambda: "seal/cases" in denied(running))
        log = administration.node.log
        until(lambda: log.bounds("exchange.raw.cases", 0)[1] >= 8)  # pulled, and waits
        assert sealed(administration.node) == before == 200
        administration.take("data", Step.RESUME)
        until(lambda: delivered(place))
    with place.receiver():
        settle(place)  # the last receipts' way into the evidence log
    assert audit(place).sealed == 500
    # The evidence log's checkpoints are signed with that seal, too: one may have been due.
    assert denied(running) - {"evidence/witness"} == {"seal/cases"}


def test_a_seal_stopped_between_two_batches_signs_no_more(place: Place) -> None:
    """The register is asked before every signature, not only when the seal was opened."""
    with place.node() as node, administration_of(place) as administration:
        resource = node.context.resource("cases")
        sealer = node.seals.ready(resource)
        at = node.clock()
        assert sealer.seal(b"one", property_info="urn:test", at=at)
        administration.take("data", Step.CANCEL, "单位撤销")
        with pytest.raises(Denied, match="cancelled"):
            sealer.seal(b"two", property_info="urn:test", at=at)
        with pytest.raises(Denied, match="request a new seal"):
            node.seals.ready(resource)


def test_while_it_waits_nothing_is_read_for_nothing(place: Place) -> None:
    passed: list[str] = []
    with place.node(failpoint=passed.append) as node, administration_of(place) as administration:
        list(node.pull_stage("cases").run())
        with closing(node.seal_stage("cases")) as stage:
            administration.take("data", Step.SUSPEND, "机构调整")
            for _ in range(3):
                with pytest.raises(Denied, match="suspended"):
                    stage.step()
            assert passed.count("seal:before") == 1
            administration.take("data", Step.RESUME)
            while stage.step():
                pass
        assert sealed(node) == 200


def test_keys_change_under_load_without_a_gap(place: Place) -> None:
    """Two changes while rows keep coming: nothing lost or doubled, every batch verifies."""
    with place.receiver(), Running(place) as running, administration_of(place) as administration:
        folders = [place.folder / "seals" / "data"]
        for _ in range(2):
            feed(place, 200)
            _, key = administration.rotate(
                "data", at=administration.node.clock() + timedelta(seconds=1)
            )
            folders.append(folders[0] / key.folder)
            feed(place, 200)
            until(partial(passed, administration.node, key))
            feed(place, 200)
            until(lambda: delivered(place))
    assert running.errors == []
    with place.receiver():
        settle(place)
    assert audit(place).sealed == 1400  # and the chain of statements is whole
    certificates = [read_certificates(folder / "cert.pem")[0] for folder in folders]
    with place.node() as node:
        items = []
        for entry in entries(node.log, sealed_topic("cases")):
            container = Container.from_bytes(entry.value)
            signature = read_signature(container.seal)
            items.append(certificates.index(signature.certificate))
            assert signature.time is not None
    assert items == sorted(items)  # each takes over from the one before, for good
    assert set(items) == {0, 1, 2}
