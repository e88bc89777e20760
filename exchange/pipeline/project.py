"""The door sealed, quarantine → store: the store is a view of the log."""

from __future__ import annotations

from dataclasses import dataclass

from exchange.log import Fenced, quarantine_topic, sealed_topic
from exchange.pipeline.context import CHUNK_BYTES, PipelineContext
from exchange.pipeline.projection import show
from exchange.store.database import Store


@dataclass
class ProjectStage:
    """Shows in the store what stands in a resource's topics: deliveries, quarantine, notes.

    ``notes`` counts the rows shown that are no records: titles, group rows.
    """

    context: PipelineContext
    resource: str
    store: Store

    def __post_init__(self) -> None:
        """Join the consumer group; nothing is read yet."""
        self.context.ensure(self.resource)
        topics = [sealed_topic(self.resource), quarantine_topic(self.resource)]
        self.notes = 0
        self._consumer = self.context.log.consumer("store", topics)

    def close(self) -> None:
        """Leave the consumer group."""
        self._consumer.close()

    def step(self) -> bool:
        """Show the next messages; False when there are none."""
        entries = self._consumer.poll(max_entries=64, max_bytes=CHUNK_BYTES)
        if not entries:
            return False
        last = entries[-1]
        try:
            self.context.failpoint("view:before")
            self.notes += show(self.store, self.resource, entries)
            self.context.failpoint("view:shown")
            with self.context.log.transaction(f"store/{last.topic}/{last.partition}") as tx:
                tx.commit(self._consumer, last.topic, last.partition, last.offset + 1)
        except Fenced:  # another worker shows them
            self._consumer.rewind()
        except BaseException:
            self._consumer.rewind()
            raise
        self.context.failpoint("view:after")
        return True
