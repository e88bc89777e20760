"""Thirty sources of all kinds: three hang, one lies; the others, and one that floods, are on time.

Nothing here is measured by a clock: the others are sealed while the three still hang and the
flood still comes.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from pathlib import Path

import psycopg
import pytest

from exchange.log import raw_topic, sealed_topic
from exchange.log.embedded.log import EmbeddedLog
from exchange.pipeline.messages import SealedEntry
from exchange.run.outcome import RunOutcome
from exchange.run.runner import Runner
from tests.cli.conftest import Run
from tests.cli.test_poison import author_of, folder_of, good_row, table_of
from tests.pipeline.place import (
    EAGER,
    Place,
    Record,
    catalog,
    entries,
    now,
    source,
    write_csv,
    write_table,
)
from tests.pipeline.test_runner import wait_for
from tests.support import web_service
from tests.support.servers import Server
from tests.support.sockets import listening
from tests.support.workbooks import minimal_xlsx

ROWS = 5
FILES, TABLES, SERVED, ASKED, OWN = 8, 7, 5, 3, 2
HUNG = ("silent", "pipe", "slow")
GOOD = [
    *(f"file{n}" for n in range(FILES)),
    *(f"table{n}" for n in range(TABLES)),
    *(f"served{n}" for n in range(SERVED)),
    *(f"asked{n}" for n in range(ASKED)),
    *(f"own{n}" for n in range(OWN)),
]
CONNECTOR = """\
from itertools import count
from pathlib import Path
import polars as pl
from exchange.connect import connector

def rows(first, height):
    texts = [f"r{n}" for n in range(first, first + height)]
    return pl.DataFrame({"id": texts, "no": texts, "name": texts}).with_columns(
        issued=pl.lit("2026-01-01")
    )

@connector("author")
def author(*, how: str, base: Path):
    if how == "pipe":
        yield pl.read_csv((base / "pipe").read_bytes())
    if how == "flood":
        yield from (rows(first, 500) for first in count(step=500))
    yield rows(0, 5)
