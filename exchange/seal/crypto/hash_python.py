"""Salted leaves and the tree above them by :mod:`hashlib`: what runs without a compiled kernel.

``hash_kernel`` has the same two functions in compiled code and decides which of both runs. Both
give the same bytes, and raise ValueError for the same input.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol, TypeAlias

from exchange.seal.crypto.suites import Suite

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

HASH_SIZE = 32
SALT_SIZE = 16

Offsets: TypeAlias = "Sequence[int] | NDArray[np.int64]"
"""Where records begin and, one more, where the last one ends."""


class TreeHashing(Protocol):
    """Hashes the records of a batch and the tree above them; hashes stand end to end."""

    @property
    def name(self) -> str:
        """What runs: ``python``, or the level of the processor."""

    def leaves(
        self, suite: Suite, prefix: bytes, records: bytes, offsets: Offsets, salts: bytes
    ) -> bytes:
        """Hash ``prefix || salt_i || record_i`` for all i.

        ``prefix`` is one byte, ``salts`` are 16 bytes for each record, or nothing at all. Raises
        ValueError for salts of another size and for offsets that fall or leave the records.
        """

    def tree(self, suite: Suite, prefix: bytes, leaves: bytes) -> bytes:
        """Return all levels above at least one leaf, end to end; the root is last.

        A node is the hash of ``prefix || left || right``; an odd last node is handed up as it
        is. Of one leaf nothing is returned. Raises ValueError for bytes that are no hashes.
        """


def level_sizes(count: int) -> list[int]:
    """Return how many nodes each level above ``count`` leaves has."""
    sizes = []
    while count > 1:
        count = (count + 1) // 2
        sizes.append(count)
    return sizes


def checked_rows(offsets: Offsets, salts: bytes) -> int:
    """Return how many records there are; raises ValueError for salts of another number."""
    rows = len(offsets) - 1
    if rows < 0:
        raise ValueError("no offsets")
    if salts and len(salts) != SALT_SIZE * rows:
        raise ValueError(f"{len(salts)} bytes of salts for {rows} records")
    return rows


def checked_count(leaves: bytes) -> int:
    """Return how many hashes these are; raises ValueError for none, or a part of one."""
    count, rest = divmod(len(leaves), HASH_SIZE)
    if rest or not count:
        raise ValueError(f"a tree has at least one leaf, whole hashes: {len(leaves)} bytes")
    return count


class PythonHashing:
    """One call of OpenSSL for each hash."""

    name = "python"

    def leaves(
        self, suite: Suite, prefix: bytes, records: bytes, offsets: Offsets, salts: bytes
    ) -> bytes:
        """Hash all records, as :class:`TreeHashing` says.

        Forking a hash that has already taken the prefix is the cheapest way to a fresh one
        (0.9 µs a record with SM3, of which 0.5 is SM3 itself).
        """
        checked_rows(offsets, salts)
        bounds = list(offsets) if isinstance(offsets, Sequence) else offsets.tolist()
        if bounds[0] < 0 or bounds[-1] > len(records) or any(a > b for a, b in pairwise(bounds)):
            raise ValueError("offsets fall, or leave the records")
        fork = suite.new(prefix).copy
        size = SALT_SIZE if salts else 0
        hashes: list[bytes] = []
        append = hashes.append
        at = 0
        for start, end in pairwise(bounds):
            hasher = fork()
            hasher.update(salts[at : at + size] + records[start:end])
            append(hasher.digest())
            at += size
        return b"".join(hashes)

    def tree(self, suite: Suite, prefix: bytes, leaves: bytes) -> bytes:
        """Hash the tree above the leaves, as :class:`TreeHashing` says."""
        checked_count(leaves)
        fork = suite.new(prefix).copy
        levels: list[bytes] = []
        below = leaves
        while len(below) > HASH_SIZE:
            above: list[bytes] = []
            append = above.append
            odd = len(below) % (2 * HASH_SIZE)
            for at in range(0, len(below) - odd, 2 * HASH_SIZE):
                hasher = fork()
                hasher.update(below[at : at + 2 * HASH_SIZE])
                append(hasher.digest())
            if odd:
                append(below[-HASH_SIZE:])
            below = b"".join(above)
            levels.append(below)
        return b"".join(levels)
