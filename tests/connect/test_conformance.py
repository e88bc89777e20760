"""The conformance suite finds what it is made for: an honest connector passes, faults fail.

One small table stands behind all of them. Each fault is the honest connector with one thing
done as somebody once did it.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

import polars as pl
import pytest

from exchange.connect import Connector, Cursor, Pulled, Secret, Source, Text, connector
from exchange.connect.conformance import CHECKS, Case, Changes, untested

SECRET = "hunter2"
_PAGE = 3


@dataclass
class Ledger:
    """The system behind the connectors: records in order of time, some of one time."""

    records: list[tuple[int, str, int]] = field(
        default_factory=lambda: [(n, f"n{n}", n // 2) for n in range(10)]
    )
    down: bool = False
    opened: int = 0

    def rows(self) -> list[tuple[int, str, int]]:
        if self.down:
            raise ConnectionError("the ledger does not answer")
        return sorted(self.records, key=lambda record: (record[2], record[0]))

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        self.opened += 1
        try:
            yield
        finally:
            self.opened -= 1

    # What a case changes.

    def late(self) -> list[tuple[int, str]]:
        self.records.append((-1, "late", max(at for _, _, at in self.records)))
        return [(-1, "late")]

    def update(self) -> list[tuple[int, str]]:
        self.records[0] = (0, "changed", 99)
        return [(0, "changed")]

    def delete(self) -> list[tuple[int, str]]:
        number, name, _ = self.rows()[0]
        self.records = [record for record in self.records if record[0] != number]
        return [(number, name)]

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        self.down = True
        try:
            yield
        finally:
            self.down = False


LEDGERS: dict[str, Ledger] = {}
Name = Annotated[str, Text("哪一个账本", "which ledger")]
Key = Annotated[Secret, Text("口令", "the password")]


def frame(records: list[tuple[int, str, int]]) -> pl.DataFrame:
    return pl.DataFrame(
        records, schema={"id": pl.Int64, "name": pl.String, "at": pl.Int64}, orient="row"
    )


def log_in(ledger: str, key: Secret) -> Ledger:
    if key.reveal() != SECRET:
        raise ValueError("wrong password")
    return LEDGERS[ledger]


def fresh(book: Ledger, cursor: Cursor | None) -> list[tuple[int, str, int]]:
    """Return what was not delivered: behind the last time, and of that time what is not known."""
    at, known = (cursor["at"], cursor["known"]) if cursor else (-1, [])
    return [r for r in book.rows() if r[2] > at or (r[2] == at and list(r) not in known)]


def position(done: list[tuple[int, str, int]], cursor: Cursor | None) -> dict[str, Any]:
    at = done[-1][2]
    before = cursor["known"] if cursor and cursor["at"] == at else []
    return {"at": at, "known": [*before, *(list(r) for r in done if r[2] == at)]}


@connector("honest")
def honest(ledger: Name, key: Key, *, cursor: Cursor | None) -> Iterator[Pulled]:
    """Pull by time; records of the last time are remembered."""
    book = log_in(ledger, key)
    with book.session():
        while piece := fresh(book, cursor)[:_PAGE]:
            cursor = position(piece, cursor)
            yield Pulled(frame(piece), cursor, "ledger")


@connector("loses")
def loses_a_record_on_resuming(
    ledger: Name, key: Key, *, cursor: Cursor | None
) -> Iterator[Pulled]:
    """Skip one record behind a cursor."""
    book = log_in(ledger, key)
    skip = 1 if cursor else 0
    while piece := fresh(book, cursor)[skip : skip + _PAGE]:
        cursor, skip = position(piece, cursor), 0
        yield Pulled(frame(piece), cursor)


@connector("repeats")
def repeats_a_record_on_resuming(
    ledger: Name, key: Key, *, cursor: Cursor | None
) -> Iterator[Pulled]:
    """Remember one record less than was delivered."""
    book = log_in(ledger, key)
    while piece := fresh(book, cursor)[:_PAGE]:
        cursor = position(piece, cursor)
        yield Pulled(frame(piece), {**cursor, "known": cursor["known"][:-1]})


@connector("shifts")
def shifts_types(ledger: Name, key: Key, *, cursor: Cursor | None) -> Iterator[Pulled]:
    """Give the second frame another type."""
    book = log_in(ledger, key)
    kind: Any = pl.Int64
    while piece := fresh(book, cursor)[:_PAGE]:
        cursor = position(piece, cursor)
        yield Pulled(frame(piece).with_columns(pl.col("at").cast(kind)), cursor)
        kind = pl.String


@connector("swallows")
def swallows_errors(ledger: Name, key: Key, *, cursor: Cursor | None) -> Iterator[Pulled]:
    """End an unreachable source as an empty success."""
    try:
        book = log_in(ledger, key)
        while piece := fresh(book, cursor)[:_PAGE]:
            cursor = position(piece, cursor)
            yield Pulled(frame(piece), cursor)
    except ConnectionError:
        return


@connector("first")
def swallows_the_first_error(ledger: Name, key: Key, *, cursor: Cursor | None) -> Iterator[Pulled]:
    """Take an outage at the start for an empty source; fail later."""
    book = log_in(ledger, key)
    with contextlib.suppress(ConnectionError):
        book.rows()
    if book.down:
        return
    while piece := fresh(book, cursor)[:_PAGE]:
        cursor = position(piece, cursor)
        yield Pulled(frame(piece), cursor)


@connector("after")
def asks_for_later_times_only(ledger: Name, key: Key, *, cursor: Cursor | None) -> Iterator[Pulled]:
    """Cut pages at a change of time, and ask for what is later: late ones of a time are lost."""
    book = log_in(ledger, key)
    at = cursor["at"] if cursor else -1
    while rest := [r for r in book.rows() if r[2] > at]:
        at = rest[min(_PAGE, len(rest)) - 1][2]
        yield Pulled(frame([r for r in rest if r[2] <= at]), {"at": at})


@connector("pages")
def takes_page_numbers_for_cursors(
    ledger: Name, key: Key, *, cursor: Cursor | None
) -> Iterator[Pulled]:
    """Remember the number of the next page."""
    book = log_in(ledger, key)
    page = cursor["page"] if cursor else 0
    while piece := book.rows()[page * _PAGE : (page + 1) * _PAGE]:
        page += 1
        yield Pulled(frame(piece), {"page": page})


@connector("offsets")
def pages_by_offset_without_a_cursor(ledger: Name, key: Key) -> Iterator[Pulled]:
    """Read everything each time, by offset, while the table changes."""
    book = log_in(ledger, key)
    offset = 0
    while piece := book.rows()[offset : offset + _PAGE]:
        offset += len(piece)
        yield Pulled(frame(piece))


@connector("numbers")
def follows_numbers_not_changes(
    ledger: Name, key: Key, *, cursor: Cursor | None
) -> Iterator[Pulled]:
    """Follow the record number: updates never come."""
    book = log_in(ledger, key)
    last = cursor["id"] if cursor else -1
    while piece := [r for r in sorted(book.rows()) if r[0] > last][:_PAGE]:
        last = piece[-1][0]
        yield Pulled(frame(piece), {"id": last})


@connector("ahead")
def sets_the_cursor_ahead_of_its_frame(
    ledger: Name, key: Key, *, cursor: Cursor | None
) -> Iterator[Pulled]:
    """Give the first frame the cursor of the second."""
    book = log_in(ledger, key)
    while piece := fresh(book, cursor)[:_PAGE]:
        cursor = position(piece, cursor)
        ahead = fresh(book, cursor)[:_PAGE]
        yield Pulled(frame(piece), position(ahead, cursor) if ahead else cursor)


@connector("partial")
def drops_the_last_partial_page(
    ledger: Name, key: Key, *, cursor: Cursor | None
) -> Iterator[Pulled]:
    """Wait for a full page for ever."""
    book = log_in(ledger, key)
    while len(piece := fresh(book, cursor)[:_PAGE]) == _PAGE:
        cursor = position(piece, cursor)
        yield Pulled(frame(piece), cursor)


DELIVERED: set[str] = set()


@connector("remembers")
def remembers_in_the_process(ledger: Name, key: Key, *, cursor: Cursor | None) -> Iterator[Pulled]:
    """Keep what was delivered in the process: a second full pull is empty."""
    book = log_in(ledger, key)
    for record in [r for r in fresh(book, cursor) if f"{ledger}{r}" not in DELIVERED]:
        DELIVERED.add(f"{ledger}{record}")
        cursor = position([record], cursor)
        yield Pulled(frame([record]), cursor)


@connector("tuples")
def gives_cursors_that_json_changes(
    ledger: Name, key: Key, *, cursor: Cursor | None
) -> Iterator[Pulled]:
    """Put a tuple into the cursor: it comes back as a list."""
    book = log_in(ledger, key)
    while piece := fresh(book, cursor)[:_PAGE]:
        cursor = position(piece, cursor)
        yield Pulled(frame(piece), {**cursor, "last": piece[-1]})


OPEN: list[int] = []


@connector("leaks")
def leaks_a_descriptor(ledger: Name, key: Key, *, cursor: Cursor | None) -> Iterator[Pulled]:
    """Open a file for each pull, and never close it."""
    book = log_in(ledger, key)
    OPEN.append(os.open(os.devnull, os.O_RDONLY))
    while piece := fresh(book, cursor)[:_PAGE]:
        cursor = position(piece, cursor)
        yield Pulled(frame(piece), cursor)


@connector("holds")
def holds_its_session_when_closed(
    ledger: Name, key: Key, *, cursor: Cursor | None
) -> Iterator[Pulled]:
    """Log off at the end only, not when the pull is closed early."""
    book = log_in(ledger, key)
    book.opened += 1
    while piece := fresh(book, cursor)[:_PAGE]:
        cursor = position(piece, cursor)
        yield Pulled(frame(piece), cursor)
    book.opened -= 1


STOP = threading.Event()


@connector("threads")
def leaves_a_thread(ledger: Name, key: Key, *, cursor: Cursor | None) -> Iterator[Pulled]:
    """Start a helper thread for each pull, and leave it."""
    book = log_in(ledger, key)
    threading.Thread(target=STOP.wait, daemon=True).start()
    while piece := fresh(book, cursor)[:_PAGE]:
        cursor = position(piece, cursor)
        yield Pulled(frame(piece), cursor)


@connector("shows")
def shows_its_secret(ledger: Name, key: Key, *, cursor: Cursor | None) -> Iterator[Pulled]:
    """Name the place with the password in it."""
    book = log_in(ledger, key)
    while piece := fresh(book, cursor)[:_PAGE]:
        cursor = position(piece, cursor)
        yield Pulled(frame(piece), cursor, f"ledger:{key.reveal()}@host")


@connector("unreadable")
def checks_nothing(ledger: Name, key: Key, *, cursor: Cursor | None) -> Iterator[Pulled]:
    """Say that all is well without looking."""
    book = log_in(ledger, key)
    while piece := fresh(book, cursor)[:_PAGE]:
        cursor = position(piece, cursor)
        yield Pulled(frame(piece), cursor)


@checks_nothing.check
def always_well() -> Text:
    return Text("正常", "all is well")


@connector("columns")
def says_other_columns(ledger: Name, key: Key, *, cursor: Cursor | None) -> Iterator[Pulled]:
    """Name a column that no pull brings."""
    book = log_in(ledger, key)
    while piece := fresh(book, cursor)[:_PAGE]:
        cursor = position(piece, cursor)
        yield Pulled(frame(piece), cursor)


@says_other_columns.columns
def wrong_columns() -> tuple[str, ...]:
    return ("id", "title")


FAULTS: dict[Connector, set[str]] = {
    loses_a_record_on_resuming: {"resumes_from_every_cursor"},
    repeats_a_record_on_resuming: {"resumes_from_every_cursor"},
    shifts_types: {"keeps_types"},
    swallows_errors: {"reports_outages"},
    swallows_the_first_error: {"reports_outages"},
    asks_for_later_times_only: {"sees_late_records"},
    takes_page_numbers_for_cursors: {"survives_deletions"},
    pages_by_offset_without_a_cursor: {"survives_deletions"},
    follows_numbers_not_changes: {"sees_updates"},
    sets_the_cursor_ahead_of_its_frame: {"resumes_from_every_cursor"},
    drops_the_last_partial_page: {"delivers_every_row"},
    remembers_in_the_process: {"delivers_every_row"},
    gives_cursors_that_json_changes: {"gives_plain_cursors"},
    leaks_a_descriptor: {"releases_when_closed"},
    holds_its_session_when_closed: {"releases_when_closed"},
    leaves_a_thread: {"releases_when_closed"},
    shows_its_secret: {"gives_plain_cursors"},
    checks_nothing: {"fails_as_ours"},
    says_other_columns: {"previews"},
}
"""Each fault, and the check that has to find it; others may find it too."""


def case_of(kind: Connector, name: str) -> Case:
    book = LEDGERS[name] = Ledger()

    def opened(password: str) -> Callable[[], Source]:
        return lambda: kind.open({"ledger": name, "key": "env:KEY"}, lambda _: password)

    return Case(
        open=opened(SECRET),
        rows=[(n, f"n{n}") for n in range(10)],
        identity=("id", "name"),
        news_only=kind.resumable,
        exactly_once=kind.resumable,
        broken={"password": opened("wrong")},
        open_count=lambda: book.opened,
        secret=SECRET,
        changes=Changes(late=book.late, update=book.update, delete=book.delete, outage=book.outage),
    )


@pytest.fixture(autouse=True)
def _end_what_the_faults_left() -> Iterator[None]:
    yield
    STOP.set()
    while OPEN:
        os.close(OPEN.pop())
    LEDGERS.clear()
    DELIVERED.clear()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_an_honest_connector_passes(check: Callable[[Case], None]) -> None:
    case = case_of(honest, "honest")
    assert untested(case) == []
    check(case)


@pytest.mark.parametrize("kind", FAULTS, ids=lambda kind: kind.name)
def test_every_planted_fault_fails(kind: Connector) -> None:
    STOP.clear()
    failed = set()
    for check in CHECKS:
        if check.__name__ in FAULTS[kind]:
            try:
                check(case_of(kind, check.__name__))
            except AssertionError:
                failed.add(check.__name__)
    assert failed == FAULTS[kind]


def test_there_are_fifteen_and_more() -> None:
    assert len(FAULTS) >= 15
    assert len({kind.name for kind in FAULTS}) == len(FAULTS)
    named = {name for names in FAULTS.values() for name in names}
    assert named <= {check.__name__ for check in CHECKS}


def test_what_a_case_leaves_untested_is_said() -> None:
    case = Case(open=case_of(honest, "bare").open, rows=[], identity=("id",))
    assert [line.partition(" (")[0] for line in untested(case)] == [
        "not tested: late records",
        "not tested: updates",
        "not tested: deletions",
        "not tested: outages",
        "not tested: broken sources",
        "not tested: connections held elsewhere",
        "not tested: secrets",
    ]
    (sees_updates,) = (check for check in CHECKS if check.__name__ == "sees_updates")
    with pytest.warns(UserWarning, match="not tested: honest: the case has no changes.update"):
        sees_updates(case)


def test_cursors_of_the_cases_are_json() -> None:
    for pulled in case_of(honest, "plain").open().pull():
        assert json.loads(json.dumps(pulled.cursor)) == pulled.cursor
