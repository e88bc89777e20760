"""Real faults of the machine, the sources and the catalog: a clear error, and nothing lost."""

from __future__ import annotations

import ctypes
import resource as limits_of
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import numpy as np
import psycopg
import pytest

from exchange.errors import Denied, Integrity, Misconfigured, Rejected, Transient
from exchange.log import CURSORS, quarantine_topic, raw_topic, sealed_topic
from exchange.log.frames import decode_frame
from exchange.node.node import Node
from exchange.pipeline.failure import PullFailure, failure_key
from exchange.pipeline.messages import pull_key
from exchange.pipeline.partition import PartitionState
from exchange.pipeline.pull import PullStage
from exchange.pipeline.replay import replay
from exchange.pipeline.seal import release
from exchange.run.outcome import RunOutcome, Where
from exchange.run.runner import STAGES, Runner
from exchange.seal.batch.build import open_batch
from exchange.store.node.deliveries import DeliveryRow
from exchange.text import Text
from tests.pipeline.place import (
    EAGER,
    LISTED,
    Place,
    Record,
    audit,
    catalog,
    entries,
    finish,
    outcome,
    records,
    run_once,
    settle,
    source,
    start,
    write_csv,
    write_table,
)
from tests.support.nodes import add, make, rebuild, run, table_source
from tests.support.servers import Server

NAMES = ("cases", "firms")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make(tmp_path / "node", {"cases": records(300), "firms": records(200)})


# --- the machine --------------------------------------------------------------------------------


def run_in_little_space(folder: Path, size: int) -> None:
    limits_of.setrlimit(limits_of.RLIMIT_FSIZE, (size, size))
    run_once(folder)


def test_a_full_disk_is_transient_wherever_it_strikes(tmp_path: Path) -> None:
    rows = [
        replace(row, name=f"{sha256(row.id.encode()).hexdigest():.40}") for row in records(2000)
    ]
    template = make(tmp_path / "template", {"cases": rows})
    with template.receiver(), template.node() as node:
        assert node.store
    codes = []
    for step, size in enumerate((200_000, 350_000, 500_000, 700_000)):
        shutil.copytree(template.folder, tmp_path / f"{step}")
        place = Place(tmp_path / f"{step}", template.sources)
        with place.receiver():
            codes.append(finish(start(run_in_little_space, place.folder, size)))
            result = str(outcome(place))
            assert codes[-1] == 0 or "space" in result or "disk" in result, result
            settle(place)
        audit(place)
    assert codes[0] == 4
    assert set(codes) <= {0, 4}


