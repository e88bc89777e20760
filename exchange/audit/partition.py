"""One partition of a resource: what was pulled, what was refused, what was sealed.

Read in this order, each once. Between the passes a few numbers are kept for each raw message,
never for a row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from exchange.audit.decisions import check_decisions
from exchange.audit.dropped import Dropped, RowsByPull, check_index, compare_dropped, dropped
from exchange.audit.findings import Findings
from exchange.audit.given import CLOCK_SKEW, Fact, Given, Totals
from exchange.audit.raw_rows import UNKNOWN, RawRows, Running
from exchange.audit.scan import entries
from exchange.errors import Integrity
from exchange.evidence.entry import EvidenceEntry
from exchange.log import Entry, quarantine_topic, raw_topic, sealed_topic
from exchange.log.frames import count_rows
from exchange.pipeline.evidence import GROUP, LEAVES_GROUP
from exchange.pipeline.messages import NotesEntry, RawBatch, RefusedEntry, SealedEntry
from exchange.pipeline.partition import PartitionState, partition_key
from exchange.pipeline.projection import pending, refused_row
from exchange.pipeline.removal import share_of
from exchange.pipeline.withdrawal import is_withdrawn, withdrawn_of
from exchange.seal.batch.statement import Statement
from exchange.seal.batch.verify import verify_batch
from exchange.store.columns import as_kept
from exchange.store.node.quarantine import QuarantineRow

_INDEX = (
    *("resource", "source", "pull", "locator", "rows", "reasons", "catalog_version"),
    "created_at",
)
"""Columns of the index of quarantine that follow from the log."""
Bounds = tuple[int, int]


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
        self.counts = RawRows(first, end - first)
        self.removed = {topic: self._removed(topic) for topic in self.topics}
        self._take_removed(self.removed[raw])
        self.tally = RowsByPull()
        self.floor = max(first, *(self._floor(topic) for topic in (sealed, quarantine)))
        self._raw(bounds[raw])
        self._quarantine(bounds[quarantine])
        last = self._sealed(bounds[sealed])
        self.totals.gone.take(
            self.resource, self.number, self.removed[sealed], self._first_number(last)
        )
        self._compare(end)
        others = [self.removed[sealed], self.removed[quarantine]]
        where = f"{raw}/{self.number}"
        compare_dropped(where, self.removed[raw], others, self.tally, self.findings)
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

    def _removed(self, topic: str) -> Dropped:
        """Compare what the log has dropped with what a person has: trail and evidence say so."""
        given, place = self.given, f"{topic}/{self.number}"
        first = self.bounds[topic][0]
        former = given.trail.former_retained.get(place, 0)
        entries = given.leaves.removals.get((topic, self.number), ())
        part = dropped(entries, first, former, ages=given.ages)
        allowed = min(given.trail.retained.get(place, 0), max(part.upto, former))
        if given.ages and first > 0:
            self.findings.note("log.entries", f"{place}: by its age, all before {first}")
        elif first > allowed:
            self.findings.fault("log.entries", place, f"from {allowed} on", f"from {first} on")
        elif not part.known:
            text = f"{place}: a former version removed what is before {former}"
            self.findings.note("evidence.retention", text)
        return part

    def _take_removed(self, raw: Dropped) -> None:
        if not raw.known:
            self.totals.shortened.add(self.resource)
        self.totals.removed += raw.rows
        for pull, count in raw.messages.items():
            self.totals.removed_messages.setdefault(pull, Counter())[self.number] += count

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
            self.counts.rows[offset - self.counts.first] = UNKNOWN

    _reading_raw = False

    # --- raw ------------------------------------------------------------------------------

    def _raw(self, bounds: Bounds) -> None:
        counts, totals = self.counts, self.totals
        numbers: dict[tuple[str, str], int] = {}
        self._reading_raw = True
        for entry in self._read(self.topics[0], bounds):
            at = entry.offset - counts.first
            counts.time[at] = entry.time
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
            self.tally.pulled[batch.origin.pull] += batch.rows
            if entry.offset >= self.before["seal", self.topics[0]]:
                self.tally.waiting.add(batch.origin.pull)
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
        removed = self.removed[topic]
        leaves = self.given.leaves.ranges(topic, self.number, removed, self.evident[topic])
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
        self._index_of_removed(removed, index)
        for offset, row in index.items():
            if offset < bounds[1] and offset >= bounds[0]:
                found = f"{row.rows} rows in the store's index"
                self.findings.fault(
                    "store.quarantine", self._where(topic, offset), "nothing refused", found
                )

    def _index_of_removed(self, removed: Dropped, index: dict[int, QuarantineRow]) -> None:
        if self.given.store is None:
            return
        rows = {offset: row for offset, row in index.items() if offset < removed.kept}
        for row in rows.values():
            if row.replayed or row.dismissed or row.settled:
                check_decisions(self.given, row)
        waiting = {offset: row.waiting for offset, row in rows.items()}
        where = f"{self.topics[2]}/{self.number}"
        if removed.kept > 0 or waiting:
            check_index(where, removed, waiting, self.findings)

    def _count_refused(self, entry: Entry, refused: RefusedEntry) -> None:
        partition, _, offset = refused.raw.partition("/")
        if refused.origin.locator.startswith(f"{self.topics[1]}/") or not offset.isdecimal():
            return  # a message of others: from the sealed topic, or from nowhere
        share = share_of(entry)
        self.tally.done[share.pull] += share.rows
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
        for name in _INDEX:
            wanted, there = getattr(expected, name), getattr(row, name)
            self.findings.equal("store.quarantine", f"{where} {name}", as_kept(wanted), there)
        if row.replayed or row.dismissed or row.settled:
            check_decisions(self.given, row)

    # --- sealed ---------------------------------------------------------------------------

    def _sealed(self, bounds: Bounds) -> SealedEntry | None:
        topic, facts = self.topics[1], self.totals.batches.setdefault(self.resource, {})
        ranges = withdrawn_of(self.given.log, self.resource, self.number)
        last: SealedEntry | None = None
        self._previous: Statement | None = None
        self._first, self._taken = "", -1
        self._running = Running(self.counts, self.floor)
        for entry in self._read(topic, bounds):
            sealed = SealedEntry.of(entry)
            if sealed is None:
                self.findings.note("batches.place", f"{self._where(topic, entry.offset)}: foreign")
                continue
            self._first = self._first or entry.key
            void = is_withdrawn(ranges, entry.offset)
            last = last if void else sealed
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
            if not void:  # others stand for those that were withdrawn
                self._follows(where, entry, statement)
                self._count_sealed(where, sealed, statement)
            self._taken = entry.time
            self._evident(where, entry.offset, statement)
            if entry.key in facts:
                other = facts[entry.key]
                found_twice = f"also {topic}/{other.partition}/{other.offset}"
                self.findings.fault("batches.numbers", where, "a number of its own", found_twice)
            row = pending(self.resource, entry, sealed)
            facts[entry.key] = Fact(
                row.partition, row.offset, row.statement, row.root, row.rows,
                statement.sealed_at, statement.resource_code, row.pull, void,
            )  # fmt: skip
            self.totals.newest = max(
                self.totals.newest, (statement.sealed_at, statement.catalog_digest)
            )
        return last

    def _first_number(self, last: SealedEntry | None) -> str:
        """Return the first batch number that was not removed; behind the last one: all were."""
        if last is not None:
            return self._first
        return f"{self.state.batch_no}~" if self.state.statement else ""

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
        self._times(where, entry, statement)

    def _times(self, where: str, entry: Entry, statement: Statement) -> None:
        """Compare times with those of the log, which stand still where a clock was set back."""
        taken = datetime.fromtimestamp(entry.time / 1000, UTC)
        stands = entry.time == self._taken
        late = taken - datetime.fromisoformat(statement.sealed_at)
        if late < -CLOCK_SKEW or (late > CLOCK_SKEW and not stands):
            expected = f"about {taken.isoformat(timespec='seconds')}, when the log took it"
            self.findings.fault("batches.time", where, expected, statement.sealed_at)
        sealed, counts = SealedEntry.of(entry), self.counts
        if sealed is None or sealed.raw is None or not counts.has(sealed.raw[0]):
            return
        at = int(counts.time[sealed.raw[0] - counts.first])
        came = datetime.fromtimestamp(at / 1000, UTC)
        if at and datetime.fromisoformat(statement.pulled_at) > came + CLOCK_SKEW:
            expected = f"not after {came.isoformat(timespec='seconds')}, when the log took it"
            self.findings.fault("batches.time", f"{where} pulled", expected, statement.pulled_at)

    def _count_sealed(self, where: str, sealed: SealedEntry, statement: Statement) -> None:
        counts = self.counts
        self.tally.done[sealed.pull] += sealed.rows
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
        taken &= counts.rows != UNKNOWN
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


def _readers(raw: str, sealed: str, quarantine: str) -> tuple[tuple[str, str], ...]:
    return (
        ("seal", raw),
        ("cascade", sealed),
        ("store", sealed),
        ("store", quarantine),
        (GROUP, sealed),
        (LEAVES_GROUP, quarantine),
    )
