"""Text that people read, in both languages, written where its value is defined."""

from __future__ import annotations

from typing import Literal, NamedTuple

Language = Literal["zh", "en"]


class Text(NamedTuple):
    """One sentence in Chinese and in English."""

    zh: str
    en: str

    def pick(self, lang: str) -> str:
        """Return the Chinese sentence for ``zh``, the English one otherwise."""
        return self.zh if lang == "zh" else self.en
