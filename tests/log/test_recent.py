"""Frames written a moment ago come back without decoding, and only for the very same bytes."""

from __future__ import annotations

import polars as pl

from exchange.log.frames import Recent, decode_frame, encode_frame


def frame(number: int) -> pl.DataFrame:
    return pl.DataFrame({"number": [number], "text": ["大兴安岭" * 100]})


def test_a_frame_is_handed_out_once_for_its_bytes() -> None:
    recent, value = Recent(), encode_frame(frame(1))
    recent.keep(value, frame(1))
    assert recent.take(encode_frame(frame(2))) is None
    result = recent.take(bytes(value))
    assert result is not None
    assert result.equals(decode_frame(value))
    assert recent.take(value) is None


def test_the_oldest_are_forgotten_when_there_is_no_room() -> None:
    values = [encode_frame(frame(number)) for number in range(5)]
    recent = Recent(max_bytes=sum(map(len, values[-2:])))
    for number, value in enumerate(values):
        recent.keep(value, frame(number))
        recent.keep(value, frame(number))
    items = [recent.take(value) is not None for value in values]
    assert items == [False, False, False, True, True]
    for number, value in enumerate(values[:2]):
        recent.keep(value, frame(number))
    assert recent.take(values[0]) is not None
    assert recent.take(values[1]) is not None


def test_a_frame_larger_than_all_room_is_not_kept() -> None:
    value = encode_frame(frame(1))
    recent = Recent(max_bytes=len(value) - 1)
    recent.keep(value, frame(1))
    assert recent.take(value) is None
