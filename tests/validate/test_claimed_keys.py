from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from exchange.validate.claimed_keys import ClaimedKeys, GroupHashes

# A chunk: per row (candidate, hash of group 0, hash of group 1), None for a null in the group.
_HASH = st.one_of(st.none(), st.integers(0, 12), st.sampled_from([2**64 - 1, 2**63]))
_CHUNKS = st.lists(st.lists(st.tuples(st.booleans(), _HASH, _HASH), max_size=12), max_size=6)


def _parts(
    chunk: list[tuple[bool, int | None, int | None]],
) -> tuple[list[GroupHashes], np.ndarray]:
    parts = []
    for place in (1, 2):
        hashes = [row[place] for row in chunk]
        parts.append(
            GroupHashes(
                np.array([value or 0 for value in hashes], dtype=np.uint64),
                np.array([value is not None for value in hashes], dtype=np.bool_),
            )
        )
    return parts, np.array([row[0] for row in chunk], dtype=np.bool_)


@given(_CHUNKS)
def test_the_first_accepted_wins_as_if_taken_one_by_one(
    chunks: list[list[tuple[bool, int | None, int | None]]],
) -> None:
    claimed, taken = ClaimedKeys(), (set[int](), set[int]())
    for chunk in chunks:
        parts, candidates = _parts(chunk)
        before = claimed
        refused, claimed = before.claim(parts, candidates)
        for row, (candidate, *hashes) in enumerate(chunk):
            repeats = any(value in taken[group] for group, value in enumerate(hashes))
            assert refused[row] == (candidate and repeats)
            if candidate and not repeats:
                for group, value in enumerate(hashes):
                    if value is not None:
                        taken[group].add(value)
        for group, part in enumerate(parts):
            holds = [row[group + 1] in taken[group] for row in chunk]
            assert claimed.holds(group, part).tolist() == holds
        # The old value still stands for "before": the same chunk gives the same answer.
        assert before.claim(parts, candidates)[0].tolist() == refused.tolist()


def test_runs_stay_few_and_sorted() -> None:
    chance = np.random.default_rng(1)
    claimed = ClaimedKeys()
    for _ in range(100):
        hashes = chance.integers(0, 2**64, 1000, dtype=np.uint64)
        everything = np.ones(1000, dtype=np.bool_)
        _, claimed = claimed.claim([GroupHashes(hashes, everything)], everything)
    assert len(claimed) == 100_000
    assert len(claimed.groups[0]) <= 8
    assert all((run[:-1] < run[1:]).all() for run in claimed.groups[0])
