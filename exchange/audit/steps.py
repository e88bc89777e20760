"""The register of seals: its steps in the log, the store's table, the leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exchange.audit.dropped import Dropped
from exchange.audit.scan import entries
from exchange.errors import Rejected
from exchange.log import SEALS
from exchange.pipeline.seal_register import CARRIED, SealEvent
from exchange.seal.eseal.lifecycle import SealState, Step, move

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exchange.audit.findings import Findings
    from exchange.audit.given import Given
    from exchange.log import Entry
    from exchange.store.node.seals import SealRow


def check_seals(given: Given) -> None:
    """Check every step, and compare the newest ones with the store."""
    log, findings = given.log, given.findings
    newest: dict[str, SealRow] = {}
    has_topic = (SEALS, 0) in given.evident  # a former version had none
    upto = given.evident.get((SEALS, 0), 0)
    kept = log.bounds(SEALS, 0)[0] if has_topic else 0
    leaves = given.leaves.ranges(SEALS, 0, Dropped(kept), upto, "evidence.seals")
    for entry in _entries(given, kept) if has_topic else ():
        kept = entry.offset + 1
        leaves.see(entry)
        event = SealEvent.of(entry)
        where = f"{SEALS}/0/{entry.offset}, {entry.key}"
        if event is None:
            findings.fault("seals.steps", where, "a step with a seal", "another message")
            continue
        _check_step(where, event, newest.get(event.row.es_id), findings)
        newest[event.row.es_id] = event.row
    leaves.end()
    if given.store is None or not newest:
        return  # a missing store is a fault already; a former node's register is in its store alone
    shown = {row.es_id: row for row in given.store.seals.find()}
    for es_id, row in newest.items():
        there = shown.pop(es_id, None)
        if there is None:
            findings.fault("store.seals", es_id, f"{row.state}, version {row.version}", "no row")
        elif there != row and there.version <= row.version:
            _compare(es_id, row, there, findings)
    later = {entry.key for entry in _entries(given, kept)}  # of a node that goes on meanwhile
    for es_id, there in shown.items():
        if es_id not in later:
            findings.fault("store.seals", es_id, "no seal of this number", there.state)


def _entries(given: Given, first: int) -> Iterator[Entry]:
    bounds = (first, given.log.bounds(SEALS, 0)[1])
    return entries(given.log, SEALS, 0, given.findings, bounds=bounds)


def _check_step(where: str, event: SealEvent, before: SealRow | None, findings: Findings) -> None:
    row = event.row
    if event.step == CARRIED:
        if before is not None:
            findings.fault("seals.steps", where, "the first step of its seal", "a later one")
        return
    version = before.version if before is not None else 0
    findings.equal("seals.steps", f"{where} version", version + 1, row.version)
    try:
        state = move(SealState(before.state) if before else None, Step(event.step), row.name)
    except (Rejected, ValueError):
        expected = f"a step from {before.state if before else 'nothing'}"
        findings.fault("seals.steps", where, expected, f"{event.step} to {row.state}")
        return
    findings.equal("seals.steps", where, str(state), row.state)


def _compare(es_id: str, row: SealRow, there: SealRow, findings: Findings) -> None:
    names = [
        name
        for name in row.__slots__
        if getattr(row, name) != getattr(there, name) and name != "content"
    ]
    expected = ", ".join(f"{name} {getattr(row, name)}" for name in names) or "another picture"
    found = ", ".join(f"{name} {getattr(there, name)}" for name in names) or "one of other bytes"
    findings.fault("store.seals", es_id, expected, found)
