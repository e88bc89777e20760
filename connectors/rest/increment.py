"""What is new: the last value of the cursor column, and the rows that are read again with it.

A service is asked for everything from the last value on, the value included. Rows of that
stretch which were delivered unchanged are known by their digest and dropped. No I/O.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from exchange.connect import Cursor, Misconfigured, Note, Text
from exchange.connectors.rest.records import Row, row_hash

MAX_KNOWN = 8_192
"""Rows remembered; a cursor is bounded."""
_ZONE = timezone(timedelta(hours=8))
_AHEAD = timedelta(days=1)
_NUMBER = re.compile(r"-?\d{1,30}(\.\d{1,20})?")
_TIME = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)"
    r"((?P<mark>[ T])(?P<clock>\d\d:\d\d:\d\d)(?P<part>\.\d{1,6})?(?P<zone>Z|[+-]\d\d:?\d\d)?)?"
)

Comparable = Decimal | datetime


def place_of(text: str) -> Comparable | None:
    """Return a number or a time that can be compared; None for anything else.

    Times are ``2026-11-01``, ``2026-11-01 08:00:00`` or with a T, a fraction, a zone; without
    a zone they are +08:00.
    """
    if _NUMBER.fullmatch(text):
        return Decimal(text)
    if not _TIME.fullmatch(text):
        return None
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=_ZONE)
    except (ValueError, OverflowError):
        return None


def earlier(text: str, by: float) -> str:
    """Return the value that lies ``by`` seconds (of a time) or ``by`` (of a number) before.

    It is written as the value itself is. A value near the beginning of the calendar stays.
    """
    if not by:
        return text
    if _NUMBER.fullmatch(text):
        return format(Decimal(text) - Decimal(str(by)), "f")
    match = _TIME.fullmatch(text)
    if match is None:
        return text
    try:
        moment = datetime.fromisoformat(text) - timedelta(seconds=by)
    except (ValueError, OverflowError):
        return text
    if not match["clock"]:
        return f"{moment:%Y-%m-%d}"
    digits = len(match["part"] or ".") - 1
    part = f".{moment.microsecond:06}"[: digits + 1] if digits else ""
    return f"{moment:%Y-%m-%d}{match['mark']}{moment:%H:%M:%S}{part}{match['zone'] or ''}"


def _comes_before(one: Comparable, other: Comparable) -> bool:
    if isinstance(one, Decimal) and isinstance(other, Decimal):
        return one < other
    if isinstance(one, datetime) and isinstance(other, datetime):
        return one < other
    return False


@dataclass
class Increment:
    """One incremental pull: where it starts, what it drops, where the next one starts."""

    column: str
    overlap: float
    top: str = ""
    """The greatest value of all pulls so far, as the service wrote it; empty: none yet."""
    since: str = ""
    """What the service is asked for; empty: everything."""
    known: frozenset[str] = frozenset()
    """Digests of rows that pulls before delivered and the service may send again."""
    fresh: dict[str, str | None] = field(default_factory=dict)
    """Digests of rows of this pull that the next one reads again, with their values."""
    before: int = 0
    """Rows below ``since``: the service does not filter as asked."""
    ahead: int = 0
    """Rows beyond the clock."""
    lost: int = 0
    """Rows that could not be remembered."""
    base: str = ""
    """The greatest value when this pull began."""

    @classmethod
    def read(cls, cursor: Cursor | None, column: str, overlap: float, since: str) -> Increment:
        """Start from a cursor of a pull that is done, or go on with one that is not."""
        given: Mapping[str, Any] = cursor or {}
        if given.get("column") != column:
            given = {}
        top = given.get("top", "")
        start = given.get("since", earlier(top, overlap) if top else since)
        return cls(
            column,
            overlap,
            given.get("rise", top),
            start,
            frozenset(given.get("known", ())),
            dict(given.get("fresh", {})),
            base=top,
        )

    def take(
        self, names: Sequence[str], rows: Sequence[Row], now: datetime, place: Text
    ) -> tuple[list[Row], list[str | None]]:
        """Return the rows that are new, and what is broken about each.

        Raises Misconfigured where no row has the cursor column.
        """
        if not rows:
            return [], []
        if self.column not in names:
            raise Misconfigured(
                Text(
                    f"{place.zh} 没有增量列 {self.column}",
                    f"{place.en} has no cursor column {self.column}",
                ),
                hint=Text("请检查 cursor_column 和 columns", "check cursor_column and columns"),
            )
        index = list(names).index(self.column)
        start = place_of(self.since) if self.since else None
        kept: list[Row] = []
        defects: list[str | None] = []
        for row in rows:
            value, digest = row[index], row_hash(row)
            position = None if value is None else place_of(value)
            if position is not None and start is not None and _comes_before(position, start):
                self.before += 1
            self._remember(digest, value, position, now)
            if digest not in self.known:
                kept.append(row)
                odd = value is not None and position is None
                defects.append(f"{self.column}: {value!r} is no number or time" if odd else None)
        return kept, defects

    def _remember(
        self, digest: str, value: str | None, position: Comparable | None, now: datetime
    ) -> None:
        top = place_of(self.top) if self.top else None
        late = isinstance(position, datetime) and position > now + _AHEAD
        self.ahead += late
        if value is not None and position is not None and not late:
            if top is None or _comes_before(top, position):
                self.top = value
            elif top is not None and type(top) is not type(position):
                raise self._mixed(value)
        # What has no place in the order is sent again by every pull, and comes once.
        self.fresh[digest] = value
        if len(self.fresh) > 2 * MAX_KNOWN:
            self._narrow()

    def _narrow(self) -> None:
        """Forget what the next pull does not read again; at most MAX_KNOWN stay."""
        bound = place_of(earlier(self.top, self.overlap)) if self.top else None
        if bound is not None:
            self.fresh = {
                digest: value
                for digest, value in self.fresh.items()
                if (at := None if value is None else place_of(value)) is None
                or not _comes_before(at, bound)
            }
        excess = len(self.fresh) - MAX_KNOWN
        if excess > 0:
            self.lost += excess
            for digest in list(self.fresh)[:excess]:
                del self.fresh[digest]

    def going(self) -> dict[str, Any]:
        """Return the cursor within this pull, without the page."""
        self._narrow()
        return {
            "column": self.column,
            "top": self.base,
            "since": self.since,
            "rise": self.top,
            "known": sorted(self.known),
            "fresh": dict(self.fresh),
        }

    def done(self) -> dict[str, Any]:
        """Return the cursor behind this pull."""
        self._narrow()
        # A service that sends nothing at the last value again does not make it forgotten.
        known = list(self.fresh) if self.fresh else sorted(self.known)
        return {"column": self.column, "top": self.top, "known": known}

    def again(self) -> dict[str, Any]:
        """Return the cursor from which this pull is done again from its start."""
        return {"column": self.column, "top": self.base, "known": sorted(self.known)}

    def notes(self) -> tuple[Note, ...]:
        """Return what a person should know about this pull."""
        texts = {
            "filter": self.before
            and Text(
                f"早于所要求的 {self.since!r} 的行：{self.before} 行；服务没有严格按该值筛选，"
                "每次拉取都会再来",
                f"rows before {self.since!r}, which was asked for: {self.before}; the service "
                "does not filter by the value exactly, and these come again with every pull",
            ),
            "clock": self.ahead
            and Text(
                f"{self.column} 的值比现在晚一天以上的行：{self.ahead} 行；现在先取来，"
                "以后变化时再取；游标停在这些行之前",
                f"rows with a value of {self.column} more than a day ahead: {self.ahead}; they "
                "come now, and again when they change; the cursor stays before them",
            ),
            "overlap": self.lost
            and Text(
                f"将重读的行超过 {MAX_KNOWN}：其中 {self.lost} 行可能重复",
                f"more than {MAX_KNOWN} rows would be read again: {self.lost} of them may come "
                "twice",
            ),
        }
        return tuple(Note(0, kind, text.joined()) for kind, text in texts.items() if text)

    def _mixed(self, value: str) -> Misconfigured:
        return Misconfigured(
            Text(
                f"增量列 {self.column} 既有 {self.top!r} 又有 {value!r}，无法比较",
                f"the cursor column {self.column} holds {self.top!r} and {value!r}, "
                "which cannot be compared",
            ),
            hint=Text("请换一个增量列", "choose another cursor column"),
        )
