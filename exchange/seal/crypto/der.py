"""The one user of asn1crypto: strict DER in, plain values out, one error for all that is not.

asn1crypto reads BER and reads lazily. Here the whole nesting is walked first: definite
lengths in their shortest form, low tag numbers, nothing missing and nothing left over
(X.690 §10.1). What was parsed afterwards keeps its received bytes, never encoded again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from asn1crypto import core, parser, pem

from exchange.errors import Integrity
from exchange.foreign import original
from exchange.text import Text

_MAX_DEPTH: Final = 24
_CONSTRUCTED: Final = 0x20
_HIGH_TAG: Final = 0x1F
_LONG: Final = 0x80
_MAX_LENGTH_BYTES: Final = 4

_TIMES: Final = {
    core.UTCTime.tag: re.compile(rb"(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z"),
    core.GeneralizedTime.tag: re.compile(rb"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(?:\.\d{1,6})?Z"),
}


@contextmanager
def reading(what: Text) -> Iterator[None]:
    """Turn everything that the parser raises into Integrity, naming what was read."""
    try:
        yield
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, AttributeError) as error:
        why = original(error)
        raise Integrity(
            Text(f"{what.zh}格式错误：{why.zh}", f"malformed {what.en}: {why.en}"),
            hint=Text(
                "文件可能被截断或改动，请重新获取", "the file was cut or changed; get it again"
            ),
        ) from error


def check_der(data: bytes, limit: int) -> None:
    """Walk one DER value of at most ``limit`` bytes; raises ValueError."""
    if len(data) > limit:
        msg = f"{len(data)} bytes, at most {limit} are allowed"
        raise ValueError(msg)
    if _end_of(data, 0, len(data), 0) != len(data):
        msg = "trailing bytes"
        raise ValueError(msg)


def split(data: bytes) -> list[bytes]:
    """Cut a SEQUENCE that was walked before into the received bytes of its members."""
    start, parts = _body(data, 0, len(data))[0], []
    while start < len(data):
        end = sum(_body(data, start, len(data)))
        parts.append(data[start:end])
        start = end
    return parts


def contents(data: bytes) -> bytes:
    """Return what a value that was walked before holds, without its tag and length."""
    return data[_body(data, 0, len(data))[0] :]


def _body(data: bytes, start: int, end: int) -> tuple[int, int]:
    """Read tag and length at ``start``; returns where the contents begin and their length."""
    if end - start < 2:  # noqa: PLR2004 - tag and length
        msg = f"no value at byte {start}"
        raise ValueError(msg)
    tag, length, body = data[start], data[start + 1], start + 2
    if length >= _LONG:
        count = length - _LONG
        octets = data[body : min(body + count, end)]
        length = int.from_bytes(octets)
        shortest = _LONG if count == 1 else 1 << 8 * (count - 1)
        if not 1 <= count <= _MAX_LENGTH_BYTES or len(octets) < count or length < shortest:
            msg = f"length at byte {start + 1} is not DER"
            raise ValueError(msg)
        body += count
    if tag & _HIGH_TAG == _HIGH_TAG or length > end - body:
        msg = f"value at byte {start} is not DER"
        raise ValueError(msg)
    return body, length


def _end_of(data: bytes, start: int, end: int, depth: int) -> int:
    """Return where the value at ``start`` ends; its inner values are walked too."""
    if depth > _MAX_DEPTH:
        msg = f"nested deeper than {_MAX_DEPTH}"
        raise ValueError(msg)
    body, length = _body(data, start, end)
    if data[start] & _CONSTRUCTED:
        at = body
        while at < body + length:
            at = _end_of(data, at, body + length, depth + 1)
    return body + length


def sequence(*parts: bytes) -> bytes:
    """Put encoded parts into a SEQUENCE."""
    return bytes(parser.emit(0, 1, core.Sequence.tag, b"".join(parts)))


def oid(data: bytes) -> str:
    """Read an OBJECT IDENTIFIER that no signature covers, in its one DER form (X.690 §8.19).

    asn1crypto takes others too, such as one that breaks off within a number. Raises ValueError.
    """
    name = str(core.ObjectIdentifier.load(data, strict=True).dotted)
    if core.ObjectIdentifier(name).dump() != data:
        msg = f"an object identifier {name} in another form than DER"
        raise ValueError(msg)
    return name


def integer(data: bytes) -> int:
    """Read an INTEGER that no signature covers, in its one DER form; raises ValueError."""
    number = int(core.Integer.load(data, strict=True).native)
    if core.Integer(number).dump() != data:
        msg = "an integer in another form than DER"
        raise ValueError(msg)
    return number


def moment(value: core.Asn1Value) -> datetime:
    """Read a UTCTime or GeneralizedTime that ends in Z; raises ValueError.

    Fractions of a second are dropped. Two-digit years as in RFC 5280 §4.1.2.5.1.
    """
    return moment_of(value.tag, bytes(value.contents or b""))


def moment_of(tag: int, contents: bytes) -> datetime:
    """Read the contents of a time with this tag, as :func:`moment` does."""
    pattern = _TIMES.get(tag)
    found = pattern.fullmatch(contents) if pattern else None
    if found is None:
        msg = f"no time in UTC: {contents[:32]!r}"
        raise ValueError(msg)
    year, month, day, hour, minute, second = (int(group) for group in found.groups())
    if tag == core.UTCTime.tag:
        year += 1900 if year >= 50 else 2000  # noqa: PLR2004 - the pivot of the RFC
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC)


def from_pem(data: bytes) -> list[bytes]:
    """Split PEM text into its DER values; DER itself passes through. Raises ValueError."""
    if not pem.detect(data):
        return [data]
    return [der for _, _, der in pem.unarmor(data, multiple=True)]


def to_pem(label: str, der: bytes) -> bytes:
    """Wrap DER as PEM (RFC 7468)."""
    return bytes(pem.armor(label, der))
