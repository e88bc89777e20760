"""Which keys a pull has already brought: 64-bit hashes in sorted runs, 8 bytes a row and group.

A group is a tuple of fields that must be unique together: the resource's key, and each of its
``unique`` groups. The rule: records are taken in order; a record that repeats a group of an
*accepted* record is refused, the first one stays. A refused record claims nothing, so its
corrected or valid twin can still pass. A group with a null in it is not compared, as in SQL.

No value is kept. Two different keys share a hash once in 2^64: among 10 million rows the odds
that one good record is refused are 3 in a million, and it can be replayed from quarantine.

:class:`ClaimedKeys` is a value: claiming returns a new one, and the old one stands for "before".
Keep the new one when the transaction is committed; after a restart, build it again by
:meth:`exchange.validate.validator.Validator.remember` over the accepted frames of the pull.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

Hashes = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]
Runs = tuple[Hashes, ...]


def _are_in(runs: Runs, hashes: Hashes) -> Flags:
    """Tell which of the hashes are in the runs; fast when they are sorted."""
    flags = np.zeros(hashes.size, dtype=np.bool_)
    for run in runs:
        place = np.searchsorted(run, hashes)
        flags |= run[np.minimum(place, run.size - 1)] == hashes
    return flags


def _with_run(runs: Runs, fresh: Hashes) -> Runs:
    """Add a sorted run; merge runs of like size, so that there are at most log(rows) of them."""
    if fresh.size == 0:
        return runs
    while runs and runs[-1].size <= 2 * fresh.size:
        fresh = np.concatenate((runs[-1], fresh))
        fresh.sort(kind="stable")  # finds the two runs and merges them
        runs = runs[:-1]
    return (*runs, fresh)


@dataclass(frozen=True, slots=True)
class GroupHashes:
    """One group's hashes of a chunk, and which rows take part (no null in the group)."""

    hashes: Hashes
    whole: Flags


@dataclass(frozen=True, slots=True)
class ClaimedKeys:
    """The groups of all accepted records of a pull so far."""

    groups: tuple[Runs, ...] = ()

    def __len__(self) -> int:
        """Count the keys held."""
        return sum(run.size for run in self.groups[0]) if self.groups else 0

    def _runs(self, group: int) -> Runs:
        return self.groups[group] if group < len(self.groups) else ()

    def holds(self, group: int, part: GroupHashes) -> Flags:
        """Tell which rows repeat this group of an accepted record."""
        return _are_in(self._runs(group), part.hashes) & part.whole

    def claim(self, parts: Sequence[GroupHashes], candidates: Flags) -> tuple[Flags, ClaimedKeys]:
        """Take the candidate rows in order; return which are refused, and what is seen then."""
        rows = np.flatnonzero(candidates)
        repeats = np.zeros(candidates.size, dtype=np.bool_)
        involved = np.zeros(rows.size, dtype=np.bool_)
        for group, part in enumerate(parts):
            hashes, whole = part.hashes[rows], part.whole[rows]
            involved |= self._collides(group, hashes, whole)
        if involved.any():
            repeats[self._second(parts, rows[involved])] = True
        claims = candidates & ~repeats
        groups = tuple(
            _with_run(self._runs(group), np.sort(part.hashes[claims & part.whole]))
            for group, part in enumerate(parts)
        )
        return repeats, ClaimedKeys(groups)

    def _collides(self, group: int, hashes: Hashes, whole: Flags) -> Flags:
        """Find the rows whose hash is held already or occurs twice: few, as a rule."""
        ordered = np.sort(hashes[whole])
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        suspects = np.union1d(twice, ordered[_are_in(self._runs(group), ordered)])
        if suspects.size == 0:
            return np.zeros(hashes.size, dtype=np.bool_)
        return pl.Series(hashes).is_in(pl.Series(suspects).implode()).to_numpy() & whole

    def _second(self, parts: Sequence[GroupHashes], rows: npt.NDArray[np.intp]) -> list[int]:
        """Go through the involved rows one by one; return those that repeat an accepted one."""
        hash_lists = [
            self.holds(group, GroupHashes(part.hashes[rows], part.whole[rows])).tolist()
            for group, part in enumerate(parts)
        ]
        hashes = [part.hashes[rows].tolist() for part in parts]
        whole = [part.whole[rows].tolist() for part in parts]
        claimed_hashes: list[set[int]] = [set() for _ in parts]
        repeated = []
        for place, row in enumerate(rows.tolist()):
            own_groups = [group for group in range(len(parts)) if whole[group][place]]
            if any(
                hash_lists[group][place] or hashes[group][place] in claimed_hashes[group]
                for group in own_groups
            ):
                repeated.append(row)
            else:
                for group in own_groups:
                    claimed_hashes[group].add(hashes[group][place])
        return repeated
