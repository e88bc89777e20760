"""The difference of two whole states: what is delivered, when a person decides, and kills."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastavro
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.catalog.loader import load
from exchange.connect import Pulled, connector
from exchange.errors import Denied, ExchangeError, Integrity, Misconfigured, Rejected, Transient
from exchange.log import sealed_topic
from exchange.pipeline.difference import DeletionDecision, DifferenceSource, decided, waiting
from exchange.text import Text
from tests.pipeline.place import (
    Failpoints,
    Place,
    Record,
    catalog,
    entries,
    finish,
    records,
    run_once,
    source,
    start,
    write_csv,
)
from tests.support.soak import KILLS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from exchange.catalog.model import Resource

SCHEMA = dict.fromkeys(("id", "no", "name", "issued"), pl.String())


@pytest.fixture(scope="module")
def resource(tmp_path_factory: pytest.TempPathFactory) -> Resource:
    path = tmp_path_factory.mktemp("catalog") / "catalog.yaml"
    path.write_text(catalog("cases"), encoding="utf-8")
    return load(path).resource("cases")


class Whole:
    """A source that holds rows and gives all of them, a few in a frame."""

    def __init__(self, resource: Resource, folder: Path, **options: Any) -> None:
        self.rows: list[tuple[str | None, ...]] = []
        self.options: dict[str, Any] = {}
        self.error: ExchangeError | None = None
        self.cursor: Any = None
        self.folder = folder

        @connector("whole")
        def whole() -> Iterator[Pulled]:
            frame = pl.DataFrame(self.rows, schema=SCHEMA, orient="row")
            for piece in frame.iter_slices(3):
                yield Pulled(piece, locator="a", **self.options)
            if self.error is not None:
                raise self.error

        self.source = DifferenceSource(
            "whole", whole.open({}, lambda _: ""), resource, folder, 0.5, os.urandom, **options
        )

    def pull(self, frames: int | None = None) -> list[tuple[str, str, str | None]]:
        """Pull, to the end or until some frames are committed; return operation, key and name."""
        brought = []
        with closing(self.source.pull(self.cursor)) as stream:
            for number, pulled in enumerate(stream, start=1):
                self.cursor = json.loads(json.dumps(pulled.cursor))
                frame = pulled.frame
                names = frame["name"] if "name" in frame.columns else [None] * frame.height
                if frame.height:
                    brought += list(zip(frame["cd_operation"], frame["no"], names, strict=True))
                if number == frames:
                    break
        return brought


def row(no: str | None, name: str = "x") -> tuple[str | None, ...]:
    return (f"r{no}", no, name, "2026-01-11")


@pytest.fixture
def whole(resource: Resource, tmp_path: Path) -> Whole:
    return Whole(resource, tmp_path / "state")


def test_new_changed_and_gone_rows(whole: Whole) -> None:
    whole.rows = [row("a"), row("b"), row("c"), row("d")]
    assert whole.pull() == [("I", no, "x") for no in "abcd"]
    assert whole.pull() == []
    whole.rows = [row("d"), row("b", "y"), row("e"), row("a")]
    assert whole.pull() == [("D", "c", None), ("U", "b", "y"), ("I", "e", "x")]
    before = whole.cursor
    assert whole.pull() == []
    assert whole.cursor == before, "nothing has changed: nothing is written"
    (folder,) = [path for path in whole.folder.iterdir() if path.is_dir()]
    assert folder.name == before["known"]


keys = st.sampled_from(["a", "b", "c", "甲", " a", "", None])
tables = st.lists(st.tuples(keys, st.sampled_from("xyz")), max_size=9)


@settings(max_examples=25, deadline=None)
@given(tables=st.lists(tables, min_size=1, max_size=5), sorted_rows=st.sampled_from([1, 4, 99]))
def test_whoever_applies_the_changes_has_the_state(
    tables: list[list[tuple[str | None, str]]],
    sorted_rows: int,
    resource: Resource,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Of keys that stand once; runs are sorted apart and merged, however small."""
    folder = tmp_path_factory.mktemp("state")
    whole = Whole(resource, folder, sorted_rows=sorted_rows)
    there: dict[str, str | None] = {}
    for table in tables:
        whole.rows = [row(no, name) for no, name in table]
        whole.error = None
        try:
            changes = whole.pull()
        except Rejected:
            (found,) = [waiting(folder, whole.cursor["known"])]
            assert found is not None
            whole.cursor = decided(whole.cursor, DeletionDecision("accept", found.deleted))
            changes = whole.pull()
        twins = {
            key
            for key in {(no or "").strip() for no, _ in table}
            if sum((no or "").strip() == key for no, _ in table) > 1
        }
        for operation, no, name in changes:
            key = (no or "").strip()
            if operation == "D":
                assert key
                del there[key]
            elif key and key not in twins:
                assert operation == ("U" if key in there else "I")
                there[key] = name
            elif key:
                assert operation == "I", "a second one is refused as a repeat"
                there[key] = there.get(key, name)
        single = {(no or "").strip(): name for no, name in table if (no or "").strip()}
        assert there.keys() == single.keys()
        assert all(there[key] == name for key, name in single.items() if key not in twins)
        assert whole.pull() == [], "nothing has changed since"


