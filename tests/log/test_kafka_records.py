"""Bytes of a fetch become entries, whoever wrote them, or an error that stops us."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from kafka.errors import CorruptRecordError
from kafka.record.default_records import DefaultRecordBatchBuilder
from kafka.record.util import calc_crc32c

from exchange.log.kafka.records import decode

PARTITION = ("exchange.raw.a", 3)
Row = tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]
COMMIT, ABORT = b"\0\0\0\1", b"\0\0\0\0"


def batch(
    base: int, rows: Sequence[Row], *, producer: int = -1, control: bool = False, codec: int = 0
) -> bytes:
    builder = DefaultRecordBatchBuilder(2, codec, producer >= 0, producer, 0, 0, 1 << 20)
    for number, (key, value, headers) in enumerate(rows):
        builder.append(number, 1000 + number, key, value, headers)
    data = bytearray(builder.build())
    struct.pack_into(">q", data, 0, base)
    if control:
        data[22] |= 0x20
    return sealed(data)


def sealed(data: bytearray) -> bytes:
    """Give a batch the checksum of what it contains."""
    struct.pack_into(">I", data, 17, calc_crc32c(memoryview(data)[21:]))
    return bytes(data)


def plain(*contents: bytes) -> list[Row]:
    return [(None, content, []) for content in contents]


def test_entries_from_an_offset_on() -> None:
    result = decode(PARTITION, 11, batch(10, plain(b"a", b"b", b"c")), [])
    assert [(e.topic, e.partition, e.offset, e.value, e.time) for e in result.entries] == [
        (*PARTITION, 11, b"b", 1001),
        (*PARTITION, 12, b"c", 1002),
    ]
    assert result.next == 13


def test_compressed_batches() -> None:
    result = decode(PARTITION, 0, batch(0, plain(b"a" * 999, b"b"), codec=1), [])
    assert [entry.value for entry in result.entries] == [b"a" * 999, b"b"]


def test_markers_and_aborted_transactions_are_passed_over() -> None:
    data = b"".join(
        [
            batch(0, plain(b"of 1, aborted"), producer=1),
            batch(1, plain(b"of 2"), producer=2),
            batch(2, [(ABORT, b"\0" * 6, [])], producer=1, control=True),
            batch(3, plain(b"of 1, later"), producer=1),
            batch(4, [(COMMIT, b"\0" * 6, [])], producer=2, control=True),
            batch(5, [(COMMIT, b"\0" * 6, [])], producer=1, control=True),
        ]
    )
    result = decode(PARTITION, 0, data, [(0, 1)])
    assert [entry.value for entry in result.entries] == [b"of 2", b"of 1, later"]
    assert result.next == 6


def test_a_batch_cut_off_at_the_end_waits_for_the_next_fetch() -> None:
    data = batch(0, plain(b"a")) + batch(1, plain(b"b"))[:-1]
    result = decode(PARTITION, 0, data, [])
    assert [entry.value for entry in result.entries] == [b"a"]
    assert result.next == 1
    assert decode(PARTITION, 5, b"", []) == ([], 5)


def test_whatever_others_write_comes_through() -> None:
    rows: list[Row] = [
        (None, None, []),
        (b"\xff", b"\xff", [("name", b"\xfe"), ("none", None), ("name", b"twice")]),
    ]
    data = bytearray(batch(0, rows))
    at = data.index(b"name")
    data[at : at + 4] = b"\xc3\x28\xff\xff"  # the name of a header is anybody's too
    first, second = decode(PARTITION, 0, sealed(data), []).entries
    assert (first.key, first.value, dict(first.headers)) == ("", b"", {})
    assert (second.key, second.value) == ("\ufffd", b"\xff")
    assert dict(second.headers) == {"\ufffd(\ufffd\ufffd": "\ufffd", "none": "", "name": "twice"}


def test_every_flipped_bit_is_seen() -> None:
    """The length and the offset lie outside the checksum: they are told by what follows."""
    good = batch(7, [(b"k", b"value", [("h", b"v")])])
    for place in range(17, len(good)):  # from the checksum on
        for bit in range(8):
            data = bytearray(good)
            data[place] ^= 1 << bit
            with pytest.raises(CorruptRecordError):
                decode(PARTITION, 7, bytes(data), [])


def test_a_record_that_lies_about_its_length_is_refused() -> None:
    for place, value in ((61, 0x7E), (65, 0x40), (66, 0x40)):
        data = bytearray(batch(0, plain(b"abc")))
        data[place] = value
        with pytest.raises(CorruptRecordError):
            decode(PARTITION, 0, sealed(data), [])


def test_old_formats_are_refused() -> None:
    data = bytearray(batch(0, plain(b"abc")))
    data[16] = 1
    with pytest.raises(CorruptRecordError):
        decode(PARTITION, 0, bytes(data), [])
