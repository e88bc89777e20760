"""Pulls beside each other: a limit, one writer to a resource, back-pressure, given up in time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from exchange.errors import Misconfigured, Rejected, Transient
from exchange.log import Fenced
from exchange.pipeline.messages import PullState
from exchange.pipeline.pull import PullGuard
from exchange.run.outcome import RunOutcome
from exchange.run.pull_pool import PullEnd, PullEvent, PullJob, PullPool, PullRows, PullSeen
from exchange.run.runner import Runner
from exchange.text import BEIJING, Text
from tests.pipeline.place import Place, catalog, records, source, write_table
from tests.pipeline.test_runner import wait_for


@dataclass
class Steered:
    """A stage whose source brings a frame whenever the test lets it."""

    frames: int = 1
    answers: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    arrived: list[int] = field(default_factory=list)
    written: list[int] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None

    def run(
        self, seen: Callable[[PullState | None], None], guard: PullGuard
    ) -> Generator[int, None, None]:
        seen(None)
        try:
            for number in range(self.frames):
                self.answers.acquire()
                guard.arrive()
                self.arrived.append(number)
                with guard.writing():
                    self.written.append(number)
                yield 10
            if self.error is not None:
                raise self.error
        finally:
            self.ended.set()

    def answer(self, frames: int = 1) -> None:
        self.answers.release(frames)


class Clock:
    """Time as the test sets it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def pool_of(clock: Clock, limit: int = 8) -> Iterator[PullPool]:
    pool = PullPool(limit, clock)
    try:
        yield pool
    finally:
        list(pool.close(0))


def until(pool: PullPool, wanted: PullEvent | type[PullEvent]) -> list[PullEvent]:
    """Take events up to the one that is wanted."""
    events: list[PullEvent] = []

    def came() -> bool:
        events.extend(pool.take())
        return any(wanted in (event, type(event)) for event in events)

    wait_for(came)
    return events


def test_a_pull_goes_on_only_when_what_came_is_taken() -> None:
    fast = Steered(frames=100)
    fast.answer(100)
    with pool_of(Clock()) as pool:
        pool.start(PullJob("fast", "cases", fast, 60))
        assert until(pool, PullRows("fast", 10))[0] == PullSeen("fast", None)
        wait_for(lambda: len(fast.written) == 2)
        pool.wait(0.05)
        assert len(fast.written) == 2, "one is taken, one waits: no more is read"
        for _ in range(100):
            pool.go_on("fast")
        until(pool, PullEnd("fast"))
        assert len(fast.written) == 100
    assert fast.ended.is_set()


def test_no_more_sources_than_the_limit_and_one_by_one_of_a_resource() -> None:
    clock, one, two = Clock(), Steered(frames=2), Steered(frames=2)
    with pool_of(clock, limit=2) as pool:
        assert pool.has_room("cases", 2)
        pool.start(PullJob("one", "cases", one, 60))
        assert pool.has_room("firms", 2)
        assert not pool.has_room("cases", 2), "the other one of this resource goes first"
        clock.now = 3
        assert pool.has_room("cases", 2), "but not while it brings nothing"
        pool.start(PullJob("two", "cases", two, 60))
        assert pool.sources == {"one", "two"}
        assert not pool.has_room("firms", 2)
        two.answer()
        until(pool, PullRows("two", 10))
        # It writes to the resource until its end: the limits count one pull after the other.
        one.answer()
        wait_for(lambda: one.arrived)
        assert one.written == []
        two.answer()
        pool.go_on("two")
        until(pool, PullRows("one", 10))
        assert not pool.has_room("cases", 0), "it has written"


