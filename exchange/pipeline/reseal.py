"""Batches that were sealed with a clock ahead, sealed once more with the right time (改正封签).

The province takes no batch from the future, and the time of sealing never runs backwards in a
chain: without this a partition would wait until that time has come. What a person withdraws was
never received. It stays in the log, with a refusal of our own for each batch, which is a leaf of
the evidence log; the same records follow under new numbers, in a chain that goes on from the
batch before. Everything of a partition is one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from exchange.cascade.delivery import State
from exchange.catalog.model import Resource
from exchange.errors import Rejected
from exchange.log import Entry, Transaction, sealed_topic
from exchange.pipeline.context import PipelineContext
from exchange.pipeline.messages import SealedEntry
from exchange.pipeline.numbers import take_numbers
from exchange.pipeline.partition import PartitionState
from exchange.pipeline.refusal import RefusalEntry
from exchange.pipeline.seal import seal_owner
from exchange.pipeline.withdrawal import WITHDRAWN, is_withdrawn, withdrawn, withdrawn_message
from exchange.seal.batch.build import BatchFacts, build, open_batch, open_statement, pack
from exchange.seal.batch.columns import Encoded
from exchange.seal.batch.statement import Statement, moment
from exchange.seal.eseal.signature import Sealer
from exchange.store.database import Store
from exchange.text import BEIJING, Text

AHEAD: Final = timedelta(minutes=1)
"""A batch that was sealed so far ahead of our clock is one of the future."""
_UNSENT = frozenset({State.PENDING, State.SENDING, State.WAITING})
_PAGE = 8


@dataclass(frozen=True, slots=True)
class Future:
    """The batches of a partition that were sealed in the future, and are not received."""

    resource: str
    partition: int
    offsets: tuple[int, ...]
    numbers: tuple[str, ...]
    sealed_at: str
    """The latest of their times, as in the statement."""


def find_future(context: PipelineContext, store: Store, resource: str) -> list[Future]:
    """Find them; raises Rejected where the province may have received one all the same."""
    found = []
    for partition in range(context.partitions(resource)):
        pairs = list(_future(context, resource, partition))
        for entry, _ in pairs:
            row = store.deliveries.get(resource, entry.key)
            if row is not None and row.state not in _UNSENT:
                raise _not_ours(resource, entry.key, row.state)
        if pairs:
            found.append(
                Future(
                    resource,
                    partition,
                    tuple(entry.offset for entry, _ in pairs),
                    tuple(entry.key for entry, _ in pairs),
                    max(statement.sealed_at for _, statement in pairs),
                )
            )
    return found


def _future(
    context: PipelineContext, resource: str, partition: int
) -> Iterator[tuple[Entry, Statement]]:
    """Yield what is not settled and was sealed in the future, in its order."""
    log, topic = context.log, sealed_topic(resource)
    limit = context.clock() + AHEAD
    ranges = withdrawn(context, resource, partition)
    offset = log.position("cascade", topic, partition)
    while page := log.read(topic, partition, offset, max_entries=_PAGE):
        for entry in page:
            if SealedEntry.of(entry) is None or is_withdrawn(ranges, entry.offset):
                continue
            statement = open_statement(entry.value)
            if moment(statement.sealed_at) > limit:
                yield entry, statement
        offset = page[-1].offset + 1


def reseal(
    context: PipelineContext,
    store: Store,
    resource: Resource,
    sealer: Callable[[], Sealer],
    *,
    by: str,
    reason: str,
) -> list[Future]:
    """Withdraw these batches and seal their records with the time of now; return what was.

    The audit trail has it first. Raises Rejected as :func:`find_future` does. Safe to be
    repeated after a kill: a partition is done, or as it was.
    """
    done = []
    for future in find_future(context, store, resource.name):
        subject = f"{resource.name}/{future.partition}"
        numbers = f"{future.numbers[0]} to {future.numbers[-1]}"
        detail = f"{len(future.numbers)} batches, {numbers}, {future.sealed_at}: {reason}"
        store.audit.append(by, "cascade.reseal", subject, detail)
        context.failpoint("reseal:before")
        with context.log.transaction(seal_owner(resource.name, future.partition)) as tx:
            _Correction(context, resource, future.partition, sealer(), reason).write(tx)
        context.failpoint("reseal:after")
        done.append(future)
    return done


@dataclass
class _Correction:
    """The correction of one partition."""

    context: PipelineContext
    resource: Resource
    partition: int
    sealer: Sealer
    reason: str

    def write(self, tx: Transaction) -> None:
        """Append what takes the place of the batches, their refusals, and the states."""
        context, name, now = self.context, self.resource.name, self.context.clock()
        state = context.partition_state(name, self.partition)
        ranges = list(withdrawn(context, name, self.partition))
        first = True
        for entry, statement in _future(context, name, self.partition):
            if first:
                state = self._back(state, entry, statement)
                first = False
            place = (name, self.partition)
            tx.append(RefusalEntry.new(place, entry.key, WITHDRAWN, self.reason, now).to_message())
            ranges.append((entry.offset, entry.offset + 1))
            state = self._sealed(tx, entry, state, now)
        tx.append(state.to_message(name, self.partition))
        tx.append(withdrawn_message(name, self.partition, ranges))

    def _back(self, state: PartitionState, entry: Entry, statement: Statement) -> PartitionState:
        """Let the chain go on from the batch before; numbers never go back."""
        before = ""
        offset = self.context.log.bounds(entry.topic, entry.partition)[0]
        if entry.offset > offset and statement.previous:
            page = self.context.log.read(
                entry.topic, entry.partition, entry.offset - 1, max_entries=1
            )
            if page and page[0].offset < entry.offset and SealedEntry.of(page[0]) is not None:
                earlier = open_statement(page[0].value)
                before = earlier.sealed_at if earlier.digest == statement.previous else ""
        return replace(state, statement=statement.previous, sealed_at=before)

    def _sealed(
        self, tx: Transaction, entry: Entry, state: PartitionState, now: datetime
    ) -> PartitionState:
        """Append one batch sealed anew; return the state after it."""
        context, name = self.context, self.resource.name
        old, sealed = open_batch(entry.value), SealedEntry.of(entry)
        assert sealed is not None  # noqa: S101 - it was chosen as one
        today = f"{now.astimezone(BEIJING):%Y%m%d}"
        if not state.has_number(today):
            state = take_numbers(context, name, self.partition, state, today)
        state = state.next_number()
        records = Encoded(old.schema, memoryview(old.records), np.asarray(old.offsets))
        (packed,) = pack(records)
        said = old.statement
        facts = BatchFacts(
            department=said.department,
            resource=said.resource,
            resource_code=said.resource_code,
            catalog_version=said.catalog_version,
            catalog_digest=said.catalog_digest,
            batch_no=state.batch_no,
            lane=said.lane,
            previous=state.statement,
            pulled_at=min(moment(said.pulled_at), now),
            sealed_at=now if not state.sealed_at else max(now, moment(state.sealed_at)),
            source=said.source,
            pull=said.pull,
            accepted=said.accepted,
            rejected=said.rejected,
        )
        batch = build(packed, facts, sealer=self.sealer, seed=context.entropy(16))
        after = SealedEntry(
            state.batch_no,
            sealed.rows,
            batch.digest,
            batch.statement.root,
            sealed.pull,
            batch.data,
            sealed.raw,
        )
        tx.append(after.to_message(name, self.partition))
        return replace(state, statement=batch.digest, sealed_at=batch.statement.sealed_at)


def _not_ours(resource: str, batch_no: str, state: str) -> Rejected:
    return Rejected(
        Text(
            f"批次 {resource}/{batch_no} 的状态是 {state}：上级可能已经接收",
            f"batch {resource}/{batch_no} is {state}: the province may have received it",
        ),
        hint=Text(
            "先与省级平台核对，用 exchange cascade retry 了结该批次",
            "settle it with the province first: `exchange cascade retry`",
        ),
    )
