"""Rebuilds a lost log on one machine: what it goes on from, and where its topics begin.

Every topic begins behind what the lost one had, as if retention had removed it, so that no address
comes twice and all that store and evidence log say of it stays true. The file is made under
another name and takes its place whole.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from exchange.durable import sync_folder
from exchange.errors import ExchangeError
from exchange.evidence.entry import EvidenceEntry, MessagesEntry, PullEntry, read_entry
from exchange.evidence.log import LogReader
from exchange.log import (
    CURSORS,
    RECEIPTS,
    SEALS,
    Entry,
    Log,
    Message,
    Partition,
    quarantine_topic,
    raw_topic,
    sealed_topic,
)
from exchange.node.part_marks import LOG, STATE
from exchange.pipeline.context import PipelineContext
from exchange.pipeline.evidence import GROUP, LEAVES_GROUP, cursor_digest
from exchange.pipeline.messages import (
    PullState,
    ReceiptEntry,
    identity_message,
    leaf_message,
    pull_key,
)
from exchange.pipeline.partition import Numbers, PartitionState, numbers_key, partition_key
from exchange.seal.batch.statement import instant

if TYPE_CHECKING:
    from exchange.node.node import Node

_OWNER: Final = "recovery"
_PAGE: Final = 64
_LINE: Final = 20
"""Partitions in one line of the audit trail, whose text has an end."""


@dataclass
class _Memory:
    """What store and evidence log remember of the lost log."""

    identity: str = ""
    begins: dict[Partition, int] = field(default_factory=lambda: defaultdict(int))
    """By topic and partition: the offset from which on nothing was written."""
    newest: dict[Partition, tuple[str, str]] = field(default_factory=dict)
    """By resource and partition: number and digest of the newest statement."""
    states: dict[str, str] = field(default_factory=dict)
    """Copies of the states that the log went on from, by key."""
    pulled: set[str] = field(default_factory=set)
    """Sources that the evidence log knows."""
    receipts: int = 0
    """Receipts that the evidence log knows."""

    def least(self, topic: str, partition: int, offset: int) -> None:
        """Note that a partition was written up to before an offset."""
        self.begins[topic, partition] = max(self.begins[topic, partition], offset)

    def statement(self, resource: str, partition: int, number: str, digest: str) -> None:
        """Note a statement."""
        known = self.newest.get((resource, partition), ("", ""))
        self.newest[resource, partition] = max(known, (number, digest))

    def resources(self) -> dict[str, int]:
        """Return the resources that were in the log, with the partitions they had at least."""
        counts: dict[str, int] = {}
        for topic, partition in self.begins:
            for head in map(_head, (raw_topic, sealed_topic, quarantine_topic)):
                if topic.startswith(head):
                    name = topic.removeprefix(head)
                    counts[name] = max(counts.get(name, 0), partition + 1)
        return counts


def _head(topic: object) -> str:
    assert callable(topic)  # noqa: S101 - one of the three that name topics
    return str(topic(""))


def rebuild_log(node: Node, *, by: str) -> None:
    """Make the log anew from what store and evidence log remember, audited first."""
    from exchange.log.embedded.log import EmbeddedLog

    path = node.settings.resolve(node.settings.log.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.recovery")
    for leftover in path.parent.glob(f"{draft.name}*"):
        leftover.unlink()
    memory = _remember(node)
    node.close_log()
    with closing(EmbeddedLog(draft, clock=node.clock)) as log:
        _fill(node, log, memory)
    _audit(node, memory, by)
    stamp = f"{node.clock():%Y%m%dT%H%M%S}"
    for old in path.parent.glob(f"{path.name}*"):
        suffix = old.name.removeprefix(path.name)
        if suffix in {"", "-wal", "-shm"}:  # an older copy: it has the bytes of its batches
            old.rename(old.with_name(f"{path.name}.older-{stamp}{suffix}"))
    draft.rename(path)
    sync_folder(path.parent)


def _remember(node: Node) -> _Memory:
    memory, store = _Memory(), node.store
    rows = {row.name: row for row in store.parts.find()}
    if LOG in rows:
        memory.identity = rows[LOG].identity
        memory.least(CURSORS, 0, rows[LOG].mark)
    memory.states = {
        name.removeprefix(STATE): row.detail for name, row in rows.items() if name.startswith(STATE)
    }
    for resource in sorted({resource for resource, _ in store.deliveries.counts()}):
        for delivery in store.deliveries.walk(resource):
            memory.least(delivery.topic, delivery.partition, delivery.offset + 1)
            memory.statement(resource, delivery.partition, delivery.batch_no, delivery.statement)
        for partition in range(memory.resources().get(resource, 1)):
            for refused in store.quarantine.walk(quarantine_topic(resource), partition):
                memory.least(refused.topic, partition, refused.offset + 1)
    for source, settings in node.settings.sources.items():
        state = PullState.of(_entry(memory.states, pull_key(source)))
        if state is not None:
            for partition, (since, count) in enumerate(
                zip(state.since, state.messages, strict=False)
            ):
                memory.least(raw_topic(settings.resource), partition, since + count)
    for entry in _leaves(node):
        _note(node, memory, entry)
    return memory


def _entry(states: Mapping[str, str], key: str) -> Entry | None:
    """Return a copied state as the log gave it."""
    text = states.get(key)
    return None if text is None else Entry(CURSORS, 0, 0, key, text.encode(), {}, 0)


def _leaves(node: Node) -> Iterator[object]:
    with suppress(ExchangeError):
        reader = LogReader.at(node.settings.resolve(node.settings.evidence.folder))
        for index in range(reader.size):
            with suppress(ValueError):
                yield read_entry(reader.entry(index))


def _note(node: Node, memory: _Memory, entry: object) -> None:
    """Take what an entry of the evidence log says of the log."""
    if isinstance(entry, EvidenceEntry) and entry.type == "receipt":
        memory.receipts += 1
    elif isinstance(entry, EvidenceEntry):
        digest = entry.digest.partition(":")[2]
        known = memory.newest.get((entry.resource, entry.lane), ("", ""))
        if entry.batch_no > known[0]:  # the store's digest is right for every suite
            memory.newest[entry.resource, entry.lane] = (entry.batch_no, digest)
        place = sealed_topic(entry.resource), entry.lane
        memory.least(*place, 1)
    elif isinstance(entry, MessagesEntry):
        memory.identity = memory.identity or entry.log
        if entry.log == memory.identity:
            memory.least(entry.topic, entry.lane, entry.next)
    elif isinstance(entry, PullEntry):
        memory.identity = memory.identity or entry.log
        memory.pulled.add(entry.source)
        source = node.settings.sources.get(entry.source)
        if source is not None and entry.rows:
            memory.least(raw_topic(source.resource), 0, 1)
        if entry.log == memory.identity:
            memory.least(CURSORS, 0, entry.offset + 1)


def _fill(node: Node, log: object, memory: _Memory) -> None:
    """Write the new log."""
    from exchange.log.embedded.log import EmbeddedLog
    from exchange.node.topics import common_topics

    assert isinstance(log, EmbeddedLog)  # noqa: S101 - it can begin elsewhere
    has_evidence = any(True for _ in _leaves(node))
    log.ensure(common_topics(node.settings))
    counts = memory.resources()
    fed = {source.resource for source in node.settings.sources.values()}
    context = PipelineContext(
        node.catalog,
        log,
        node.clock,
        node.entropy,
        partitions_of=lambda name: max(node.settings.log.partitions_of(name), counts.get(name, 1)),
    )
    resources = sorted((fed | counts.keys()) & set(node.catalog.resources))
    for resource in resources:
        context.ensure(resource)
    if not node.store.receipts.counts():
        memory.least(RECEIPTS, 0, memory.receipts)
    for (topic, partition), offset in sorted(memory.begins.items()):
        if offset:
            with suppress(ExchangeError):  # of a resource that the catalog has no more
                log.begin(topic, partition, offset)
    for group, topics in _groups(resources):
        log.consumer(group, topics).close()
    with log.transaction(_OWNER) as tx:
        if memory.identity:
            tx.append(identity_message(memory.identity))
        for message in _states(node, memory, has_evidence=has_evidence):
            tx.append(message)
        for message in _numbers(node, memory):
            tx.append(message)
    _receipts(node, log, has_evidence=has_evidence)
    if rows := node.store.seals.find():
        from exchange.pipeline.seal_register import SealRegister

        SealRegister(log, node.clock).carry(rows, actor="exchange")


def _states(node: Node, memory: _Memory, *, has_evidence: bool) -> Iterator[Message]:
    """Yield the copied states; each source goes on with a new pull from its cursor."""
    sources = {pull_key(name): name for name in node.settings.sources}
    for key, text in sorted(memory.states.items()):
        state = PullState.of(_entry(memory.states, key)) if key in sources else None
        if state is None:
            yield Message(CURSORS, text.encode(), key)
            continue
        yield replace(state.rewind(state.cursor), rows=0).to_message(sources[key])
        if has_evidence:  # it has the leaf of that cursor already
            yield leaf_message(sources[key], cursor_digest(state.cursor))
    for key, name in sources.items():
        if key not in memory.states and name in memory.pulled:  # nobody remembers where it was
            yield PullState("", node.clock(), done=True).to_message(name)


def _groups(resources: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield the groups of our stages and what they read: each begins where its topics do."""
    raw, sealed, refused = (
        [topic(name) for name in resources] for topic in (raw_topic, sealed_topic, quarantine_topic)
    )
    yield "seal", raw
    yield "store", [*sealed, *refused]
    yield "cascade", sealed
    yield GROUP, [*sealed, RECEIPTS]
    yield LEAVES_GROUP, [*refused, CURSORS, SEALS]