"""


def served_of(name: str, table: str, variable: str = "SERVED_URL") -> str:
    options = f"url: env:{variable}, table: {table}, connect_seconds: 300"
    return source("sql", name, options, when=PACE)


PACE = "every: 1d, timeout: 1h"


@contextmanager
def silence() -> Iterator[str]:
    """Serve a port that accepts and says nothing, until the end."""
    over = threading.Event()

    def nothing(_connection: socket.socket) -> None:
        over.wait()

    with listening(nothing) as address:
        try:
            yield address.removeprefix("http://")
        finally:
            over.set()


@pytest.fixture
def place(tmp_path: Path, postgres: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    names = (*GOOD, *HUNG, "flood", "liar")
    assert len(names) == 30
    with ExitStack() as stack:
        behaviour = web_service.pages([asdict(row) for row in good_row("asked")])
        service = stack.enter_context(web_service.serving(behaviour))
        options = f'url: "{service.url}", paging: page, records: data.list, total: data.total'
        sources = (
            "".join(folder_of(f"file{n}") for n in range(FILES))
            + "".join(table_of(f"table{n}") for n in range(TABLES))
            + "".join(source("rest", f"asked{n}", options) for n in range(ASKED))
            + "".join(author_of(f"own{n}", "plain") for n in range(OWN))
            + author_of("pipe", "pipe")
            + author_of("flood", "flood")
            + table_of("liar")
        ).replace(", with: {", f", {PACE}, with: {{")
        sources += "".join(served_of(f"served{n}", "hang_cases") for n in range(SERVED))
        sources += served_of("silent", "hang_cases", "SILENT_URL") + served_of("slow", "hang_slow")
        place = Place.make(
            tmp_path / "node", catalog(*names, limits={"liar": "{max_count: 1}"}), sources
        )
        _fill(place.folder)
        database = stack.enter_context(psycopg.connect(postgres.url, autocommit=True))
        stack.callback(database.execute, "DROP TABLE IF EXISTS hang_cases CASCADE")
        database.execute(
            "CREATE TABLE hang_cases AS SELECT i AS seq, 'r' || i AS id, 'n' || i AS no,"
            f" '名称' AS name, date '2026-01-01' AS issued FROM generate_series(1, {ROWS}) i"
        )
        database.execute("ALTER TABLE hang_cases ADD PRIMARY KEY (seq)")
        database.execute(
            "CREATE VIEW hang_slow AS SELECT c.* FROM pg_sleep(100000) s, hang_cases c"
        )
        monkeypatch.setenv("SERVED_URL", postgres.url)
        monkeypatch.chdir(place.folder)
        address = stack.enter_context(silence())
        monkeypatch.setenv("SILENT_URL", f"postgresql://nobody@{address}/none")
        stack.callback(_free, place.folder / "pipe", database)
        yield place


def _fill(folder: Path) -> None:
    titles = ("id", "no", "name", "issued")
    for number in range(FILES):
        name = f"file{number}"
        path = folder / "drops" / name / "a.csv"
        write_csv(path, good_row(name))
        if number == 2:
            path.unlink()
            rows = [(row.id, row.no, row.name, row.issued) for row in good_row(name)]
            path.with_suffix(".xlsx").write_bytes(minimal_xlsx([titles, *rows]))
    for number in range(TABLES):
        write_table(folder / f"table{number}.db", good_row(f"table{number}"))
    write_table(folder / "liar.db", [Record(f"b{n}", f"b{n}", "坏", "?") for n in range(3)])
    (folder / "author.py").write_text(CONNECTOR, encoding="utf-8")
    os.mkfifo(folder / "pipe")


def _free(pipe: Path, database: psycopg.Connection) -> None:
    """Let what hangs go: threads of a test end with it."""
    database.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%hang_slow%'"
        " AND pid <> pg_backend_pid()"
    )
    wait_for(lambda: not _pulling("pull pipe", pipe))


def _pulling(name: str, pipe: Path) -> bool:
    """Tell whether a thread still reads; each gets the end of the pipe."""
    os.close(os.open(pipe, os.O_RDWR))
    return any(thread.name == name for thread in threading.enumerate())


def sealed(log: EmbeddedLog, name: str) -> int:
    if sealed_topic(name) not in {topic.name for topic in log.topics()}:
        return 0
    batches = map(SealedEntry.of, entries(log, sealed_topic(name)))
    return sum(batch.rows for batch in batches if batch is not None)


def test_three_hang_one_floods_one_lies_and_the_others_are_on_time(place: Place, run: Run) -> None:
    stop = threading.Event()
    outcomes: list[RunOutcome] = []

    def supervise() -> None:
        with place.node() as node:
            stages = ("pull", "seal")
            runner = Runner(node, policy=EAGER, stages=stages, heartbeat=outcomes.append, grace=0)
            runner.forever(stop, lambda *_: None)

    thread = threading.Thread(target=supervise)
    thread.start()
    try:
        wait_for(lambda: outcomes)
        path = place.settings.resolve(place.settings.log.path)
        with closing(EmbeddedLog(path, clock=now)) as log:
            wait_for(lambda: all(sealed(log, name) >= ROWS for name in GOOD))
            _check_the_flood(log)
        pulling = {thread.name for thread in threading.enumerate()}
        assert pulling >= {f"pull {name}" for name in (*HUNG, "flood")}, "they still hang"
        assert {str(where) for where in outcomes[-1].errors} <= {"seal/liar"}
        wait_for(lambda: [*map(str, outcomes[-1].errors)] == ["seal/liar"])
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive(), "what hangs does not keep the run from its end"
    _check_that_each_is_named(place.folder / "exchange.yaml", run)


def _check_the_flood(log: EmbeddedLog) -> None:
    """It comes on, and no faster than it is sealed."""
    raw = raw_topic("flood")
    before = sealed(log, "flood")
    wait_for(lambda: sealed(log, "flood") > before)
    behind = log.bounds(raw, 0)[1] - log.position("seal", raw, 0)
    assert behind <= 3, "one message is sealed, one waits, one is written"


def _check_that_each_is_named(settings: Path, run: Run) -> None:
    """Each that hangs ends by its own limit."""
    text = settings.read_text("utf-8").replace("timeout: 1h", "timeout: 1s")
    settings.write_text(text, "utf-8")
    ended = run("run", *HUNG, "--once", "--only", "pull", "--json")
    assert ended.code == 4
    attention = {
        item["subject"]: item["what"]["en"] for item in run("status", "--json").json["attention"]
    }
    assert set(attention) == {*HUNG, "liar/0"}
    for name in HUNG:
        assert (
            f"source {name} brought nothing for 1 s"
            in ended.json["errors"][f"pull/{name}"]["what"]["en"]
        )
        assert f"sources.{name}.timeout" in attention[name]
