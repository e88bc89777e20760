"""The newest entry of each key of a compacted topic, kept in memory and followed on demand."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from exchange.errors import Transient
from exchange.log.kafka.cluster import END, FIRST
from exchange.log.kafka.reader import LARGE_FETCH
from exchange.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable

    from exchange.log import Entry, Partition
    from exchange.log.kafka.cluster import ClusterAdmin

_LOOK_SECONDS = 0.002


class Table:
    """One compacted topic; used by any thread."""

    def __init__(
        self,
        topic: str,
        cluster: Callable[[], ClusterAdmin],
        *,
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
        patience: float,
    ) -> None:
        """Read nothing yet; ``patience``: longest wait for open transactions, in seconds."""
        self._partition: Partition = (topic, 0)
        self._cluster = cluster
        self._monotonic = monotonic
        self._sleep = sleep
        self._patience = patience
        self._lock = threading.Lock()
        self._newest: dict[str, Entry] = {}
        self._next = -1

    def latest(self, key: str) -> Entry | None:
        """Return the newest committed entry of a key as of now.

        Waits until every transaction that was begun before the call is decided: of two workers
        that take turns as one owner, the later one reads what the earlier one wrote.
        """
        cluster, partition = self._cluster(), self._partition
        with self._lock:
            goal = cluster.offsets([partition], END, committed=False)[partition]
            if self._next < goal:
                self._decided(goal)
                if self._next < 0:
                    self._next = cluster.offsets([partition], FIRST)[partition]
                while self._next < goal:
                    found = cluster.fetch(partition, self._next, LARGE_FETCH)
                    for entry in found.entries:
                        self._newest[entry.key] = entry
                    self._next = found.next
            return self._newest.get(key)

    def _decided(self, goal: int) -> None:
        """Wait until nothing below ``goal`` belongs to an open transaction."""
        deadline = self._monotonic() + self._patience
        while self._cluster().offsets([self._partition], END)[self._partition] < goal:
            if self._monotonic() >= deadline:
                raise Transient(
                    Text(
                        f"主题 {self._partition[0]} 上有未结束的事务",
                        f"a transaction on {self._partition[0]} is still open",
                    ),
                    hint=Text(
                        "稍后重试;超时的事务由集群中止",
                        "try again; the cluster aborts a transaction that outlives its time limit",
                    ),
                )
            self._sleep(_LOOK_SECONDS)