def _numbers(node: Node, memory: _Memory) -> Iterator[Message]:
    """Yield the states of partitions whose newest statement no copy knows; and used numbers."""
    now = instant(node.clock())
    last: dict[str, str] = {}
    for (resource, partition), (number, digest) in sorted(memory.newest.items()):
        last[resource] = max(last.get(resource, ""), number)
        key = partition_key(resource, partition)
        state = PartitionState.of(_entry(memory.states, key))
        if state.batch_no < number or not state.day:
            value = int(number[8:])
            state = replace(
                state,
                day=number[:8],
                number=value,
                upto=value,
                statement=digest,
                sealed_at=now,
            )
            yield state.to_message(resource, partition)
    for resource, number in last.items():
        known = Numbers.of(_entry(memory.states, numbers_key(resource)))
        if f"{known.day}{known.last:05d}" < number:
            yield Numbers(number[:8], int(number[8:])).to_message(resource)


def _receipts(node: Node, log: Log, *, has_evidence: bool) -> None:
    """Put the store's receipts back; their entries are in the evidence log already, if any is."""
    page: list[Message] = []
    for row in node.store.receipts.walk():
        delivery = node.store.deliveries.get(row.resource, row.batch_no)
        partition = 0 if delivery is None else delivery.partition
        entry = ReceiptEntry(row.resource, row.batch_no, partition, row.content)
        page.append(entry.to_message())
        if len(page) == _PAGE:
            _append(log, page)
    _append(log, page)
    if not has_evidence:
        return
    with closing(log.consumer(GROUP, [RECEIPTS])) as consumer:
        while entries := consumer.poll(max_entries=_PAGE, max_bytes=1 << 24):
            with log.transaction(_OWNER) as tx:
                tx.commit(consumer, RECEIPTS, 0, entries[-1].offset + 1)


def _append(log: Log, page: list[Message]) -> None:
    with log.transaction(_OWNER) as tx:
        for message in page:
            tx.append(message)
    page.clear()


def _audit(node: Node, memory: _Memory, by: str) -> None:
    """Write where the topics begin: an audit takes it as it takes retention by a person."""
    kinds = tuple(map(_head, (raw_topic, sealed_topic, quarantine_topic)))
    places = [
        f"{topic}/{partition}: 0-{offset - 1}"
        for (topic, partition), offset in sorted(memory.begins.items())
        if offset and topic.startswith(kinds)
    ]
    for start in range(0, max(len(places), 1), _LINE):
        text = json.dumps(places[start:][:_LINE], ensure_ascii=False)
        node.store.audit.append(by, "log.recover", "", text)
