"""Make an input of a parser out of others, from a source of chance that is given."""

from __future__ import annotations

import contextlib
import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any, Final

from exchange.seal.crypto.der import contents, sequence, split

Mutator = Callable[[Random, bytes, Sequence[bytes]], bytes]
"""Changes an input; the others are there to borrow from."""

_LENGTHS: Final = (
    b"\0",
    b"\x7f",
    b"\x80",
    b"\x81\x80",
    b"\x82\xff\xff",
    b"\x84\x7f\xff\xff\xff",
    b"\xff",
)
_NUMBERS: Final = (
    b"0",
    b"-1",
    b"00",
    b"1e9",
    b"9007199254740992",
    b"9" * 400,
    b"18446744073709551616",
)
_NESTED: Final = (b"[", b'{"":', b"\x30\x80", b"\x30\x82\xff\xff", b"\xa0\x84\x7f\xff\xff\xff")
_VALUES: Final[tuple[Any, ...]] = (
    *("", 0, -1, 2**53, 2**70, 1.5, True, None, [], {}, "AA==", "AA=", "0" * 64, "\ud800", "\0"),
    *(10**10, "9" * 4000, [[]], {"": {}}),
)
_TIMES: Final = (
    *("2026-13-01T00:00:00.000Z", "2026-11-23T24:00:00.000Z", "2026-06-30T23:59:60.000Z"),
    *("0000-01-01T00:00:00.000Z", "0001-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z"),
)


def mutant(random: Random, seeds: Sequence[bytes]) -> bytes:
    """Change one of the seeds once, or a few times: half of it inside of what it is."""
    data = random.choice(seeds)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        change = inside if random.random() < 1 / 2 else random.choice(BLIND)
        data = change(random, data, seeds)
    return data


# --- whatever the bytes mean ----------------------------------------------------------------------


def flips(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    changed = bytearray(data)
    for _bit in range(random.randint(1, 4) if data else 0):
        changed[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(changed)


def piece(random: Random, data: bytes) -> tuple[int, int]:
    """Choose a piece of up to forty bytes."""
    start = random.randint(0, len(data))
    return start, min(len(data), start + random.randint(0, 40))


def cut_out(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, end = piece(random, data)
    return data[:start] + data[end:]


def cut_off(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return data[: random.randint(0, len(data))]


def put_in(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, end = piece(random, data)
    return data[:start] + random.randbytes(random.randint(0, 8)) + data[end:]


def repeat(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, end = piece(random, data)
    return data[:end] + data[start:end] * random.choice((1, 2, 1000)) + data[end:]


def splice(random: Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    """Join the beginning of one with the end of another, at places that may correspond."""
    other = random.choice(seeds)
    at = random.randint(0, len(data))
    there = at if random.random() < 1 / 2 else random.randint(0, len(other))
    return data[:at] + other[there:]


def length(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at = random.randint(0, len(data))
    return data[:at] + random.choice(_LENGTHS) + data[at + 1 :]


def number(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Put another number where there are digits."""
    places = [at for at, byte in enumerate(data[:4096]) if 0x30 <= byte <= 0x39] or [0]
    at = random.choice(places)
    return data[:at] + random.choice(_NUMBERS) + data[at + 1 :]


def nest(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at = random.randint(0, len(data))
    return data[:at] + random.choice(_NESTED) * random.choice((1, 30, 5000)) + data[at:]


def noise(random: Random, _: bytes, __: Sequence[bytes]) -> bytes:
    return random.randbytes(random.randint(0, 300))


def overwrite(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Put other bytes in the place of as many."""
    start, end = piece(random, data)
    return data[:start] + random.randbytes(end - start) + data[end:]


BLIND: Final[tuple[Mutator, ...]] = (
    *(flips, overwrite, cut_out, cut_off, put_in, repeat, splice),
    *(length, number, nest, noise),
)


# --- inside of DER and JSON -----------------------------------------------------------------------


def inside(random: Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    """Change a value somewhere inside, and leave what is around it well formed."""
    if data[:1] in _CONSTRUCTED:
        return der(random, data)
    try:
        return value(random, json.loads(data))
    except (ValueError, RecursionError):
        return random.choice((flips, overwrite))(random, data, seeds)


_CONSTRUCTED: Final = frozenset(bytes([tag]) for tag in (0x30, 0x31, 0xA0, 0xA1, 0xA3))
_STRINGS: Final = frozenset({b"\x03", b"\x04"})
"""BIT STRING and OCTET STRING: certificates, seals and extensions stand in them."""
_TAGS: Final = bytes([*range(1, 7), 10, 12, 19, 22, 23, 24, 0x30, 0x31, 0xA0, 0x80])


def der(random: Random, data: bytes) -> bytes:
    """Change a DER value, and make the lengths of those around it right again."""
    try:
        tag, parts = data[:1], split(data) if data[:1] in _CONSTRUCTED else []
        body = contents(data)
    except (ValueError, IndexError):
        return flips(random, data, ())
    pad = body[:1] if tag == b"\x03" else b""
    inner = body[len(pad) :]
    if inner[:1] == b"\x30" and tag in _STRINGS and random.random() < 3 / 4:
        return _wrapped(tag, pad + der(random, inner))
    if not parts:
        if random.random() < 1 / 8:
            return _wrapped(bytes([random.choice(_TAGS)]), body)
        return _wrapped(tag, random.choice((flips, put_in, cut_out, overwrite))(random, body, ()))
    at = random.randrange(len(parts))
    match random.randrange(16):
        case 0:
            del parts[at]
        case 1:
            parts.insert(at, random.choice(parts))
        case 2:
            parts[at] = random.choice(parts)
        case _:
            parts[at] = der(random, parts[at])
    return _wrapped(tag, b"".join(parts))


def _wrapped(tag: bytes, body: bytes) -> bytes:
    return tag + sequence(body)[1:]


def value(random: Random, whole: Any) -> bytes:
    """Put another JSON value in any place, or take a member away; spelled canonically."""
    top = [whole]
    place, key = random.choice(list(_places(top)))
    if random.random() < 1 / 8 and place is not top:
        del place[key]
    else:
        place[key] = _other(random, place[key])
    text = json.dumps(top[0], ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return text.encode(errors="surrogatepass")


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Name every place inside of a value, by what it is in and its key there."""
    keys = sorted(value) if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


def _other(random: Random, old: Any) -> Any:
    """Return another value: another time, other Base64, other characters, or anything."""
    if isinstance(old, str) and old[10:11] == "T" and random.random() < 2 / 3:
        return random.choice(_TIMES)
    if isinstance(old, str) and old.isascii() and random.random() < 2 / 3:
        with contextlib.suppress(ValueError):
            held = b64decode(old, validate=True)
            return b64encode(inside(random, held, [held])).decode()
        at = random.randrange(len(old))
        return old[:at] + random.choice("09azAZ-: /+=\n") + old[at + 1 :]
    if isinstance(old, int) and random.random() < 1 / 2:
        return old + random.choice((-1, 1))
    return random.choice(_VALUES)
