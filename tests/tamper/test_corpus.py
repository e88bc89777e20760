from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from exchange.seal.crypto.suites import SUITES
from tests.tamper.cases import Case
from tests.tamper.corpus import CORPUS
from tests.tamper.valid import valid_things
from tests.tamper.world import World, make_world

Worlds = dict[tuple[str, int], World]
RUNS = [
    pytest.param(case, suite, version, id=f"{case.mutation} ({suite}, version {version})")
    for case in CORPUS
    for suite in SUITES
    for version in case.versions
]


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Worlds:
    return {
        (suite, version): make_world(tmp_path_factory.mktemp("log"), suite, version)
        for suite in SUITES
        for version in (4, 5)
    }


@pytest.fixture(scope="module")
def tally() -> Counter[str]:
    return Counter()


def test_each_has_a_name_of_its_own() -> None:
    assert len({case.mutation for case in CORPUS}) == len(CORPUS) > 200


@pytest.mark.parametrize(("case", "suite", "version"), RUNS)
def test_it_is_noticed(
    case: Case, suite: str, version: int, worlds: Worlds, tally: Counter[str]
) -> None:
    world = worlds[suite, version]
    assert case.right(world).told_by(world) == ""
    tally["mutations"] += 1
    assert case.wrong(world).told_by(world) == case.told_by
    tally["detected"] += 1


def test_a_thousand_valid_things_are_never_suspected(
    worlds: Worlds,
    tally: Counter[str],
    tmp_path: Path,
    tell: Callable[[str], None],
) -> None:
    alarms: list[tuple[str, str]] = []
    for number, world in enumerate(worlds.values()):
        for kind, hand in valid_things(world, tmp_path / str(number)):
            tally["valid"] += 1
            if told_by := hand.told_by(world):
                alarms.append((kind, told_by))
    tell(
        f"tamper corpus: {tally['mutations']:,} mutations, {tally['detected']:,} detected;"
        f" {tally['valid']:,} valid ones, {len(alarms)} false alarms"
    )
    assert not alarms
    assert tally["valid"] == 1000
