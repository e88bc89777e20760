"""Receipts and refusals of the log, and the store's deliveries and receipts, against each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress

from exchange.audit.given import Fact, Given, Totals
from exchange.audit.scan import entries
from exchange.cascade.delivery import SETTLED, State
from exchange.errors import Integrity, Misconfigured
from exchange.evidence.entry import EvidenceEntry, bytes_digest
from exchange.log import RECEIPTS, Entry, sealed_topic
from exchange.pipeline.messages import ReceiptEntry, put_back_key, put_back_offset
from exchange.pipeline.projection import receipt_row
from exchange.pipeline.refusal import RefusalEntry, refusal_leaf, refusals_from, refusals_key
from exchange.pipeline.withdrawal import WITHDRAWN
from exchange.receipt import SentBatch
from exchange.receipt import check as check_receipt
from exchange.receipt import read as read_receipt
from exchange.store.columns import as_kept
from exchange.store.node.deliveries import DeliveryRow
from exchange.store.node.receipts import ReceiptRow

_RECEIPT = ("receipt_no", "received_at", "rows_sent", "rows_accepted", "rows_rejected")
"""Columns of a receipt's row that follow from its content."""


def check_receipts(given: Given, totals: Totals) -> None:
    """Check every receipt of the log against its batch, the store's copy and the evidence log."""
    log, findings = given.log, given.findings
    first, totals.upto = log.bounds(RECEIPTS, 0)
    if first > 0 and not given.ages and not given.trail.rebuilt:
        findings.fault("log.entries", f"{RECEIPTS}/0", "from 0 on", f"from {first} on")
    for entry in entries(log, RECEIPTS, 0, findings, bounds=(first, totals.upto)):
        receipt = _take(totals, entry)
        if receipt is None:
            leaf = refusal_leaf(entry)
        else:
            _of_batch(given, totals, entry, receipt)
            # Also of a batch that retention has dropped: its receipt stays.
            leaf = EvidenceEntry(
                type="receipt",
                resource=receipt.resource,
                lane=receipt.partition,
                batch_no=receipt.batch_no,
                digest=bytes_digest(entry.value),
            )
        if leaf is None or given.leaves.has(leaf.to_bytes()):
            continue
        if entry.offset < given.evident[RECEIPTS, 0]:
            where = f"{RECEIPTS}/0/{entry.offset}, {entry.key}"
            findings.fault("evidence.batches", where, f"the {leaf.type} in the log", "missing")


def _take(totals: Totals, entry: Entry) -> ReceiptEntry | None:
    """Note what became of a batch; return its receipt, if it is one that verified."""
    refusal = RefusalEntry.of(entry)
    if refusal is not None:
        key = (refusal.resource, refusal.batch_no)
        totals.refusals[key] = (refusal.code, refusal.reason)
        return None
    receipt = ReceiptEntry.of(entry)
    if receipt is not None and not receipt.verified:  # kept for a person, counts as none
        totals.wrong.add((receipt.resource, receipt.batch_no))
        return None
    return receipt


def _of_batch(given: Given, totals: Totals, entry: Entry, receipt: ReceiptEntry) -> None:
    log, findings = given.log, given.findings
    key = (receipt.resource, receipt.batch_no)
    where = f"{RECEIPTS}/0/{entry.offset}, {entry.key}"
    if key in totals.receipts:
        findings.fault("receipts.once", where, "one receipt", "a second one")
    totals.receipts[key] = bytes_digest(entry.value)
    with suppress(Integrity):
        totals.receipt_numbers[key] = read_receipt(entry.value).receipt_no
    fact = totals.batches.get(receipt.resource, {}).get(receipt.batch_no)
    if fact is not None:
        _check_one(given, where, receipt, fact)
        topic = sealed_topic(receipt.resource)
        if fact.offset >= log.position("cascade", topic, fact.partition):
            found = f"cascade in {topic}/{fact.partition}"
            findings.fault("log.positions", found, f"behind {fact.offset}", "not behind it")
    elif totals.gone.has(receipt.resource, receipt.partition, receipt.batch_no):
        _check_of_removed(given, where, receipt)
    elif (receipt.resource, receipt.partition) not in totals.gone.unknown:
        findings.fault("receipts.seal", where, "a batch of the log", "none")


