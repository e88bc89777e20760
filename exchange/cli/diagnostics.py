"""The diagnostics of ``exchange doctor``: one check each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from exchange.errors import ExchangeError
from exchange.text import Text

NO_HINT = Text("", "")


class Grade(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Diagnostic:
    """One check: what was looked at, how it ended, and what to do about it."""

    name: str
    grade: Grade
    text: Text
    hint: Text = NO_HINT
    code: int = 0
    """Exit code that this failure asks for; 0 for anything else."""

    def as_dict(self) -> dict[str, object]:
        """Return the diagnostic for JSON."""
        return {
            "name": self.name,
            "grade": self.grade,
            "text": self.text._asdict(),
            "hint": self.hint._asdict(),
        }


def probe(name: str, look: Callable[[], Text | Diagnostic]) -> Diagnostic:
    """Make one check: an error of ours is its failure."""
    try:
        result = look()
    except ExchangeError as error:
        return Diagnostic(name, Grade.FAIL, error.what, error.hint, error.exit_code)
    return result if isinstance(result, Diagnostic) else Diagnostic(name, Grade.OK, result)
