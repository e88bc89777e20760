"""Numbers by raw message: its rows, its pull, and what became of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

UNKNOWN = -1
"""Stands for the rows of a raw message that cannot be read, and for no pull."""


@dataclass
class RawRows:
    """Numbers by raw message, from offset ``first`` on."""

    first: int
    size: int
    pulls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rows = np.zeros(self.size, np.int64)
        self.pull = np.full(self.size, UNKNOWN, np.int32)
        """Number of the pull in ``pulls``."""
        self.time = np.zeros(self.size, np.int64)
        """When the log took it, milliseconds since 1970."""
        self.done = np.zeros(self.size, np.int64)
        """Rows that were sealed or refused."""
        self.refused = np.zeros(self.size, np.int64)
        """Records of it that were refused."""
        self.loose: Counter[str] = Counter()
        """Rows by pull of batches that do not say which raw message they come from."""
        self.complete = True
        """Whether every batch says which raw message it comes from; those of former versions
        do not."""

    def has(self, offset: int) -> bool:
        """Tell whether the raw message is among them."""
        return 0 <= offset - self.first < self.size


class Running:
    """RawRows a pull as sealing did: from its first raw message on, anew with every other pull."""

    def __init__(self, counts: RawRows, floor: int) -> None:
        self._counts = counts
        self._floor = floor
        self._next = 0
        self._pull = UNKNOWN
        self.accepted = self.rejected = 0
        self.known = floor == 0
        """Whether all of the pull is there: retention may have dropped its beginning."""

    def advance(self, offset: int) -> None:
        """Go on up to a raw message, this one included."""
        counts, end = self._counts, offset - self._counts.first + 1
        for at in range(self._next, end):
            pull = int(counts.pull[at])
            if pull not in {UNKNOWN, self._pull}:
                self.known = self.known or at + counts.first >= self._floor
                self._pull, self.accepted, self.rejected = pull, 0, 0
            self.rejected += int(counts.refused[at])
        self._next = max(self._next, end)
