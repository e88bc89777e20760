"""Which keys a pull has already brought: 64-bit hashes in sorted runs, 8 bytes a row and group.

A group is a tuple of fields that must be unique together: the resource's key, and each of its
``unique`` groups. The rule: records are taken in order; a record that repeats a group of an
*accepted* record is refused, the first one stays. A refused record claims nothing, so its
corrected or valid twin can still pass. A group with a null in it is not compared, as in SQL.

No value is kept. Two different keys share a hash once in 2^64: among 10 million rows the odds
that one good record is refused are 3 in a million, and it can be replayed from quarantine.

:class:`Seen` is a value: claiming returns a new one, and the old one stands for "before". Keep
the new one when the transaction is committed; after a restart, build it again by
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


def _held(runs: Runs, hashes: Hashes) -> Flags:
    """Tell which of the hashes are in the runs; fast when they are sorted."""
    held = np.zeros(hashes.size, dtype=np.bool_)
    for run in runs:
        place = np.searchsorted(run, hashes)
        held |= run[np.minimum(place, run.size - 1)] == hashes
    return held


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
class Group:
    """One group's hashes of a chunk, and which rows take part (no null in the group)."""

    hashes: Hashes
    whole: Flags


@dataclass(frozen=True, slots=True)
class Seen:
    """The groups of all accepted records of a pull so far."""

    groups: tuple[Runs, ...] = ()

    def __len__(self) -> int:
        """Count the keys held."""
        return sum(run.size for run in self.groups[0]) if self.groups else 0

    def _runs(self, group: int) -> Runs:
        return self.groups[group] if group < len(self.groups) else ()

    def holds(self, group: int, part: Group) -> Flags:
        """Tell which rows repeat this group of an accepted record."""
        return _held(self._runs(group), part.hashes) & part.whole

    def claim(self, parts: Sequence[Group], candidates: Flags) -> tuple[Flags, Seen]:
        """Take the candidate rows in order; return which are refused, and what is seen then."""
        rows = np.flatnonzero(candidates)
        refused = np.zeros(candidates.size, dtype=np.bool_)
        involved = np.zeros(rows.size, dtype=np.bool_)
        for group, part in enumerate(parts):
            hashes, whole = part.hashes[rows], part.whole[rows]
            involved |= self._collides(group, hashes, whole)
        if involved.any():
            refused[self._second(parts, rows[involved])] = True
        kept = candidates & ~refused
        groups = tuple(
            _with_run(self._runs(group), np.sort(part.hashes[kept & part.whole]))
            for group, part in enumerate(parts)
        )
        return refused, Seen(groups)

    def _collides(self, group: int, hashes: Hashes, whole: Flags) -> Flags:
        """Find the rows whose hash is held already or occurs twice: few, as a rule."""
        ordered = np.sort(hashes[whole])
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        suspects = np.union1d(twice, ordered[_held(self._runs(group), ordered)])
        if suspects.size == 0:
            return np.zeros(hashes.size, dtype=np.bool_)
        return pl.Series(hashes).is_in(pl.Series(suspects).implode()).to_numpy() & whole

    def _second(self, parts: Sequence[Group], rows: npt.NDArray[np.intp]) -> list[int]:
        """Go through the involved rows one by one; return those that repeat an accepted one."""
        held = [
            self.holds(group, Group(part.hashes[rows], part.whole[rows])).tolist()
            for group, part in enumerate(parts)
        ]
        hashes = [part.hashes[rows].tolist() for part in parts]
        whole = [part.whole[rows].tolist() for part in parts]
        taken: list[set[int]] = [set() for _ in parts]
        repeated = []
        for place, row in enumerate(rows.tolist()):
            mine = [group for group in range(len(parts)) if whole[group][place]]
            if any(held[group][place] or hashes[group][place] in taken[group] for group in mine):
                repeated.append(row)
            else:
                for group in mine:
                    taken[group].add(hashes[group][place])
        return repeated
