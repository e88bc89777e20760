"""The stage sealed, quarantine → store: the store is a projection of the log (D6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from exchange.log import Entry, quarantine_topic, sealed_topic
from exchange.pipeline.context import CHUNK_BYTES, PipelineContext
from exchange.pipeline.projection import project
from exchange.pipeline.settlement import Settlement
from exchange.pipeline.stage import Reading
from exchange.store.database import Store

_ENTRIES = 64


@dataclass
class ProjectStage:
    """Shows in the store what stands in a resource's topics: deliveries, quarantine, notes.

    Refused records that are older than what is sealed of their key settle.

    ``notes`` counts the rows that are no records: titles, group rows.
    """

    context: PipelineContext
    resource: str
    store: Store

    def __post_init__(self) -> None:
        """Join the consumer group; nothing is read yet."""
        self.context.ensure(self.resource)
        topics = [sealed_topic(self.resource), quarantine_topic(self.resource)]
        self.notes = 0
        resource = self.context.resource(self.resource)
        self._settlement = Settlement(self.context, resource, self.store)
        self._reading = Reading(self.context.log, "store", topics)

    def close(self) -> None:
        """Leave the consumer group."""
        self._reading.close()

    def step(self) -> bool:
        """Show the next messages; False when there are none."""
        entries = self._reading.poll(_ENTRIES, CHUNK_BYTES)
        if not entries:
            return False
        self._reading.attempt(lambda: self._show(entries))
        return True

    def _show(self, entries: Sequence[Entry]) -> None:
        last = entries[-1]
        self.context.failpoint("project:before")
        self.notes += project(self.store, self.resource, entries)
        self.context.failpoint("project:shown")
        if last.topic == sealed_topic(self.resource):
            self._settlement.settle(entries)
            self.context.failpoint("project:settled")
        owner = f"store/{last.topic}/{last.partition}"
        with self._reading.transaction(owner, last):
            pass  # the position alone
        self.context.failpoint("project:after")
