"""Batches made at once are those that kafka-python makes record by record."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from kafka.partitioner.default import murmur2 as one_by_one
from kafka.record.memory_records import MemoryRecordsBuilder

from exchange.log.kafka.bulk import chunks, murmur2, partitions_of

KEYS = st.binary(max_size=40) | st.integers(0, 5000).map(lambda size: b"\xfe" * size)
RECORDS = st.lists(st.tuples(KEYS, st.none() | KEYS), min_size=1, max_size=40)


@given(st.lists(KEYS, min_size=1, max_size=30))
def test_the_hash_is_java_s(keys: list[bytes]) -> None:
    assert murmur2(keys).tolist() == [one_by_one(key) & 0xFFFFFFFF for key in keys]


def test_the_hash_of_known_keys() -> None:
    # org.apache.kafka.common.utils.UtilsTest.testMurmur2
    values = {
        b"21": -973932308,
        b"foobar": -790332482,
        b"a-little-bit-long-string": -985981536,
        b"a-little-bit-longer-string": -1486304829,
        b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
        b"abc": 479470107,
    }
    assert murmur2(list(values)).astype("int32").tolist() == list(values.values())
    assert partitions_of([b"21", b"abc"], 7) == [(-973932308 & 0x7FFFFFFF) % 7, 479470107 % 7]
    assert murmur2([]).tolist() == []


@given(RECORDS, st.integers(1, 6000))
def test_the_bytes_are_the_library_s(records: list[tuple[bytes, bytes | None]], size: int) -> None:
    rest = list(records)
    for chunk in chunks(records, size):
        library = MemoryRecordsBuilder(2, 0, 10**9)
        for key, value in rest[: chunk.rows]:
            library.append(1, key, value)
        library.close()
        assert chunk.data == bytes(library.buffer()[61:])  # behind the batch's head
        assert len(chunk.data) <= size or chunk.rows == 1
        rest = rest[chunk.rows :]
    assert rest == []


def test_long_values_have_long_lengths() -> None:
    (chunk,) = chunks([(b"k" * 20_000, b"v" * 1_100_000)], 900_000)
    library = MemoryRecordsBuilder(2, 0, 10**9)
    library.append(1, b"k" * 20_000, b"v" * 1_100_000)
    library.close()
    assert chunk.data == bytes(library.buffer()[61:])