def run_without_privileges(folder: Path) -> None:
    """Run with the rights of the files' owner only: root may write everywhere otherwise."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    assert ctypes.CDLL(None).capset(header, (ctypes.c_uint32 * 6)()) == 0
    run_once(folder)


def test_a_read_only_folder_is_denied(tmp_path: Path) -> None:
    place = make(tmp_path / "node", {"cases": records(50)})
    with place.receiver():
        assert finish(start(run_once, place.folder)) == 0
        data = place.folder / "data"
        for path in data.iterdir():
            path.chmod(0o444)
        data.chmod(0o555)
        write_table(place.folder / "cases.db", records(50, first=51))
        place.sources["cases"] += records(50, first=51)
        assert finish(start(run_without_privileges, place.folder)) == Denied.exit_code
        assert "right" in outcome(place)["error"] or "denies" in outcome(place)["error"]
        data.chmod(0o755)
        for path in data.iterdir():
            path.chmod(0o644)
        settle(place)
    audit(place)


class Clock:
    """A clock that runs, and that somebody sets."""

    def __init__(self) -> None:
        self.offset = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.offset


def test_a_clock_set_back_repeats_no_number(place: Place) -> None:
    clock = Clock()
    clock.offset = timedelta(days=3)
    with place.receiver(clock=clock):
        assert run(place, clock=clock).errors == {}
        clock.offset = timedelta()
        add(place, "cases", records(100, first=301))
        result = run(place, clock=clock)
        assert {where: type(error) for where, error in result.errors.items()} == {
            Where("cascade", "cases"): Transient,
            Where("evidence", "witness"): Transient,
        }, "no batch says that it is older than the last: the province waits for its time"
        clock.offset = timedelta(days=3, minutes=1)
        assert run(place, clock=clock).errors == {}
    audit(place)  # It checks that numbers rise.
    with place.node() as node:
        days = {row.batch_no[:8] for row in node.store.deliveries.find()}
    assert len(days) == 1, "the day of the numbers does not go back with the clock"


def test_no_batch_sleeps_until_the_old_time_comes_round(place: Place) -> None:
    clock = Clock()
    with place.node(clock=clock) as node:
        assert Runner(node, stages=("pull", "seal")).once().errors == {}
        clock.offset = timedelta(hours=2)
        first = Runner(node, policy=EAGER).once()
        assert isinstance(first.error(), Transient), "nobody serves: it waits, in two hours"
    clock.offset = timedelta()
    with place.receiver():
        assert run(place, clock=clock).waiting == 0
    clock.offset = timedelta(hours=2, minutes=1)
    with place.receiver(clock=clock):  # the checkpoint that was signed then waits for its time
        assert run(place, clock=clock).errors == {}
    audit(place)


def test_two_processes_on_one_folder_double_nothing(tmp_path: Path) -> None:
    template = make(tmp_path / "template", {"cases": records(600), "firms": records(400)})
    with template.receiver(), template.node() as node:
        assert node.store
    for number in range(3):
        shutil.copytree(template.folder, tmp_path / f"{number}")
        place = Place(tmp_path / f"{number}", template.sources)
        with place.receiver():
            items = [start(run_once, place.folder) for _ in range(2)]
            assert {finish(process) for process in items} <= {0, 4}
            settle(place)
        audit(place)


class Overtaken(Node):
    """A node whose pull begins just after another process has ended one, and died."""

    other: Iterator[int] = iter(())

    def pull_stage(self, name: str) -> PullStage:
        assert list(self.other), "the other's pull was not at its end before"
        return super().pull_stage(name)


def test_a_pull_whose_end_only_the_next_one_saw_is_shown(tmp_path: Path) -> None:
    place = make(tmp_path / "node", {"cases": records(300)})
    with place.receiver(), place.node() as dying:
        pulling = dying.pull_stage("cases").run()
        next(pulling)
        with Overtaken(place.settings) as node:
            node.other = pulling
            assert Runner(node, policy=EAGER).once().error() is None
            assert [row.state for row in node.store.pulls.find()] == ["done"]
        add(place, "cases", records(40, first=301))
        settle(place)
    assert audit(place).rows == 340


def test_a_store_that_was_deleted_is_made_again_from_the_log(place: Place) -> None:
    with place.receiver():
        settle(place)
        before = audit(place)
        for path in (place.folder / "data").glob("store.db*"):
            path.unlink()
        assert finish(start(run_once, place.folder)) == 6, "no empty one in its place"
        rebuild(place, "store")
        assert finish(start(run_once, place.folder)) == 0
        assert audit(place, pulls=False) == before
        # A backup that lacks the end is caught up with, too.
        more = records(40, first=301)
        backup = (place.folder / "data" / "store.db").read_bytes()
        write_table(place.folder / "cases.db", more)
        place.sources["cases"] += more
        settle(place)
        for path in (place.folder / "data").glob("store.db*"):
            path.unlink()
        (place.folder / "data" / "store.db").write_bytes(backup)
        assert finish(start(run_once, place.folder)) == 6
        rebuild(place, "store")
        assert finish(start(run_once, place.folder)) == 0
    audit(place, pulls=False)


# --- sources ------------------------------------------------------------------------------------


@contextmanager
def postgres_place(tmp_path: Path, server: Server, rows: int) -> Iterator[tuple[Place, RunOutcome]]:
    place = Place.make(
        tmp_path / "node",
        catalog("cases"),
        source(
            "sql",
            "cases",
            "url: env:CASES_URL, table: kill_cases, cursor_column: seq, batch_rows: 5000",
        ),
    )
    with psycopg.connect(server.url, autocommit=True) as database:
        database.execute("DROP TABLE IF EXISTS kill_cases")
        database.execute(
            "CREATE TABLE kill_cases AS SELECT i AS seq, 'r' || i AS id, 'n' || i AS no,"
            " repeat('名称', 12) AS name, date '2026-01-01' + i % 300 AS issued"
            f" FROM generate_series(1, {rows}) i"
        )
        database.execute("ALTER TABLE kill_cases ADD PRIMARY KEY (seq)")
        database.execute("CHECKPOINT")  # the test's server acknowledges before it has written
    place.sources["cases"] = [Record(f"r{i}", f"n{i}", "", "") for i in range(1, rows + 1)]
    yield place, RunOutcome()
    with psycopg.connect(server.url, autocommit=True) as database:
        database.execute("DROP TABLE kill_cases")


def wait_ready(server: Server) -> None:
    """Wait for the end of its recovery."""
    for _ in range(200):
        try:
            psycopg.connect(server.url, connect_timeout=5).close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("PostgreSQL does not come back")


@pytest.mark.parametrize("how", ["backend", "server"])
def test_a_database_that_dies_in_mid_pull_is_resumed(
    how: str, tmp_path: Path, postgres: Server
) -> None:
    if how == "server" and not postgres.owned:
        how = "backend"
    struck: list[int] = []

    def strike(what: str, count: int) -> None:
        if what == "pulled" and count and not struck:
            struck.append(count)
            if how == "server":
                postgres.kill()
                return
            with psycopg.connect(postgres.url, autocommit=True) as database:
                database.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE pid <> pg_backend_pid() AND query LIKE '%kill_cases%'"
                )

    environ = {"CASES_URL": postgres.url}
    with postgres_place(tmp_path, postgres, 120_000) as (place, _), place.receiver():
        try:
            with place.node(environ=environ) as node:
                first = Runner(node, strike, policy=EAGER).once()
        finally:
            if how == "server":
                postgres.start()
                wait_ready(postgres)
        assert isinstance(first.errors[Where("pull", "cases")], Transient)
        assert 0 < first.pulled < 120_000
        assert first.receipts == first.batches > 0, "what had come was delivered"
        second = run(place, environ=environ)
        assert second.errors == {}
        assert first.pulled + second.pulled == 120_000
        counts = audit(place)
    assert counts.sealed == 120_000


WRONG = """\
import polars as pl
from exchange.connect import Pulled, connector