def test_a_key_in_several_rows_is_never_decided_by_chance(whole: Whole) -> None:
    whole.rows = [row("a"), row("b")]
    whole.pull()
    whole.rows = [row("a"), row("b"), row("a", "other")]
    ((operation, no, name),) = whole.pull()
    assert (operation, no, name) == ("I", "a", "other")
    assert whole.pull() == []
    whole.rows = [row("a", "new"), row("b"), row("a", "newer")]
    assert whole.pull() == [("I", "a", "new"), ("I", "a", "newer")]


def test_the_rest_of_a_key_that_stands_carries_a_defect(whole: Whole) -> None:
    whole.rows = [row("a")]
    whole.pull()
    whole.rows = [row("a"), row("a", "other")]
    frames = [pulled.frame for pulled in whole.source.pull(whole.cursor)]
    assert "several rows" in frames[0]["_defect"][0]


def test_what_is_not_whole_deletes_nothing(whole: Whole) -> None:
    whole.rows = [row(f"{number}") for number in range(9)]
    whole.pull()
    whole.rows = whole.rows[:5]
    whole.error = Denied(Text("文件被拒", "a file is refused"), hint=Text("看看", "look"))
    with pytest.raises(Denied):
        whole.pull()
    whole.error, whole.options = None, {"unfinished": True}
    with pytest.raises(Transient, match="not whole"):
        whole.pull()
    whole.options = {"changes": True}
    with pytest.raises(Misconfigured, match="changes only"):
        whole.pull()
    whole.options = {}
    assert [operation for operation, _, _ in whole.pull()] == ["D"] * 4


def test_an_empty_or_halved_source_waits_for_a_person(whole: Whole) -> None:
    everything = [row(f"{number:02}") for number in range(30)]
    for left, decision in ((0, "accept"), (10, "accept"), (10, "refuse")):
        shutil.rmtree(whole.folder, ignore_errors=True)
        whole.cursor, whole.rows = None, everything
        whole.pull()
        before = whole.cursor
        whole.rows = [*everything[:left], row("new")] if left else []
        for _ in range(2):
            with pytest.raises(Rejected, match="nothing is deleted"):
                whole.pull()
        assert whole.cursor == before
        found = waiting(whole.folder, before["known"])
        assert found is not None
        assert (found.before, found.deleted) == (30, 30 - left)
        # What was accepted holds for so many, and no more.
        whole.cursor = decided(before, DeletionDecision("accept", found.deleted - 1))
        with pytest.raises(Rejected):
            whole.pull()
        whole.cursor = decided(before, DeletionDecision(decision, found.deleted))  # type: ignore[arg-type]
        operations = [operation for operation, _, _ in whole.pull()]
        gone = ["D"] * found.deleted if decision == "accept" else []
        assert operations == [*gone, *(["I"] if left else [])]
        assert waiting(whole.folder, before["known"]) is None
        if decision == "accept":
            assert whole.pull() == []
        else:
            with pytest.raises(Rejected):  # asked again: the decision was about one pull
                whole.pull()
            whole.rows = [*everything, row("new")]
            assert whole.pull() == [], "they are back: nothing had happened to them"


def test_few_deletions_of_a_small_source_need_nobody(whole: Whole) -> None:
    whole.rows = [row("a"), row("b"), row("c")]
    whole.pull()
    whole.rows = [row("a")]
    assert sorted(whole.pull()) == [("D", "b", None), ("D", "c", None)]


