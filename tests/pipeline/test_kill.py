"""kill -9 at every step: at each failpoint, at the node and at the province.

The failpoints are those that a run without a kill passes, so none can be forgotten.
"""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from exchange.pipeline.dismissal import Selection, dismiss
from exchange.pipeline.replay import replay
from tests.pipeline.place import (
    LISTED,
    Counts,
    Failpoints,
    Place,
    Striker,
    audit,
    catalog,
    finish,
    records,
    run_once,
    run_province,
    settle,
    source,
    start,
    write_csv,
    write_table,
)
from tests.support.servers import free_port
from tests.support.soak import KILLS

SOURCES = (
    # Incremental: several frames; the second pull finds nothing new.
    source(
        "sql",
        "cases",
        'url: "sqlite:///cases.db", table: cases, cursor_column: seq, batch_rows: 20',
    )
    # A snapshot with a key: goes on behind the last row.
    + source("sql", "firms", 'url: "sqlite:///firms.db", table: cases, key: [id], batch_rows: 20')
    # No cursor: goes on after the rows that are there.
    + source('"listed.py:listed"', "listed", "file: listed.csv")
    + source("files", "drops", "folder: drops, settle: 0")
)
FAILPOINTS = {
    *("pull", "seal", "project", "delivery", "send", "receipt", "settle", "evidence", "witness"),
}
PROVINCE_FAILPOINTS = {"file", "row", "answer"}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Make a node with four kinds of sources that has not run yet."""
    place = Place.make(
        tmp_path_factory.mktemp("kill") / "node",
        catalog("cases", "firms", "listed", "drops"),
        SOURCES,
    )
    sources = {
        "cases": records(50),
        "firms": records(40),
        "listed": records(110),
        "drops": records(30) + records(20, first=31),
    }
    write_table(place.folder / "cases.db", sources["cases"])
    write_table(place.folder / "firms.db", sources["firms"])
    write_csv(place.folder / "listed.csv", sources["listed"])
    (place.folder / "listed.py").write_text(LISTED)
    write_csv(place.folder / "drops" / "a.csv", sources["drops"][:30])
    write_csv(place.folder / "drops" / "b.csv", sources["drops"][30:])
    # One of them has partitions that are sealed and delivered each for itself.
    path = place.folder / "exchange.yaml"
    path.write_text(path.read_text(encoding="utf-8") + "\nlog: {partitions: {cases: 2}}\n")
    place.sources = sources
    place.whole = frozenset({"firms", "listed"})
    return place


def copy(template: Place, folder: Path) -> Place:
    shutil.copytree(template.folder, folder)
    return Place(folder, template.sources, template.whole)


@pytest.mark.soak
def test_the_node_is_killed_at_every_failpoint(
    template: Place, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    def strike(stage: str, number: int) -> Counts:
        place = copy(template, tmp_path / f"{stage}-{number}".replace(":", "-"))
        with place.receiver():
            assert finish(start(run_once, place.folder, stage, number)) == -signal.SIGKILL
            settle(place)
        counts = audit(place)
        shutil.rmtree(place.folder)
        return counts

    dry = copy(template, tmp_path / "dry")
    with dry.receiver():
        assert finish(start(run_once, dry.folder)) == 0
    audit(dry)
    stages = Failpoints(json.loads((dry.folder / "failpoints.json").read_text()))
    assert {name.partition(":")[0] for name in stages.names} == FAILPOINTS
    tell(summary("node", stages, strike))


@pytest.mark.soak
def test_the_province_is_killed_at_every_failpoint(
    template: Place, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    def strike(stage: str, number: int) -> Counts:
        place = copy(template, tmp_path / f"{stage}-{number}".replace(":", "-"))
        port = free_port()
        place.call(f"http://127.0.0.1:{port}")
        province = start(run_province, place.folder, port, stage, number)
        assert finish(start(run_once, place.folder)) == 4, "the province is away: try again later"
        assert finish(province) == -signal.SIGKILL
        province = start(run_province, place.folder, port)
        settle(place)
        end(province)
        return audit(place)

    dry = copy(template, tmp_path / "dry")
    port = free_port()
    dry.call(f"http://127.0.0.1:{port}")
    province = start(run_province, dry.folder, port)
    settle(dry)
    end(province)
    audit(dry)
    stages = Failpoints(json.loads((dry.folder / "province-failpoints.json").read_text()))
    assert {name.partition(":")[0] for name in stages.names} == PROVINCE_FAILPOINTS
    tell(summary("province", stages, strike))


@pytest.fixture(scope="module")
def refused(template: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Run the node once: two records of its first resource wait in quarantine."""
    place = copy(template, tmp_path_factory.mktemp("refused") / "node")
    with place.receiver():
        assert finish(start(run_once, place.folder)) == 0
    return place


def decide(folder: Path, what: str, stage: str = "") -> None:
    """Dismiss or replay what waits of a resource, to be killed at a failpoint."""
    with Place(folder).node(failpoint=Striker(stage, 1)) as node:
        if what == "replay":
            replay(node.context, node.store, node.context.resource("cases"), by="test")
        else:
            chosen = Selection(rule="type")
            dismiss(node.context, node.store, "cases", chosen, by="test", reason="a trial")


@pytest.mark.parametrize(
    ("stage", "counts", "told"),
    [
        ("replay:before", (4, 2, 0, 0), 0),
        ("replay:after", (4, 2, 0, 0), 0),
        ("dismiss:before", (2, 0, 2, 0), 1),
        ("dismiss:audited", (2, 0, 2, 0), 1),
        ("dismiss:after", (2, 0, 2, 0), 1),
    ],
)
def test_a_decision_that_is_killed_is_made_once(
    refused: Place, tmp_path: Path, stage: str, counts: tuple[int, ...], told: int
) -> None:
    """Made again it is done; the audit trail has it when it is done, and once."""
    place = copy(refused, tmp_path / "node")
    what = stage.partition(":")[0]
    assert finish(start(decide, place.folder, what, stage)) == -signal.SIGKILL
    assert finish(start(decide, place.folder, what)) == 0
    with place.receiver():
        settle(place)
    with place.node() as node:
        # Refused, replayed, dismissed, settled: what was replayed came back once.
        assert node.store.quarantine.counts()["cases"] == counts
        entries = [row for row in node.store.audit.find() if row.action == "quarantine.dismiss"]
        assert len(entries) == told
        rows = sum(row.rows for row in node.store.deliveries.find(resource="cases"))
        assert rows == 48, "nothing is sealed twice"


def end(process: object) -> None:
    process.terminate()  # type: ignore[attr-defined]
    assert finish(process) == 0  # type: ignore[arg-type]


def summary(who: str, stages: Failpoints, strike: Callable[[str, int], Counts]) -> str:
    started = time.monotonic()
    strikes = stages.strikes(KILLS.now)
    with ThreadPoolExecutor(2) as pool:
        counts = list(pool.map(lambda item: strike(*item), strikes))
    rows, sealed, refused, batches, receipts = (
        sum(getattr(count, name) for count in counts)
        for name in ("rows", "sealed", "refused", "batches", "receipts")
    )
    return (
        f"kill -9 of the {who}: {len(strikes)} kills at {len(set(stages.names))} failpoints in "
        f"{time.monotonic() - started:.0f} s: {rows:,} source rows = {sealed:,} sealed + "
        f"{refused:,} quarantined, {batches:,} batches = {receipts:,} receipts"
    )
