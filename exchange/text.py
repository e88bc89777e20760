"""Text that people read, in both languages, written where its value is defined."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import Final, Literal, NamedTuple

Language = Literal["zh", "en"]

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


def beijing(moment: datetime) -> str:
    """Write a moment as people read it: Beijing time, to the second.

    Raises OverflowError at the ends of the calendar.
    """
    return f"{moment.astimezone(BEIJING):%Y-%m-%d %H:%M:%S}"


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
