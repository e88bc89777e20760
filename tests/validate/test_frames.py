"""The codec of exchange/log/frames.py, which carries what this room reads and refuses."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing.parametric import dataframes

from exchange.errors import Integrity, Rejected
from exchange.log.frames import decode_frame, encode_frame, encode_slices

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_NO_SIZE: dict[int, int] = {zstd.CompressionParameter.content_size_flag: 0}
SAMPLE = pl.DataFrame(
    {
        "name": ["张三", None, ""],
        "fine": pl.Series([Decimal("1.20"), None, Decimal("-0.05")], dtype=pl.Decimal(14, 2)),
        "decided": [date(2026, 1, 2), None, date(1, 1, 1)],
        "at": [datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC), None, None],
        "nothing": [None, None, None],
        "_reasons": [[{"rule": "type", "zh": "不是数字"}], [], None],
    }
)


@given(
    dataframes(
        max_cols=6,
        allowed_dtypes=[
            pl.String,
            pl.Int8,
            pl.UInt64,
            pl.Float64,
            pl.Boolean,
            pl.Date,
            pl.Datetime,
            pl.Decimal,
            pl.Binary,
            pl.Time,
            pl.Null,
        ],
    )
)
def test_frames_come_back_type_for_type(frame: pl.DataFrame) -> None:
    back = decode_frame(encode_frame(frame))
    assert back.schema == frame.schema
    assert back.equals(frame)


def test_sample_comes_back() -> None:
    assert decode_frame(encode_frame(SAMPLE)).equals(SAMPLE)
    assert encode_frame(SAMPLE) == encode_frame(SAMPLE)


def test_a_flipped_bit_is_found_or_changes_nothing() -> None:
    data = encode_frame(SAMPLE)
    for bit in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            back = decode_frame(bytes(damaged))
        except Integrity:
            continue
        assert back.equals(SAMPLE)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"junk",
        encode_frame(SAMPLE)[:-1],
        encode_frame(SAMPLE) + b"x",
        zstd.compress(b"not arrow"),
        zstd.ZstdCompressor(options=_NO_SIZE).compress(
            b"not arrow", zstd.ZstdCompressor.FLUSH_FRAME
        ),
    ],
)
def test_what_is_no_frame_is_an_integrity_error(data: bytes) -> None:
    with pytest.raises(Integrity):
        decode_frame(data)


def test_a_bomb_is_refused_before_it_unfolds() -> None:
    bomb = encode_frame(pl.DataFrame({"text": ["0" * 10_000] * 1000}))
    assert len(bomb) < 10_000
    with pytest.raises(Integrity, match="unfolds"):
        decode_frame(bomb, max_decoded=1_000_000)


def test_objects_are_refused() -> None:
    with pytest.raises(Rejected, match="thing"):
        encode_frame(pl.DataFrame({"thing": pl.Series([object()], dtype=pl.Object)}))


@given(st.lists(st.binary(max_size=300), max_size=40), st.integers(1, 10), st.integers(1, 1500))
def test_slices_cover_the_frame_in_order(cells: list[bytes], max_rows: int, max_bytes: int) -> None:
    frame = pl.DataFrame({"cell": pl.Series(cells, dtype=pl.Binary)})
    place = 0
    for start, rows, data in encode_slices(frame, max_rows=max_rows, max_bytes=max_bytes):
        assert start == place
        assert rows <= max_rows
        assert rows == 1 or len(data) <= max_bytes
        assert decode_frame(data).equals(frame.slice(start, rows))
        place += rows
    assert place == frame.height
