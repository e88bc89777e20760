"""Text on a screen of some width: folded at words, tables that become records when it is narrow.

All functions are pure. Widths are columns of a terminal: a Chinese character takes two.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest

_GAP = "  "
_LAST = 24
"""Columns that the last cell of a row needs at least to be folded instead of the whole row."""
_CONTINUED = "  "
_PHRASE = 0.6
"""Part of a line that is filled at least when it is cut at a blank or a mark, not a character."""
_OPENING = "（“《〈【「『"
_CLOSING = "，。；：、！？）”》〉】」』…"
_WIDE = (
    "\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60\uffe0-\uffe6"
)
_PIECE = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}|\s+"
    rf"|[{_OPENING}]*[{_WIDE}“”‘’…][{_CLOSING}“”]*"
    rf"|[^\s{_WIDE}{_OPENING}{_CLOSING}]+[{_CLOSING}]*|."
)
"""What stays whole: a time, blanks, a Chinese character with its marks, a word."""
_NUMBER = re.compile(r"-?[0-9][0-9,.]*(?:/[0-9,]+)?%?|-?")


def width_of(text: str) -> int:
    """Return the columns that a text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def pad(text: str, width: int) -> str:
    """Fill a text up with blanks."""
    return text + " " * (width - width_of(text))


def fold(text: str, width: int) -> list[str]:
    """Cut every line that is wider at a blank, or between two Chinese characters.

    What follows is indented like its line, and two columns more. A word, a number, a path stays
    whole, on a line of its own where it has to.
    """
    return [part for line in text.split("\n") for part in _fold_line(line, width)]


def _fold_line(line: str, width: int) -> Iterator[str]:
    if width_of(line) <= width:
        yield line
        return
    body = line.lstrip(" ")
    indent = line[: len(line) - len(body)]
    pieces = _PIECE.findall(body)
    while pieces:
        count = _fitting(pieces, width - len(indent))
        yield indent + "".join(pieces[:count]).rstrip()
        while count < len(pieces) and pieces[count].isspace():
            count += 1
        del pieces[:count]
        indent = line[: len(line) - len(body)] + _CONTINUED


def _fitting(pieces: Sequence[str], width: int) -> int:
    """Count the pieces of the next line; it ends between phrases where that is not too short."""
    used, count, phrase = 0, 0, 0
    for piece in pieces:
        if count and used + width_of(piece.rstrip()) > width:
            return phrase or count
        used, count = used + width_of(piece), count + 1
        if (piece.isspace() or piece[-1] in _CLOSING) and used > width * _PHRASE:
            phrase = count
    return count


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], width: int) -> list[str]:
    """Lay rows out in columns; where that is too wide, fold the last one, or list records."""
    body = [list(row) for row in rows]
    columns = [
        [head, *(line for row in body for line in row[place].split("\n"))]
        for place, head in enumerate(heads)
    ]
    sizes = [max(map(width_of, column)) for column in columns]
    left = sum(sizes[:-1]) + len(_GAP) * (len(sizes) - 1)
    longest = max(width_of(word) for text in columns[-1] for word in _PIECE.findall(text) or [""])
    if left + sizes[-1] > width:
        if left + max(_LAST, longest) > width:
            return _records(heads, body, width)
        sizes[-1] = width - left
    right = [all(_NUMBER.fullmatch(text) for text in column[1:]) for column in columns]
    lines = [_row(heads, sizes, right), "─" * (sum(sizes) + len(_GAP) * (len(sizes) - 1))]
    for row in body:
        cells = [fold(cell, size) for cell, size in zip(row, sizes, strict=True)]
        lines += [_row(parts, sizes, right) for parts in zip_longest(*cells, fillvalue="")]
    return lines


def _row(cells: Sequence[str], sizes: Sequence[int], right: Sequence[bool]) -> str:
    texts = []
    for cell, size, numeric in zip(cells, sizes, right, strict=True):
        blanks = " " * (size - width_of(cell))
        texts.append(blanks + cell if numeric else cell + blanks)
    return _GAP.join(texts).rstrip()


def _records(heads: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """List rows one below the other: the first cell, then every head with its value."""
    lines: list[str] = []
    for row in rows:
        lines += fold(row[0], width)
        current = ""
        for head, cell in zip(heads[1:], row[1:], strict=True):
            if not cell:
                continue
            first, *others = cell.split("\n")
            pair = f"{head} {first}"
            joined = f"{current}{_GAP} {pair}" if current else _GAP + pair
            if width_of(joined) <= width and not others:
                current = joined
                continue
            lines += [current] if current else []
            *whole, current = fold(_GAP + pair, width)
            lines += whole
            for other in others:  # below its first line
                lines.append(current)
                *whole, current = fold(" " * width_of(f"{_GAP}{head} ") + other, width)
                lines += whole
        lines += [current] if current else []
    return lines
