"""Text that people read, in both languages, written where its value is defined."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import Final, Literal, NamedTuple

Language = Literal["zh", "en"]

_BOTH: Final = "\x1f"
"""Unit separator: stands between the two languages where both are one string."""
_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)")
BEIJING: Final = timezone(timedelta(hours=8))
"""China standard time (北京时间): it decides what day it is, and people read times in it."""
_LISTED = 16


class Text(NamedTuple):
    """One sentence in Chinese and in English."""

    zh: str
    en: str

    def pick(self, lang: str) -> str:
        """Return the Chinese sentence for ``zh``, the English one otherwise."""
        return self.zh if lang == "zh" else self.en

    def joined(self) -> str:
        """Return both in one string, for where a sentence is kept as a plain value."""
        return f"{self.zh}{_BOTH}{self.en}"

    @classmethod
    def split(cls, text: str) -> Text:
        """Take a string apart; one that is not joined stands in both languages."""
        zh, joined, en = text.partition(_BOTH)
        return cls(zh, en if joined else zh)


def beijing(moment: datetime) -> str:
    """Write a moment as people read it: Beijing time, to the second.

    Raises OverflowError at the ends of the calendar.
    """
    return f"{moment.astimezone(BEIJING):%Y-%m-%d %H:%M:%S}"


def day(moment: datetime) -> str:
    """Write the day of a moment as people read it: Beijing time."""
    return f"{moment.astimezone(BEIJING):%Y-%m-%d}"


def with_beijing(text: str) -> str:
    """Write every instant in a text (ISO 8601 with its zone) as people read it."""

    def write(match: re.Match[str]) -> str:
        try:
            return beijing(datetime.fromisoformat(match[0]))
        except (ValueError, OverflowError):  # the 31st of February, the year 0
            return match[0]

    return _INSTANT.sub(write, text)


def suggest(word: str, choices: Iterable[str]) -> Text:
    """Say which of ``choices`` was probably meant, or list some of them."""
    import difflib

    names = sorted(set(choices))
    by_lower = {name.lower(): name for name in names}
    near = difflib.get_close_matches(word[:64].lower(), by_lower, n=1, cutoff=0.6)
    if near:
        name = by_lower[near[0]]
        return Text(f"是不是“{name}”？", f"did you mean '{name}'?")
    name_list = ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")
    return Text(f"可用：{name_list or '（无）'}", f"one of: {name_list or '(none)'}")
