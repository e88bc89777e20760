"""What must hold afterwards, counted: source = sealed + quarantined, and one receipt per batch.

The topics are read with kafka-python's own consumer (committed messages, checksums checked), not
with the driver of the log that is under test. Nothing stops at the first finding.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from exchange.cascade.delivery import State
from exchange.cli.receiver import receiver_options
from exchange.errors import ExchangeError
from exchange.evidence.audit import audit as audit_evidence
from exchange.evidence.entry import EvidenceEntry
from exchange.evidence.log import LogReader
from exchange.log import CURSORS, EVIDENCE, RECEIPTS, quarantine_topic, sealed_topic
from exchange.log.frames import decode_frame
from exchange.node.node import Node
from exchange.receipt import SentBatch
from exchange.receipt import check as check_receipt
from exchange.seal.batch.build import open_batch
from exchange.seal.batch.verify import verify_batch
from exchange.store.database import open_store
from tests.pipeline.place import Place, Record, ids, leaves, now

_READ_SECONDS = 60.0
_LOOK_SECONDS = 0.2
_MANY = 1_000_000


@dataclass
class Findings:
    """What was counted and what is wrong."""

    rows: int = 0
    """Rows of the sources; those that are delivered whole count with every pull."""
    sealed: int = 0
    refused: int = 0
    batches: int = 0
    receipts: int = 0
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    unverifiable: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not (self.lost or self.duplicated or self.unverifiable)

    def compare(self, what: str, expected: Counter[str], found: Counter[str]) -> None:
        """Count what is missing, and what is there too often; what nobody expected is neither."""
        self.lost += [f"{what} {item}" for item in (expected - found).elements()]
        for item in (found - expected).elements():
            kind = self.duplicated if item in expected else self.unverifiable
            kind.append(f"{what} {item}")


@dataclass
class TopicContents:
    """A resource as its topics tell."""

    batches: dict[str, bytes] = field(default_factory=dict)
    pulls: dict[str, tuple[Counter[str], Counter[str]]] = field(default_factory=dict)
    """Sealed and refused ids by pull."""
    quarantined: int = 0
    """Messages in quarantine."""

    def of(self, pull: str) -> tuple[Counter[str], Counter[str]]:
        return self.pulls.setdefault(pull, (Counter(), Counter()))


def read(bootstrap: Sequence[str], topic: str) -> list[Any]:
    """Read all committed messages of a topic, partition by partition, in order.

    Waits until no transaction is open: what stands behind one is committed, but nobody sees it.
    """
    options = {"bootstrap_servers": list(bootstrap), "enable_auto_commit": False}
    committed = KafkaConsumer(isolation_level="read_committed", check_crcs=True, **options)
    with closing(committed), closing(KafkaConsumer(**options)) as everything:
        partitions = [
            TopicPartition(topic, n) for n in sorted(committed.partitions_for_topic(topic))
        ]
        deadline = time.monotonic() + _READ_SECONDS
        while (ends := committed.end_offsets(partitions)) != everything.end_offsets(partitions):
            assert time.monotonic() < deadline, f"a transaction on {topic} stays open"
            time.sleep(_LOOK_SECONDS)
        committed.assign(partitions)
        committed.seek_to_beginning()
        items: list[Any] = []
        while any(committed.position(partition) < ends[partition] for partition in partitions):
            for part in committed.poll(timeout_ms=200).values():
                items += part
            assert time.monotonic() < deadline, f"{topic} cannot be read to its end"
    return sorted(items, key=lambda item: (item.partition, item.offset))


def audit(
    place: Place,
    bootstrap: Sequence[str],
    appended: Mapping[str, Sequence[tuple[Record, datetime]]],
) -> Findings:
    """Compare sources, log, store and province."""
    findings = Findings()
    with place.node() as node:
        cursors = [(entry.key.decode(), entry.value) for entry in read(bootstrap, CURSORS)]
        receipts = _receipts(bootstrap, findings)
        values: dict[str, bytes] = {}
        for resource, rows in appended.items():
            result = _sealed(node, bootstrap, resource, findings)
            _store(node, resource, result, findings)
            if resource in place.whole:
                states = [json.loads(value) for key, value in cursors if key == f"pull/{resource}"]
                compare_pulls(
                    resource, rows, {s["pull"]: s["done"] for s in states}, result, findings
                )
            else:
                every = sum((s + r for s, r in result.pulls.values()), Counter())
                findings.rows += len(rows)
                findings.compare(f"row of {resource}", Counter(r.id for r, _ in rows), every)
            findings.sealed += sum(s.total() for s, _ in result.pulls.values())
            findings.refused += sum(r.total() for _, r in result.pulls.values())
            values |= {f"{resource}/{number}": value for number, value in result.batches.items()}
        findings.batches, findings.receipts = len(values), receipts.total()
        findings.compare("receipt of", Counter(values.keys()), receipts)
        _evidence(node, bootstrap, values, findings)
        _province(place, values, findings)
    return findings


def _receipts(bootstrap: Sequence[str], findings: Findings) -> Counter[str]:
    """Count the receipts in the log by batch."""
    counts: Counter[str] = Counter()
    for entry in read(bootstrap, RECEIPTS):
        kind = dict(entry.headers)["kind"]
        if kind == b"receipt":
            counts[entry.key.decode()] += 1
        elif kind != b"refusal":
            findings.unverifiable.append(f"wrong receipt of {entry.key.decode()}")
    return counts


def _sealed(
    node: Node, bootstrap: Sequence[str], resource: str, findings: Findings
) -> TopicContents:
    """Read what became of a resource; check seals, chains and numbers, and its receipts."""
    topic_contents = TopicContents()
    trust = node.trust(node.settings.trust)
    ends: dict[int, tuple[str, str]] = {}
    for entry in read(bootstrap, sealed_topic(resource)):
        number = entry.key.decode()
        where = f"batch {resource}/{entry.partition}/{number}"
        try:
            whole = verify_batch(entry.value, trust=trust).ok
            statement = open_batch(entry.value).statement
            rows = ids(entry.value)
        except (ExchangeError, ValueError) as error:
            findings.unverifiable.append(f"{where}: {error}")
            continue
        previous, last = ends.get(entry.partition, ("", ""))
        if not whole:
            findings.unverifiable.append(f"{where}: the seal")
        if statement.previous != previous or not statement.batch_no == number > last:
            findings.unverifiable.append(f"{where}: the chain, behind {last}")
        if statement.lane != entry.partition:
            findings.unverifiable.append(f"{where}: the partition {statement.lane}")
        if number in topic_contents.batches:
            findings.duplicated.append(f"{where}: the number")
        ends[entry.partition] = (statement.digest, number)
        topic_contents.batches[number] = entry.value
        topic_contents.of(statement.pull)[0].update(rows)
    for entry in read(bootstrap, quarantine_topic(resource)):
        headers = {name: value.decode() for name, value in entry.headers}
        if headers["kind"] == "records":
            topic_contents.quarantined += 1
            topic_contents.of(headers["pull"])[1].update(decode_frame(entry.value)["id"].to_list())
    return topic_contents


def compare_pulls(
    resource: str,
    rows: Sequence[tuple[Record, datetime]],
    pulls: Mapping[str, bool],
    found: TopicContents,
    findings: Findings,
) -> None:
    """Compare each pull with what the source surely held when it began, and held at most.

    ``pulls``: by name, whether it is done; one that is not counts as far as it came. One of which
    nothing was sealed or refused is lost whole.
    """
    for pull in sorted(pulls.keys() | found.pulls.keys()):
        began = datetime.strptime(pull[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
        sealed, refused = found.of(pull)
        every = sealed + refused
        least = {row.id for row, at in rows if at <= began} if pulls.get(pull, True) else set()
        expected = Counter({row.id for row, _ in rows} & every.keys() | least)
        findings.rows += expected.total()
        findings.compare(f"row of {resource} in pull {pull}:", expected, every)


def _store(node: Node, resource: str, found: TopicContents, findings: Findings) -> None:
    """Compare with what the store shows; every receipt verifies."""
    deliveries = {
        row.batch_no: row
        for row in node.store.deliveries.find(limit=_MANY)
        if row.resource == resource
    }
    receipts = {
        row.batch_no: row.content
        for row in node.store.receipts.find(limit=_MANY)
        if row.resource == resource
    }
    findings.compare(
        f"store: delivery of {resource}", Counter(found.batches.keys()), Counter(deliveries.keys())
    )
    findings.compare(
        f"store: receipt of {resource}", Counter(found.batches.keys()), Counter(receipts.keys())
    )
    findings.lost += [
        f"store: {resource}/{row.batch_no} is {row.state}"
        for row in deliveries.values()
        if row.state != State.RECEIPTED
    ]
    assert node.settings.upstream is not None
    province = node.trust(node.settings.upstream.trust)
    for number in found.batches.keys() & receipts.keys():
        sent = SentBatch.of(open_batch(found.batches[number]).statement)
        if not check_receipt(receipts[number], trust=province, batch=sent).ok:
            findings.unverifiable.append(f"receipt of {resource}/{number}")
    index = [row for row in node.store.quarantine.find(limit=_MANY) if row.resource == resource]
    findings.compare(
        f"store: quarantine of {resource}",
        Counter({"messages": found.quarantined}),
        Counter({"messages": len(index)}),
    )


def _evidence(
    node: Node,
    bootstrap: Sequence[str],
    batches: Mapping[str, bytes],
    findings: Findings,
) -> None:
    """Compare with the evidence log: every statement and receipt once, in topic and folder."""
    expected: Counter[str] = Counter()
    for row in node.store.receipts.find(limit=_MANY):
        statement = open_batch(batches[f"{row.resource}/{row.batch_no}"]).statement
        for entry in (
            EvidenceEntry.of_statement(statement),
            EvidenceEntry.of_receipt(row.content, statement),
        ):
            expected[entry.to_bytes().decode()] += 1
    ordered = [
        line for item in read(bootstrap, EVIDENCE) for line in item.value.decode().split("\n")
    ]
    sealed = [
        line for line in ordered if '"version"' not in line and '"type":"refusal"' not in line
    ]
    findings.compare("evidence:", expected, Counter(sealed))
    try:
        others = dict.fromkeys(line for line in ordered if '"version"' in line)  # in their order
        leaves(node, map(json.loads, others), node.catalog.resources)
    except AssertionError as error:
        findings.unverifiable.append(f"evidence: leaves: {error}")
    folder = node.settings.resolve(node.settings.evidence.folder)
    log = LogReader.at(folder)
    items = [log.entry(index).decode() for index in range(log.size)]
    if items != list(dict.fromkeys(ordered)):
        findings.unverifiable.append("evidence: the folder is not the topic")
    assert node.settings.upstream is not None
    trust, province = (
        node.trust(roots) for roots in (node.settings.trust, node.settings.upstream.trust)
    )
    audited = audit_evidence(folder, trust=trust, witnesses=province)
    findings.unverifiable += [f"evidence: {item.name}: {item.found}" for item in audited.failed]
    seen = log.witnessed()
    if seen is None or seen.checkpoint.head.size != log.size:
        findings.lost.append("evidence: the province has not signed all of it along")


def _province(place: Place, batches: Mapping[str, bytes], findings: Findings) -> None:
    """Compare with what the province keeps: one row and one file for each batch."""
    settings = receiver_options(place.province, os.environ, port=0)
    with closing(open_store(settings.store, clock=now)) as store:
        rows = {
            f"{row.resource}/{row.batch_no}": row
            for row in store.received_batches.find(limit=_MANY)
        }
    findings.compare("province:", Counter(batches.keys()), Counter(rows.keys()))
    counter = Counter(str(path) for path in settings.folder.rglob("*") if path.is_file())
    named = Counter(str(settings.folder / row.path) for row in rows.values())
    findings.compare("province: file", named, counter)
    for key in rows.keys() & batches.keys():
        path = settings.folder / rows[key].path
        if path.exists() and path.read_bytes() != batches[key]:
            findings.unverifiable.append(f"province: {key} has other bytes")