def _check_one(given: Given, where: str, receipt: ReceiptEntry, fact: Fact) -> None:
    sent = SentBatch(
        batch_no=receipt.batch_no,
        resource=receipt.resource,
        resource_code=fact.resource_code,
        statement=fact.statement,
        root=fact.root,
        rows=fact.rows,
        sealed_at=fact.sealed_at,
    )
    _check_content(given, where, receipt, sent)


def _check_of_removed(given: Given, where: str, receipt: ReceiptEntry) -> None:
    """Check the receipt of a batch that was removed: its seal, and that it names this batch."""
    try:
        said = read_receipt(receipt.content)
    except Integrity as error:
        given.findings.fault("receipts.seal", where, "a receipt", error.what.en)
        return
    sent = SentBatch(
        batch_no=receipt.batch_no,
        resource=receipt.resource,
        resource_code=said.resource_code,
        statement=said.statement,
        root=said.root,
        rows=said.rows_sent,
        sealed_at=said.received_at,
    )
    _check_content(given, where, receipt, sent)


def _check_content(given: Given, where: str, receipt: ReceiptEntry, sent: SentBatch) -> None:
    if given.province is None:
        given.findings.note("receipts.seal", "no province is trusted: not verified")
        return
    for check in check_receipt(receipt.content, trust=given.province, batch=sent).failed:
        given.findings.fault("receipts.seal", f"{where} {check.name}", check.expected, check.found)


def find_removed(given: Given, totals: Totals) -> None:
    """Find the leaves of batches that may have been removed."""
    gone = totals.gone
    for entry in given.leaves.unseen():
        if entry.type == "statement" and gone.allows(entry.resource, entry.lane, entry.batch_no):
            gone.statements[entry.resource, entry.lane, entry.batch_no] = entry.digest


def check_removed(given: Given, totals: Totals) -> None:
    """Check the batches that were removed: as many as evidence says, each with its receipt."""
    void = {key for key, (code, _) in totals.refusals.items() if code == WITHDRAWN}
    if not given.leaves.waiting:
        for where, expected, found in totals.gone.wrong(void):
            given.findings.fault("evidence.retention", where, expected, found)
    for resource, partition, batch_no in totals.gone.statements:
        key = (resource, batch_no)
        known = key in totals.receipts or key in void
        if not known and (resource, partition) not in totals.gone.unknown:
            where = f"{resource}/{partition}/{batch_no}, removed"
            given.findings.fault("receipts.seal", where, "a receipt", "none")


# --- the store ----------------------------------------------------------------------------


def check_withdrawn(given: Given, totals: Totals) -> None:
    """Check that what counts as withdrawn has its refusal, and the other way round."""
    for resource, facts in totals.batches.items():
        for number, fact in facts.items():
            void = totals.refusals.get((resource, number), ("", ""))[0] == WITHDRAWN
            if void != fact.void:
                expected, found = (
                    "a refusal of ours" if one else "none" for one in (fact.void, void)
                )
                where = f"{resource}/{fact.partition}/{number}, withdrawn"
                given.findings.fault("batches.chain", where, expected, found)


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
        removed = {key for key in totals.gone.statements if key[0] == resource}
        for row in store.deliveries.walk(resource):
            where = f"delivery {resource}/{row.batch_no}"
            fact = left.pop(row.batch_no, None)
            place = (resource, row.partition, row.batch_no)
            if fact is not None:
                behind = fact.offset < delivered[resource, fact.partition]
                _compare_delivery(given, where, row, fact, totals, behind=behind)
            elif place in removed:
                removed.discard(place)
                _compare_state(given, where, row, totals, behind=True)
            elif place[:2] not in totals.gone.unknown and not _younger(given, row):
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
    findings.equal(check, f"{where} topic", sealed_topic(row.resource), row.topic)
    for name in ("partition", "offset", "statement", "root", "rows", "pull"):
        findings.equal(check, f"{where} {name}", getattr(fact, name), getattr(row, name))
    _compare_state(given, where, row, totals, behind=behind)


