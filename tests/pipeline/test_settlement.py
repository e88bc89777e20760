"""Source, quarantine, replay: the newest version of a key always wins, nothing waits for ever."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from zlib import crc32

import fastavro
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from exchange.log import sealed_topic
from exchange.pipeline.rebuild import catch_up
from exchange.pipeline.refused import waiting
from exchange.pipeline.replay import Replayed, replay
from exchange.validate.refused_records import RefusedRecords
from tests.pipeline.place import Place, Record, entries
from tests.support.nodes import add, make
from tests.support.soak import HISTORIES

FAILPOINTS = (
    *("pull:after", "seal:before", "seal:after", "replay:before", "replay:after"),
    *("project:before", "project:shown", "project:settled", "project:after"),
)
KEYS = ("a", "b", "c")


class Struck(BaseException):
    """A kill, as far as a test in one process can tell."""


class World:
    """A node whose source, seals, projection and replays are driven by hand."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.count = 0
        self.strike_at = ""
        self.struck: Counter[str] = Counter()
        self._sealed: dict[str, list[int]] = {}
        self._read = 0
        self.open()

    def open(self) -> None:
        self.opened = ExitStack()
        self.node = self.opened.enter_context(self.place.node(failpoint=self.failpoint))
        self.resource = self.node.context.resource("cases")
        self.seal = self.opened.enter_context(closing(self.node.seal_stage("cases")))
        self.project = self.opened.enter_context(closing(self.node.project_stage("cases")))

    def close(self) -> None:
        self.opened.close()

    def failpoint(self, name: str) -> None:
        if name == self.strike_at:
            self.strike_at = ""
            self.struck[name] += 1
            raise Struck

    def insert(self, key: str, *, good: bool) -> None:
        """Have the source write one more version of a key."""
        self.count += 1
        day = "2026-01-11" if good else "2026-13-01"
        add(self.place, "cases", [Record(f"r{self.count}", key, f"名称{self.count}", day)])

    def work(self, *stages: str) -> None:
        """Let the stages take what is there; a stage that was killed starts anew."""
        try:
            if "pull" in stages:
                for _ in self.node.pull_stage("cases").run():
                    pass
            while "seal" in stages and self.seal.step():
                pass
            while "project" in stages and self.project.step():
                pass
        except Struck:
            self.close()
            self.open()

    def send_back(
        self, fixes: dict[str, dict[str, str]] | None, *, force: bool = False
    ) -> Replayed:
        node = self.node
        try:
            return replay(
                node.context, node.store, self.resource, by="test", corrections=fixes, force=force
            )
        except Struck:
            return Replayed("struck")

    def waiting(self) -> Iterator[RefusedRecords]:
        rows = self.node.store.quarantine.find(resource="cases", waiting=True, limit=10_000)
        yield from waiting(self.node.context, self.node.store, rows)

    def waiting_versions(self) -> dict[str, tuple[str, int]]:
        """Return key and number of what waits, by address."""
        return {
            address: (row["no"], int(row["id"][1:]))
            for refused in self.waiting()
            for address, row in zip(refused.addresses(), refused.frame.to_dicts(), strict=True)
        }

    def sealed_versions(self) -> dict[str, list[int]]:
        """Return the numbers of each key in the order in which they were sealed."""
        topic = sealed_topic("cases")
        while page := self.node.log.read(topic, 0, self._read, max_entries=100):
            for entry in page:
                for row in batch_rows(entry.value):
                    self._sealed.setdefault(row["no"], []).append(int(row["id"][1:]))
            self._read = page[-1].offset + 1
        return self._sealed


def batch_rows(value: bytes) -> Iterator[dict[str, str]]:
    yield from fastavro.reader(io.BytesIO(value))  # type: ignore[misc]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(make(tmp_path / "node", {"cases": []}))
    yield world
    world.close()


ALL = ("pull", "seal", "project")
FIX = {"issued": "2026-01-12"}


def test_a_newer_good_record_settles_the_refused_one(world: World) -> None:
    world.insert("a", good=False)
    world.insert("b", good=False)
    world.work(*ALL)
    assert len(world.waiting_versions()) == 2
    world.insert("a", good=True)
    world.work(*ALL)
    assert list(world.waiting_versions().values()) == [("b", 2)]
    (row,) = world.node.store.quarantine.find(resource="cases", limit=9)
    assert (row.rows, row.settled, row.waiting) == (2, 1, 1)
    assert world.node.store.quarantine.counts() == {"cases": (2, 0, 0, 1)}
    decision = world.node.store.quarantine.decisions(row.topic, row.partition, row.offset)[0]
    assert (decision.state, decision.by) == ("settled", "exchange")
    assert world.node.store.deliveries.get("cases", decision.note) is not None


