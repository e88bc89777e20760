"""What a case of the corpus is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from exchange.seal.crypto.suites import SUITES, Suite
from tests.tamper.hands import Hand
from tests.tamper.world import DAY, World

Show = Callable[[World], Hand]
Row = tuple[str, str, Show]
"""A mutation, what has to tell it, and how to show it."""
YEARS: Final = 6 * 365 * DAY
"""Longer than certificates hold."""


@dataclass(frozen=True)
class Case:
    mutation: str
    told_by: str
    right: Show
    wrong: Show
    versions: tuple[int, ...]
    """Of the seal; one will do where the seal is not in question."""


def cases(
    subject: str, right: Show, rows: Iterable[Row], versions: tuple[int, ...] = (4, 5)
) -> list[Case]:
    return [Case(f"{subject}: {name}", by, right, show, versions) for name, by, show in rows]


def other(world: World) -> Suite:
    """Return the suite that a world is not of."""
    (result,) = (item for item in SUITES.values() if item is not world.suite)
    return result
