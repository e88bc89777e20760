"""Each part of a node lost alone, and each pair: it goes on as it was, or stops and says so."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import pytest

from exchange.cli.main import main
from exchange.cli.receiver import receiver_options
from exchange.errors import Integrity
from exchange.receiver.serve import check_database
from exchange.run.runner import Runner
from exchange.store.database import open_store
from tests.pipeline.place import EAGER, Place, audit, now, records
from tests.support.nodes import make, run

ROWS = 60
PARTS = {
    "log": ("log.db", "log.db-wal", "log.db-shm"),
    "store": ("store.db", "store.db-wal", "store.db-shm"),
    "evidence": ("evidence",),
}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make(tmp_path / "node", {"cases": records(ROWS)})


def lose(place: Place, *parts: str) -> None:
    for name in (name for part in parts for name in PARTS[part]):
        path = place.folder / "data" / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


@pytest.mark.parametrize("parts", [("store",), ("evidence",), ("store", "evidence")])
def test_what_the_log_makes_again_goes_on(place: Place, parts: tuple[str, ...]) -> None:
    with place.receiver():
        assert run(place).errors == {}
        lose(place, *parts)
        outcome = run(place)
    assert (outcome.errors, outcome.pulled) == ({}, 0)
    assert audit(place, pulls="store" not in parts).receipts > 0


@pytest.mark.parametrize(
    ("parts", "witness"),
    [
        (("log",), "the evidence log has"),
        (("log", "store"), "the evidence log has"),
        (("log", "evidence"), "the store has"),
    ],
)
def test_a_lost_log_stops_the_node(place: Place, parts: tuple[str, ...], witness: str) -> None:
    with place.receiver():
        assert run(place).errors == {}
        lose(place, *parts)
        for _ in range(2):  # the second time, too
            with place.node() as node, pytest.raises(Integrity, match=witness) as stopped:
                Runner(node, policy=EAGER).once()
        assert stopped.value.exit_code == 6
        assert "backup" in stopped.value.hint.en
        # What the hint says for those who have none: a node that begins anew.
        lose(place, "log", "store", "evidence")
        with place.node() as node:
            outcome = Runner(node, policy=EAGER, stages=("pull", "seal")).once()
        assert (outcome.errors, outcome.pulled) == ({}, ROWS)


def test_who_only_looks_makes_no_empty_part_in_place_of_a_lost_one(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next start would find an empty log, or an empty database, and believe it."""
    with place.receiver():
        assert run(place).errors == {}
    lost = [place.folder / "data", place.folder / "province"]
    for path in (*lost[0].glob("log.db*"), *lost[1].glob("received.db*")):
        path.unlink()
    monkeypatch.setenv("EXCHANGE_CONFIG", str(place.folder / "exchange.yaml"))
    assert main(["doctor"], os.environ) == Integrity.exit_code
    monkeypatch.setenv("EXCHANGE_CONFIG", str(place.folder / "province" / "exchange.yaml"))
    assert main(["receiver", "list"], os.environ) == Integrity.exit_code
    assert not any(lost[0].glob("log.db*"))
    assert not any(lost[1].glob("received.db*"))


def test_a_receiver_whose_database_was_lost_does_not_answer(place: Place) -> None:
    with place.receiver():
        assert run(place).errors == {}
    options = receiver_options(place.province, os.environ, port=0)
    check_database(options.store, options.folder)
    with contextlib.closing(open_store(options.store, clock=now)) as store:
        assert store.received_batches.counts()[0] > 0
    for path in (place.folder / "province").glob("received.db*"):
        path.unlink()
    with pytest.raises(Integrity, match="database was lost"):
        check_database(options.store, options.folder)
    shutil.rmtree(options.folder)
    check_database(options.store, options.folder)
