"""What a row is known by: the digest of its key, and the digest of what the catalog names of it.

Both are the first 128 bits of SHA-256 over a text that no version of any library changes, so
that an upgrade delivers nothing again. They are held as two halves, columns of 64-bit numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from exchange.seal.crypto.hash_kernel import chosen
from exchange.seal.crypto.suites import ECDSA_P256_SHA256
from exchange.validate.source_frame import DEFECT, as_text

Halves = npt.NDArray[np.uint64]
"""Numbers of 64 bits, one for each row."""


@dataclass(frozen=True, slots=True)
class KeyedRows:
    """Rows of a source as digests: of the key, of the content; and the key as text."""

    high: Halves
    low: Halves
    content_high: Halves
    content_low: Halves
    texts: pl.DataFrame
    """A column of text for each key field; null throughout where a part of the key is blank."""

    def __len__(self) -> int:
        """Count the rows."""
        return int(self.high.size)

    def take(self, places: npt.NDArray[np.intp]) -> KeyedRows:
        """Return the rows at these places, in this order."""
        return KeyedRows(
            self.high[places],
            self.low[places],
            self.content_high[places],
            self.content_low[places],
            self.texts[places],
        )

    def sort(self) -> KeyedRows:
        """Return the rows in the order of their keys' digests."""
        return self.take(np.lexsort((self.low, self.high)))


def concat(parts: Sequence[KeyedRows]) -> KeyedRows:
    """Put rows behind each other; there is at least one part."""
    return KeyedRows(
        np.concatenate([part.high for part in parts]),
        np.concatenate([part.low for part in parts]),
        np.concatenate([part.content_high for part in parts]),
        np.concatenate([part.content_low for part in parts]),
        pl.concat([part.texts for part in parts]),
    )


def of_frame(frame: pl.DataFrame, key: Sequence[str], columns: Sequence[str | None]) -> KeyedRows:
    """Return the digests of a frame's rows.

    ``key`` names the columns of the key; ``columns`` those of all fields, None where the source
    has none. A row without a whole key is known by its content.
    """
    texts = frame.select(
        _canonical(frame[name]).str.strip_chars().alias(f"k{place}")
        for place, name in enumerate(key)
    )
    whole = ~texts.select(pl.any_horizontal(pl.all().fill_null("") == "")).to_series()
    if not whole.all():
        texts = texts.select(
            pl.when(whole).then(pl.col(name)).alias(name) for name in texts.columns
        )
    contents = [None if name is None else _canonical(frame[name]) for name in columns]
    contents.append(as_text(frame[DEFECT]) if DEFECT in frame.columns else None)
    content = _joined(contents, frame.height)
    keys = _joined([texts[name] for name in texts.columns], frame.height)
    if not whole.all():
        keys = pl.select(pl.when(whole).then(keys).otherwise(pl.lit("row ") + content)).to_series()
    return KeyedRows(*_halves(keys), *_halves(content), texts)


def _joined(columns: Sequence[pl.Series | None], height: int) -> pl.Series:
    """Write columns as one text that no other values have: each value behind its length."""
    texts = pl.DataFrame(
        {f"c{place}": column for place, column in enumerate(columns) if column is not None}
    )
    parts = [
        pl.lit("-")
        if column is None
        else pl.concat_str(
            pl.col(f"c{place}").str.len_bytes().cast(pl.String), pl.lit(":"), f"c{place}"
        ).fill_null("-")
        for place, column in enumerate(columns)
    ]
    joined = texts.select(pl.concat_str(parts)).to_series()
    return joined if joined.len() == height else joined.new_from_index(0, height)


def _canonical(column: pl.Series) -> pl.Series:
    """Write values as text in a form of our own where a library could change its own."""
    dtype = column.dtype
    if dtype == pl.Date:
        return _marked("d", column.to_physical())
    if isinstance(dtype, pl.Datetime):
        return _marked(
            "z" if dtype.time_zone else "t", column.dt.cast_time_unit("us").to_physical()
        )
    if dtype == pl.Binary:
        return column.bin.encode("hex")
    if dtype == pl.Boolean:
        return column.cast(pl.String)
    return as_text(column)


def _marked(mark: str, numbers: pl.Series) -> pl.Series:
    return pl.select(pl.lit(mark) + numbers.cast(pl.String)).to_series()


def _halves(texts: pl.Series) -> tuple[Halves, Halves]:
    offsets = np.zeros(texts.len() + 1, dtype=np.int64)
    np.cumsum(texts.str.len_bytes().to_numpy(), out=offsets[1:])
    data = texts.str.join("").item().encode() if texts.len() else b""
    digests = chosen().hashing.leaves(ECDSA_P256_SHA256, b"\x00", data, offsets, b"")
    words = np.frombuffer(digests, dtype=">u8").reshape(-1, 4)
    return words[:, 0].astype(np.uint64), words[:, 1].astype(np.uint64)
