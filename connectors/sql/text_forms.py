"""Cursor columns whose values are text: the form that most of them have, and what is out of it.

Text sorts by its characters. Times sort rightly in one form only: a blank sorts before `T`, a
slash behind a hyphen, 2026-9-30 behind 2026-10-01. One value of another form would stand beyond
all that are still to come.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

from exchange.connect import Misconfigured, Text

Forms = tuple[tuple[str, str], ...]

TIMES: Final[Mapping[str, Forms]] = {
    "blank": (("____-__-__", "%Y-%m-%d"), ("____-__-__ %", "%Y-%m-%d %H:%M:%S.%f")),
    "T": (("____-__-__T%", "%Y-%m-%dT%H:%M:%S.%f"), ("____-__-__", "%Y-%m-%d")),
    "slash": (("____/__/__", "%Y/%m/%d"), ("____/__/__ %", "%Y/%m/%d %H:%M:%S.%f")),
}
"""Text that is a day or a time, as LIKE patterns, and how the clock is written in that form."""
LOOSE: Final = "loose"
_LOOSE: Final = (
    *("____-_-_", "____-_-__", "____-__-_", "____-_-_ %", "____-_-__ %", "____-__-_ %"),
    *("____/_/_", "____/_/__", "____/__/_", "____/_/_ %", "____/_/__ %", "____/__/_ %"),
)
"""Days and times without leading zeros."""
NUMBER: Final = "number"
OTHER: Final = "other"


def classes() -> Sequence[tuple[str, Sequence[str]]]:
    """Return the names of forms with their LIKE patterns; the first that fits counts."""
    times = [(name, [pattern for pattern, _ in forms]) for name, forms in TIMES.items()]
    return (*times, (LOOSE, _LOOSE))


def limits(form: str, clock: datetime) -> Forms:
    """Return the patterns of a form, each with the clock in it; of all forms for any other text."""
    forms = TIMES[form] if form in TIMES else dict.fromkeys(f for t in TIMES.values() for f in t)
    return tuple((pattern, clock.strftime(shape)) for pattern, shape in forms)


def allowed(form: str) -> tuple[str, ...]:
    """Return the LIKE patterns that a value must have one of; none where any text will do."""
    return tuple(pattern for pattern, _ in TIMES.get(form, ()))


Usual = Callable[[str], str]
"""Asks for the form that most values of a column have."""


def usual(column: str, rows: Sequence[Sequence[object]]) -> str:
    """Choose the form of a column from rows of (form, count, least length, greatest length).

    Raises :class:`Misconfigured` where most values do not sort by their meaning.
    """
    if not rows:
        return OTHER
    names = [name for name, _ in classes()] + [NUMBER, OTHER]
    form, _, least, most = min(rows, key=lambda row: (-int(str(row[1])), names.index(str(row[0]))))
    if form == LOOSE or (form == NUMBER and least != most):
        raise _unsorted(column, str(form))
    return str(form)


def _unsorted(column: str, form: str) -> Misconfigured:
    example = "2026-9-30, 2026-10-01" if form == LOOSE else "9, 10"
    return Misconfigured(
        Text(
            f"增量列 {column} 是文字，按文字排序与先后不符（如 {example}），新行会被漏掉",
            f"the cursor column {column} is text that does not sort by its meaning (such as "
            f"{example}): new rows would be missed",
        ),
        hint=Text(
            "换一个增量列，或用 query 把它转为数字或时间，或去掉 cursor_column 做全量读取",
            "choose another cursor column, make it a number or a time in a query, or drop "
            "cursor_column to read everything",
        ),
    )