def test_a_source_that_hangs_is_given_up_and_writes_nothing_afterwards() -> None:
    clock, hung, other = Clock(), Steered(frames=2), Steered()
    with pool_of(clock) as pool:
        pool.start(PullJob("hung", "cases", hung, 30))
        hung.answer()
        until(pool, PullRows("hung", 10))
        pool.go_on("hung")
        clock.now = 30
        assert list(pool.take()) == []
        clock.now = 31
        (end,) = until(pool, PullEnd)
        assert isinstance(end, PullEnd)
        assert isinstance(end.failure, Transient)
        assert "sources.hung.timeout" in end.failure.hint.en
        assert pool.sources == frozenset()
        assert pool.hangs("hung"), "it is not pulled twice at once"
        # Its turn to write went to the next source of the resource.
        pool.start(PullJob("other", "cases", other, 30))
        other.answer()
        pool.go_on("other")
        until(pool, PullEnd("other"))
        hung.answer()
        assert hung.ended.wait(60)
        wait_for(lambda: not pool.hangs("hung"))
        assert hung.written == [0], "what came too late is not written"
        assert list(pool.take()) == []


def test_time_in_which_we_do_not_ask_is_not_the_sources() -> None:
    clock, slow = Clock(), Steered(frames=3)
    with pool_of(clock) as pool:
        pool.start(PullJob("slow", "cases", slow, 30))
        slow.answer(2)
        events = until(pool, PullRows)
        while events.count(PullRows("slow", 10)) < 2:
            events += until(pool, PullRows)
        clock.now = 1_000
        assert list(pool.take()) == []
        assert pool.sources == {"slow"}


@pytest.mark.parametrize(
    "error",
    [
        Rejected(Text("", "bad"), hint=Text("", "")),
        Misconfigured(Text("", "bad"), hint=Text("", "")),
        Fenced(Text("", "another"), hint=Text("", "")),
        RuntimeError("a defect"),
        SystemExit("a library gives up"),
    ],
)
def test_whatever_ends_a_pull_is_told(error: BaseException) -> None:
    stage = Steered(frames=0, error=error)
    with pool_of(Clock()) as pool:
        pool.start(PullJob("bad", "cases", stage, 60))
        assert until(pool, PullEnd("bad", error))[-1] == PullEnd("bad", error)
        assert pool.sources == frozenset()


def test_closing_ends_what_is_under_way_and_leaves_what_hangs() -> None:
    busy, hung, idle = Steered(frames=9), Steered(), Steered()
    busy.answer(9)
    pool = PullPool(8, Clock())
    for name, stage in (("busy", busy), ("hung", hung), ("second", idle)):
        pool.start(PullJob(name, name, stage, 60))
    wait_for(lambda: len(busy.written) == 2)
    ends = [event.source for event in pool.close(0) if isinstance(event, PullEnd)]
    assert sorted(ends) == ["busy", "hung", "second"]
    assert len(busy.written) == 2
    assert pool.sources == frozenset()
    for stage in (hung, idle):
        stage.answer()
        assert stage.ended.wait(60)
        assert stage.written == []


def test_a_pull_ends_with_its_hours_and_goes_on_the_next_day(tmp_path: Path) -> None:
    begin = datetime.now(UTC)
    passed = timedelta()
    span = "-".join(
        f"{(begin + timedelta(hours=hours)).astimezone(BEIJING):%H:%M}" for hours in (-1, 1)
    )
    options = 'url: "sqlite:///cases.db", table: cases, cursor_column: seq, batch_rows: 100'
    when = f'every: 1d, hours: "{span}"'
    place = Place.make(
        tmp_path / "node", catalog("cases"), source("sql", "cases", options, when=when)
    )
    write_table(place.folder / "cases.db", records(1_000, dirty=False))

    def strike(what: str, count: int) -> None:
        nonlocal passed
        if what == "pulled" and count:
            passed = timedelta(hours=2)

    def once(progress: Callable[[str, int], None] = lambda _what, _count: None) -> RunOutcome:
        with place.node(clock=lambda: begin + passed) as node:
            return Runner(node, progress, stages=("pull", "seal")).once()

    first = once(strike)
    assert first.errors == {}
    assert 0 < first.pulled < 1_000
    assert set(once().resting) == {"cases"}
    passed = timedelta(hours=24)
    last = once()
    assert not last.errors
    assert not last.resting
    assert first.accepted + last.accepted == 1_000
