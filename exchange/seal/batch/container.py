"""The sealed batch as a file: one Avro object container file with one block.

Reading takes it apart; writing the parts again must give the same bytes, which a verifier
checks, so that no byte of a sealed file is without meaning. ``docs/sealed-batch.md`` has the
layout byte by byte.

Source: Apache Avro 1.12 specification, "Object Container Files".
"""

from __future__ import annotations

import sys
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from exchange.seal.batch.reading import add_up
from exchange.seal.crypto.der import from_pem, to_pem

if TYPE_CHECKING:
    from exchange.seal.batch.avro import Ints

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAGIC = b"Obj\x01"
CODEC = b"zstandard"
SYNC_SIZE = 16
SEED_SIZE = 16

MAX_FILE = 8 * 1024 * 1024
MAX_RECORDS = 64 * 1024 * 1024
MAX_COUNT = 65_536
"""Bytes of a file, of its records decompressed, and their number: more is not read."""

MAX_LENGTH = 0x10FFFF - 0x800
"""Bytes of one record, because of the form of the lengths."""

_LEVEL = 1
_WINDOW_LOG = 26  # 64 MiB, the decompressor's memory
_SURROGATE, _SURROGATES = 0xD800, 0x800
_POINT = 4  # bytes of a code point in UTF-32


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """The parts of the file, as they stand in it."""

    schema: bytes
    statement: bytes
    seal: bytes
    chain: tuple[bytes, ...]
    salt: bytes
    lengths: bytes
    sync: bytes
    rows: int
    payload: bytes
    """The records of the one block, compressed."""

    @property
    def _metadata(self) -> dict[str, bytes]:
        """The metadata map in its fixed order; all values are text, as fastavro expects."""
        return {
            "avro.schema": self.schema,
            "avro.codec": CODEC,
            "exchange.statement": self.statement,
            "exchange.seal": b64encode(self.seal),
            "exchange.chain": b"".join(to_pem("CERTIFICATE", each) for each in self.chain),
            "exchange.salt": self.salt.hex().encode(),
            "exchange.lengths": self.lengths,
        }

    def to_bytes(self) -> bytes:
        """Write the file."""
        metadata = self._metadata
        return b"".join(
            [
                MAGIC,
                _long(len(metadata)),
                *(
                    part
                    for key, value in metadata.items()
                    for part in (_long(len(key)), key.encode(), _long(len(value)), value)
                ),
                _long(0),
                self.sync,
                _long(self.rows),
                _long(len(self.payload)),
                self.payload,
                self.sync,
            ]
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Take a file apart; raises ValueError when it cannot be. See :meth:`to_bytes`."""
        if len(data) > MAX_FILE:
            raise ValueError(f"{len(data)} bytes, more than {MAX_FILE}")
        reader = _FieldReader(data)
        if reader.take(len(MAGIC)) != MAGIC:
            raise ValueError("not an Avro object container file")
        metadata: dict[bytes, bytes] = {}
        for _ in range(reader.long()):
            key = reader.take(reader.long())
            metadata[key] = reader.take(reader.long())
        if reader.long() != 0:
            raise ValueError("the metadata is in several blocks")
        sync = reader.take(SYNC_SIZE)
        rows = reader.long()
        payload = reader.take(reader.long())
        if reader.take(SYNC_SIZE) != sync:
            raise ValueError("the block does not end with the synchronisation marker")
        if reader.at != len(data):
            raise ValueError(f"{len(data) - reader.at} bytes after the first block")

        def part(name: str) -> bytes:
            value = metadata.get(name.encode())
            if value is None:
                raise ValueError(f"no metadata {name}")
            return value

        salt = bytes.fromhex(part("exchange.salt").decode())
        if len(salt) != SEED_SIZE:
            raise ValueError(f"the seed of the salts has not {SEED_SIZE} bytes")
        chain = part("exchange.chain")
        return cls(
            schema=part("avro.schema"),
            statement=part("exchange.statement"),
            seal=b64decode(part("exchange.seal")),
            chain=tuple(from_pem(chain)) if chain else (),
            salt=salt,
            lengths=part("exchange.lengths"),
            sync=sync,
            rows=rows,
            payload=payload,
        )


def _long(value: int) -> bytes:
    """Write a natural number as an Avro long."""
    value <<= 1
    groups = bytearray()
    while value > 0x7F:  # noqa: PLR2004
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


class _FieldReader:
    """Reads one thing after the other; raises ValueError at the end of the data."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        if size > len(self.data) - self.at:
            raise ValueError(f"cut off: {size} bytes are missing at byte {self.at}")
        self.at += size
        return self.data[self.at - size : self.at]

    def long(self) -> int:
        value = shift = 0
        while shift < 63:  # noqa: PLR2004 - nine groups hold every number that fits here
            (byte,) = self.take(1)
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte <= 0x7F:  # noqa: PLR2004
                if value & 1:
                    break
                return value >> 1
        raise ValueError(f"no natural number before byte {self.at}")


def compress(records: bytes | memoryview) -> bytes:
    """Compress the block: one Zstandard frame (RFC 8878) that states its content size."""
    return zstd.compress(records, _LEVEL)


def decompress(payload: bytes) -> bytes:
    """Decompress the block; raises ValueError unless it is one whole frame within the limits."""
    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _WINDOW_LOG}
    decompressor = zstd.ZstdDecompressor(options=options)
    try:
        records = decompressor.decompress(payload, max_length=MAX_RECORDS + 1)
    except zstd.ZstdError as error:
        raise ValueError(str(error)) from error
    if len(records) > MAX_RECORDS:
        raise ValueError(f"more than {MAX_RECORDS} bytes")
    if not decompressor.eof or decompressor.unused_data:
        raise ValueError("not one whole frame")
    return records


def pack_lengths(offsets: Ints) -> bytes:
    """Write the lengths of the records as a text: one character each, by its code point.

    The code points that are no characters (surrogates) are left out. Raises ValueError for a
    record of more than ``MAX_LENGTH`` bytes.
    """
    import numpy as np

    lengths = np.diff(offsets)
    points = lengths + (lengths >= _SURROGATE) * _SURROGATES
    text: str = points.astype("<u4").tobytes().decode("utf-32-le")
    return text.encode()


def unpack_lengths(packed: bytes, *, rows: int, size: int) -> Ints:
    """Return the offsets of ``rows`` records of ``size`` bytes in all.

    Raises ValueError unless ``packed`` is what :func:`pack_lengths` writes for them.
    """
    points = packed.decode().encode("utf-32-le")
    if len(points) != _POINT * rows or rows > MAX_COUNT:
        raise ValueError(f"{len(points) // _POINT} lengths of {rows} records, at most {MAX_COUNT}")
    offsets = add_up(points)
    if offsets[-1] != size:
        raise ValueError(f"{offsets[-1]} bytes in all, the records have {size}")
    return offsets
