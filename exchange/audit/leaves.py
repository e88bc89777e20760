"""The evidence log beside the log: what has a leaf, and what the leaves say."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from exchange.audit.dropped import Dropped
from exchange.audit.findings import Findings
from exchange.evidence.entry import (
    EvidenceEntry,
    MessagesEntry,
    PullEntry,
    RetentionEntry,
    TrailEntry,
    bytes_digest,
    message_hashes,
    read_entry,
    well_formed,
)
from exchange.evidence.log import LogReader
from exchange.log import Entry
from exchange.pipeline.checkpoint_state import CheckpointState


@dataclass
class Ranges:
    """The leaves of one partition's messages, filled while the partition is read in order."""

    leaves: list[MessagesEntry]
    findings: Findings
    kept: int
    """First offset that the log keeps."""
    upto: int
    """Where the reader that writes leaves stood: messages before it have one."""
    check: str
    removed: Dropped
    """What was removed of the partition."""
    _hashes: dict[int, bytearray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Sort the leaves; look at what they leave out."""
        self.leaves.sort(key=lambda leaf: leaf.first)
        self._firsts = [leaf.first for leaf in self.leaves]
        last: MessagesEntry | None = None
        for leaf in self.leaves:
            if last is not None and leaf.first < last.next:
                self._fault(leaf, f"from {last.next} on", f"from {leaf.first} on, again")
            last = leaf

    def see(self, entry: Entry) -> None:
        """Take one message."""
        at = bisect_right(self._firsts, entry.offset) - 1
        if at < 0 or entry.offset >= self.leaves[at].next:
            if entry.offset < self.upto and (at >= 0 or not self.leaves):
                where = f"{entry.topic}/{entry.partition}/{entry.offset}"
                self.findings.fault(self.check, where, "a leaf", "none")
            return
        hashes = self._hashes.setdefault(at, bytearray())
        hashes += message_hashes(entry.offset, entry.key, entry.headers, entry.value)

    def end(self) -> None:
        """Compare, after the last message."""
        for at, leaf in enumerate(self.leaves):
            if leaf.first < self.kept:
                self._removed(leaf)
                continue
            hashes = bytes(self._hashes.get(at, b""))
            if bytes_digest(hashes) != leaf.digest:
                found = f"{len(hashes) // 64} messages, others or changed"
                self._fault(leaf, f"{leaf.count} messages as they were", found)

    def _removed(self, leaf: MessagesEntry) -> None:
        """Compare a leaf of messages that were removed: with others whole, or not at all."""
        if leaf.next > self.kept and self.removed.known:
            self._fault(leaf, f"{leaf.count} messages", f"removed in part, up to {self.kept}")

    def _fault(self, leaf: MessagesEntry, expected: str, found: str) -> None:
        where = f"{leaf.topic}/{leaf.lane}/{leaf.first} to {leaf.next - 1}"
        self.findings.fault(self.check, where, expected, found)


class Leaves:
    """What the evidence log holds: its folder, and what the log has beyond it."""

    def __init__(
        self, reader: LogReader | None, lines: Iterator[bytes], identity: str, findings: Findings
    ) -> None:
        """Read all entries; those of version 2 are kept, one for each step of the stage.

        ``reader`` is None where there is no folder; ``lines`` are the entries as the log has
        them, in their order.
        """
        self._reader = reader
        self.identity = identity
        self._findings = findings
        self.size = 0 if reader is None else reader.size
        self._seen = bytearray(self.size)
        self._messages: dict[tuple[str, int], list[MessagesEntry]] = defaultdict(list)
        self.pulls: dict[str, list[PullEntry]] = defaultdict(list)
        self.trail: list[TrailEntry] = []
        self.removals: dict[tuple[str, int], list[RetentionEntry]] = defaultdict(list)
        self._others: Counter[str] = Counter()
        self.waiting = dict.fromkeys(self._follow(lines))
        """Entries that the folder does not have yet: whoever writes it is behind."""
        for index in range(self.size):
            assert reader is not None  # noqa: S101 - it has a size
            self._seen[index] = self._take(reader.entry(index))
        for line in self.waiting:
            self._take(line)
        for other, count in self._others.items():
            found = f"{count} entries are of the log {other}"
            findings.fault("evidence.identity", "the evidence log", f"log {identity or '-'}", found)

    def _take(self, line: bytes) -> bool:
        """Sort an entry; return whether nothing of the log is looked for because of it."""
        try:
            entry = read_entry(line)
        except ValueError:
            return True  # the audit of the folder names it
        if isinstance(entry, EvidenceEntry):
            return False
        if isinstance(entry, TrailEntry):
            self.trail.append(entry)
        elif entry.log != self.identity:
            self._others[entry.log] += 1
        elif isinstance(entry, MessagesEntry):
            self._messages[entry.topic, entry.lane].append(entry)
        elif isinstance(entry, RetentionEntry):
            self.removals[entry.topic, entry.lane].append(entry)
        else:
            self.pulls[entry.source].append(entry)
        return True

    def _follow(self, lines: Iterator[bytes]) -> Iterator[bytes]:
        """Compare the order of the entries in the log with the folder's; yield what is beyond."""
        index, reader = 0, self._reader
        for line in lines:
            if not well_formed(line):
                continue  # a stranger's
            if reader is None:
                yield line
            elif index < self.size and reader.entry(index) == line:
                index += 1
            elif (place := reader.find(line)) is not None and place < index:
                continue  # it came twice
            elif index >= self.size:
                yield line
            else:
                where = f"entry {index} of the evidence log"
                self._findings.fault("evidence.batches", where, line.decode(), "another")
                return
        if index < self.size:
            found = f"{index}: the log is older, or another"
            self._findings.fault("evidence.batches", "entries in the log", self.size, found)

    def has(self, entry: bytes) -> bool:
        """Tell whether an entry is in the evidence log, and note that it was looked for."""
        place = None if self._reader is None else self._reader.find(entry)
        if place is not None and place < self.size:
            self._seen[place] = 1
        return place is not None or entry in self.waiting

    def ranges(
        self,
        topic: str,
        partition: int,
        removed: Dropped,
        upto: int,
        check: str = "evidence.quarantine",
    ) -> Ranges:
        """Return the leaves of a partition's messages; they are taken out."""
        leaves = self._messages.pop((topic, partition), [])
        return Ranges(leaves, self._findings, removed.kept, upto, check, removed)

    def check_checkpoints(self, signed: CheckpointState) -> None:
        """Check that what was signed, and witnessed, is there: as much as the log noted."""
        reader, check = self._reader, "evidence.checkpoints"
        if reader is None:
            return  # told by the checks of the folder
        for name, note, size in (
            ("the newest checkpoint", reader.newest(), max(signed.size, min(self.size, 1))),
            ("the newest that was witnessed", reader.witnessed(), signed.witnessed),
        ):
            found = 0 if note is None else note.checkpoint.head.size
            if found < size:
                expected = f"of {size} entries or more"
                self._findings.fault(check, name, expected, f"of {found}" if note else "none")

    def left(self) -> Iterator[str]:
        """Name the partitions that have leaves and were not read."""
        for topic, partition in self._messages:
            yield f"{topic}/{partition}"

    def unseen(self) -> Iterator[EvidenceEntry]:
        """Yield the entries of statements and receipts that nothing in the log stands for."""
        for index in range(self.size):
            if not self._seen[index] and self._reader is not None:
                try:
                    entry = read_entry(self._reader.entry(index))
                except ValueError:
                    continue
                if isinstance(entry, EvidenceEntry):
                    yield entry


def check_state(
    source: str, state: PullEntry, leaves: Sequence[PullEntry], findings: Findings
) -> None:
    """Compare the state that a source goes on from with its leaves.

    One that brought rows has a leaf of its own; else the cursor is that of the newest leaf.
    """
    last = leaves[-1] if leaves else None
    if state.rows and state not in leaves:
        found = f"{state.rows} rows of {state.pull}, cursor {state.digest}"
        findings.fault("evidence.pulls", source, last or "a leaf", found)
    elif last is None or last.digest != state.digest:
        expected = last.digest if last else "a leaf"
        findings.fault("evidence.pulls", f"{source} cursor", expected, state.digest)


def compare_pulls(
    leaves: Mapping[str, list[PullEntry]],
    rows: Mapping[tuple[str, str], int],
    rewinds: Mapping[str, int],
    findings: Findings,
) -> None:
    """Compare what leaves say of pulls with the rows that are in the log.

    ``rows`` by source and pull, of pulls that are in the log whole; ``rewinds`` by source:
    how often a person has moved its cursor.
    """
    for source, states in leaves.items():
        most: dict[str, int] = {}
        ends: Counter[str] = Counter()
        cursor = ""
        for state in states:
            if cursor not in {"", state.digest} and not state.rows:
                text = f"{source}: its cursor moved while nothing came, pull {state.pull or '-'}"
                findings.note("evidence.pulls", text)
            cursor = state.digest
            most[state.pull] = max(state.rows, most.get(state.pull, 0))
            ends[state.pull] += state.done if state.rows else 0
        for pull, count in most.items():
            found = rows.get((source, pull))
            if found is not None and found < count:
                findings.fault("evidence.pulls", f"{source}, pull {pull}", f"{count} rows", found)
        moved = sum(count - 1 for count in ends.values() if count > 1)
        if moved > rewinds.get(source, 0):
            expected = f"{rewinds.get(source, 0)} times, as the audit trail says"
            findings.fault("evidence.pulls", f"{source}: cursor moved", expected, f"{moved} times")
