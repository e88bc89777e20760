"""What people have removed of the log's topics: as much as its own evidence says, and no more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from exchange.audit.findings import Findings
from exchange.evidence.entry import RetentionEntry


@dataclass(frozen=True)
class Dropped:
    """What was removed of one partition of a topic."""

    kept: int
    """First offset that the log keeps."""
    upto: int = 0
    """First offset that has to be there, as the evidence says."""
    runs: Sequence[RetentionEntry] = ()
    known: bool = True
    """Whether all that is missing is known by its pull and count; not where a former version
    removed it, or the log did by its age."""

    @property
    def rows(self) -> Counter[str]:
        """Count the records that are gone, by pull."""
        counts: Counter[str] = Counter()
        for run in self.runs:
            counts[run.pull] += run.rows
        return counts

    @property
    def messages(self) -> Counter[str]:
        """Count the messages with records that are gone, by pull."""
        counts: Counter[str] = Counter()
        for run in self.runs:
            counts[run.pull] += run.count if run.rows else 0
        return counts


def dropped(entries: Sequence[RetentionEntry], kept: int, former: int, *, ages: bool) -> Dropped:
    """Put together what entries say of the offsets below ``kept``.

    ``former``: offset up to which a former version removed messages, which left no entries;
    ``ages``: the log drops messages by their age. A removal that was killed may be noted twice.
    """
    by_first: dict[int, list[RetentionEntry]] = {}
    for entry in entries:
        if entry.next <= kept:
            by_first.setdefault(entry.first, []).append(entry)
    upto = min(former, kept)
    if ages and by_first:
        upto = max(upto, min(by_first))
    known = upto == 0
    runs: list[RetentionEntry] = []
    while upto in by_first:
        runs.append(max(by_first[upto], key=lambda entry: entry.next))
        if runs[-1].next <= upto:
            break  # no entry of ours
        upto = runs[-1].next
    return Dropped(kept, upto, tuple(runs), known=known and (upto == kept or not ages))


@dataclass
class RowsByPull:
    """Records of one partition by pull."""

    pulled: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    """Sealed or refused."""
    waiting: set[str] = field(default_factory=set)
    """Pulls of which something waits to be sealed."""


def compare_dropped(
    where: str, raw: Dropped, others: Sequence[Dropped], tally: RowsByPull, findings: Findings
) -> None:
    """Compare pulls of which something is gone: as much pulled as sealed and refused."""
    if not all(part.known for part in (raw, *others)):
        return
    pulled, done = tally.pulled + raw.rows, Counter(tally.done)
    for part in others:
        done += part.rows
    gone = {run.pull for part in (raw, *others) for run in part.runs}
    for pull in sorted(gone - tally.waiting - {""}):
        expected, found = f"{pulled[pull]} rows pulled", f"{done[pull]} sealed or refused"
        if pulled[pull] != done[pull]:
            findings.fault("pulls.sealed", f"{where}, pull {pull}", expected, found)


@dataclass
class Gone:
    """Batches that were removed, as their leaves tell: digest by resource, partition and number."""

    statements: dict[tuple[str, int, str], str] = field(default_factory=dict)
    batches: dict[tuple[str, int], int] = field(default_factory=dict)
    """How many were removed, by resource and partition, as the entries of removal say."""
    upto: dict[tuple[str, int], str] = field(default_factory=dict)
    """First number that has to be there, by resource and partition."""
    unknown: set[tuple[str, int]] = field(default_factory=set)
    """Resources and partitions where nobody can say: a former version, or age."""

    def take(self, resource: str, number: int, part: Dropped, first: str) -> None:
        """Note what was removed of a sealed partition; ``first``: its first number that stays."""
        key = (resource, number)
        if not part.known:
            self.unknown.add(key)
        if part.kept > 0:
            self.batches[key] = sum(count for pull, count in part.messages.items() if pull)
            self.upto[key] = first

    def allows(self, resource: str, partition: int, batch_no: str) -> bool:
        """Tell whether a batch may have been removed."""
        return batch_no < self.upto.get((resource, partition), "")

    def has(self, resource: str, partition: int, batch_no: str) -> bool:
        """Tell whether a batch was removed: its leaf is there."""
        return (resource, partition, batch_no) in self.statements

    def wrong(self, void: Collection[tuple[str, str]]) -> Iterator[tuple[str, str, str]]:
        """Yield where fewer or more batches are gone than the entries of removal say.

        ``void``: batches that were withdrawn, by resource and number: they do not count.
        """
        counts = Counter(
            (resource, partition)
            for resource, partition, number in self.statements
            if (resource, number) not in void
        )
        for key, expected in self.batches.items():
            if key not in self.unknown and counts[key] != expected:
                yield f"{key[0]}/{key[1]}", f"{expected} batches removed", f"{counts[key]} are gone"


def check_index(where: str, part: Dropped, rows: Mapping[int, int], findings: Findings) -> None:
    """Compare the store's index with the messages of quarantine that were removed.

    ``rows``: records that wait, by offset below ``part.kept``.
    """
    if not part.known:
        return
    for offset, waiting in rows.items():
        if waiting:
            found = f"{waiting} records wait, and the message was removed"
            findings.fault("store.quarantine", f"{where}/{offset}", "decided about", found)
    expected = sum(run.count for run in part.runs if run.rows)
    if expected != len(rows):
        text = f"{expected} messages removed"
        findings.fault("store.quarantine", f"{where} before {part.kept}", text, len(rows))