def _compare_state(
    given: Given, where: str, row: DeliveryRow, totals: Totals, *, behind: bool
) -> None:
    """Compare the state of a delivery with what the log says became of the batch."""
    check, findings, key = "store.deliveries", given.findings, (row.resource, row.batch_no)
    state = State(row.state) if row.state in set(State) else None
    if state is None:
        findings.fault(check, where, "a state", row.state)
        return
    if key in totals.receipts:
        findings.equal(check, where, State.RECEIPTED, row.state)
        number = totals.receipt_numbers.get(key, row.receipt_no)
        findings.equal(check, f"{where} receipt_no", number, row.receipt_no)
        return
    void = totals.refusals.get(key, ("", ""))[0] == WITHDRAWN
    if state in SETTLED and row.offset > _position(given, row):
        findings.fault(check, where, "not sent yet", row.state)
    elif (void and behind) or state is State.WITHDRAWN:
        expected = State.WITHDRAWN if void else "not withdrawn"
        findings.equal(check, where, expected, row.state)
    elif state is State.RECEIPTED and behind and not _is_settling(given, row):
        findings.fault(check, where, "a receipt in the log", "none, and it is receipted")
    elif state is State.REFUSED:
        _compare_refusal(given, where, row, totals)
    elif state is State.HALTED:
        _late(given, totals, known=key in totals.wrong)
        if key not in totals.wrong:
            findings.fault(check, where, "a wrong receipt in the log", "none, and it is halted")
    elif behind and state is not State.RECEIPTED and not _put_back(given, row):
        expected = "settled, or put back by a person: a line of the audit trail"
        findings.fault(check, where, expected, row.state)


def _compare_refusal(given: Given, where: str, row: DeliveryRow, totals: Totals) -> None:
    key = (row.resource, row.batch_no)
    _late(given, totals, known=key in totals.refusals)
    refusal = totals.refusals.get(key)
    if refusal is not None:
        for name, expected in zip(("code", "reason"), refusal, strict=True):
            given.findings.equal("store.deliveries", f"{where} {name}", expected,
                                 getattr(row, name))  # fmt: skip
        return
    begun = refusals_from(given.latest(refusals_key(row.resource, row.partition)))
    if begun is not None and row.offset >= begun:
        given.findings.fault("store.deliveries", where, "a refusal in the log", "none")
    else:
        text = f"{row.resource}: a former version kept no refusals in the log"
        given.findings.note("store.deliveries", text)


def _position(given: Given, row: DeliveryRow) -> int:
    try:
        return given.log.position("cascade", sealed_topic(row.resource), row.partition)
    except Misconfigured:
        return row.offset  # no such topic: told elsewhere


def _is_settling(given: Given, row: DeliveryRow) -> bool:
    """Tell whether a batch that was put back is under way: its receipt comes to the log next."""
    entry = given.latest(put_back_key(row.resource, row.partition))
    return put_back_offset(entry) == row.offset


def _late(given: Given, totals: Totals, *, known: bool) -> None:
    """Read what has come to the topic of receipts meanwhile: a node may run beside the audit."""
    end = given.log.bounds(RECEIPTS, 0)[1]
    if known or end <= totals.upto:
        return
    for entry in entries(given.log, RECEIPTS, 0, given.findings, bounds=(totals.upto, end)):
        _take(totals, entry)
    totals.upto = end


def _put_back(given: Given, row: DeliveryRow) -> bool:
    """Tell whether a person has put a batch back, which the audit trail says."""
    assert given.store is not None  # noqa: S101 - the row is from it
    lines = given.store.audit.find(subject=f"{row.resource}/{row.batch_no}")
    return any(line.action == "cascade.retry" for line in lines)


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
            _compare_columns(given, where, row)
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


def _compare_columns(given: Given, where: str, row: ReceiptRow) -> None:
    try:
        expected = receipt_row(row.content)
    except (Integrity, ValueError):
        return  # told with the receipt
    for name in _RECEIPT:
        wanted = as_kept(getattr(expected, name))
        given.findings.equal("store.receipts", f"{where} {name}", wanted, getattr(row, name))


def unexplained(given: Given, totals: Totals) -> Iterator[tuple[str, str]]:
    """Yield leaves of statements, receipts and refusals that nothing in the log stands for."""
    for entry in given.leaves.unseen():
        if totals.gone.has(entry.resource, entry.lane, entry.batch_no):
            if entry.type == "statement":
                continue
        elif entry.type == "statement" and (entry.resource, entry.lane) in totals.gone.unknown:
            continue  # by age, or by a former version: noted with its topic
        if entry.type != "statement" and given.log.bounds(RECEIPTS, 0)[0] > 0:
            given.findings.note("evidence.batches", f"{RECEIPTS}: the oldest are gone")
            continue
        yield f"{entry.type} of {entry.resource}/{entry.batch_no}", entry.digest
