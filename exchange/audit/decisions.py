"""What people decided, and its ground: the audit trail and decisions about refused records."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from exchange.audit.findings import Findings
from exchange.audit.given import Given, Trail
from exchange.evidence.entry import TrailEntry
from exchange.pipeline.messages import replayed_key, replayed_rows
from exchange.pipeline.projection import SETTLED_BY

_CUT: Final = re.compile(r'\{"reason": "(?:[^"\\]|\\.)*", "rows": \d+(?=, "addresses")')
"""Begin of a detail of a former version, which cut what was too long."""

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exchange.store.audit import AuditRow
    from exchange.store.database import Store
    from exchange.store.node.quarantine import QuarantineRow


RECOVERED: Final = "trail.recover"
"""The line of the trail that names the lines which were lost before it."""


def read_trail(store: Store, leaves: Sequence[TrailEntry], findings: Findings) -> Trail:
    """Check the chain of the audit trail, and that it is the one the evidence log knows."""
    gaps = _gaps(store)
    leaves, lost = _split(leaves, gaps)
    wanted: dict[int, set[str]] = {}
    for leaf in leaves:
        wanted.setdefault(leaf.number, set()).add(leaf.digest)
    trails = {leaf.trail for leaf in leaves}
    for gap in lost:
        text = f"lines up to {gap.number} of {gap.trail} were lost, {gap.kept} of them are there"
        findings.note("evidence.trail", text)
    trail, first, last = Trail(), "", 0
    for row, sound in store.audit.walk():
        first, last = first or row.digest, row.number
        if not sound:
            findings.fault(
                "trail.chain", f"line {row.number}", "continues the chain", "it does not"
            )
        for digest in wanted.get(row.number, ()):
            findings.equal("evidence.trail", f"line {row.number}", digest, row.digest)
        _take(trail, row)
    for gone in trails - {first}:
        findings.fault("evidence.trail", "its first line", gone, first or "no line")
    if wanted and max(wanted) > last:
        findings.fault("evidence.trail", "its length", f"{max(wanted)} lines", f"{last} lines")
    return trail


class _Gap(NamedTuple):
    """Lines of the trail that were lost, as the line says that goes on from there."""

    trail: str
    number: int
    digest: str
    """Of the newest line that the evidence log knew."""
    kept: int
    """Number of the last line that is still there."""


def _gaps(store: Store) -> dict[tuple[str, int, str], _Gap]:
    """Read the lines that name lost lines: each stands where it says, behind those kept."""
    found = {}
    for row, _ in store.audit.walk():
        if row.action != RECOVERED:
            continue
        try:
            detail = json.loads(row.detail)
            gap = _Gap(
                str(detail["trail"]), int(detail["number"]), str(detail["digest"]),
                int(detail["kept"]),
            )  # fmt: skip
        except (ValueError, KeyError, TypeError):
            continue
        if (gap.kept, row.previous) == (row.number - 1, detail.get("head")):
            found[gap.trail, gap.number, gap.digest] = gap
    return found


def _split(
    leaves: Sequence[TrailEntry], gaps: dict[tuple[str, int, str], _Gap]
) -> tuple[list[TrailEntry], list[_Gap]]:
    """Take out the leaves of lines that were lost: those up to the leaf that a gap names.

    A trail goes on where its numbers rise. Where they do not, or another trail begins, the leaf
    before has to be the one that a gap names.
    """
    present: list[TrailEntry] = []
    lost: list[_Gap] = []
    for index, leaf in enumerate(leaves):
        present.append(leaf)
        after = leaves[index + 1] if index + 1 < len(leaves) else None
        gap = gaps.get((leaf.trail, leaf.number, leaf.digest))
        begins_anew = after is None or after.trail != leaf.trail or after.number <= leaf.number
        if gap is not None and begins_anew:
            lost.append(gap)
            present = [one for one in present if one.trail == leaf.trail and one.number <= gap.kept]
    return present, lost


def _take(trail: Trail, row: AuditRow) -> None:
    if row.action == RECOVERED:
        trail.recovered = True
    elif row.action in {"source.rewind", "source.retry"}:
        trail.rewinds[row.subject] += 1
    elif row.action in {"quarantine.dismiss", "log.retain", "log.recover"}:
        try:
            if row.action == "quarantine.dismiss":
                _take_dismissal(trail, row)
            else:
                trail.rebuilt |= row.action == "log.recover"
                _take_removal(trail, json.loads(row.detail))
        except (ValueError, KeyError, TypeError):
            return  # the chain tells whether it was written so


def _take_removal(trail: Trail, detail: Any) -> None:
    former = isinstance(detail, list)  # without entries in the evidence log
    removed = detail if former else detail["removed"]
    for place, _, offsets in (str(item).partition(": ") for item in removed):
        trail.retained[place] = int(offsets.partition("-")[2]) + 1
        if former:
            trail.former_retained[place] = trail.retained[place]


def _take_dismissal(trail: Trail, row: AuditRow) -> None:
    former = _CUT.match(row.detail)
    detail = json.loads(row.detail if former is None else former[0] + "}")
    key, rows = (row.actor, row.subject, str(detail["reason"])), int(detail["rows"])
    trail.dismissed[key] += rows
    if former is not None:
        trail.former_dismissed[key] += rows


def check_dismissals(given: Given) -> None:
    """Check that everything that the trail says was dismissed is so; all records were looked at."""
    for (actor, resource, reason), left in given.trail.dismissed.items():
        if left > given.trail.former_dismissed[actor, resource, reason]:
            where = f"{resource}, dismissed by {actor}: {reason[:60]}"
            expected = f"{left} more records, as the audit trail says"
            given.findings.fault("store.decisions", where, expected, "not dismissed")


def check_decisions(given: Given, row: QuarantineRow) -> None:
    """Check the decisions about the records of one message of quarantine."""
    store, findings = given.store, given.findings
    assert store is not None  # noqa: S101 - the row is from it
    where = f"{row.topic}/{row.partition}/{row.offset}"
    decided = store.quarantine.decisions(row.topic, row.partition, row.offset)
    counts = Counter(decision.state for decision in decided.values())
    for state in ("replayed", "dismissed", "settled"):
        findings.equal("store.decisions", f"{where} {state}", counts[state], getattr(row, state))
    key = replayed_key(row.resource, row.partition, row.offset)
    replayed = replayed_rows(given.latest(key)) if counts["replayed"] else frozenset()
    for number, decision in decided.items():
        place = f"{where} record {number}"
        if not 0 <= number < row.rows:
            findings.fault("store.decisions", place, f"a record of {row.rows}", "no such record")
        elif decision.state == "replayed" and number not in replayed:
            findings.fault("store.decisions", place, "replayed in the log", "it is not")
        elif decision.state == "settled" and decision.by != SETTLED_BY:
            findings.fault("store.decisions", place, f"settled by {SETTLED_BY}", decision.by)
        elif decision.state == "dismissed":
            line = (decision.by, row.resource, decision.note)
            if given.trail.dismissed[line] <= 0:
                expected = "a line of the audit trail with person, reason and count"
                findings.fault("store.decisions", place, expected, "none that is left")
            given.trail.dismissed[line] -= 1
