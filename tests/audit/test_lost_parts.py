"""Each part of a node lost alone, and each pair: it goes on as it was, or stops and says so."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path

import pytest

from exchange.cli.main import main
from exchange.cli.receiver import receiver_options
from exchange.errors import Integrity
from exchange.node.auditing import audit_node
from exchange.node.seal_administration import SealAdministration
from exchange.receiver.mark import check_mark, write_mark
from exchange.receiver.serve import check_database
from exchange.run.runner import Runner
from exchange.seal.eseal.lifecycle import Step
from exchange.store.database import open_store
from tests.pipeline.place import EAGER, Place, audit, now, records
from tests.support.nodes import add, make, run

ROWS = 60
PARTS = {
    "log": ("log.db", "log.db-wal", "log.db-shm"),
    "store": ("store.db", "store.db-wal", "store.db-shm"),
    "evidence": ("evidence",),
}


ORIGINS = ('["exchange/232700"]', '["exchange/232700", "exchange/232700-2"]')


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = make(tmp_path / "node", {"cases": records(ROWS)})
    path = place.folder / "province" / "exchange.yaml"
    text = path.read_text("utf-8")
    path.write_text(text.replace(*ORIGINS), "utf-8")
    with place.node() as node:
        node.take_up_catalog()
    return place


def lose(place: Place, *parts: str) -> None:
    for name in (name for part in parts for name in PARTS[part]):
        path = place.folder / "data" / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def recovered(place: Place, *arguments: str) -> None:
    """Look, then rebuild, as a person does."""
    config = f"--config={place.folder / 'exchange.yaml'}"
    before = {path: path.read_bytes() for path in files(place)}
    assert main(["recover", *arguments, config], {}) == 2, "a dry run tells that there is work"
    assert {path: path.read_bytes() for path in files(place)} == before
    assert main(["recover", "--apply", *arguments, config], {}) == 0
    assert main(["recover", config], {}) == 0, "nothing is left to do"


def files(place: Place) -> list[Path]:
    folder = place.folder / "data"
    return [path for path in folder.rglob("*") if path.is_file() and "-shm" not in path.name]


def failed(place: Place) -> list[str]:
    with place.node() as node:
        return [f"{c.name}: {c.expected}: {c.found}" for c in audit_node(node).failed]


def sent(place: Place) -> list[tuple[str, str]]:
    """List what the province has: number and statement of each batch."""
    options = receiver_options(place.province, os.environ, port=0)
    with contextlib.closing(open_store(options.store, clock=now)) as store:
        rows = store.received_batches.find(limit=10_000)
    return sorted((row.batch_no, row.statement) for row in rows)


def test_a_lost_folder_of_the_evidence_log_is_made_again_by_the_next_run(place: Place) -> None:
    with place.receiver():
        assert run(place).errors == {}
        lose(place, "evidence")
        outcome = run(place)
    assert (outcome.errors, outcome.pulled) == ({}, 0)
    assert audit(place).receipts > 0


ALONE_AND_PAIRS = (
    *(("log",), ("store",), ("evidence",)),
    *(("log", "store"), ("log", "evidence"), ("store", "evidence")),
)


@pytest.mark.parametrize("parts", ALONE_AND_PAIRS, ids="+".join)
def test_each_part_and_each_pair_is_rebuilt(place: Place, parts: tuple[str, ...]) -> None:
    """Nothing is delivered twice, no number comes twice, and every audit passes from then on."""
    with place.receiver():
        with place.node() as node:
            administration = SealAdministration(node, "wang")
            administration.take("data", Step.SUSPEND, "机构调整")
            administration.take("data", Step.RESUME)
        assert run(place).errors == {}
        assert failed(place) == []
        before = sent(place)
        lose(place, *parts)
        if parts != ("evidence",):
            for _ in range(2):  # the second time, too
                with place.node() as node, pytest.raises(Integrity) as stopped:
                    Runner(node, policy=EAGER).once()
                assert stopped.value.exit_code == 6
                assert "exchange recover" in stopped.value.hint.en
        if parts == ("log", "evidence"):
            config = f"--config={place.folder / 'exchange.yaml'}"
            assert main(["recover", "--apply", config], {}) == 1, "the old name cannot go on"
            anew(place)
        repeats = parts == ("log", "store")
        recovered(place, *["--repeat"] * repeats)
        assert failed(place) == []
        outcome = run(place)
        assert (outcome.errors, outcome.pulled) == ({}, ROWS if repeats else 0)
        numbers = [number for number, _ in sent(place)]
        assert sent(place)[: len(before)] == before
        assert len(set(numbers)) == len(numbers) == len(before) * (2 if repeats else 1)
        add(place, "cases", records(ROWS, first=ROWS + 1))
        assert run(place).errors == {}
        assert sent(place)[: len(before)] == before
        assert failed(place) == []


def anew(place: Place) -> None:
    """Name the evidence log anew; the province takes both names."""
    path = place.folder / "exchange.yaml"
    text = path.read_text("utf-8")
    path.write_text(f"{text}\nevidence: {{origin: exchange/232700-2}}\n", "utf-8")


def test_nothing_left_means_to_begin_anew_under_another_name(place: Place) -> None:
    """Only the witness knows that there was a log."""
    with place.receiver():
        assert run(place).errors == {}
        lose(place, "log", "store", "evidence")
        with place.node() as node, pytest.raises(Integrity, match="the witness has seen"):
            Runner(node, policy=EAGER).once()
        config = f"--config={place.folder / 'exchange.yaml'}"
        assert main(["recover", "--apply", config], {}) == 6
        anew(place)
        with place.node() as node:
            outcome = Runner(node, policy=EAGER, stages=("pull", "seal")).once()
        assert (outcome.errors, outcome.pulled) == ({}, ROWS)


def older(place: Place, backup: Path, *parts: str) -> None:
    """Put an older copy of parts in the place of theirs."""
    lose(place, *parts)
    for name in (name for part in parts for name in PARTS[part]):
        if (backup / name).is_dir():
            shutil.copytree(backup / name, place.folder / "data" / name)
        elif (backup / name).exists():
            shutil.copy(backup / name, place.folder / "data" / name)


@pytest.mark.parametrize(
    ("parts", "match"),
    [
        (("log",), "the log is an older copy"),
        (("store",), "the store is an older copy"),
        (("log", "store"), "the log is an older copy"),
        (("log", "evidence"), "the log is an older copy"),
        (("log", "store", "evidence"), "the witness has seen"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, tuple) else "",
)
def test_an_older_part_stops_the_node(
    place: Place, tmp_path: Path, parts: tuple[str, ...], match: str
) -> None:
    with place.receiver():
        assert run(place).errors == {}
        shutil.copytree(place.folder / "data", tmp_path / "backup")
        add(place, "cases", records(ROWS, first=ROWS + 1))
        assert run(place).errors == {}
        before = sent(place)
        older(place, tmp_path / "backup", *parts)
        with place.node() as node, pytest.raises(Integrity, match=match) as stopped:
            Runner(node, policy=EAGER).once()
        assert stopped.value.exit_code == 6
        if parts == ("log", "evidence"):
            kept = {path: path.read_bytes() for path in files(place)}
            config = f"--config={place.folder / 'exchange.yaml'}"
            assert main(["recover", "--apply", config], {}) == 1, "it cannot go on"
            assert {path: path.read_bytes() for path in files(place)} == kept, "nor is it spoilt"
            lose(place, "evidence")
            anew(place)
        if len(parts) == 1 or parts == ("log", "evidence"):
            recovered(place)
            assert run(place).errors == {}
            assert failed(place) == []
        assert sent(place) == before


@pytest.mark.parametrize("part", ["log", "store", "evidence"])
def test_a_part_of_another_node_stops_the_node(place: Place, tmp_path: Path, part: str) -> None:
    other = make(tmp_path / "other", {"cases": records(ROWS)})
    with place.receiver():
        assert run(place).errors == {}
    with other.receiver():
        assert run(other).errors == {}
    older(place, other.folder / "data", part)
    with place.receiver():
        with place.node() as node, pytest.raises(Integrity) as stopped:
            Runner(node, policy=EAGER).once()
        assert "is not this node's" in stopped.value.what.en
        config = f"--config={place.folder / 'exchange.yaml'}"
        assert main(["recover", "--apply", config], {}) == 6, "which one is right, a person says"


def test_a_witness_that_is_away_stops_nothing_and_that_is_told(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    config = f"--config={place.folder / 'exchange.yaml'}"
    with place.receiver():
        assert main(["run", "--once", "--json", config], {}) == 0
    assert json.loads(capsys.readouterr().out)["unasked"] is None
    assert main(["run", "--once", "--only", "pull", "--only", "seal", "--json", config], {}) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["unasked"]["en"]
    assert "the witness was not asked" in told.err


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


def test_a_receiver_whose_database_is_older_does_not_start(place: Place, tmp_path: Path) -> None:
    options = receiver_options(place.province, os.environ, port=0)
    database = place.folder / "province" / "received.db"
    with contextlib.closing(open_store(options.store, clock=now)) as store:
        check_mark(store, options.folder)
        write_mark(store, options.folder, os.urandom)
        check_mark(store, options.folder)
    shutil.copy(database, tmp_path / "backup")
    with contextlib.closing(open_store(options.store, clock=now)) as store:
        write_mark(store, options.folder, os.urandom)
        check_mark(store, options.folder)
    for copy, match in ((tmp_path / "backup", "is an older copy"), (None, "is not that of")):
        for path in database.parent.glob("received.db*"):
            path.unlink()
        if copy is not None:
            shutil.copy(copy, database)
        with (
            contextlib.closing(open_store(options.store, clock=now, migrate=True)) as store,
            pytest.raises(Integrity, match=match),
        ):
            check_mark(store, options.folder)


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
    (place.folder / "province" / "received.db").touch()
    with pytest.raises(Integrity, match="database was lost"):
        check_database(options.store, options.folder)
    shutil.rmtree(options.folder)
    check_database(options.store, options.folder)