def test_a_stale_correction_is_skipped_unless_forced(world: World) -> None:
    world.insert("a", good=False)
    world.work(*ALL)
    (address,) = world.waiting_versions()
    world.insert("a", good=True)
    world.work("pull", "seal")  # nobody has shown it yet
    result = world.send_back({address: FIX})
    assert (result.rows, result.stale, result.unknown) == (0, 1, 0)
    result = world.send_back({address: FIX}, force=True)
    assert (result.rows, result.stale, result.unknown) == (1, 0, 0)
    world.work(*ALL)
    assert world.sealed_versions() == {"a": [2, 1]}
    assert world.node.store.quarantine.counts() == {"cases": (1, 1, 0, 0)}


def test_a_replay_does_not_overtake_what_is_pulled_but_not_sealed(world: World) -> None:
    world.insert("a", good=False)
    world.insert("b", good=False)
    world.work(*ALL)
    fixes = dict.fromkeys(world.waiting_versions(), FIX)
    world.insert("a", good=True)
    world.insert("b", good=False)
    world.work("pull")
    assert world.send_back(fixes).rows == 2
    world.work(*ALL)
    assert world.sealed_versions() == {"a": [3], "b": [2]}
    assert list(world.waiting_versions().values()) == [("b", 4)]
    reasons = [row.reasons for row in world.node.store.quarantine.find(resource="cases", limit=9)]
    assert {"replay.overtaken:": 1} in reasons
    # An uncorrected one that is overtaken is refused for both reasons, and settles too.
    world.insert("b", good=True)
    world.work("pull")
    assert world.send_back(None).rows == 1
    world.work(*ALL)
    assert world.sealed_versions() == {"a": [3], "b": [2, 5]}
    assert world.waiting_versions() == {}


def test_of_several_versions_the_newest_goes_back(world: World) -> None:
    for _ in range(3):
        world.insert("a", good=False)
        world.work(*ALL)
    fixes = dict.fromkeys(world.waiting_versions(), FIX)
    assert len(fixes) == 3
    result = world.send_back(fixes)
    assert (result.rows, result.stale) == (1, 2)
    world.work(*ALL)
    assert world.sealed_versions() == {"a": [3]}
    assert world.waiting_versions() == {}


def test_an_older_version_that_is_replayed_settles_no_newer_one(world: World) -> None:
    for _ in range(2):
        world.insert("a", good=False)
        world.work(*ALL)
    first, second = world.waiting_versions()
    assert world.send_back({first: FIX}).rows == 1
    world.work(*ALL)
    assert world.sealed_versions() == {"a": [1]}
    assert list(world.waiting_versions()) == [second]
    assert world.send_back({second: FIX}).rows == 1
    world.work(*ALL)
    assert world.sealed_versions() == {"a": [1, 2]}


def test_a_corrected_key_is_compared_too(world: World) -> None:
    world.insert("wrong", good=False)
    world.work(*ALL)
    world.insert("a", good=True)
    world.work(*ALL)
    (address,) = world.waiting_versions()
    result = world.send_back({address: {"no": "a", **FIX}})
    assert (result.rows, result.stale) == (0, 1)
    assert world.send_back({address: {"no": "b", **FIX}}).rows == 1
    world.work(*ALL)
    assert world.sealed_versions() == {"a": [2], "b": [1]}


def test_a_key_that_is_corrected_into_another_partition(tmp_path: Path) -> None:
    place = make(tmp_path / "node", {"cases": []})
    path = place.folder / "exchange.yaml"
    path.write_text(path.read_text(encoding="utf-8") + "\nlog: {partitions: {cases: 2}}\n")
    world = World(place)
    partition = {key: crc32(key.encode()) % 2 for key in map(str, range(20))}
    first = next(key for key, number in partition.items() if number == 0)
    sealed, free = [key for key, number in partition.items() if number == 1][:2]
    for _ in range(9):  # offsets of the partitions are not alike
        world.insert(first, good=True)
        world.work(*ALL)
    world.insert(sealed, good=True)
    world.work(*ALL)
    world.insert(first, good=False)
    world.insert(first, good=False)
    world.work(*ALL)
    old, late = world.waiting_versions()
    assert world.send_back({old: {"no": free, **FIX}}).rows == 1
    world.insert(sealed, good=True)
    world.work(*ALL)
    result = world.send_back({late: {"no": sealed, **FIX}})
    assert (result.rows, result.stale) == (0, 1)
    world.close()
    with place.node() as node:
        rows = [
            (row["no"], row["id"])
            for entry in entries(node.log, sealed_topic("cases"))
            if entry.partition == 1
            for row in batch_rows(entry.value)
        ]
    assert rows == [(sealed, "r10"), (free, "r11"), (sealed, "r13")]


