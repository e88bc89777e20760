"""The stage back: quarantine ──► raw, what a person sends through once more (D8).

Raw messages and the note of which records went are one transaction of the log, so that nothing
is replayed twice whatever dies in between; the store follows, and catches up with the next
replay when it could not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from exchange.catalog.model import Resource
from exchange.errors import Rejected
from exchange.log import Entry, Log, Message, quarantine_topic, raw_topic, sealed_topic
from exchange.pipeline.context import CHUNK_BYTES, PipelineContext
from exchange.pipeline.messages import (
    REPLAY,
    Origin,
    RefusedEntry,
    SealedEntry,
    replayed_key,
    replayed_message,
    replayed_rows,
)
from exchange.pipeline.pull import RawCounts, raw_messages, shares
from exchange.pipeline.refused import refused_of
from exchange.pipeline.settlement import Settlement
from exchange.pipeline.versions import batch_versions, offset_of, version_elsewhere
from exchange.store.database import Store
from exchange.text import Text
from exchange.validate.keys import source_keys
from exchange.validate.refused_records import Corrections, RefusedRecords
from exchange.validate.refused_records import replay as back_to_raw
from exchange.validate.source_frame import REASONS, VERSION

MAX_MESSAGES = 100_000
"""Quarantine messages looked at in one replay."""
_MESSAGES = 64
"""Quarantine messages in one transaction."""
_REPEATS = ("key", "unique")
"""Rules of uniqueness: they judge a record against its pull, which a replay cannot see."""

MessageAddress = tuple[int, int]
"""Partition and offset of a quarantine message."""
Version = tuple[int, str]
"""Version of a record, and the pull that it was refused in."""


@dataclass
class Replayed:
    """What went back; all counts are records."""

    pull: str
    rows: int = 0
    messages: int = 0
    """Raw messages written."""
    held: int = 0
    """Repeats that stay: without the twin in their pull they would be sealed a second time."""
    unknown: int = 0
    """Records of the corrected file that are not waiting, or never were."""
    stale: int = 0
    """Records that stay because a newer one of their key is sealed, or goes back with them."""


def replay(
    context: PipelineContext,
    store: Store,
    resource: Resource,
    *,
    by: str,
    corrections: Corrections | None = None,
    force: bool = False,
) -> Replayed:
    """Send the waiting records of a resource through again, or those named in ``corrections``.

    A record never overtakes a newer one of its key: where one is sealed, it stays, unless
    ``force`` says that the old value is to be sealed last. Of several that wait with one key the
    newest goes. Raises Rejected for corrections that belong to another resource. Records that
    somebody replayed or dismissed before are left alone.
    """
    context.ensure(resource.name)
    moment = context.clock().strftime("%Y%m%dT%H%M%S")
    result = Replayed(f"{REPLAY}{moment}-{context.entropy(4).hex()}")
    partitions = range(context.partitions(resource.name))
    raw = raw_topic(resource.name)
    # Up to here the seals are looked at now; what stands behind, the stage that seals looks at.
    looked = [context.log.position("seal", raw, partition) for partition in partitions]
    if force:
        looked = [context.log.bounds(raw, partition)[1] for partition in partitions]
    settlement = Settlement(context, resource, store)
    for partition in partitions:
        settlement.catch_up(partition)
    counts = RawCounts(looked, [0] * len(looked))
    work = _Work(context, store, resource, by, counts, result, force=force)
    if corrections is None:
        rows = store.quarantine.find(resource=resource.name, waiting=True, limit=MAX_MESSAGES)
        wanted: dict[MessageAddress, dict[int, str] | None] = {
            (r.partition, r.offset): None for r in rows
        }
    else:
        _check_columns(resource, corrections)
        wanted = dict(work.named(corrections))
    for entry in work.read(wanted):
        work.weigh(entry, wanted, corrections)
    work.look_up_moved()
    for group in _groups(work.read(wanted)):
        work.take(group, wanted, corrections)
    return result


def _check_columns(resource: Resource, corrections: Corrections) -> None:
    """Refuse a file with columns that the resource does not have: it is another resource's."""
    known = {field.name for field in resource.fields}
    foreign = sorted({name for cells in corrections.values() for name in cells} - known)
    if foreign:
        listed = ", ".join(foreign)[:200]
        raise Rejected(
            Text(
                f"文件中有资源 {resource.name} 没有的列：{listed}",
                f"the file has columns that {resource.name} does not have: {listed}",
            ),
            hint=Text(
                "请确认是该资源导出的表格，并删除自行添加的列",
                "check that it is this resource's export, and delete added columns",
            ),
        )


