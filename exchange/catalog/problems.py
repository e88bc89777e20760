"""What is wrong with a YAML file, as data: every problem at once, each with file and line."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from exchange.errors import Misconfigured
from exchange.text import Text, suggest

CATALOG: Final = Text("目录", "the catalog")
MAX_PROBLEMS: Final = 500
"""More would not be read; the rest shows once these are mended."""


class Place(Protocol):
    """Anything that knows where it stands in a file."""

    @property
    def file(self) -> str: ...  # noqa: D102
    @property
    def line(self) -> int: ...  # noqa: D102


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake; ``line`` counts from 1, 0 means the whole file."""

    file: str
    line: int
    what: Text
    hint: Text

    def show(self, lang: str) -> str:
        """Return one line for a person: ``file:line: what (hint)``."""
        return f"{self.file}:{self.line}: {self.what.pick(lang)} ({self.hint.pick(lang)})"

    def as_dict(self) -> dict[str, object]:
        """Return the problem for JSON."""
        return {
            "file": self.file,
            "line": self.line,
            "what": self.what._asdict(),
            "hint": self.hint._asdict(),
        }


class FileErrors(Misconfigured):
    """The catalog or the settings cannot be used; ``problems`` are in the order of the files."""

    def __init__(self, subject: Text, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        count = len(self.problems)
        super().__init__(
            Text(
                f"{subject.zh}中有 {count} 处错误",
                f"{count} problem{'s' * (count != 1)} in {subject.en}",
            ),
            hint=Text(
                "\n".join(problem.show("zh") for problem in self.problems),
                "\n".join(problem.show("en") for problem in self.problems),
            ),
        )


class Problems:
    """Collects problems while reading goes on; ``subject`` names what is read."""

    def __init__(self, subject: Text = CATALOG) -> None:
        self.subject = subject
        self.items: list[Problem] = []

    def add(self, place: Place, what: Text, hint: Text) -> None:
        """Note a problem at a place."""
        if len(self.items) < MAX_PROBLEMS:
            self.items.append(Problem(place.file, place.line, what, hint))

    def unknown(
        self,
        place: Place,
        kind: Text,
        word: str,
        choices: Iterable[str],
        meanings: Mapping[str, Text] | None = None,
    ) -> None:
        """Note a word that is none of ``choices``, with the nearest ones, or with all of them."""
        self.add(
            place,
            Text(f"未知的{kind.zh}“{shorten(word)}”", f"unknown {kind.en} '{shorten(word)}'"),
            width_hint(word) or suggest(word, choices, meanings),
        )

    def check(self) -> None:
        """Raise :class:`FileErrors` when there are problems."""
        if self.items:
            raise FileErrors(self.subject, self.items)


_NARROW: Final = {
    "“": '"',
    "”": '"',
    "‘": "'",
    "’": "'",
    "、": ",",
    "【": "[",
    "】": "]",
}


def width_hint(text: str) -> Text | None:
    """Explain full-width punctuation, letters or blanks where ASCII is needed."""
    for character in text:
        narrow = _NARROW.get(character)
        if narrow is None and unicodedata.east_asian_width(character) == "F":
            narrow = unicodedata.normalize("NFKC", character)
        if narrow is not None and narrow.isascii():
            return Text(
                f"“{character}”是全角字符，请改为半角“{narrow}”",
                f"'{character}' is a full-width character: write '{narrow}'",
            )
    return None


def shorten(text: str, limit: int = 60) -> str:
    """Cut long text for a message."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
