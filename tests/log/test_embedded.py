"""The contract on the embedded driver, and on the model it is compared with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from exchange.errors import ExchangeError
from exchange.log import Entry, Log, Message, Topic
from exchange.log.embedded.log import EmbeddedLog
from tests.log.contract import LogContract, Opener
from tests.log.model import Medium, MemoryLog

if TYPE_CHECKING:
    from collections.abc import Callable

now = partial(datetime.now, UTC)


class TestEmbedded(LogContract):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        return lambda: EmbeddedLog(tmp_path / "log.sqlite3", clock=now)


class TestModel(LogContract):
    @pytest.fixture
    def opener(self) -> Opener:
        medium = Medium()
        return lambda: MemoryLog(medium, clock=now)


RAW = Topic("exchange.raw.a", partitions=2)
SEALED = Topic("exchange.sealed.a")
CURSORS = Topic("exchange.cursors", compacted=True)
MEMBERS = ("g", "g", "h")
"""Groups of the three workers; two of them compete."""
MESSAGES = st.one_of(
    st.builds(Message, st.just(RAW.name), st.binary(max_size=40), partition=st.integers(0, 1)),
    st.builds(
        Message,
        st.just(CURSORS.name),
        st.binary(max_size=5),
        key=st.sampled_from(["a", "b", "键"]),
        headers=st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
    ),
)
WORKERS = st.integers(0, len(MEMBERS) - 1)


class LogMachine(RuleBasedStateMachine):
    """Do the same to both logs; every answer and every kind of error must agree.

    Each worker is a process of its own: one driver and one consumer on the shared medium.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.path = Path(self.folder.name) / "log.sqlite3"
        self.clock = datetime(2026, 11, 23, tzinfo=UTC)
        self.medium = Medium()
        self.workers: list[tuple[Log, Any, Log, Any]] = []
        self.held: list[list[Entry]] = [[] for _ in MEMBERS]

    @initialize()
    def start(self) -> None:
        for group in MEMBERS:
            real: Log = EmbeddedLog(self.path, clock=lambda: self.clock)
            model: Log = MemoryLog(self.medium, clock=lambda: self.clock)
            for log in (real, model):
                log.ensure([RAW, SEALED, CURSORS])
            consumers = [log.consumer(group, [RAW.name]) for log in (real, model)]
            self.workers.append((real, consumers[0], model, consumers[1]))

    def both(self, worker: int, act: Callable[[Log, Any], object]) -> object:
        real, real_consumer, model, model_consumer = self.workers[worker]
        outcomes: list[object] = []
        for log, consumer in ((real, real_consumer), (model, model_consumer)):
            try:
                outcomes.append(act(log, consumer))
            except (ExchangeError, KeyError) as error:
                outcomes.append(type(error))
        assert outcomes[0] == outcomes[1]
        return outcomes[0]

    @rule(worker=WORKERS, messages=st.lists(MESSAGES, max_size=4), fail=st.booleans())
    def write(self, worker: int, messages: list[Message], *, fail: bool) -> None:
        def act(log: Log, _: object) -> None:
            with log.transaction("writer") as transaction:
                for message in messages:
                    transaction.append(message)
                if fail:
                    raise KeyError

        self.both(worker, act)

    @rule(worker=WORKERS, count=st.integers(1, 4), size=st.integers(0, 100))
    def poll(self, worker: int, count: int, size: int) -> None:
        entries = self.both(worker, lambda _, c: c.poll(max_entries=count, max_bytes=size))
        assert isinstance(entries, list)
        self.held[worker] += entries

    @precondition(lambda self: any(self.held))
    @rule(worker=WORKERS, choice=st.integers(0, 20), fail=st.booleans())
    def process(self, worker: int, choice: int, *, fail: bool) -> None:
        """Seal what one partition gave, up to some entry, and move the position."""
        if not self.held[worker]:
            return
        last = self.held[worker][choice % len(self.held[worker])]
        items = [
            entry
            for entry in self.held[worker]
            if entry.partition == last.partition and entry.offset <= last.offset
        ]

        def act(log: Log, consumer: Any) -> str:
            with log.transaction(f"seal.{worker}") as transaction:
                for entry in items:
                    sealed = f"{MEMBERS[worker]} {entry.partition} {entry.offset}"
                    transaction.append(Message(SEALED.name, sealed.encode()))
                transaction.commit(consumer, RAW.name, last.partition, last.offset + 1)
                if fail:
                    raise KeyError
            return "done"

        if self.both(worker, act) == "done":
            self.held[worker] = [entry for entry in self.held[worker] if entry not in items]
        else:
            self.rewind(worker)

    @rule(worker=WORKERS)
    def rewind(self, worker: int) -> None:
        self.both(worker, lambda _, consumer: consumer.rewind())
        self.held[worker] = []

    @rule(worker=WORKERS, partition=st.integers(0, 2), before=st.integers(0, 12))
    def retain(self, worker: int, partition: int, before: int) -> None:
        self.both(worker, lambda log, _: log.retain(RAW.name, partition, before))

    @rule(worker=WORKERS, partition=st.integers(0, 2), offset=st.integers(0, 12))
    def read(self, worker: int, partition: int, offset: int) -> None:
        self.both(worker, lambda log, _: log.read(RAW.name, partition, offset, max_entries=3))

    @rule(seconds=st.integers(-100, 100))
    def set_clock(self, seconds: int) -> None:
        self.clock += timedelta(seconds=seconds)

    @rule(worker=WORKERS)
    def restart(self, worker: int) -> None:
        real, consumer, _, _ = self.workers[worker]
        consumer.close()
        real.close()
        real = EmbeddedLog(self.path, clock=lambda: self.clock)
        model = MemoryLog(self.medium, clock=lambda: self.clock)
        group = MEMBERS[worker]
        self.workers[worker] = (
            real,
            real.consumer(group, [RAW.name]),
            model,
            model.consumer(group, [RAW.name]),
        )
        self.held[worker] = []

    @invariant()
    def same_view(self) -> None:
        for worker in range(len(self.workers)):
            self.both(
                worker,
                lambda log, _: (
                    log.topics(),
                    [log.bounds(topic, 0) for topic in (RAW.name, SEALED.name, CURSORS.name)],
                    [log.position(group, RAW.name, p) for group in ("g", "h") for p in (0, 1)],
                    [log.latest(CURSORS.name, key) for key in ("a", "b", "键", "c")],
                ),
            )

    @invariant()
    def each_entry_is_sealed_once_per_group(self) -> None:
        if self.workers:
            sealed = [
                entry.value
                for entry in self.workers[0][0].read(SEALED.name, 0, 0, max_entries=10_000)
            ]
            assert len(sealed) == len(set(sealed))

    def teardown(self) -> None:
        for real, _, _, _ in self.workers:
            real.close()
        self.folder.cleanup()


def test_embedded_does_what_the_model_does() -> None:
    run_state_machine_as_test(
        LogMachine,
        settings=settings(max_examples=60, stateful_step_count=30),
    )
