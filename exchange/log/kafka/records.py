"""From the bytes of a fetch to entries: checksums, aborted transactions, foreign messages.

kafka-python's own reader refuses a whole batch when a header's name is not UTF-8, and anybody
may write one into a topic; here whatever has a right checksum comes through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from kafka.errors import CorruptRecordError
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.memory_records import MemoryRecords
from kafka.record.util import decode_varint

from exchange.log import Entry, Partition

if TYPE_CHECKING:
    from collections.abc import Iterator

_ABORT = b"\x00\x00\x00\x00"
"""Key of the control record of an aborted transaction: version 0, type 0 (commit is type 1)."""


class Slice(NamedTuple):
    """What a fetch brought: committed entries, and where to read on (past gaps and markers)."""

    entries: list[Entry]
    next: int


def decode(partition: Partition, offset: int, data: bytes, aborted: list[tuple[int, int]]) -> Slice:
    """Read the committed entries from ``offset`` on; raises CorruptRecordError.

    ``aborted``: (first offset, producer) of the aborted transactions in reach.
    """
    entries: list[Entry] = []
    waiting = sorted(aborted, reverse=True)
    void: set[int] = set()
    for batch in MemoryRecords(data):
        if not isinstance(batch, DefaultRecordBatch) or not batch.validate_crc():
            message = f"wrong checksum at {partition[0]}/{partition[1]}/{batch.base_offset}"
            raise CorruptRecordError(message)
        while waiting and waiting[-1][0] <= batch.last_offset:
            void.add(waiting.pop()[1])
        if batch.is_control_batch:
            if any(key == _ABORT for _, _, key, _, _ in _records(batch)):
                void.discard(batch.producer_id)
        elif not (batch.is_transactional and batch.producer_id in void):
            entries += [
                Entry(
                    partition[0],
                    partition[1],
                    found,
                    (key or b"").decode(errors="replace"),
                    value or b"",
                    headers,
                    time,
                )
                for found, time, key, value, headers in _records(batch)
                if found >= offset
            ]
        offset = max(offset, batch.next_offset)
    return Slice(entries, offset)


FetchedRecord = tuple[int, int, bytes | None, bytes | None, dict[str, str]]
"""Offset, time in milliseconds, key, value, headers."""


def _records(batch: Any) -> Iterator[FetchedRecord]:
    """Walk through a batch (message format 2)."""
    iter(batch)  # uncompresses
    data, at = batch._buffer, batch._pos  # noqa: SLF001 - the library has no reader that tolerates
    view = memoryview(data)
    appended = bool(batch.timestamp_type)
    try:
        for _ in range(batch.records_count):
            length, at = decode_varint(data, at)
            end = at + length
            delta, at = decode_varint(data, at + 1)  # one byte of attributes, unused
            time = batch.max_timestamp if appended else batch.first_timestamp + delta
            number, at = decode_varint(data, at)
            key, at = _bytes(data, view, at)
            value, at = _bytes(data, view, at)
            count, at = decode_varint(data, at)
            headers: dict[str, str] = {}
            for _ in range(count):
                name, at = _bytes(data, view, at)
                content, at = _bytes(data, view, at)
                headers[_text(name)] = _text(content)
            if at != end:
                raise CorruptRecordError("record length")  # noqa: TRY301 - one way out below
            yield batch.base_offset + number, time, key, value, headers
    except (IndexError, CorruptRecordError) as error:
        message = f"unreadable record in the batch at {batch.base_offset}"
        raise CorruptRecordError(message) from error


def _bytes(data: bytearray, view: memoryview, at: int) -> tuple[bytes | None, int]:
    length, at = decode_varint(data, at)
    if length < 0:
        return None, at
    if at + length > len(data):
        raise CorruptRecordError("field length")
    return bytes(view[at : at + length]), at + length


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")
