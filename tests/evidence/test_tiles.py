from __future__ import annotations

import random
from collections.abc import Mapping
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.errors import Integrity
from exchange.evidence.checkpoint import Head, consistent
from exchange.evidence.tiles import (
    EMPTY,
    MAX_ENTRY,
    SUITE,
    Read,
    Tiles,
    extend,
    leaf_hash,
    number_path,
    pack,
    tile_path,
    unpack,
)
from exchange.seal.batch import tree as merkle
from tests.evidence.samples import digest, mth, path, proof

SIZES = 1100


def leaf(number: int) -> bytes:
    return b"entry %d" % number * (number % 3)


LEAVES = [digest(b"\x00" + leaf(number)) for number in range(SIZES)]


def absent(name: str) -> bytes:
    raise FileNotFoundError(name)


def reading(files: Mapping[str, bytes]) -> Read:
    return lambda name: files[name] if name in files else absent(name)


def grow(steps: list[int]) -> dict[str, bytes]:
    """Append in several steps; return all files, as if none were ever removed."""
    files: dict[str, bytes] = {}
    size = 0
    for step in steps:
        tiles = Tiles(reading(files), size)
        files |= extend(tiles, [leaf(number) for number in range(size, size + step)])
        size += step
    return files


@cache
def one_by_one() -> dict[str, bytes]:
    return grow([1] * SIZES)


def tree(size: int) -> Tiles:
    return Tiles(reading(one_by_one()), size)


def test_paths_are_those_of_the_specification() -> None:
    assert number_path(1234067) == "x001/x234/067"
    assert number_path(0) == "000"
    assert tile_path(0, 5) == "tile/0/005"
    assert tile_path("entries", 1000, 7) == "tile/entries/x001/000.p/7"


def test_every_size_has_the_root_of_the_rfc() -> None:
    assert digest(b"").hex() == EMPTY == tree(0).root().hex()
    for size in range(SIZES + 1):
        assert tree(size).root() == mth(LEAVES[:size]), size


def test_a_tree_of_70000_has_the_tiles_that_the_specification_names() -> None:
    files = extend(Tiles(absent, 0), [b"%d" % n for n in range(70_000)])
    assert {name for name in files if name.startswith("tile/0/")} == {
        *(f"tile/0/{n:03}" for n in range(273)),
        "tile/0/273.p/112",
    }
    upper = {"tile/1/000", "tile/1/001.p/17", "tile/2/000.p/1"}
    assert {name for name in files if name.startswith(("tile/1/", "tile/2/"))} == upper
    assert {len(files[name]) for name in files if ".p/" not in name and "tries" not in name} == {
        8192
    }
    assert "tile/1/000.p/1" in extend(Tiles(absent, 0), [b""] * 256)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 300), max_size=6))
def test_any_steps_lead_to_the_same_tree(steps: list[int]) -> None:
    files, whole = grow(steps), grow([sum(steps)])
    assert whole.items() <= files.items()


def test_random_proofs_are_those_of_the_rfc_and_verify() -> None:
    chance = random.Random(6962)  # noqa: S311 - the same sizes every time
    sizes = [*range(1, 20), *chance.sample(range(20, SIZES), 60), 255, 256, 257, 511, 512, 513]
    for size in sizes:
        tiles = tree(SIZES)
        leaves, root = LEAVES[:size], mth(LEAVES[:size])
        for index in {0, size - 1, *(chance.randrange(size) for _ in range(4))}:
            result = tiles.inclusion(index, size)
            assert result == path(index, leaves)
            assert root == merkle.root_from_path(
                SUITE, leaves[index], index=index, size=size, path=result
            )
        for old in {0, 1, size, *(chance.randrange(size + 1) for _ in range(4))}:
            result = tiles.consistency(old, size)
            assert result == (proof(old, leaves) if old else [])
            before = Head("log", old, mth(LEAVES[:old]))
            assert consistent(before, Head("log", size, root), result)
            other = digest(root)
            assert not old or not consistent(before, Head("log", size, other), result)


def test_proofs_read_few_tiles() -> None:
    files = extend(Tiles(absent, 0), [b"%d" % n for n in range(70_000)])
    read: list[str] = []

    def counting(name: str) -> bytes:
        read.append(name)
        return reading(files)(name)

    tiles = Tiles(counting, 70_000)
    for _ in range(2):
        tiles.inclusion(12_345)
        tiles.consistency(12_345)
    assert len(read) == len(set(read)) <= 8


def test_a_partial_tile_that_has_gone_is_read_from_the_full_one() -> None:
    tiles = Tiles(reading(grow([300])), 5)
    assert tiles.root() == mth(LEAVES[:5])
    assert tiles.entry(4) == leaf(4)
    assert tiles.inclusion(2, 3) == path(2, LEAVES[:3])


def read_all(tiles: Tiles) -> None:
    tiles.root()
    for index in range(tiles.size):
        tiles.entry(index)
        tiles.leaf(index)


@pytest.mark.parametrize("size", [5, 300])
def test_a_missing_or_cut_file_is_named(size: int) -> None:
    whole = grow([size])
    for name in whole:
        for change in ({}, {name: whole[name][:-1]}, {name: whole[name] + b"\x00"}):
            files = {key: data for key, data in whole.items() if key != name} | change
            with pytest.raises(Integrity, match=name):
                read_all(Tiles(reading(files), size))


def test_nothing_beyond_the_size_is_read() -> None:
    tiles = tree(10)
    for call in (
        lambda: tiles.entry(10),
        lambda: tiles.entry(-1),
        lambda: tiles.leaf(10),
        lambda: tiles.root(11),
        lambda: tiles.inclusion(3, 11),
        lambda: tiles.inclusion(3, 3),
        lambda: tiles.consistency(4, 3),
        lambda: tiles.consistency(4, 11),
    ):
        with pytest.raises(IndexError):
            call()


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_bundles_are_read_as_written(entries: list[bytes]) -> None:
    assert unpack(pack(entries)) == entries
    assert leaf_hash(b"") == digest(b"\x00")


def test_the_longest_entry_fits_its_length() -> None:
    assert unpack(pack([bytes(MAX_ENTRY)])) == [bytes(MAX_ENTRY)]
