"""What the evidence log keeps of messages that a person removes from a topic.

One entry for each run of successive messages of one pull: how many, how many records, and the
digest of their content. Whoever has a copy can prove what it was; an audit knows how much is
missing, and of which pull.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

from exchange.evidence.entry import RetentionEntry, bytes_digest, message_hashes
from exchange.log import EVIDENCE, Entry, Log, Message, raw_topic, sealed_topic
from exchange.pipeline.messages import NotesEntry, RawBatch, RefusedEntry, SealedEntry
from exchange.pipeline.withdrawal import Withdrawals, is_withdrawn, withdrawn_of

_PAGE = 16
"""Messages read at once: each may have a megabyte."""
_ENTRIES = 64
"""Entries in one message of the evidence topic."""
_PULL = re.compile("[0-9A-Za-z.-]*[0-9A-Za-z][0-9A-Za-z.-]*")


class Share(NamedTuple):
    """What a message counts for: its pull (empty: of none), its records."""

    pull: str
    rows: int
    notes: bool = False


def share_of(entry: Entry, ranges: Withdrawals = ()) -> Share:
    """Return what a message of a raw, sealed or quarantine topic counts for.

    ``ranges``: what was withdrawn of a sealed partition; it counts for nothing.
    """
    if entry.topic.startswith(raw_topic("")):
        batch = RawBatch.of(entry)
        return Share("", 1) if batch is None else Share(batch.origin.pull, batch.rows)
    if entry.topic.startswith(sealed_topic("")):
        sealed = None if is_withdrawn(ranges, entry.offset) else SealedEntry.of(entry)
        return Share("", 0) if sealed is None else Share(sealed.pull, sealed.rows)
    if (notes := NotesEntry.of(entry)) is not None:
        return Share(notes.origin.pull, 0, notes=True)
    return _share_of_refused(RefusedEntry.of(entry))


def _share_of_refused(refused: RefusedEntry) -> Share:
    if refused.readable:
        return Share(refused.origin.pull, refused.rows)
    original = refused.original
    if original is None or original.rows is None:
        return Share("", refused.rows)
    return Share(refused.origin.pull, original.rows)  # all that its message says it has


def removal_entries(
    log: Log, identity: str, partition: tuple[str, int], bounds: tuple[int, int]
) -> Iterator[RetentionEntry]:
    """Yield the entries of the messages from ``bounds[0]`` up to ``bounds[1]``, without it.

    Together they cover these offsets without a gap. Raises Integrity for a damaged message.
    """
    first, end = bounds
    last: RetentionEntry | None = None
    runs = groupby(_messages(log, partition, bounds), key=lambda pair: pair[1][::2])
    for (pull, _), run in runs:
        hashes, count, rows, start = bytearray(), 0, 0, end
        for entry, share in run:
            start = min(start, entry.offset)
            hashes += message_hashes(entry.offset, entry.key, entry.headers, entry.value)
            count, rows = count + 1, rows + share.rows
        if last is not None:
            yield replace(last, next=start)
        last = RetentionEntry(
            log=identity,
            topic=partition[0],
            lane=partition[1],
            first=first if last is None else start,
            next=end,
            pull=pull if len(pull) <= 64 and _PULL.fullmatch(pull) else "",  # noqa: PLR2004
            count=count,
            rows=rows,
            digest=bytes_digest(bytes(hashes)),
        )
    if last is not None:
        yield last


def _messages(
    log: Log, partition: tuple[str, int], bounds: tuple[int, int]
) -> Iterator[tuple[Entry, Share]]:
    offset, end = bounds
    ranges: Withdrawals = ()
    if partition[0].startswith(sealed_topic("")):
        ranges = withdrawn_of(log, partition[0].removeprefix(sealed_topic("")), partition[1])
    while offset < end and (page := log.read(*partition, offset, max_entries=_PAGE)):
        yield from ((entry, share_of(entry, ranges)) for entry in page if entry.offset < end)
        offset = page[-1].offset + 1


def append_entries(log: Log, entries: Sequence[RetentionEntry]) -> None:
    """Append the entries to the topic of the evidence log."""
    lines = [entry.to_bytes() for entry in entries]
    with log.transaction("evidence/retention") as tx:
        for start in range(0, len(lines), _ENTRIES):
            tx.append(Message(EVIDENCE, b"\n".join(lines[start : start + _ENTRIES])))


def digest_of(entries: Sequence[RetentionEntry]) -> str:
    """Return the digest of entries: of their lines, joined by line breaks."""
    return bytes_digest(b"\n".join(entry.to_bytes() for entry in entries))


def leaf_ends(log: Log, topic: str, partition: int) -> list[int]:
    """Return where the entries about a partition's messages end: offsets, in their order.

    Of an entry that is cut in two, nobody could say whether what stays is as it was.
    """
    pattern = re.compile(
        rb'"lane":%d,"log":"[0-9a-f]{32}","next":(\d+),"topic":"%s","type":"messages"'
        % (partition, re.escape(topic.encode()))
    )
    ends: list[int] = []
    offset, end = log.bounds(EVIDENCE, 0)
    while offset < end and (page := log.read(EVIDENCE, 0, offset, max_entries=_PAGE)):
        ends += [int(found[1]) for entry in page for found in pattern.finditer(entry.value)]
        offset = page[-1].offset + 1
    return sorted(ends)