FRAME = pl.DataFrame({"id": ["r1"], "no": ["n1"], "name": ["x"], "issued": ["2026-01-01"]})

@connector("raises")
def raises():
    yield FRAME
    raise ValueError("the key is hunter2")

@connector("lists")
def lists():
    yield [1, 2, 3]

@connector("objects")
def objects():
    yield FRAME.with_columns(id=pl.Series([object()] * FRAME.height, dtype=pl.Object))

@connector("badcursor")
def badcursor(*, cursor):
    yield Pulled(FRAME, {"at": object()})

@connector("nothing")
def nothing():
    return None

@connector("lacks")
def lacks():
    yield FRAME.drop("no")

@connector("empty")
def empty():
    yield from ()

@connector("norows")
def norows():
    yield FRAME.clear()
"""
EXPECTED: dict[Where, type[Exception] | None] = {
    Where("pull", "raises"): Rejected,
    Where("pull", "lists"): Rejected,
    Where("pull", "objects"): Rejected,
    Where("pull", "badcursor"): Rejected,
    Where("pull", "nothing"): Rejected,
    Where("pull", "lacks"): Misconfigured,
}


def test_a_connector_that_fails_fails_alone(tmp_path: Path) -> None:
    names = [where.subject for where in EXPECTED] + ["empty", "norows", "gone"]
    sources = "".join(source(f'"wrong.py:{name}"', name, "") for name in names)
    place = Place.make(tmp_path / "node", catalog(*names, "cases"), sources + table_source("cases"))
    (place.folder / "wrong.py").write_text(WRONG)
    place.sources["cases"] = records(100)
    write_table(place.folder / "cases.db", place.sources["cases"])
    with place.receiver():
        for _ in range(2):
            result = run(place)
            kinds = {where: type(error) for where, error in result.errors.items()}
            assert kinds == {**EXPECTED, Where("pull", "gone"): Misconfigured}
            assert result.receipts == result.batches
    with place.node() as node:
        state = node.context.pull_state("empty")
        assert state is not None
        assert state.done
        assert [e.rows for e in node.store.deliveries.find(resource="raises")] == [1]
        assert len(node.store.deliveries.find(resource="cases")) == 1


def test_a_table_without_rows_is_a_pull_of_nothing(tmp_path: Path) -> None:
    place = make(tmp_path / "node", {"cases": []})
    with place.receiver():
        result = run(place)
    assert (result.pulled, result.batches, result.errors) == (0, 0, {})
    audit(place)


def scramble(length: int, seed: int) -> str:
    """Make text that does not compress well."""
    chosen = np.random.default_rng(seed).integers(0x4E00, 0x9FA5, length)
    return "".join(map(chr, chosen.tolist()))


def test_records_too_large_to_travel_go_to_quarantine(tmp_path: Path) -> None:
    rows = records(60, dirty=False)
    rows[10] = replace(rows[10], name=scramble(900_000, 1))  # more than a message carries
    rows[40] = replace(rows[40], name="名" * 90_000)  # large, and welcome
    place = make(tmp_path / "node", {"cases": rows}, width=100_000)
    more = [f"more{number}" for number in range(5)]
    with closing(sqlite3.connect(place.folder / "cases.db")) as database, database:
        for number, name in enumerate(more):
            database.execute(f"ALTER TABLE cases ADD COLUMN {name} TEXT")
            # All together fit a message, but no batch.
            database.execute(
                f"UPDATE cases SET {name} = ? WHERE id = 'r31'", [scramble(84_000, number)]
            )
    path = place.folder / "catalog.yaml"
    fields = "".join(f"      - {{{name}: 附文 text(100000)}}\n" for name in more)
    path.write_text(path.read_text(encoding="utf-8") + fields, encoding="utf-8")
    with place.receiver():
        result = run(place)
    assert result.errors == {}
    counts = audit(place)
    assert (counts.sealed, counts.refused) == (58, 2)
    with place.node() as node:
        items = [decode_frame(e.value) for e in entries(node.log, quarantine_topic("cases"))]
    values = {row["id"]: row for frame in items for row in frame.to_dicts()}
    assert "source.defect" in {reason["rule"] for reason in values["r11"]["_reasons"]}
    assert [reason["rule"] for reason in values["r31"]["_reasons"]] == ["record.size"]
    assert values["r31"]["more4"] == scramble(84_000, 4), "what fits is kept whole"


def test_many_large_records_that_compress_well_do_not_fill_the_memory(tmp_path: Path) -> None:
    rows = [replace(row, name="x" * 500_000) for row in records(200, dirty=False)]
    place = make(tmp_path / "node", {"cases": rows})
    with place.receiver():
        result = run(place)
    assert result.errors == {}
    assert audit(place).refused == 200


# --- limits and uniqueness ----------------------------------------------------------------------


@pytest.mark.parametrize("limit", ["{max_count: 6}", "{max_percent: 20, window_rows: 50}"])
def test_a_source_gone_bad_halts_until_a_person_releases_it(limit: str, tmp_path: Path) -> None:
    rows = records(100, dirty=False)
    rows += [replace(row, issued="?") for row in records(100, first=101, dirty=False)]
    rows += records(100, first=201, dirty=False)
    place = make(tmp_path / "node", {"cases": rows, "firms": records(200)}, limits={"cases": limit})
    with place.receiver():
        for _ in range(2):
            result = run(place)
            assert result.halted == {Where("seal", "cases")}
            assert type(result.errors[Where("seal", "cases")]) is Rejected
            assert set(result.errors) == {Where("seal", "cases")}
        with place.node() as node:
            assert {r.state for r in node.store.deliveries.find(resource="firms")} == {"receipted"}
            sealed = sum(r.rows for r in node.store.deliveries.find(resource="cases"))
            assert sealed < 200
            assert release(node.context, "cases")
            assert not release(node.context, "cases")
        settle(place)
    counts = audit(place)
    assert counts.refused == 100 + sum(row.issued == "2026-13-01" for row in records(200)) + 2


def listed_place(folder: Path, rows: list[Record]) -> Place:
    place = Place.make(
        folder, catalog("cases"), source('"listed.py:listed"', "cases", "file: listed.csv")
    )
    (place.folder / "listed.py").write_text(LISTED)
    write_csv(place.folder / "listed.csv", rows)
    place.sources["cases"] = rows
    return place


@pytest.mark.parametrize("cursor", [True, False])
def test_a_key_is_unique_within_its_pull_even_when_that_was_killed(
    cursor: bool,  # noqa: FBT001
    tmp_path: Path,
) -> None:
    rows = records(450, dirty=False)
    for twin, of in ((150, 20), (290, 20), (291, 110), (440, 300), (441, 0)):
        rows[twin] = replace(rows[twin], no=rows[of].no)
    folder = tmp_path / "node"
    place = make(folder, {"cases": rows}) if cursor else listed_place(folder, rows)
    # A snapshot: what is new, pulled on after a kill, may bring a newer version of a record.
    path = place.folder / "exchange.yaml"
    text = path.read_text(encoding="utf-8").replace(", cursor_column: seq", "")
    path.write_text(text, encoding="utf-8")
    place.whole = frozenset({"cases"})
    with place.receiver():
        for stage in ("seal:after", "pull:after", "seal:before"):
            assert finish(start(run_once, place.folder, stage, 1)) == -signal.SIGKILL
        assert finish(start(run_once, place.folder)) == 0
    audit(place)
    with place.node() as node:
        quarantine = entries(node.log, quarantine_topic("cases"))
        refused = [i for e in quarantine for i in decode_frame(e.value)["id"].to_list()]
        pulls = len({e.headers["pull"] for e in entries(node.log, raw_topic("cases"))})
    assert pulls == 1
    assert refused == ["r151", "r291", "r292", "r441", "r442"]


# --- the catalog --------------------------------------------------------------------------------


def test_a_catalog_that_changed_judges_what_waits_and_the_chain_goes_on(place: Place) -> None:
    with place.receiver():
        assert finish(start(run_once, place.folder)) == 0
        more = [replace(row, name="长" * 60) for row in records(50, first=301, dirty=False)]
        write_table(place.folder / "cases.db", more)
        place.sources["cases"] += more
        assert finish(start(run_once, place.folder, "", 0, ("pull",))) == 0
        wider = catalog("cases", "firms", width=80).replace('version: "1"', 'version: "2"')
        (place.folder / "catalog.yaml").write_text(wider, encoding="utf-8")
        settle(place)
    counts = audit(place)
    assert counts.sealed > 50
    with place.node() as node:
        last = list(entries(node.log, sealed_topic("cases")))[-1]
        assert open_batch(last.value).statement.catalog_version == "2"


def test_a_resource_dropped_from_the_catalog_is_told_and_its_data_waits(place: Place) -> None:
    with place.receiver():
        assert finish(start(run_once, place.folder, "", 0, ("pull",))) == 0
        text = (place.folder / "catalog.yaml").read_text(encoding="utf-8")
        (place.folder / "catalog.yaml").write_text(catalog("firms"), encoding="utf-8")
        result = run(place)
        assert isinstance(result.errors[Where("pull", "cases")], Rejected)
        assert isinstance(result.errors[Where("catalog", "cases")], Rejected)
        assert {row.state for row in stored(place, "firms")} == {"receipted"}
        (place.folder / "catalog.yaml").write_text(text, encoding="utf-8")
        settle(place)
    audit(place)


def stored(place: Place, name: str) -> list[DeliveryRow]:
    with place.node() as node:
        return node.store.deliveries.find(resource=name)


def test_a_column_that_is_gone_is_told_and_its_data_waits(place: Place) -> None:
    with place.receiver():
        with closing(sqlite3.connect(place.folder / "cases.db")) as database, database:
            database.execute("ALTER TABLE cases RENAME COLUMN no TO number")
        result = run(place)
        assert {where: type(e) for where, e in result.errors.items()} == {
            Where("pull", "cases"): Misconfigured
        }
        assert "cases: the source lacks required columns" in str(
            result.errors[Where("pull", "cases")]
        )
        changed = (place.folder / "catalog.yaml").read_text(encoding="utf-8")
        changed = changed.replace("    key: [no]", "    key: [no]\n    columns: {number: no}", 1)
        (place.folder / "catalog.yaml").write_text(changed, encoding="utf-8")
        settle(place)
    audit(place)


def test_a_file_with_other_headers_holds_up_nobody(tmp_path: Path) -> None:
    """It is refused by name with every pull and stays; the files after it are sealed.

    So is one with nothing but other headers. A pull is done all the same: what the next one
    brings of a key is no repeat.
    """
    bad = "编号,名字\n1,甲\n"
    options = "folder: drops, settle: 0"
    place = Place.make(tmp_path / "node", catalog("cases"), source("files", "cases", options))
    rows = records(10, dirty=False)
    write_csv(place.folder / "drops" / "b_good.csv", rows[:5])
    (place.folder / "drops" / "a_bad.csv").write_text(bad, encoding="utf-8")
    (place.folder / "drops" / "e_bare.csv").write_text("编号,名字,x\n", encoding="utf-8")
    place.sources["cases"] = rows
    with place.receiver():
        for more in (5, 10):
            result = run(place)
            assert set(result.errors) == {Where("pull", "cases")}
            assert type(result.errors[Where("pull", "cases")]) is Misconfigured
            for name in ("a_bad.csv", "e_bare.csv"):
                assert f"{name}: the source lacks required columns" in str(
                    result.errors[Where("pull", "cases")]
                )
            assert sum(row.rows for row in stored(place, "cases")) == more
            assert (place.folder / "drops" / "a_bad.csv").read_text(encoding="utf-8") == bad
            write_csv(place.folder / "drops" / "c_good.csv", rows[5:])
        with place.node() as node:
            state = node.context.pull_state("cases")
            assert state is not None
            assert state.done
            assert state.cursor is not None
            assert set(state.cursor["files"]) == {"b_good.csv", "c_good.csv"}
            assert set(state.cursor["refused"]) == {"a_bad.csv", "e_bare.csv"}
            lacking = {e.headers["locator"] for e in entries(node.log, raw_topic("cases"))}
        assert lacking == {"b_good.csv", "c_good.csv"}
        (place.folder / "drops" / "a_bad.csv").unlink()
        (place.folder / "drops" / "e_bare.csv").unlink()
        assert run(place).errors == {}
    audit(place)


def test_a_pull_that_leaves_a_file_out_is_done(tmp_path: Path) -> None:
    """What a later file brings of a key is its newer version, not a repeat within one pull."""
    options = "folder: drops, settle: 0"
    place = Place.make(tmp_path / "node", catalog("cases"), source("files", "cases", options))
    rows = records(5, dirty=False)
    (place.folder / "drops").mkdir()
    (place.folder / "drops" / "a_bad.xlsx").write_bytes(b"PK\x03\x04 damaged")
    newer = [replace(row, id=f"{row.id}-2", name="改") for row in rows]
    with place.receiver():
        for name, some in (("b", rows), ("c", newer)):
            write_csv(place.folder / "drops" / f"{name}.csv", some)
            done = run(place)
            assert "a_bad.xlsx" in str(done.errors[Where("pull", "cases")])
            assert (done.accepted, done.quarantined) == (5, 0)
        with place.node() as node:
            assert {pull.state for pull in node.store.pulls.find(source="cases")} == {"done"}
            failure = PullFailure.of(node.log.latest(CURSORS, failure_key("cases")))
            assert failure.kind == "Rejected"
        (place.folder / "drops" / "a_bad.xlsx").unlink()
        assert run(place).errors == {}
        with place.node() as node:
            failure = PullFailure.of(node.log.latest(CURSORS, failure_key("cases")))
            assert failure == PullFailure()
    place.sources["cases"] = rows + newer
    audit(place)


def test_a_file_whose_header_the_catalog_refused_is_read_when_the_catalog_changes(
    tmp_path: Path,
) -> None:
    options = "folder: drops, settle: 0"
    place = Place.make(tmp_path / "node", catalog("cases"), source("files", "cases", options))
    rows = records(5, dirty=False)
    write_csv(place.folder / "drops" / "a.csv", rows)
    text = (place.folder / "drops" / "a.csv").read_text("utf-8").replace("id,no,", "id,number,", 1)
    (place.folder / "drops" / "a.csv").write_text(text, "utf-8")
    with place.receiver():
        for _ in range(2):
            assert set(run(place).errors) == {Where("pull", "cases")}
        path = place.folder / "catalog.yaml"
        changed = path.read_text("utf-8")
        changed = changed.replace("    key: [no]", "    key: [no]\n    columns: {number: no}", 1)
        path.write_text(changed, "utf-8")
        assert run(place).errors == {}
    place.sources["cases"] = rows
    audit(place)


def test_rows_that_lack_a_new_column_go_to_quarantine_and_come_back(place: Place) -> None:
    """They are in the log already: their resource is not blocked, and nothing of them is lost."""
    path = place.folder / "catalog.yaml"
    before = path.read_text(encoding="utf-8")
    total = len(place.sources["cases"])
    with place.receiver():
        assert finish(start(run_once, place.folder, "", 0, ("pull",))) == 0
        path.write_text(before.replace("{id: 标识", "{more: 新增 text(5)!, id: 标识", 1), "utf-8")
        assert run(place).errors == {}, "the source has nothing new"
        assert stored(place, "cases") == []
        with place.node() as node:
            rows = node.store.quarantine.find(resource="cases", waiting=True, limit=100)
            assert sum(row.rows for row in rows) == total
            assert {name for row in rows for name in row.reasons} == {"columns:"}
        path.write_text(before, "utf-8")
        with place.node() as node:
            resource = node.context.resource("cases")
            assert replay(node.context, node.store, resource, by="test").rows == total
            refused = Runner(node, policy=EAGER).once().quarantined
        assert sum(row.rows for row in stored(place, "cases")) == total - refused
        assert 0 < refused < total // 8


@pytest.mark.parametrize("done", [True, False])
def test_a_raw_topic_made_anew_is_a_gap(done: bool, place: Place) -> None:  # noqa: FBT001
    """It ends before what the last pull wrote: rows are gone, which no run passes over."""
    with place.receiver():
        assert run(place).errors == {}
        with place.node() as node:
            state = node.context.pull_state("cases")
            assert state is not None
            written = replace(state, since=(10_000,), done=done)
            with node.log.transaction(pull_key("cases")) as tx:
                tx.append(written.to_message("cases"))
        for _ in range(2):
            done_now = run(place)
            assert {where: type(e) for where, e in done_now.errors.items()} == {
                Where("pull", "cases"): Integrity
            }
        with place.node() as node, node.log.transaction(pull_key("cases")) as tx:
            tx.append(written.rewind(None).to_message("cases"))
        assert run(place).errors == {}


def test_a_topic_that_had_sealed_something_is_not_made_anew(place: Place) -> None:
    with place.node() as node, node.log.transaction("x") as tx:
        tx.append(PartitionState("20261123", 3, 64, "sm3:0").to_message("gone", 0))
    with place.node() as node, pytest.raises(Integrity, match=r"exchange\.raw\.gone was deleted"):
        node.context.ensure("gone")


# --- errors in the middle of a stage -------------------------------------------------------------


class Stumble:
    """Raises once, the first or the second time that one failpoint is passed."""

    def __init__(self, stage: str, number: int, error: Exception) -> None:
        self.left = number
        self.stage = stage
        self.error = error

    def __call__(self, stage: str) -> None:
        if stage == self.stage:
            self.left -= 1
            if self.left == 0:
                raise self.error


AWAY = Transient(Text("试", "a trial"), hint=Text("试", "a trial"))
STEPS = [
    *("pull:before", "pull:after", "seal:before", "seal:after"),
    *("project:before", "project:shown", "project:after", "delivery:before", "delivery:after"),
    *("send:before", "send:after", "receipt:before", "receipt:after"),
    *("settle:before", "settle:after"),
]


@pytest.mark.parametrize("failpoint", STEPS)
@pytest.mark.parametrize("error", [AWAY, RuntimeError("a defect")], ids=["transient", "defect"])
def test_an_error_at_any_failpoint_is_reported_and_the_other_stages_go_on(
    failpoint: str, error: Exception, place: Place
) -> None:
    stumble = Stumble(failpoint, 2, error)
    with place.receiver(), place.node(failpoint=stumble) as node:
        runner = Runner(node, policy=EAGER)
        first = runner.once()
        assert stumble.left <= 0
        assert first.batches > 0
        if not isinstance(error, Transient):
            assert set(first.errors) <= {Where(stage, name) for stage in STAGES for name in NAMES}
        last = runner.once()
        if last.waiting:  # a batch that was left under way
            last = runner.once()
        assert (last.errors, last.waiting) == ({}, 0)
    audit(place)
