"""A column that appears or vanishes never passes unnoticed, by the source's own rule."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import yaml

from exchange.errors import Misconfigured
from exchange.run.outcome import RunOutcome, Where
from exchange.run.runner import Runner
from tests.cli.conftest import Run
from tests.pipeline.place import EAGER, Place, catalog, source

OPTIONS = "folder: drops, settle: 0"
ROW = {"id": "r{n}", "no": "n{n}", "name": "名{n}", "issued": "2026-01-02"}


def drop(place: Place, number: int, **more: str) -> None:
    """Put a file with one record into the folder of the source."""
    path = place.folder / "drops" / f"{number}.csv"
    path.parent.mkdir(exist_ok=True)
    row = {name: value.format(n=number) for name, value in ROW.items()} | more
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, row)
        writer.writeheader()
        writer.writerow(row)


def pulled(place: Place) -> RunOutcome:
    with place.node() as node:
        return Runner(node, policy=EAGER, stages=("pull", "seal")).once()


def node_with(tmp_path: Path, drift: str) -> Place:
    line = source("files", "cases", OPTIONS, when=f"drift: {drift}")
    place = Place.make(tmp_path / "node", catalog("cases"), line)
    drop(place, 1, colour="红")
    assert pulled(place).appeared == {}, "what was there at the beginning is known"
    return place


def test_a_new_column_is_told_until_a_person_accepts_it(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = node_with(tmp_path, "warn")
    monkeypatch.chdir(place.folder)
    drop(place, 2, colour="绿", weight="3")
    first = pulled(place)
    assert (first.appeared, first.accepted) == ({"cases": ["weight"]}, 1)
    drop(place, 3, colour="绿")
    assert pulled(place).appeared == {"cases": ["weight"]}, "it is not forgotten"
    (item,) = run("status", "--json").json["attention"]
    assert item["do"] == "exchange source accept cases"
    assert "weight" in item["what"]["zh"]
    assert "a column weight has appeared" in run("source", "notes", "cases").out
    assert run("source", "accept", "cases", "--json").json["accepted"] == ["weight"]
    assert run("status", "--json").json["attention"] == []
    drop(place, 4, weight="5")
    assert pulled(place).appeared == {}


def test_a_source_stops_at_a_new_column_and_goes_on_when_it_is_accepted(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = node_with(tmp_path, "stop")
    monkeypatch.chdir(place.folder)
    drop(place, 2, weight="3")
    for _ in range(2):
        stopped = pulled(place)
        error = stopped.errors[Where("pull", "cases")]
        assert isinstance(error, Misconfigured)
        assert "weight" in error.what.en
        assert stopped.accepted == 0
    assert run("source", "accept", "cases").code == 0
    assert pulled(place).accepted == 1


def test_a_draft_of_the_catalog_is_written_when_a_column_appears(tmp_path: Path) -> None:
    place = node_with(tmp_path, "draft")
    drop(place, 2, weight="3")
    assert pulled(place).accepted == 1
    text = (place.folder / "data" / "drafts" / "cases.yaml").read_text("utf-8")
    assert "weight" in text
    assert "cases" in yaml.safe_load(text)["resources"]
