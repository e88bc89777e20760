"""Deletions that wait for a person: how many, and what was decided about them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

from exchange.durable import write_file
from exchange.errors import Rejected
from exchange.text import Text

FEW: Final = 10
"""Deletions that need no person, unless nothing is left."""
_FILE: Final = "waiting.json"


@dataclass(frozen=True, slots=True)
class WaitingDeletions:
    """Deletions that wait: of ``before`` rows ``deleted`` are gone, and ``now`` are there."""

    known: str
    """The state that they were found against."""
    before: int
    now: int
    deleted: int

    def write(self, folder: Path) -> None:
        """Keep it for the command that shows it."""
        write_file(folder / _FILE, json.dumps(asdict(self)).encode())


@dataclass(frozen=True, slots=True)
class DeletionDecision:
    """What a person decided: take up to ``deleted`` deletions, or leave these records."""

    what: Literal["accept", "refuse"]
    deleted: int

    @classmethod
    def of(cls, cursor: Mapping[str, Any]) -> Self | None:
        """Read it from a cursor; None where there is none."""
        found = cursor.get("decision")
        return None if found is None else cls(found["what"], found["deleted"])


def waiting(folder: Path, known: str | None) -> WaitingDeletions | None:
    """Return the deletions that wait against a state; None when there are none."""
    try:
        found = WaitingDeletions(**json.loads((folder / _FILE).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    return found if found.known == known else None


def forget(folder: Path) -> None:
    """Forget what waited."""
    (folder / _FILE).unlink(missing_ok=True)


def needs_person(before: int, now: int, deleted: int, share: float) -> bool:
    """Tell whether so many deletions are more than are expected to happen by themselves."""
    if not deleted:
        return False
    return not now or (deleted >= FEW and deleted > share * before)


def refusal(name: str, found: WaitingDeletions) -> Rejected:
    """Say that deletions wait for a person."""
    return Rejected(
        Text(
            f"数据源 {name} 原有 {found.before} 条记录，现有 {found.now} 条，"
            f"其中 {found.deleted} 条已消失：未删除任何记录，等待人工确认",
            f"the source {name} had {found.before} records and has {found.now}, "
            f"{found.deleted} are gone: nothing is deleted until a person decides",
        ),
        hint=Text(
            f"先查明来源是否完整；确属删除用 exchange source deletions {name} --accept，"
            "只送其余变化用 --refuse",
            f"find out whether the source is whole; exchange source deletions {name} --accept "
            "deletes them, --refuse delivers the other changes only",
        ),
    )
