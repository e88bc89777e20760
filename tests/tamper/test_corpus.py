from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from exchange.seal.crypto.suites import SUITES
from tests.tamper.cases import Case, Show
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
def told_of_right() -> dict[tuple[Show, str, int], str]:
    """What each unspoilt thing was told; many cases begin with the same."""
    return {}


def test_each_has_a_name_of_its_own() -> None:
    assert len({case.mutation for case in CORPUS}) == len(CORPUS) > 200


@pytest.mark.parametrize(("case", "suite", "version"), RUNS)
def test_it_is_noticed(
    case: Case,
    suite: str,
    version: int,
    *,
    worlds: Worlds,
    told_of_right: dict[tuple[Show, str, int], str],
    count: Callable[[str], None],
) -> None:
    world, right = worlds[suite, version], (case.right, suite, version)
    if right not in told_of_right:
        told_of_right[right] = case.right(world).told_by(world)
    assert told_of_right[right] == ""
    assert case.wrong(world).told_by(world) == case.told_by
    count("tamper corpus: mutations, all noticed")


def test_a_thousand_valid_things_are_never_suspected(
    worlds: Worlds, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    items = [
        (kind, hand.told_by(world))
        for number, world in enumerate(worlds.values())
        for kind, hand in valid_things(world, tmp_path / str(number))
    ]
    alarms = [(kind, told_by) for kind, told_by in items if told_by]
    tell(f"tamper corpus: {len(items):,} valid things, {len(alarms)} false alarms")
    assert not alarms
    assert len(items) == 1000
