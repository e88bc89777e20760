"""Numbered checks: what was compared, what was expected, what was found.

A verification is data, not an exception: it lists every check that could be made, in the
standard's order, so that an auditor can tick them off one by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from exchange.text import Text


@dataclass(frozen=True, slots=True)
class Check:
    """One step of a verification; ``expected`` and ``found`` are short printable values.

    ``name`` is the step's code and stays the same from release to release. With ``note`` the
    step passed, and its text says what the reader should know all the same.
    """

    name: str
    ok: bool
    text: Text
    expected: str = ""
    found: str = ""
    note: bool = False


def equal(name: str, text: Text, *, expected: str, found: str) -> Check:
    """Compare two printable values; the check passes when they are the same."""
    return Check(name, expected == found, text, expected, found)


@dataclass(frozen=True, slots=True)
class Verification:
    """All checks of one file; ``rows`` is the number of records it vouches for.

    ``facts`` are what the file says about itself (JSON values), for the reader's eye only.
    """

    checks: tuple[Check, ...]
    rows: int = 0
    facts: Mapping[str, object] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether there were checks and all of them passed."""
        return bool(self.checks) and not self.failed

    @property
    def notes(self) -> tuple[Check, ...]:
        """The checks that passed with a reservation, such as a revocation nobody could ask."""
        return tuple(check for check in self.checks if check.ok and check.note)

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that did not pass."""
        return tuple(check for check in self.checks if not check.ok)

    def as_dict(self) -> dict[str, object]:
        """Return the JSON form: ``ok``, ``checks`` numbered from 1, ``rows``, ``facts``."""
        return {
            "ok": self.ok,
            "checks": [
                {
                    "number": number,
                    "name": check.name,
                    "ok": check.ok,
                    "note": check.note,
                    "expected": check.expected,
                    "found": check.found,
                    "text": check.text._asdict(),
                }
                for number, check in enumerate(self.checks, start=1)
            ],
            "rows": self.rows,
            "facts": dict(self.facts),
        }
