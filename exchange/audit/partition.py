"""One partition of a resource: what was pulled, what was refused, what was sealed.

Read in this order, each once. Between the passes a few numbers are kept for each raw message,
never for a row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from exchange.audit.decisions import check_decisions
from exchange.audit.findings import Findings
from exchange.audit.given import CLOCK_SKEW, Fact, Given, Totals
from exchange.audit.scan import entries
from exchange.errors import Integrity
from exchange.evidence.entry import EvidenceEntry
from exchange.log import Entry, quarantine_topic, raw_topic, sealed_topic
from exchange.log.frames import count_rows
from exchange.pipeline.evidence import GROUP, LEAVES_GROUP
from exchange.pipeline.messages import NotesEntry, RawBatch, RefusedEntry, SealedEntry
from exchange.pipeline.partition import PartitionState, partition_key
from exchange.pipeline.projection import pending, refused_row
from exchange.seal.batch.statement import Statement
from exchange.seal.batch.verify import verify_batch
from exchange.store.node.quarantine import QuarantineRow

_UNKNOWN = -1
"""Stands for the rows of a raw message that cannot be read, and for no pull."""
Bounds = tuple[int, int]


@dataclass
class _Counts:
    """Numbers by raw message, from offset ``first`` on."""

    first: int
    size: int
    pulls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rows = np.zeros(self.size, np.int64)
        self.pull = np.full(self.size, _UNKNOWN, np.int32)
        """Number of the pull in ``pulls``."""
        self.done = np.zeros(self.size, np.int64)
        """Rows that were sealed or refused."""
        self.refused = np.zeros(self.size, np.int64)
        """Records of it that were refused."""
        self.loose: Counter[str] = Counter()
        """Rows by pull of batches that do not say which raw message they come from."""
        self.complete = True
        """Whether every batch says which raw message it comes from; those of former versions
        do not."""

    def has(self, offset: int) -> bool:
        return 0 <= offset - self.first < self.size


class PartitionAudit:
    """Audits one partition; what it counts goes into the totals."""

    def __init__(self, given: Given, totals: Totals, resource: str, number: int) -> None:
        self.given, self.totals = given, totals
        self.resource, self.number = resource, number
        self.findings = given.findings
        self.topics = raw_topic(resource), sealed_topic(resource), quarantine_topic(resource)

    def run(self) -> None:
        """Read the three topics and compare.

        Bounds are taken against the direction of the work: of all that is within the bounds of
        a topic, what it was made from is within those of the topics before.
        """
        log, (raw, sealed, quarantine) = self.given.log, self.topics
        self.state = PartitionState.of(self.given.latest(partition_key(self.resource, self.number)))
        self.before = {
            (group, topic): log.position(group, topic, self.number)
            for group, topic in _readers(*self.topics)
        }
        self.evident = {topic: self.given.evident[topic, self.number] for topic in self.topics[1:]}
        bounds = {topic: log.bounds(topic, self.number) for topic in (quarantine, sealed, raw)}
        self.bounds = bounds
        first, end = bounds[raw]
        self.counts = _Counts(first, end - first)
        if first > 0:
            self.totals.shortened.add(self.resource)
        self.floor = max(first, *(self._floor(topic) for topic in (sealed, quarantine)))
        self._retained()
        self._raw(bounds[raw])
        self._quarantine(bounds[quarantine])
        last = self._sealed(bounds[sealed])
        self._compare(end)
        self._positions()
        self._state(last)

    def _floor(self, topic: str) -> int:
        """Return the raw offset from which on all that was made of it is in ``topic``."""
        first, end = self.bounds[topic]
        if first == 0:
            return 0
        for entry in entries(self.given.log, topic, self.number, Findings(), bounds=(first, end)):
            sealed, raw = SealedEntry.of(entry), RefusedEntry.of(entry).raw.partition("/")[2]
            if sealed is not None and sealed.raw is not None:
                return sealed.raw[0] + 1
            if raw.isdecimal():
                return int(raw) + 1
        return self.before["seal", self.topics[0]]

    def _retained(self) -> None:
        """Compare what the log has dropped with what a person has: the trail says so."""
        for topic, (first, _) in self.bounds.items():
            place = f"{topic}/{self.number}"
            allowed = self.given.trail.retained.get(place, 0)
            if self.given.ages and first > 0:
                self.findings.note("log.entries", f"{place}: by its age, all before {first}")
            elif first > allowed:
                self.findings.fault("log.entries", place, f"from {allowed} on", f"from {first} on")

    def _where(self, topic: str, offset: int) -> str:
        return f"{topic}/{self.number}/{offset}"

    def _read(self, topic: str, bounds: Bounds) -> Iterator[Entry]:
        return entries(
            self.given.log,
            topic,
            self.number,
            self.findings,
            bounds=bounds,
            missed=self._missed,
        )

    def _missed(self, offset: int) -> None:
        """Compare a raw message no further that cannot be read."""
        if self._reading_raw and self.counts.has(offset):
            self.counts.rows[offset - self.counts.first] = _UNKNOWN

    _reading_raw = False

    # --- raw ------------------------------------------------------------------------------

    def _raw(self, bounds: Bounds) -> None:
        counts, totals = self.counts, self.totals
        numbers: dict[tuple[str, str], int] = {}
        self._reading_raw = True
        for entry in self._read(self.topics[0], bounds):
            at = entry.offset - counts.first
            batch = RawBatch.of(entry)
            if batch is None:
                counts.rows[at] = 1  # none of ours: it is refused as one
                continue
            self._rows("raw.rows", entry, batch.rows)
            key = (batch.origin.source, batch.origin.pull)
            number = numbers.setdefault(key, len(numbers))
            if number == len(counts.pulls):
                counts.pulls.append(batch.origin.pull)
            counts.rows[at], counts.pull[at] = batch.rows, number
            totals.raw[key] = totals.raw.get(key, 0) + batch.rows
            by_partition = totals.messages.setdefault(key, {})
            by_partition[self.number] = by_partition.get(self.number, 0) + 1
        self._reading_raw = False

    def _rows(self, check: str, entry: Entry, stated: int) -> None:
        where = self._where(entry.topic, entry.offset)
        try:
            self.findings.equal(check, where, f"{stated} rows", f"{count_rows(entry.value)} rows")
        except Integrity as error:
            self.findings.fault(check, where, f"{stated} rows", error.what.en)
        self.totals.rows += stated
        self.given.progress(stated)

    # --- quarantine -----------------------------------------------------------------------

    def _quarantine(self, bounds: Bounds) -> None:
        topic = self.topics[2]
        leaves = self.given.leaves.ranges(topic, self.number, bounds[0], self.evident[topic])
        index = self._index(topic)
        for entry in self._read(topic, bounds):
            leaves.see(entry)
            if NotesEntry.of(entry) is not None:
                continue
            refused = RefusedEntry.of(entry)
            if refused.readable:
                self._rows("quarantine.rows", entry, refused.rows)
            self._count_refused(entry, refused)
            self._compare_index(entry, index.pop(entry.offset, None))
        leaves.end()
        for offset, row in index.items():
            if offset < bounds[1] and offset >= bounds[0]:
                found = f"{row.rows} rows in the store's index"
                self.findings.fault(
                    "store.quarantine", self._where(topic, offset), "nothing refused", found
                )

    def _count_refused(self, entry: Entry, refused: RefusedEntry) -> None:
        partition, _, offset = refused.raw.partition("/")
        if refused.origin.locator.startswith(f"{self.topics[1]}/") or not offset.isdecimal():
            return  # a message of others: from the sealed topic, or from nowhere
        where, at = self._where(entry.topic, entry.offset), int(offset)
        if partition != str(self.number) or at >= self.bounds[self.topics[0]][1]:
            self.findings.fault("pulls.sealed", where, "a raw message", f"{refused.raw}: none")
        elif self.counts.has(at):
            self.counts.done[at - self.counts.first] += refused.rows
            if refused.readable:
                self.counts.refused[at - self.counts.first] += refused.rows

    def _index(self, topic: str) -> dict[int, QuarantineRow]:
        store = self.given.store
        if store is None:
            return {}
        return {row.offset: row for row in store.quarantine.walk(topic, self.number)}

    def _compare_index(self, entry: Entry, row: QuarantineRow | None) -> None:
        store, where = self.given.store, self._where(entry.topic, entry.offset)
        if store is None:
            return
        if row is None:
            if entry.offset < self.before["store", entry.topic]:
                self.findings.fault("store.quarantine", where, "in the store's index", "missing")
            return
        expected = refused_row(self.resource, entry)
        for name in ("source", "pull", "locator", "rows", "reasons", "catalog_version"):
            self.findings.equal(
                "store.quarantine", f"{where} {name}", getattr(expected, name), getattr(row, name)
            )
        if row.replayed or row.dismissed or row.settled:
            check_decisions(self.given, row)

    # --- sealed ---------------------------------------------------------------------------

    def _sealed(self, bounds: Bounds) -> SealedEntry | None:
        topic, facts = self.topics[1], self.totals.batches.setdefault(self.resource, {})
        last: SealedEntry | None = None
        self._previous: Statement | None = None
        self._running = _Running(self.counts, self.floor)
        for entry in self._read(topic, bounds):
            sealed = SealedEntry.of(entry)
            if sealed is None:
                self.findings.note("batches.place", f"{self._where(topic, entry.offset)}: foreign")
                continue
            last = sealed
            found = verify_batch(entry.value, trust=self.given.trust)
            where = f"{self._where(topic, entry.offset)}, batch {entry.key}"
            for check in found.failed:
                self.findings.fault(
                    "batches.seal", f"{where} {check.name}", check.expected, check.found
                )
            self.totals.rows += found.rows
            self.given.progress(found.rows)
            if found.statement is None:
                continue
            statement = found.statement
            self._place(where, entry, sealed, statement)
            self._follows(where, entry, statement)
            self._count_sealed(where, sealed, statement)
            self._evident(where, entry.offset, statement)
            if entry.key in facts:
                other = facts[entry.key]
                found_twice = f"also {topic}/{other.partition}/{other.offset}"
                self.findings.fault("batches.numbers", where, "a number of its own", found_twice)
            row = pending(self.resource, entry, sealed)
            facts[entry.key] = Fact(
                row.partition, row.offset, row.statement, row.root, row.rows,
                statement.sealed_at, statement.resource_code, row.pull,
            )  # fmt: skip
            self.totals.newest = max(
                self.totals.newest, (statement.sealed_at, statement.catalog_digest)
            )
        return last

    def _place(self, where: str, entry: Entry, sealed: SealedEntry, statement: Statement) -> None:
        stated = {
            "number": statement.batch_no,
            "resource": statement.resource,
            "partition": statement.lane,
            "rows": statement.rows,
            "statement": statement.digest,
            "root": statement.root,
            "pull": statement.pull,
        }
        stands = (
            entry.key, self.resource, entry.partition, sealed.rows, sealed.statement, sealed.root,
            sealed.pull,
        )  # fmt: skip
        for (name, expected), found in zip(stated.items(), stands, strict=True):
            self.findings.equal("batches.place", f"{where} {name}", expected, found)
        if statement.schema not in self.given.schemas:
            found = f"{statement.schema}: of none"
            self.findings.fault("batches.schema", where, "the schema of a released file", found)

    def _follows(self, where: str, entry: Entry, statement: Statement) -> None:
        before, findings = self._previous, self.findings
        self._previous = statement
        if before is None:
            if entry.offset == 0:
                findings.equal("batches.chain", where, "", statement.previous)
        else:
            findings.equal("batches.chain", where, before.digest, statement.previous)
            if statement.batch_no <= before.batch_no:
                expected = f"behind {before.batch_no}"
                findings.fault("batches.numbers", where, expected, statement.batch_no)
            if statement.sealed_at < before.sealed_at:
                expected = f"not before {before.sealed_at}"
                findings.fault("batches.time", where, expected, statement.sealed_at)
        taken = datetime.fromtimestamp(entry.time / 1000, UTC)
        if abs(datetime.fromisoformat(statement.sealed_at) - taken) > CLOCK_SKEW:
            expected = f"about {taken.isoformat(timespec='seconds')}, when the log took it"
            findings.fault("batches.time", where, expected, statement.sealed_at)
        if datetime.fromisoformat(statement.pulled_at) > taken + CLOCK_SKEW:
            findings.fault("batches.time", f"{where} pulled", "before", statement.pulled_at)

    def _count_sealed(self, where: str, sealed: SealedEntry, statement: Statement) -> None:
        counts = self.counts
        if sealed.raw is None:
            counts.complete = False
            counts.loose[sealed.pull] += sealed.rows
            return
        offset = sealed.raw[0]
        if offset >= self.bounds[self.topics[0]][1]:
            self.findings.fault("pulls.sealed", where, "a raw message", f"{offset}: none")
            return
        if not counts.has(offset):
            return
        counts.done[offset - counts.first] += sealed.rows
        running = self._running
        running.advance(offset)
        running.accepted += sealed.rows
        if running.known and counts.complete:
            expected = f"{statement.accepted} accepted, {statement.rejected} rejected"
            found = f"{running.accepted} accepted, {running.rejected} rejected"
            self.findings.equal("batches.counts", where, expected, found)

    def _evident(self, where: str, offset: int, statement: Statement) -> None:
        known = self.given.leaves.has(EvidenceEntry.of_statement(statement).to_bytes())
        if not known and offset < self.evident[self.topics[1]]:
            self.findings.fault("evidence.batches", where, "its statement in the log", "missing")

    # --- afterwards -----------------------------------------------------------------------

    def _compare(self, end: int) -> None:
        """Compare what was pulled with what was sealed or refused, message by message."""
        counts, raw = self.counts, self.topics[0]
        offsets = np.arange(counts.first, end)
        taken = (offsets < self.before["seal", raw]) & (offsets >= self.floor)
        taken &= counts.rows != _UNKNOWN
        if not counts.complete:
            self._compare_pulls(taken)
            return
        for at in np.flatnonzero(taken & (counts.rows != counts.done)).tolist():
            where = self._where(raw, counts.first + at)
            found = f"{counts.done[at]} sealed or refused"
            self.findings.fault("pulls.sealed", where, f"{counts.rows[at]} rows pulled", found)

    def _compare_pulls(self, taken: npt.NDArray[np.bool_]) -> None:
        """Compare pull by pull where batches of a former version do not name their messages."""
        counts = self.counts
        for number, pull in enumerate(counts.pulls):
            own = counts.pull == number
            if (own & ~taken).any():
                continue  # it is not sealed to its end, or not there from its beginning
            found = int(counts.done[own].sum()) + counts.loose[pull]
            where = f"{self.topics[0]}/{self.number}, pull {pull}"
            expected = f"{int(counts.rows[own].sum())} rows pulled"
            self.findings.equal("pulls.sealed", where, expected, f"{found} rows pulled")

    def _positions(self) -> None:
        log, counts = self.given.log, self.counts
        for (group, topic), position in self.before.items():
            first, end = self.bounds[topic]
            if not first <= position <= max(end, log.bounds(topic, self.number)[1]):
                where = f"{group} in {topic}/{self.number}"
                self.findings.fault("log.positions", where, f"{first} to {end}", position)
        raw = self.topics[0]
        now = log.position("seal", raw, self.number)
        worked = np.flatnonzero(counts.done)
        if len(worked) and counts.first + int(worked[-1]) >= now:
            expected = f"behind {counts.first + int(worked[-1])}, of which there are batches"
            self.findings.fault("log.positions", f"seal in {raw}/{self.number}", expected, now)

    def _state(self, last: SealedEntry | None) -> None:
        key = partition_key(self.resource, self.number)
        state = PartitionState.of(self.given.latest(key))
        if state != self.state or (last is None and self.bounds[self.topics[1]][0] > 0):
            return  # it goes on meanwhile, or retention dropped the batch
        expected = ("", "") if last is None else (last.batch_no, last.statement)
        found = (state.batch_no if state.statement else "", state.statement)
        self.findings.equal("partitions.state", key, expected, found)


class _Running:
    """Counts a pull as sealing did: from its first raw message on, anew with every other pull."""

    def __init__(self, counts: _Counts, floor: int) -> None:
        self._counts = counts
        self._floor = floor
        self._next = 0
        self._pull = _UNKNOWN
        self.accepted = self.rejected = 0
        self.known = floor == 0
        """Whether all of the pull is there: retention may have dropped its beginning."""

    def advance(self, offset: int) -> None:
        """Go on up to a raw message, this one included."""
        counts, end = self._counts, offset - self._counts.first + 1
        for at in range(self._next, end):
            pull = int(counts.pull[at])
            if pull not in {_UNKNOWN, self._pull}:
                self.known = self.known or at + counts.first >= self._floor
                self._pull, self.accepted, self.rejected = pull, 0, 0
            self.rejected += int(counts.refused[at])
        self._next = max(self._next, end)


def _readers(raw: str, sealed: str, quarantine: str) -> tuple[tuple[str, str], ...]:
    return (
        ("seal", raw),
        ("cascade", sealed),
        ("store", sealed),
        ("store", quarantine),
        (GROUP, sealed),
        (LEAVES_GROUP, quarantine),
    )
