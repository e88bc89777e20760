"""The tests about the tests: amounts as documented, what needs a server, a seeded order."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.support.pages import DOCS, ROOT, rows, section
from tests.support.selection import FIRST, HEAVY, KAFKA, MORTAL, folder_of, scope_of, shuffled
from tests.support.soak import AMOUNTS, Amount, bits


def test_the_page_states_every_amount() -> None:
    page = (DOCS / "testing.md").read_text(encoding="utf-8")
    stated = {tuple(cells) for cells in rows(section(page, "What `make test` does a part of"))}
    assert stated == {(item.what, str(item.test), str(item.soak)) for item in AMOUNTS}


def test_soak_does_more() -> None:
    for item in AMOUNTS:
        assert (item.soak < item.test) == item.what.endswith("one in")


@pytest.mark.parametrize("number", [1, 3, 8])
def test_so_many_bits_of_each_byte(number: int) -> None:
    items = list(bits(range(20), Amount("bits", number, number)))
    assert len(set(items)) == len(items) == 20 * number
    assert {bit // 8 for bit in items} == set(range(20))
    assert {bit % 8 for bit in items} == set(range(8))


def test_the_heavy_folders_are_there() -> None:
    assert {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()} >= HEAVY
    assert folder_of("tests/seal/test_rows.py") == "seal"
    assert folder_of("tests/test_docs.py") == "test_docs.py"


def test_what_is_run_together_is_there() -> None:
    assert all((ROOT / file).is_file() for file in KAFKA | MORTAL)
    scopes = {scope_of(str(path.relative_to(ROOT))) for path in ROOT.glob("tests/**/test_*.py")}
    assert scopes >= set(FIRST)
    assert scope_of("tests/log/test_kafka_group.py::test_a") == scope_of(
        "tests/publish/test_command.py"
    )


def test_a_seed_is_an_order_and_files_stay_together(request: pytest.FixtureRequest) -> None:
    items = request.session.items
    once, again, other = (shuffled(items, Random(seed)) for seed in (1, 1, 2))  # noqa: S311
    assert once == again
    assert sorted(once, key=id) == sorted(items, key=id)
    assert len(items) < 5 or once != other
    order: list[Path] = []
    for item in once:
        if item.path not in order[-1:]:
            order.append(item.path)
    assert len(order) == len(set(order))
