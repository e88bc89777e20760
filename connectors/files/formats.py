"""Number formats of spreadsheets: what they make of a number when they show it.

A format that only dresses a number up (thousands, decimals, percent, currency, a unit behind
it) leaves the number: 1,234.50 is 1234.5. A format that makes a code of it (leading zeros,
separators between digits, letters) is carried out: ``000000`` shows 123 as 000123, and that is
what a person reads. What cannot be carried out exactly is a defect, never a guess.

ECMA-376 part 1, §18.8.30 (numFmts) and §18.8.31.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import NamedTuple

GENERAL = "General"
EXACT_DIGITS = 15
"""Significant digits that spreadsheets keep."""
_BUILT_IN = {
    0: GENERAL, 1: "0", 2: "0.00", 3: "#,##0", 4: "#,##0.00", 9: "0%", 10: "0.00%",
    11: "0.00E+00", 12: "# ?/?", 13: "# ??/??", 14: "yyyy-mm-dd", 15: "d-mmm-yy", 16: "d-mmm",
    17: "mmm-yy", 18: "h:mm AM/PM", 19: "h:mm:ss AM/PM", 20: "h:mm", 21: "h:mm:ss",
    22: "yyyy-mm-dd h:mm", 37: "#,##0", 38: "#,##0", 39: "#,##0.00", 40: "#,##0.00",
    41: "#,##0", 42: "#,##0", 43: "#,##0.00", 44: "#,##0.00", 45: "mm:ss", 46: "[h]:mm:ss",
    47: "mm:ss.0", 48: "##0.0E+0", 49: "@",
    # Chinese, Japanese and Korean editions: years, months and days in their own words.
    **dict.fromkeys((27, 28, 29, 30, 31, 36, 50, 51, 52, 53, 54, 57, 58), "yyyy-mm-dd"),
    **dict.fromkeys((32, 33, 34, 35, 55, 56), "h:mm:ss"),
}  # fmt: skip
_TOKEN = re.compile(
    r'"(?P<quoted>[^"]*)"|[\\!](?P<escaped>.)|_(?P<pad>.)|\*(?P<fill>.)|\[(?P<bracket>[^\]]*)\]'
    r"|(?P<general>General|G/通用格式)|(?P<word>AM/PM|A/P|上午/下午)|(?P<weekday>aaaa?)|(?P<power>[Ee][+-])|(?P<plain>.)",
    re.DOTALL | re.IGNORECASE,
)
_CURRENCY = re.compile(r"[\s¥￥$€£₩()+\-−:,]|RMB|CNY|USD|HKD|EUR", re.IGNORECASE)
_UNITS = (
    r"(?:[十百千万亿]*[元角分人户个件家所年月日天岁米亩吨次项名台套辆张份]|RMB|CNY|USD|"
    r"公里|千米|平方米|平方公里|公顷|公斤|千克|立方米)"
)
UNIT_BEHIND = re.compile(rf"(?<=[0-9)])\s*{_UNITS}[\s)]*$")
_UNIT = re.compile(rf"^[\s)]*{_UNITS}?[\s)]*$")
"""What may stand behind a number without making a code of it."""
_ELAPSED = re.compile(r"^(h+|m+|s+)$", re.IGNORECASE)
_CONDITION = re.compile(r"^(<=|>=|<>|<|>|=)(-?[0-9.]+)$")
_EPOCH_1900, _EPOCH_1904 = datetime(1899, 12, 30), datetime(1904, 1, 1)  # noqa: DTZ001 - no zones there
_LAST_SERIAL = 2_958_466
"""The day behind 9999-12-31."""
_YEAR = 366
"""Days of 1900: what lies there under a format of times only is a length of time."""
_LEAP_1900 = 60
"""Excel counts a 29 February 1900, which never was."""


class Odd(NamedTuple):
    """A cell whose text is not to be trusted, and why (empty: it is)."""

    text: str
    defect: str


Value = str | date | datetime | Odd
"""A cell as a person reads it; dates as such, because their column decides how they print."""


@dataclass(slots=True)
class _Section:
    """One of the up to four parts of a format."""

    text: str
    condition: bool = False
    date: bool = False
    clock: bool = False
    elapsed: bool = False
    scaled: bool = False
    plain: bool = False
    parts: list[tuple[str, str]] = field(default_factory=list)
    """("0" | "@" | "lit", text): placeholders of a digit, of the whole number, and literals."""


class Format:
    """A number format, taken apart once; ``show`` turns numbers into what people read."""

    def __init__(self, code: str) -> None:
        self.code = code
        self._sections = [_section(text) for text in _split(code)] or [_section(GENERAL)]
        first = self._sections[0]
        self.is_date = first.date or first.clock or first.elapsed
        self.is_plain = not self.is_date and all(map(_leaves_number, self._sections))

    def show(self, number: float, *, since_1904: bool = False) -> Value:
        """Return what a cell with this number shows."""
        if self.is_date:
            return _moment(number, self._sections[0], since_1904=since_1904)
        if self.is_plain:
            return shown_number(number)
        return self._code(number)

    def _code(self, number: float) -> Value:
        section, bare = self._chosen(number)
        doubt = ""
        shown: str | None = None
        if any(section.condition for section in self._sections):
            doubt = "depends on the value"
        elif not section.text.strip():
            doubt = "hides it" if number else ""
        elif not number and _shows_nothing(section):
            pass
        elif section.scaled:
            doubt = "shows it divided"
        elif not _leaves_number(section):
            shown = _rendered(section, abs(number))
            doubt = "" if shown is not None else "shows another number than the cell holds"
        if doubt:
            return Odd(shown_number_text(number), f"the format {self.code} {doubt}")
        if shown is None:
            return shown_number(number)
        return f"-{shown}" if number < 0 and not bare else shown

    def _chosen(self, number: float) -> tuple[_Section, bool]:
        """Return the section for a number, and whether it writes its own sign."""
        count = len(self._sections)
        if number < 0 and count > 1:
            return self._sections[1], True
        if number == 0 and count > 2:  # noqa: PLR2004 - positive; negative; zero; text
            return self._sections[2], True
        return self._sections[0], False


def built_in(number: int) -> str:
    """Return the format code of a built-in number format."""
    return _BUILT_IN.get(number, GENERAL)


def shown_number(number: float) -> str | Odd:
    """Return a number with the 15 digits that spreadsheets keep; more are a defect."""
    text = shown_number_text(number)
    if abs(number) >= 10**EXACT_DIGITS:
        return Odd(text, f"Excel kept 15 digits of {text}, the rest are lost")
    return text


def shown_number_text(number: float) -> str:
    """Return a number without ``.0`` and without an exponent."""
    if number != number or number in (float("inf"), float("-inf")):  # noqa: PLR0124 - NaN
        return str(number)
    if float(number).is_integer():
        return str(int(number))
    return f"{Decimal(f'{number:.15g}'):f}"


def _split(code: str) -> list[str]:
    """Cut a format at its semicolons, not at those within quotes."""
    parts = [""]
    for match in _TOKEN.finditer(code):
        if match["plain"] == ";":
            parts.append("")
        else:
            parts[-1] += match[0]
    return parts if len(parts) < 4 else parts[:3]  # noqa: PLR2004 - the fourth is for text


def _section(text: str) -> _Section:
    section = _Section(text)
    months = False
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or ""
        piece = match[kind] or ""
        if kind in ("quoted", "escaped"):
            section.parts.append(("lit", piece))
        elif kind == "bracket":
            section.condition |= _CONDITION.match(piece) is not None
            section.elapsed |= _ELAPSED.match(piece) is not None
            if piece.startswith("$"):
                section.parts.append(("lit", piece[1:].partition("-")[0]))
        elif kind == "general":
            section.parts.append(("@", piece))
        elif kind == "word":
            section.clock = True
        elif kind == "weekday":
            section.date = True
        elif kind == "power":
            section.plain = True
        elif kind == "plain":
            section.date |= piece in "yYdDeEgG"
            section.clock |= piece in "hHsS"
            months |= piece in "mM"
            section.parts.append(_part(piece))
    section.date |= months and not section.clock and not section.elapsed
    kinds = "".join(kind[0] for kind, _ in section.parts)
    whole = kinds.partition(".")[0]
    section.scaled = re.search(r"0l*,+(?![0,l]*0)", whole) is not None or ",," in kinds
    section.plain |= "/" in kinds
    return section


def _part(piece: str) -> tuple[str, str]:
    if piece in "0#?":
        return "0", piece
    return (piece, piece) if piece in ".,%/@" else ("lit", piece)


def _leaves_number(section: _Section) -> bool:
    """Whether the section only dresses the number up."""
    if section.plain:
        return True
    if section.scaled or section.condition or not section.text.strip():
        return False
    kinds = [kind for kind, _ in section.parts]
    places = [place for place, kind in enumerate(kinds) if kind in ("0", "@")]
    if not places:
        return False
    first, last = places[0], places[-1]
    before = "".join(text for kind, text in section.parts[:first] if kind == "lit")
    after = "".join(text for kind, text in section.parts[last + 1 :] if kind == "lit")
    if "lit" in kinds[first:last] or _CURRENCY.sub("", before):
        return False
    if after.strip() and not _UNIT.match(after):
        return False
    whole = "".join(text for kind, text in section.parts[: _point(kinds)] if kind == "0")
    return whole.count("0") <= 1


def _shows_nothing(section: _Section) -> bool:
    """Whether the section of a zero shows no digit but a dash, as accounts do, or the word."""
    if any(kind in ("0", "@") and text != "?" for kind, text in section.parts):
        return False
    text = "".join(text for kind, text in section.parts if kind == "lit")
    return _CURRENCY.sub("", text) in ("", "–", "—", "零", "/")


def _point(kinds: list[str]) -> int:
    return kinds.index(".") if "." in kinds else len(kinds)


def _rendered(section: _Section, number: float) -> str | None:
    """Carry the section out; None when what it shows is another number."""
    kinds = [kind for kind, _ in section.parts]
    if number >= 10**EXACT_DIGITS:
        return None
    if "@" in kinds and "0" not in kinds:
        number_text = shown_number_text(number)
        return "".join(number_text if kind == "@" else text for kind, text in section.parts)
    if "%" in kinds or "@" in kinds or ("," in kinds and "lit" in kinds):
        return None
    point = _point(kinds)
    zeros = sum(part == ("0", "0") for part in section.parts[:point])
    if "," in kinds and len(str(int(number))) < zeros:
        return None  # leading zeros with commas between
    whole = fraction = ""
    if "0" in kinds:
        exact = Decimal(f"{number:.15g}")
        rounded = exact.quantize(Decimal(1).scaleb(-kinds[point:].count("0")), ROUND_HALF_UP)
        if rounded != exact:
            return None
        whole, _, fraction = f"{rounded:f}".partition(".")
    shown = _before_point(section.parts[:point], "" if whole == "0" else whole)
    for kind, text in section.parts[point:]:
        if kind == "0":
            shown += fraction[:1]
            fraction = fraction[1:]
        elif kind in ("lit", "."):
            shown += text
    return shown


def _before_point(parts: list[tuple[str, str]], digits: str) -> str:
    """Fill the digits in from the right; those without a place stand before the first one."""
    shown = ""
    left = sum(kind == "0" for kind, _ in parts)
    for kind, text in reversed(parts):
        if kind == "lit":
            shown = text + shown
        elif kind == "0":
            left -= 1
            digit = digits[-1:] or ("0" if text == "0" else "")
            digits = digits[:-1]
            shown = digit + shown if left else digits + digit + shown
    return shown


def _moment(number: float, section: _Section, *, since_1904: bool) -> Value:
    """Turn a serial number into a date, a time of day, both, or a length of time."""
    if section.elapsed:
        return _length(number)
    if 0 <= number < 1 and not section.date:
        return _clock(number)
    if 1 <= number < _YEAR and not section.date:
        return Odd(shown_number_text(number), "more than a day, under a format for times of day")
    first, last = (0, _LAST_SERIAL - 1462) if since_1904 else (1, _LAST_SERIAL)
    if not first <= number < last:
        return Odd(shown_number_text(number), "a number that is no date, under a date format")
    day = int(number)
    if day == _LEAP_1900 and not since_1904:
        return Odd("1900-02-29", "a day that never was")
    epoch = _EPOCH_1904 if since_1904 else _EPOCH_1900
    if day < _LEAP_1900 and not since_1904:
        epoch += timedelta(days=1)
    moment = epoch + timedelta(days=day, milliseconds=round((number - day) * 86_400_000))
    return moment.date() if number == day else moment


def _clock(number: float) -> str:
    seconds, milliseconds = divmod(min(round(number * 86_400_000), 86_399_999), 1000)
    text = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{text}.{milliseconds:03}" if milliseconds else text


def _length(number: float) -> str:
    total = round(abs(number) * 86_400_000)
    seconds, milliseconds = divmod(total, 1000)
    hours, rest = divmod(seconds, 3600)
    text = f"{hours}:{rest // 60:02}:{rest % 60:02}"
    text += f".{milliseconds:03}".rstrip("0") if milliseconds else ""
    return f"-{text}" if number < 0 else text
