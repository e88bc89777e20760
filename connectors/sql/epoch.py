"""Whole numbers that are seconds or milliseconds since 1970, in a cursor column."""

from __future__ import annotations

from typing import Any

from exchange.connect import Text
from exchange.connectors.sql.reader import ZONE, Rows, TableReader, Want

_DAY = 86_400
_FIRST_SECOND, _LAST_SECOND = 1_000_000_000, 9_999_999_999
"""Seconds since 1970 that a record may speak of, 2001 to 2286."""
_MILLI = 1_000


def epoch_ahead(reader: TableReader, order: tuple[str, ...], greatest: Any = None) -> int | None:
    """Return the least whole number that looks like a time in the future; None as a rule.

    Numbers have no clock, but those that are seconds or milliseconds since 1970 do: one in the
    future hides all later rows below it. ``greatest``: of the column, where it is known.
    """
    if isinstance(greatest, str) and greatest.isdecimal() and reader.numeric(order[0]):
        greatest = int(greatest)
    if reader.clock is None or (greatest is not None and not _is_whole(greatest)):
        return None
    now = int(reader.clock.replace(tzinfo=ZONE).timestamp())
    if greatest is not None and greatest <= now:
        return None
    first = _least(reader, order, _FIRST_SECOND)
    if first is None:
        return None
    unit = 1 if first <= now else _MILLI
    if not _FIRST_SECOND * unit <= first <= now * unit:
        return None
    ahead = _least(reader, order, (now + _DAY) * unit)
    return ahead if ahead is not None and ahead < (_LAST_SECOND + 1) * unit else None


def _least(reader: TableReader, order: tuple[str, ...], since: int) -> int | None:
    """Return the least whole number from ``since`` on."""
    chunk = next(iter(reader.read(Want(order, Rows.TIMELY, since), order)), None)
    if chunk is None or not chunk.frame.height:
        return None
    value = chunk.frame[order[0]][0]
    return int(value) if _is_whole(value) else None


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def looks_ahead(column: str, ahead: int) -> Text:
    """Tell that a number looks like a time in the future."""
    return Text(
        f"{column} 的值像是 1970 年以来的秒或毫秒，而 {ahead} 在将来：以后较小的新值看不到；"
        "请改正该值，或用 where 排除",
        f"{column} looks like seconds or milliseconds since 1970, and {ahead} lies in the future: "
        "later rows below it are not seen; correct that value, or leave it out by `where`",
    )
