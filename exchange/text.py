"""Text that people read, in both languages, written where its value is defined."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Literal, NamedTuple

Language = Literal["zh", "en"]


class Text(NamedTuple):
    """One sentence in Chinese and in English."""

    zh: str
    en: str

    def pick(self, lang: str) -> str:
        """Return the Chinese sentence for ``zh``, the English one otherwise."""
        return self.zh if lang == "zh" else self.en


_SHOWN = 20


def suggest(wrong: str, known: Sequence[str]) -> Text:
    """Return the nearest known name as a half sentence, or the names there are."""
    near = difflib.get_close_matches(wrong, known, n=1, cutoff=0.6)
    if near:
        return Text(f"是否想写 {near[0]}？", f"did you mean {near[0]}?")
    shown = ", ".join(list(known)[:_SHOWN]) + (" …" if len(known) > _SHOWN else "")
    return Text(f"可用：{shown}", f"known: {shown}")
