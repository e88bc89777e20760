"""Where the partitions end, asked for together and remembered for a moment."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from exchange.log.kafka.cluster import END, FIRST
from exchange.log.kafka.reader import SMALL_FETCH

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from exchange.log import Partition
    from exchange.log.kafka.cluster import ClusterAdmin

FRESH_SECONDS = 0.2
"""How old the end of a partition may be when nothing was written to it by this process."""
DECIDED_SECONDS = 0.5
"""How long an own transaction may take to become visible, before others are served."""
_LOOK_SECONDS = 0.002
_TAIL, _FARTHER = 2, 16
"""How many offsets before the end the last entry is looked for, and how many times farther."""


class Ends:
    """The ends of partitions: what lies below is decided. Used by any thread."""

    def __init__(
        self,
        cluster: Callable[[], ClusterAdmin],
        *,
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._cluster = cluster
        self._monotonic = monotonic
        self._sleep = sleep
        self._lock = threading.Lock()
        self._known: dict[Partition, tuple[float, int]] = {}
        self._wrote: dict[Partition, int] = {}
        self._tails: dict[Partition, tuple[int, int]] = {}

    def wrote(self, ends: Mapping[Partition, int]) -> None:
        """Take note of the offsets after an own committed transaction."""
        with self._lock:
            for partition, end in ends.items():
                self._wrote[partition] = max(end, self._wrote.get(partition, 0))
                self._known.pop(partition, None)

    def of(self, partitions: Collection[Partition], *, fresh: bool = False) -> dict[Partition, int]:
        """Return the ends; what this process wrote lies below them.

        Only a transaction of another process that was opened before and hangs can hold them
        back, and that no longer than ``DECIDED_SECONDS``.
        """
        deadline = self._monotonic() + DECIDED_SECONDS
        while True:
            found = self._ask(partitions, fresh=fresh)
            with self._lock:
                behind = [
                    partition
                    for partition in partitions
                    if found[partition] < self._wrote.get(partition, 0)
                ]
                for partition in behind:
                    self._known.pop(partition, None)
            if not behind or self._monotonic() >= deadline:
                return found
            self._sleep(_LOOK_SECONDS)

    def after_last(self, partition: Partition) -> tuple[int, int]:
        """Return the first kept offset, and the one after the last entry: no marker follows."""
        cluster = self._cluster()
        first = cluster.offsets([partition], FIRST)[partition]
        end = self.of([partition], fresh=True)[partition]
        with self._lock:
            known, tail = self._tails.get(partition, (-1, -1))
        if known != end:
            tail = self._tail(partition, first, end)
            with self._lock:
                self._tails[partition] = end, tail
        return first, max(first, tail)

    def _ask(self, partitions: Collection[Partition], *, fresh: bool) -> dict[Partition, int]:
        now = self._monotonic()
        with self._lock:
            known = (
                {}
                if fresh
                else {
                    partition: end
                    for partition in partitions
                    if (one := self._known.get(partition)) is not None
                    and now - one[0] < FRESH_SECONDS
                    for end in one[1:]
                }
            )
        asked = [partition for partition in partitions if partition not in known]
        if asked:
            found = self._cluster().offsets(asked, END)
            with self._lock:
                self._known |= {partition: (now, end) for partition, end in found.items()}
            known |= found
        return known

    def _tail(self, partition: Partition, first: int, end: int) -> int:
        """Look back from ``end`` for the last entry: markers of transactions take offsets too."""
        back = _TAIL
        while True:
            at = start = max(first, end - back)
            last = first
            while at < end:
                found = self._cluster().fetch(partition, at, SMALL_FETCH)
                if found.next == at:
                    break
                last = found.entries[-1].offset + 1 if found.entries else last
                at = found.next
            if last > first or start == first:
                return last
            back *= _FARTHER
