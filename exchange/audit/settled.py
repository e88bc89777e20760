"""Receipts, deliveries and pulls: the log's against the store's, and both against the batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from exchange.audit.given import Fact, Given, Totals
from exchange.audit.scan import entries
from exchange.cascade.delivery import State
from exchange.errors import Integrity, Misconfigured
from exchange.evidence.entry import EvidenceEntry, bytes_digest
from exchange.log import RECEIPTS, sealed_topic
from exchange.pipeline.messages import PullState, ReceiptEntry, pull_key
from exchange.receipt import SentBatch
from exchange.receipt import check as check_receipt
from exchange.store.node.deliveries import DeliveryRow
from exchange.store.node.pulls import DONE


def check_receipts(given: Given, totals: Totals) -> None:
    """Check every receipt of the log against its batch, the store's copy and the evidence log."""
    log, findings = given.log, given.findings
    upto = given.evident[RECEIPTS, 0]
    for entry in entries(log, RECEIPTS, 0, findings):
        receipt = ReceiptEntry.of(entry)
        if receipt is None or not receipt.verified:
            continue  # a wrong one is kept for a person and counts as none
        key = (receipt.resource, receipt.batch_no)
        where = f"{RECEIPTS}/0/{entry.offset}, {entry.key}"
        if key in totals.receipts:
            findings.fault("receipts.once", where, "one receipt", "a second one")
        totals.receipts[key] = bytes_digest(entry.value)
        fact = totals.batches.get(receipt.resource, {}).get(receipt.batch_no)
        if fact is not None:
            _check_one(given, where, receipt, fact)
            topic = sealed_topic(receipt.resource)
            if fact.offset >= log.position("cascade", topic, fact.partition):
                found = f"cascade in {topic}/{fact.partition}"
                findings.fault("log.positions", found, f"behind {fact.offset}", "not behind it")
        elif not _batches_dropped(given, receipt.resource, receipt.partition):
            findings.fault("receipts.seal", where, "a batch of the log", "none")
        # Also of a batch that retention has dropped: its receipt stays.
        leaf = EvidenceEntry(
            type="receipt",
            resource=receipt.resource,
            lane=receipt.partition,
            batch_no=receipt.batch_no,
            digest=bytes_digest(entry.value),
        )
        if not given.leaves.has(leaf.to_bytes()) and entry.offset < upto:
            findings.fault("evidence.batches", where, "the receipt in the log", "missing")


def _batches_dropped(given: Given, resource: str, partition: int) -> bool:
    """Tell whether retention has dropped batches of a partition."""
    try:
        return given.log.bounds(sealed_topic(resource), partition)[0] > 0
    except Misconfigured:
        return False  # no such topic


def _check_one(given: Given, where: str, receipt: ReceiptEntry, fact: Fact) -> None:
    if given.province is None:
        given.findings.note("receipts.seal", "no province is trusted: not verified")
        return
    sent = SentBatch(
        batch_no=receipt.batch_no,
        resource=receipt.resource,
        resource_code=fact.resource_code,
        statement=fact.statement,
        root=fact.root,
        rows=fact.rows,
        sealed_at=fact.sealed_at,
    )
    for check in check_receipt(receipt.content, trust=given.province, batch=sent).failed:
        given.findings.fault("receipts.seal", f"{where} {check.name}", check.expected, check.found)


def check_store(
    given: Given,
    totals: Totals,
    settled: Mapping[tuple[str, int], int],
    delivered: Mapping[tuple[str, int], int],
) -> None:
    """Compare the store's deliveries and receipts with the batches and receipts of the log.

    By resource and partition: batches before ``settled`` are in the store, those before
    ``delivered`` have a receipt in the log or were refused. Both were read before the log, for a
    node that runs meanwhile goes on.
    """
    store = given.store
    if store is None:
        return
    for resource, facts in totals.batches.items():
        left = dict(facts)
        for row in store.deliveries.walk(resource):
            where = f"delivery {resource}/{row.batch_no}"
            fact = left.pop(row.batch_no, None)
            if fact is not None:
                behind = fact.offset < delivered[resource, fact.partition]
                _compare_delivery(given, where, row, fact, totals, behind=behind)
            elif _batches_dropped(given, resource, row.partition):
                given.findings.note("store.deliveries", f"{resource}: retention dropped batches")
            elif not _younger(given, row):
                given.findings.fault("store.deliveries", where, "a batch of the log", "none")
        for number, fact in left.items():
            if fact.offset < settled[resource, fact.partition]:
                where = f"delivery {resource}/{number}"
                given.findings.fault("store.deliveries", where, "in the store", "missing")
    _compare_receipts(given, totals, delivered)