def test_records_refused_before_there_were_more_partitions_settle(tmp_path: Path) -> None:
    """They wait in one partition; what settles them is sealed in another."""
    place = make(tmp_path / "node", {"cases": []})
    world = World(place)
    keys = [key for key in map(str, range(20)) if crc32(key.encode()) % 2 == 1][:2]
    for key in keys:
        world.insert(key, good=False)
    world.work(*ALL)
    assert len(world.waiting_versions()) == 2
    world.close()
    path = place.folder / "exchange.yaml"
    path.write_text(path.read_text(encoding="utf-8") + "\nlog: {partitions: {cases: 2}}\n")
    world.open()
    world.insert(keys[0], good=True)
    world.work(*ALL)
    assert [key for key, _ in world.waiting_versions().values()] == [keys[1]]
    # What is refused from now on waits where its key belongs.
    world.insert(keys[0], good=False)
    world.work(*ALL)
    assert len(world.waiting_versions()) == 2
    for key in keys:
        world.insert(key, good=True)
    world.work(*ALL)
    assert world.waiting_versions() == {}
    world.close()


def test_a_store_made_again_settles_the_same(world: World) -> None:
    for good in (False, True, False):
        world.insert("a", good=good)
        world.work(*ALL)
    before = list(world.waiting_versions().values())
    world.close()
    (world.place.folder / "data" / "store.db").unlink()
    world.open()
    assert world.node.make_store().deliveries.counts() == {}
    assert catch_up(world.node.context, world.node.store, "cases")
    assert list(world.waiting_versions().values()) == before == [("a", 3)]
    assert world.node.store.quarantine.counts() == {"cases": (2, 0, 0, 1)}


_GOOD = st.sampled_from([False, False, True])
_STAGES = st.sampled_from([ALL, ALL, ("pull",), ("pull", "seal"), ()])


class Versions(RuleBasedStateMachine):
    """A source writes versions of keys; stages run, are killed; people correct and replay."""

    world: World
    seen: Counter[str]

    def __init__(self) -> None:
        super().__init__()
        self.prefix = f"{self.world.count}-"

    @rule(changes=st.lists(st.tuples(st.sampled_from(KEYS), _GOOD, _STAGES), min_size=1))
    def write(self, changes: list[tuple[str, bool, tuple[str, ...]]]) -> None:
        for key, good, stages in changes:
            self.world.insert(self.prefix + key, good=good)
            self.world.work(*stages)

    @rule(stages=st.sampled_from([("seal",), ("project",), ("seal", "project")]))
    def work(self, stages: tuple[str, ...]) -> None:
        self.world.work(*stages)

    @rule(name=st.sampled_from(FAILPOINTS))
    def kill_at(self, name: str) -> None:
        self.world.strike_at = name

    @rule()
    def replay_all(self) -> None:
        result = self.world.send_back(None)
        self.seen.update(replayed=result.rows, stale=result.stale)

    @rule(data=st.data())
    def replay_file(self, data: st.DataObject) -> None:
        there = sorted(self.world.waiting_versions())
        if not there:
            return
        chosen = data.draw(st.sets(st.sampled_from(there), min_size=1))
        keys = st.none() | st.sampled_from(KEYS)
        fixes = {}
        for address in sorted(chosen):
            key = data.draw(keys)
            fixes[address] = FIX if key is None else {"no": self.prefix + key, **FIX}
        result = self.world.send_back(fixes)
        self.seen.update(corrected=result.rows, stale=result.stale)

    @invariant()
    def the_newest_is_sealed_last(self) -> None:
        for key, numbers in self.world.sealed_versions().items():
            if key.startswith(self.prefix):
                assert numbers == sorted(set(numbers)), f"{key} was sealed as {numbers}"

    def teardown(self) -> None:
        world = self.world
        world.strike_at = ""
        world.work(*ALL)
        sealed = world.sealed_versions()
        for key, number in world.waiting_versions().values():
            assert number > max(sealed.get(key, [0])), f"version {number} of {key} waits for ever"
        for key in KEYS:
            world.insert(self.prefix + key, good=True)
        world.work(*ALL)
        assert world.waiting_versions() == {}
        newest = {key: numbers[-1] for key, numbers in world.sealed_versions().items()}
        for number, key in enumerate(reversed(KEYS)):
            assert newest[self.prefix + key] == world.count - number
        self.the_newest_is_sealed_last()


@pytest.mark.soak
def test_the_newest_version_of_a_key_always_wins(world: World, tell: Callable[[str], None]) -> None:
    counter: Counter[str] = Counter()
    machine = type("Driven", (Versions,), {"world": world, "seen": counter})
    limits = settings(
        max_examples=HISTORIES.now,
        stateful_step_count=15,
        deadline=None,
        derandomize=True,  # the counts below must not depend on chance
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=limits)
    text = ", ".join(f"{count} {what}" for what, count in sorted(counter.items()))
    assert counter["replayed"], "no replay was tried"
    assert counter["corrected"]
    assert counter["stale"]
    tell(f"versions of keys: {world.count} written, {text}, kills {sum(world.struck.values())}")
