"""One audit of everything that a node keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from exchange.audit.contract import check_contract, read_schemas
from exchange.audit.decisions import check_dismissals, read_trail
from exchange.audit.findings import Findings
from exchange.audit.given import Given, Totals, Trail
from exchange.audit.leaves import Leaves, check_state, compare_pulls
from exchange.audit.partition import PartitionAudit
from exchange.audit.received import check_received
from exchange.audit.scan import entries
from exchange.audit.settled import (
    check_receipts,
    check_removed,
    check_store,
    check_withdrawn,
    find_removed,
    unexplained,
)
from exchange.audit.source_pulls import check_pulls, read_states, shown_pulls
from exchange.audit.steps import check_seals
from exchange.errors import Integrity, Misconfigured
from exchange.evidence.audit import audit as audit_folder
from exchange.evidence.log import LogReader
from exchange.log import (
    CURSORS,
    EVIDENCE,
    RECEIPTS,
    SEALS,
    Log,
    quarantine_topic,
    raw_topic,
    sealed_topic,
)
from exchange.pipeline.checkpoint_state import CHECKPOINT_KEY, CheckpointState
from exchange.pipeline.evidence import GROUP, LEAVES_GROUP, pull_entry
from exchange.pipeline.messages import (
    IDENTITY_KEY,
    identity_of,
    pull_key,
)
from exchange.seal.checks import Check, Verification
from exchange.seal.pki.trust import Trust

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exchange.catalog.model import Catalog
    from exchange.store.database import Store


@dataclass(frozen=True)
class NodeParts:
    """The parts of a node as an audit finds them; None stands for a part that is not there."""

    log: Log | None
    log_path: Path | None
    """File of a log on this machine."""
    structure: Callable[[], Iterator[str]]
    """Yields what is wrong with the file of the log."""
    store: Store | None
    store_expected: str
    """Where the store should be."""
    evidence: Path
    trust: Trust
    province: Trust | None
    state: Path
    schemas: Path
    catalog: Catalog | None
    sources: Mapping[str, str]
    """Resource by source."""
    received: Path | None = None
    """Folder of a receiver; None: this node receives nothing."""
    received_store: Store | None = None
    received_trust: Trust | None = None
    received_province: str = ""
    """Its name in receipts."""


def audit(
    parts: NodeParts,
    *,
    known: Sequence[bytes] = (),
    progress: Callable[[int], None] = lambda _rows: None,
) -> Verification:
    """Make all checks; ``known`` as in :func:`exchange.evidence.audit.audit`.

    The facts: ``rows`` read, ``batches``, ``receipts``, ``pulls``, ``entries`` of the evidence
    log, ``waiting`` (entries that its folder does not have yet), ``received``.
    """
    findings = Findings()
    totals = Totals()
    folder = audit_folder(parts.evidence, trust=parts.trust, witnesses=parts.province, known=known)
    received = 0
    if parts.received is not None and parts.received_trust is not None:
        received = check_received(
            parts.received_store,
            parts.received,
            parts.received_trust,
            findings,
            province=parts.received_province,
            known=known,
        )
    facts: dict[str, object] = {"received": received}
    for wrong in parts.structure():
        findings.fault("log.file", str(parts.log_path or "log"), "a whole file", wrong)
    if parts.log is not None:
        try:
            facts |= _node(parts, parts.log, findings, totals, progress)
        except Integrity as error:  # it cannot even be read where its entries are
            findings.fault("log.file", str(parts.log_path or "log"), "readable", error.what.en)
            findings.stopped = "log.file"
    elif not _untouched(parts):
        findings.fault("log.file", str(parts.log_path), "the log of the node", "none")
        findings.stopped = "log.file"
    newest = totals.newest[1]
    check_contract(parts.state, parts.schemas, parts.catalog, newest, findings)
    checks = (*findings.checks(), *_of_evidence(folder, begun=_begun(parts)))
    facts |= {"rows": totals.rows, "origin": folder.facts.get("origin", "")}
    return Verification(checks, rows=totals.rows, facts=facts)


def _untouched(parts: NodeParts) -> bool:
    """Tell whether nothing was ever sealed here: neither store nor evidence log remembers it."""
    known = parts.store is not None and parts.store.deliveries.counts()
    return not known and not parts.evidence.is_dir()


def _begun(parts: NodeParts) -> bool:
    """Tell whether there is to be a folder of the evidence log: one, or entries for it.

    On a cluster another machine may keep it.
    """
    if parts.evidence.is_dir() or parts.log is None or parts.log_path is None:
        return parts.evidence.is_dir()
    with suppress(Integrity, Misconfigured):  # the checks of the log say what is wrong with it
        return parts.log.bounds(EVIDENCE, 0)[1] > 0
    return False


def _of_evidence(folder: Verification, *, begun: bool) -> Iterator[Check]:
    """Yield the checks of the folder of the evidence log, under names of their own."""
    for check in folder.checks:
        if begun or check.ok:
            yield replace(check, name=f"evidence.log.{check.name}")


def _node(
    parts: NodeParts,
    log: Log,
    findings: Findings,
    totals: Totals,
    progress: Callable[[int], None],
) -> dict[str, object]:
    identity = identity_of(log.latest(CURSORS, IDENTITY_KEY))
    partitions = _partitions(log, findings)
    evident = _evident(log, partitions)  # before their leaves are read: each of them is there
    leaves = Leaves(_reader(parts.evidence), _lines(log, findings), identity, findings)
    trail = Trail()
    if parts.store is None:
        findings.fault("store.deliveries", parts.store_expected, "the store of the node", "none")
    else:
        trail = read_trail(parts.store, leaves.trail, findings)
    given = Given(
        log,
        parts.store,
        parts.trust,
        parts.province,
        read_schemas(parts.schemas, findings),
        leaves,
        trail,
        evident,
        parts.log_path is None,
        findings,
        progress,
    )
    states, shown = read_states(given, parts.sources), shown_pulls(parts.store)
    settled, delivered = (
        {
            (name, number): log.position(group, sealed_topic(name), number)
            for name, number in partitions
        }
        for group in ("store", "cascade")
    )
    for name, number in partitions:
        PartitionAudit(given, totals, name, number).run()
    for _ in entries(log, CURSORS, 0, findings):
        pass  # its states are read by their keys; here is every entry's checksum
    check_seals(given)
    if parts.store is not None:
        check_dismissals(given)
    find_removed(given, totals)
    check_receipts(given, totals)
    check_removed(given, totals)
    check_withdrawn(given, totals)
    check_store(given, totals, settled, delivered)
    check_pulls(given, totals, parts.sources, states, shown)
    _check_evidence(given, totals, parts.sources)
    return {
        "batches": sum(map(len, totals.batches.values())),
        "receipts": len(totals.receipts),
        "pulls": len(totals.raw),
        "entries": leaves.size,
        "waiting": len(leaves.waiting),
    }


def _reader(folder: Path) -> LogReader | None:
    """Open the evidence log; None where there is none, or it cannot be read: that is told."""
    with suppress(Misconfigured, Integrity):
        return LogReader.at(folder)
    return None


def _partitions(log: Log, findings: Findings) -> list[tuple[str, int]]:
    """List the partitions of all resources; one without all of its three topics is a fault."""
    topics = {topic.name: topic.partitions for topic in log.topics()}
    kinds = (raw_topic, sealed_topic, quarantine_topic)
    names = {
        topic.removeprefix(kind(""))
        for topic in topics
        for kind in kinds
        if topic.startswith(kind(""))
    }
    whole: list[tuple[str, int]] = []
    for name in sorted(names):
        counts = {kind(name): topics.get(kind(name), 0) for kind in kinds}
        for topic, count in counts.items():
            findings.equal("log.entries", topic, f"{max(counts.values())} partitions",
                           f"{count} partitions")  # fmt: skip
        whole += [(name, number) for number in range(min(counts.values()))]
    return whole


def _evident(log: Log, partitions: list[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """Read where the stage of the evidence log stands, by topic and partition."""
    evident = {
        (RECEIPTS, 0): log.position(GROUP, RECEIPTS, 0),
        (CURSORS, 0): log.position(LEAVES_GROUP, CURSORS, 0),
    }
    if log.topics([SEALS]):  # a former version had none
        evident[SEALS, 0] = log.position(LEAVES_GROUP, SEALS, 0)
    for name, number in partitions:
        topic = quarantine_topic(name)
        evident[topic, number] = log.position(LEAVES_GROUP, topic, number)
        topic = sealed_topic(name)
        evident[topic, number] = log.position(GROUP, topic, number)
    return evident


def _lines(log: Log, findings: Findings) -> Iterator[bytes]:
    """Yield the entries of the evidence log as the log has them."""
    for entry in entries(log, EVIDENCE, 0, findings):
        yield from entry.value.split(b"\n")


def _check_evidence(given: Given, totals: Totals, sources: Mapping[str, str]) -> None:
    """Compare the evidence log with what was read: order, leaves without their thing, pulls."""
    findings, leaves = given.findings, given.leaves
    with suppress(Integrity):  # the checks of the folder say what cannot be read
        signed = CheckpointState.of(given.latest(CHECKPOINT_KEY))
        # On a cluster each machine has a folder, with the checkpoints that it has signed itself.
        leaves.check_checkpoints(CheckpointState() if given.ages else signed)
    for what, digest in unexplained(given, totals):
        findings.fault("evidence.batches", what, digest, "nothing in the log")
    for place in leaves.left():
        findings.fault("evidence.quarantine", place, "messages with leaves", "no such partition")
    upto = given.evident[CURSORS, 0]
    for source in sources:
        entry = given.latest(pull_key(source))
        if entry is None:
            if leaves.pulls.get(source):
                findings.fault("evidence.pulls", source, "the state of its pull", "none")
            continue
        if entry.offset < upto:
            check_state(source, pull_entry(entry, leaves.identity), leaves.pulls[source], findings)
    rows = {
        (source, state.pull): totals.raw.get((source, state.pull), 0) + totals.removed[state.pull]
        for source, states in leaves.pulls.items()
        for state in states
        if sources.get(source) not in totals.shortened
    }
    compare_pulls(leaves.pulls, rows, given.trail.rewinds, findings)
