"""Text that people read, in both languages, written where its value is defined."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
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


def counted(number: int, noun: str) -> str:
    """Write a number with its English noun: ``1 record``, ``2 batches``."""
    ending = "" if number == 1 else "es" if noun.endswith("ch") else "s"
    return f"{number:,} {noun}{ending}"


def suggest(word: str, choices: Iterable[str], meanings: Mapping[str, Text] | None = None) -> Text:
    """Say which of ``choices`` was probably meant, or list some of them with their meanings.

    A word that is the meaning of one of them names it: 每日 is ``daily``.
    """
    import difflib

    titles = {} if meanings is None else meanings
    for name, title in titles.items():
        if word and word in title:
            return Text(f"“{word}”写作 {name}", f"write {name} for '{word}'")
    names = sorted(set(choices))
    by_lower = {name.lower(): name for name in names}
    near = difflib.get_close_matches(word[:64].lower(), by_lower, n=1, cutoff=0.6)
    if near:
        name = by_lower[near[0]]
        return Text(f"是不是“{name}”？", f"did you mean '{name}'?")
    more = ", …" if len(names) > _LISTED else ""
    none = Text("", "")
    pairs = [(name, titles.get(name, none)) for name in names[:_LISTED]]
    zh = ", ".join(f"{name} {title.zh}".strip() for name, title in pairs) + more
    en = ", ".join(f"{name} ({title.en})" if title.en else name for name, title in pairs) + more
    return Text(f"可用：{zh or '（无）'}", f"one of: {en or '(none)'}")