def _younger(given: Given, row: DeliveryRow) -> bool:
    """Tell whether the batch was sealed after the audit had looked at its topic."""
    try:
        page = given.log.read(row.topic, row.partition, row.offset, max_entries=1)
    except (Integrity, Misconfigured):
        return False  # beyond its end, or no such topic
    return bool(page) and page[0].key == row.batch_no


def _compare_delivery(
    given: Given, where: str, row: DeliveryRow, fact: Fact, totals: Totals, *, behind: bool
) -> None:
    """Compare one delivery; ``behind`` the position of the cascade a receipt must be in the log."""
    check, findings = "store.deliveries", given.findings
    for name in ("partition", "offset", "statement", "root", "rows", "pull"):
        findings.equal(check, f"{where} {name}", getattr(fact, name), getattr(row, name))
    has = (row.resource, row.batch_no) in totals.receipts
    if has and row.state != State.RECEIPTED:
        findings.fault(check, where, State.RECEIPTED, row.state)
    if not has and row.state == State.RECEIPTED and behind:
        findings.fault(check, where, "a receipt in the log", "none, and it is receipted")


def _compare_receipts(
    given: Given, totals: Totals, delivered: Mapping[tuple[str, int], int]
) -> None:
    store, findings = given.store, given.findings
    assert store is not None  # noqa: S101 - the caller has looked
    left = dict(totals.receipts)
    for row in store.receipts.walk():
        where = f"receipt {row.resource}/{row.batch_no}"
        known = left.pop((row.resource, row.batch_no), None)
        if known is not None:
            findings.equal("store.receipts", where, known, bytes_digest(row.content))
            continue
        fact = totals.batches.get(row.resource, {}).get(row.batch_no)
        if fact is not None:  # a node that runs meanwhile settles what lies beyond
            missing = fact.offset < delivered[row.resource, fact.partition]
        else:
            delivery = store.deliveries.get(row.resource, row.batch_no)
            missing = delivery is None or not _younger(given, delivery)
        if missing:
            findings.fault("store.receipts", where, "a receipt in the log", "none")
    for resource, number in left:
        findings.fault("store.receipts", f"receipt {resource}/{number}", "in the store", "missing")


# --- pulls --------------------------------------------------------------------------------


def read_states(given: Given, sources: Mapping[str, str]) -> dict[str, PullState | None]:
    """Read the states of all sources."""
    return {name: PullState.of(given.latest(pull_key(name))) for name in sources}


def check_pulls(
    given: Given,
    totals: Totals,
    sources: Mapping[str, str],
    before: Mapping[str, PullState | None],
) -> None:
    """Compare the states of pulls with the raw messages; ``before``: read before these were.

    ``sources``: resource by source.
    """
    now = read_states(given, sources)
    for source, resource in sources.items():
        state, findings = before[source], given.findings
        if state is None or resource in totals.shortened:
            continue
        key, where = (source, state.pull), f"{source}, pull {state.pull or '-'}"
        found = totals.raw.get(key, 0)
        if found < state.rows or (found > state.rows and state == now[source]):
            findings.fault("pulls.rows", where, f"{state.rows} rows", f"{found} rows")
        messages = totals.messages.get(key, {})
        for partition, count in enumerate(state.messages):
            if messages.get(partition, 0) != count and state == now[source]:
                expected, there = f"{count} messages", f"{messages.get(partition, 0)}"
                findings.fault("pulls.rows", f"{where} in {partition}", expected, there)
    _pulls_of_store(given, totals, sources)


def _pulls_of_store(given: Given, totals: Totals, sources: Mapping[str, str]) -> None:
    if given.store is None:
        return
    for (source, pull), rows in totals.raw.items():
        if source not in sources or sources[source] in totals.shortened:
            continue
        row = given.store.pulls.get(pull)
        if row is not None and row.state == DONE:
            given.findings.equal("store.pulls", f"{source}, pull {pull}", rows, row.pulled)


def unexplained(given: Given) -> Iterator[tuple[str, str]]:
    """Yield leaves of statements and receipts that nothing in the log stands for."""
    for entry in given.leaves.unseen():
        if not _dropped(given, entry):
            yield f"{entry.type} of {entry.resource}/{entry.batch_no}", entry.digest


def _dropped(given: Given, entry: EvidenceEntry) -> bool:
    """Tell whether retention may have dropped it: its partition does not begin at 0."""
    topic = RECEIPTS if entry.type == "receipt" else sealed_topic(entry.resource)
    try:
        first = given.log.bounds(topic, 0 if entry.type == "receipt" else entry.lane)[0]
    except Misconfigured:
        return False  # no such topic
    if first > 0:
        given.findings.note(
            "evidence.batches", f"{topic}: retention dropped what is before {first}"
        )
    return first > 0