def test_a_lost_state_is_told_and_ends_with_a_new_beginning(whole: Whole) -> None:
    whole.rows = [row("a"), row("b")]
    whole.pull()
    shutil.rmtree(whole.folder)
    with pytest.raises(Integrity, match="lost or damaged"):
        whole.pull()
    whole.cursor = None
    assert len(whole.pull()) == 2


def test_another_key_is_refused_and_a_new_field_delivers_every_row(
    whole: Whole, tmp_path: Path
) -> None:
    whole.rows = [row("a"), row("b")]
    whole.pull()
    text = catalog("cases")
    for changed, expected in (
        (text.replace("key: [no]", "key: [no, id]"), None),
        (text.replace("name: 名称 text(50)!, ", ""), ["U", "U"]),
    ):
        path = tmp_path / "catalog.yaml"
        path.write_text(changed, encoding="utf-8")
        whole.source = replace(whole.source, resource=load(path).resource("cases"))
        if expected is None:
            with pytest.raises(Misconfigured, match="the key of cases has changed"):
                whole.pull()
        else:
            assert [operation for operation, _, _ in whole.pull()] == expected


# --- a node, killed at each step ----------------------------------------------------------------


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Make a node whose file was delivered once and then changed: gone, changed and new rows."""
    settings = source("files", "cases", "folder: drops, settle: 0, batch_rows: 20")
    place = Place.make(
        tmp_path_factory.mktemp("difference") / "node",
        catalog("cases"),
        settings.replace("with:", "difference: true, with:"),
    )
    before = records(60, dirty=False)
    write_csv(place.folder / "drops" / "a.csv", before)
    with place.receiver():
        assert finish(start(run_once, place.folder)) == 0
    write_csv(place.folder / "drops" / "a.csv", changed(before))
    return place


def changed(before: list[Record]) -> list[Record]:
    after = [
        Record(row.id, row.no, "changed" if number % 10 == 3 else row.name, row.issued)
        for number, row in enumerate(before)
        if number % 10 != 5
    ]
    return after + records(5, first=61, dirty=False)


CHANGES = sorted(
    [("D", f"n{number + 1}", "") for number in range(5, 60, 10)]
    + [("U", f"n{number + 1}", "changed") for number in range(3, 60, 10)]
    + [("I", f"n{number}", f"名称{number}") for number in range(61, 66)]
)


def sealed(place: Place) -> list[tuple[str, str, str]]:
    """Return operation, key and name of every sealed record."""
    with place.node() as node:
        return [
            (row["cd_operation"], row["no"], row["name"])  # type: ignore[index, call-overload]
            for entry in entries(node.log, sealed_topic("cases"))
            for row in fastavro.reader(io.BytesIO(entry.value))
        ]


def test_deletions_and_changes_are_sealed_once_wherever_a_pull_is_killed(
    template: Place, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    def copy(name: str) -> Place:
        shutil.copytree(template.folder, tmp_path / name)
        return Place(tmp_path / name)

    first = sealed(template)
    assert len(first) == 60
    dry = copy("dry")
    stages: tuple[str, ...] = ("pull", "seal")
    assert finish(start(run_once, dry.folder, "", 0, stages)) == 0
    assert sorted(sealed(dry)[60:]) == CHANGES
    points = Failpoints(json.loads((dry.folder / "failpoints.json").read_text()))
    steps = [name for name in points.names if name.startswith(("difference:", "pull:"))]
    assert {name.partition(":")[2] for name in steps if name.startswith("difference:")} == {
        *("swept", "read", "written", "named", "delivered"),
    }
    strikes = Failpoints(steps).strikes(KILLS.now)
    for stage, number in strikes:
        place = copy(f"{stage}-{number}".replace(":", "-"))
        killed = start(run_once, place.folder, stage, number, stages)
        assert finish(killed) == -signal.SIGKILL
        assert finish(start(run_once, place.folder, "", 0, stages)) == 0
        assert sorted(sealed(place)[60:]) == CHANGES, (stage, number)
        states = list((place.folder / "data/difference/cases").iterdir())
        assert len(states) <= 2, "what is over is removed"
        if (stage, number) == strikes[-1]:
            assert finish(start(run_once, place.folder, "", 0, stages)) == 0
            assert len(sealed(place)) == 60 + len(CHANGES), "there is nothing new"
        shutil.rmtree(place.folder)
    tell(f"kill -9 in a snapshot difference: {len(strikes)} kills, each change sealed once")