def _groups(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Gather entries for one transaction each."""
    group: list[Entry] = []
    size = 0
    for entry in entries:
        if group and (len(group) == _MESSAGES or size + len(entry.value) > CHUNK_BYTES):
            yield group
            group, size = [], 0
        group.append(entry)
        size += len(entry.value)
    if group:
        yield group


@dataclass
class _Work:
    """One replay under way."""

    context: PipelineContext
    store: Store
    resource: Resource
    by: str
    counts: RawCounts
    result: Replayed
    force: bool = False
    newest: dict[int, Version] = field(default_factory=dict)
    """Key → the newest version of it that could go back."""
    moved: dict[int, tuple[int, set[int]]] = field(default_factory=dict)
    """By partition: keys that records were corrected to, and the oldest version of these."""
    sealed: dict[tuple[int, int], int] = field(default_factory=dict)
    """By partition and such a key: the newest version that is sealed."""

    def named(self, corrections: Corrections) -> Iterator[tuple[MessageAddress, dict[int, str]]]:
        """Sort the addresses of a corrected file by message: position → address."""
        places: dict[MessageAddress, dict[int, str]] = {}
        for address in corrections:
            partition, offset, row = place_of(address)
            places.setdefault((partition, offset), {})[row] = address
        for place, rows in sorted(places.items()):
            message = self.store.quarantine.get(quarantine_topic(self.resource.name), *place)
            if message is None:
                self.result.unknown += len(rows)
            else:
                yield place, rows

    def read(self, places: Iterable[MessageAddress]) -> Iterator[Entry]:
        """Read the quarantine messages."""
        topic = quarantine_topic(self.resource.name)
        for partition, offset in places:
            yield self.context.log.read(topic, partition, offset, max_entries=1)[0]

    def take(
        self,
        entries: Sequence[Entry],
        wanted: Mapping[MessageAddress, dict[int, str] | None],
        corrections: Corrections | None,
    ) -> None:
        """Send records of these messages back in one transaction; then tell the store."""
        went: dict[MessageAddress, list[int]] = {}
        parts: dict[tuple[str, str, str], tuple[Origin, list[pl.DataFrame]]] = {}
        context, name = self.context, self.resource.name
        context.failpoint("replay:before")
        with context.log.transaction(f"replay/{name}") as tx:
            for entry in entries:
                place = (entry.partition, entry.offset)
                before = replayed_rows(context.latest(replayed_key(name, *place)))
                refused = refused_of(entry)
                rows = self._choose(refused, place, wanted[place], before, self.result)
                frame = self._frame(refused, rows, corrections) if rows else pl.DataFrame()
                origin = RefusedEntry.of(entry).origin
                fresh = self._fresh(frame, origin.pull) if rows else []
                self.result.stale += frame.height - len(fresh)
                frame = frame[fresh] if fresh else pl.DataFrame()
                if refused.original is None:
                    rows = [rows[position] for position in fresh]
                went[place] = sorted(before | set(rows))
                if rows:
                    alike = (origin.source, origin.locator, str(frame.schema))
                    parts.setdefault(alike, (origin, []))[1].append(frame)
                    key = replayed_key(name, *place)
                    tx.append(replayed_message(key, self.result.pull, went[place]))
            # Records of one place travel together: else each quarantine message made a batch.
            for origin, frames in parts.values():
                for message in self._messages(pl.concat(frames), origin):
                    tx.append(message)
        context.failpoint("replay:after")
        for (partition, offset), rows in went.items():
            # Those of before too: the store may have missed them.
            self.store.quarantine.decide(
                quarantine_topic(name), partition, offset, rows, state="replayed", by=self.by
            )

    def weigh(
        self,
        entry: Entry,
        wanted: Mapping[MessageAddress, dict[int, str] | None],
        corrections: Corrections | None,
    ) -> None:
        """Learn which version of each key is the newest that could go back."""
        place = (entry.partition, entry.offset)
        before = replayed_rows(self.context.latest(replayed_key(self.resource.name, *place)))
        refused, count = refused_of(entry), Replayed("")
        rows = self._choose(refused, place, wanted[place], before, count)
        if not rows:
            return
        frame = self._frame(refused, rows, corrections)
        for key, version in self._versions(frame, RefusedEntry.of(entry).origin.pull):
            if key is not None:
                self.newest[key] = max(version, self.newest.get(key, version))
        if not self.force:
            self._note_moved(refused, rows, frame)

    def _note_moved(self, refused: RefusedRecords, rows: list[int], frame: pl.DataFrame) -> None:
        """Note the records whose key was corrected: nobody has compared the new one yet.

        So are those whose key comes into another partition now.
        """
        before = source_keys(self.resource, back_to_raw(refused.only(rows), self.resource))
        keys, targets = source_keys(self.resource, frame), self._targets(frame)
        new = keys.ne_missing(before) | (targets != refused.partition)
        moved = pl.DataFrame({"key": keys, "target": targets, "version": frame[VERSION]})
        for key, target, version in moved.filter(new).drop_nulls().iter_rows():
            oldest, known = self.moved.setdefault(target, (version, set()))
            known.add(key)
            self.moved[target] = (min(oldest, version), known)

    def _targets(self, frame: pl.DataFrame) -> pl.Series:
        return shares(frame, self.resource, len(self.counts.since))

    def look_up_moved(self) -> None:
        """Find what is sealed of the keys that records were corrected to."""
        log, topic = self.context.log, sealed_topic(self.resource.name)
        for partition, (oldest, keys) in self.moved.items():
            offset = _first_sealed(log, topic, partition, offset_of(oldest))
            wanted = pl.Series(list(keys), dtype=pl.UInt64)
            while page := log.read(topic, partition, offset, max_entries=1):
                sealed = SealedEntry.of(page[0])
                if sealed is not None:
                    newer = batch_versions(self.context, self.resource, page[0], sealed)
                    newer = newer.filter(pl.col("key").is_in(wanted.implode()))
                    for key, version in newer.iter_rows():
                        known = self.sealed.get((partition, key), version)
                        self.sealed[partition, key] = max(version, known)
                offset = page[0].offset + 1

    def _versions(self, frame: pl.DataFrame, pull: str) -> Iterator[tuple[int | None, Version]]:
        keys = source_keys(self.resource, frame).to_list()
        for key, version in zip(keys, frame[VERSION].to_list(), strict=True):
            yield key, (-1 if version is None else version, pull)

    def _fresh(self, frame: pl.DataFrame, pull: str) -> list[int]:
        """Return the positions of the records of which no later pull's goes back or is sealed.

        Within a pull the first record of a key wins, as ever: the stage that seals sees to that.
        """
        targets = self._targets(frame).to_list()
        return [
            position
            for position, (key, (version, _)) in enumerate(self._versions(frame, pull))
            if key is None
            or (
                self.newest.get(key, (version, pull))[1] == pull
                and self.sealed.get((targets[position], key), -2) < version
            )
        ]

    def _choose(
        self,
        refused: RefusedRecords,
        place: MessageAddress,
        named: dict[int, str] | None,
        before: frozenset[int],
        result: Replayed,
    ) -> list[int]:
        """Choose the records to send back, in their order."""
        topic = quarantine_topic(self.resource.name)
        decided = self.store.quarantine.decisions(topic, *place)
        settled = {row for row, decision in decided.items() if decision.state == "settled"}
        gone = before | decided.keys()
        if refused.foreign and refused.original is None:
            result.held += refused.frame.height
            return []
        there = set(range(refused.frame.height))
        if named is not None:
            stale = (named.keys() & settled) - before
            if self.force:
                gone -= stale
            else:
                result.stale += len(stale)
            result.unknown += len(named.keys() - (there - gone) - stale)
            return sorted(named.keys() & there - gone)
        repeats = self._repeats(refused.frame)
        result.held += len(repeats - gone)
        return sorted(there - gone - repeats)

    def _repeats(self, frame: pl.DataFrame) -> set[int]:
        """Find the records refused as repeats by a key that the catalog still has."""
        groups = {",".join(group) for group in (self.resource.key, *self.resource.unique)}
        return {
            row
            for row, reasons in enumerate(frame[REASONS].to_list())
            if any(reason["rule"] in _REPEATS and reason["field"] in groups for reason in reasons)
        }

    def _frame(
        self, refused: RefusedRecords, rows: list[int], corrections: Corrections | None
    ) -> pl.DataFrame:
        chosen_records = refused.only(rows)
        if corrections is None:
            return self._placed(back_to_raw(chosen_records, self.resource), refused.partition)
        chosen = {address: corrections[address] for address in chosen_records.addresses()}
        return self._placed(back_to_raw(chosen_records, self.resource, chosen), refused.partition)

    def _placed(self, frame: pl.DataFrame, partition: int) -> pl.DataFrame:
        """Give the records whose key comes into another partition now a version of that one."""
        targets = self._targets(frame)
        if (targets == partition).all():
            return frame
        topic = raw_topic(self.resource.name)
        versions = [
            version
            if target == partition or version is None
            else version_elsewhere(self.context, topic, version, partition, target)
            for version, target in zip(frame[VERSION].to_list(), targets.to_list(), strict=True)
        ]
        return frame.with_columns(pl.Series(VERSION, versions, dtype=pl.Int64))

    def _messages(self, frame: pl.DataFrame, origin: Origin) -> Iterator[Message]:
        """Make raw messages like those of a pull."""
        origin = replace(origin, pull=self.result.pull, at=self.context.clock())
        for message in raw_messages(self.context, self.resource, frame, origin, self.counts):
            self.result.messages += 1
            yield message
        self.result.rows += frame.height


def _first_sealed(log: Log, topic: str, partition: int, raw: int) -> int:
    """Return an offset before which no batch comes from the raw message ``raw`` or a later one."""
    low, high = log.bounds(topic, partition)
    while low < high:
        middle = (low + high) // 2
        page = log.read(topic, partition, middle, max_entries=1)
        sealed = SealedEntry.of(page[0]) if page else None
        if sealed is not None and (sealed.raw is None or sealed.raw[0] < raw):
            low = page[0].offset + 1
        else:
            high = middle
    return low


def place_of(text: str) -> tuple[int, int, int]:
    """Read ``partition-offset-position``; raises Rejected."""
    parts = text.split("-")
    try:
        partition, offset, row = map(int, parts)
    except ValueError as error:
        raise Rejected(
            Text(f"不是隔离编号：{text[:60]}", f"this is no quarantine address: {text[:60]}"),
            hint=Text("请保留导出表格中的隔离编号列", "keep the address column as it was exported"),
        ) from error
    return partition, offset, row
