"""In which encoding a text is: UTF-8, GB18030 (GBK), UTF-16, or one that is refused by name."""

from __future__ import annotations

import codecs
import io
import re
from collections import Counter
from collections.abc import Callable
from typing import BinaryIO

BOM = b"\xef\xbb\xbf"
ENCODINGS = {
    "utf-8": "utf-8", "gbk": "gb18030", "gb18030": "gb18030",
    "utf-16": "utf-16", "utf-16-le": "utf-16-le", "utf-16-be": "utf-16-be",
}  # fmt: skip
"""What a department may call an encoding, and its name here."""
_HALF = 0.5
_WIDE_SHARE = 0.9
_SAMPLE = 1 << 20
_MIN_PAIRS = 2
_FOREIGN = 0.25
_PAIR = re.compile(rb"[\x81-\xfe][\x40-\x7e\x80-\xfe]")
_COMMON_GBK = re.compile(rb"[\xa1\xa3\xb0-\xf7][\xa1-\xfe]")
_COMMON_BIG5 = re.compile(rb"[\xa1-\xa3][\x40-\x7e\xa1-\xfe]|[\xa4-\xf9][\x40-\x7e\xa1-\xfe]")


def encoding_of(
    data: bytes,
    is_utf8: Callable[[bytes], bool] | None = None,
    count: Callable[[bytes], tuple[int, int]] | None = None,
) -> str:
    """Tell UTF-8 from GB18030 by the bytes; empty for plain ASCII, which may still be either.

    One damaged line does not make a UTF-8 file a GB18030 one: most lines decide. ``count`` counts
    the lines that are UTF-8 beyond ASCII, and all beyond ASCII.
    """
    valid = is_utf8 or _decodes
    if data.startswith(BOM):
        return "utf-8"
    if data.isascii():
        return ""
    cut = data.rfind(b"\n") + 1 or len(data)
    if valid(data[:cut]):
        return "utf-8"
    good, lines = (count or _count)(data[:cut])
    return "utf-8" if good > _HALF * lines else "gb18030"


def _count(data: bytes) -> tuple[int, int]:
    lines = [line for line in data.split(b"\n") if not line.isascii()]
    return sum(map(_decodes, lines)), len(lines)


def wide_encoding(head: bytes) -> str:
    """Return the UTF-16 that a text begins in, by its mark or its zero bytes; else empty."""
    if head.startswith(b"\xff\xfe"):
        return "utf-16-le"
    if head.startswith(b"\xfe\xff"):
        return "utf-16-be"
    sample = head[: min(len(head), 4096) // 2 * 2]
    if not sample or b"\0" not in sample:
        return ""
    # Separators and line ends are ASCII in any table: one of their two bytes is zero.
    signs = {",", "\t", ";", "|", "\n"}
    for name in ("utf-16-le", "utf-16-be"):
        try:
            text = sample.decode(name)
        except UnicodeDecodeError:
            continue
        usual = sum(char.isalnum() or char.isspace() or char in ".,;:|-_/()\"'" for char in text)
        usual += sum("\u3000" <= char <= "\u303f" or "\uff00" <= char <= "\uffef" for char in text)
        if signs & set(text) and usual > _WIDE_SHARE * len(text):
            return name
    return ""


def may_be_big5(data: bytes) -> bool:
    """Whether what decodes as GB18030 rather looks like Big5 (traditional Chinese).

    In GBK text nearly all pairs of bytes are of GB 2312: its hanzi, full-width signs and
    punctuation. Big5 puts its commonest characters elsewhere: on kana, Greek letters, lines.
    """
    pairs = Counter(_PAIR.findall(data[:_SAMPLE]))
    foreign = sum(count for pair, count in pairs.items() if not _COMMON_GBK.match(pair))
    if foreign < _MIN_PAIRS or foreign <= _FOREIGN * pairs.total():
        return False
    return all(_COMMON_BIG5.match(pair) for pair in pairs) and _decodes_as(data[:_SAMPLE], "big5")


def _decodes(data: bytes) -> bool:
    return _decodes_as(data, "utf-8")


def _decodes_as(data: bytes, encoding: str) -> bool:
    cut = data.rfind(b"\n") + 1 or len(data)
    try:
        data[:cut].decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


class Wide(io.BufferedIOBase):
    """A UTF-16 text as UTF-8; a broken pair becomes bytes that are no UTF-8, which is told."""

    def __init__(self, stream: BinaryIO, encoding: str) -> None:
        self._stream = stream
        self._encoding = encoding
        self.seek(0)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to the start, the only place there is to go to."""
        if offset or whence:
            raise io.UnsupportedOperation("only to the start")
        self._stream.seek(0)
        self._decoder = codecs.getincrementaldecoder(self._encoding)("surrogatepass")
        self._ready = b""
        self._ended = False
        self._first = True
        return 0

    def read(self, size: int | None = -1) -> bytes:
        """Return exactly ``size`` bytes, fewer at the end only."""
        wanted = -1 if size is None else size
        pieces, have = [self._ready], len(self._ready)
        while not self._ended and (wanted < 0 or have < wanted):
            data = self._stream.read(1 << 20)
            self._ended = not data
            try:
                text = self._decoder.decode(data, final=not data)
            except UnicodeDecodeError:  # an odd byte at the end
                text = "\udcff"
            piece = text.removeprefix("\ufeff") if not have and self._first else text
            self._first = self._first and not text
            piece_bytes = piece.encode("utf-8", "surrogatepass")
            pieces.append(piece_bytes)
            have += len(piece_bytes)
        out = b"".join(pieces)
        if wanted < 0:
            wanted = len(out)
        self._ready = out[wanted:]
        return out[:wanted]
