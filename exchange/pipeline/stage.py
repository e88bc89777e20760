"""The skeleton of a stage's step: poll, one transaction, commit; back on any error."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from exchange.log import Entry, Fenced, Log, Partition, Transaction

FENCED_IN_A_ROW = 100
"""How often in a row another worker may be faster, before a stage reports it as its error."""

T = TypeVar("T")


class Reading:
    """A stage's place in its consumer group."""

    def __init__(
        self, log: Log, group: str, topics: Sequence[str], *, complete: bool = True
    ) -> None:
        """Join the group; nothing is read yet.

        ``complete``: what was dropped before the group read it is a gap, and raises Integrity.
        """
        self._log = log
        self._consumer = log.consumer(group, topics, complete=complete)
        self._fenced = 0

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()

    def rewind(self) -> None:
        """Read again what is not committed."""
        self._consumer.rewind()

    def poll(
        self, max_entries: int, max_bytes: int, skip: Collection[Partition] = ()
    ) -> list[Entry]:
        """Return the next entries of one partition; ``[]`` when there are none."""
        return self._consumer.poll(max_entries=max_entries, max_bytes=max_bytes, skip=skip)

    def assigned(self) -> frozenset[int]:
        """Return the numbers of the partitions that this worker reads now."""
        return frozenset(number for _, number in self._consumer.assigned())

    def attempt(self, work: Callable[[], T]) -> T | None:
        """Do a step's work; None when another worker was faster.

        Whatever fails, the entries are read again. Raises Fenced when others are faster
        :data:`FENCED_IN_A_ROW` times in a row.
        """
        try:
            result = work()
        except Fenced:
            self.rewind()
            self._fenced += 1
            if self._fenced > FENCED_IN_A_ROW:
                raise
            return None
        except BaseException:
            self.rewind()
            raise
        self._fenced = 0
        return result

    @contextmanager
    def transaction(self, owner: str, last: Entry) -> Iterator[Transaction]:
        """Open a transaction that ends with the group's position behind ``last``."""
        with self._log.transaction(owner) as tx:
            yield tx
            self.commit(tx, last)

    def commit(self, tx: Transaction, last: Entry) -> None:
        """Move the group's position behind ``last``, with the transaction."""
        tx.commit(self._consumer, last.topic, last.partition, last.offset + 1)
