"""The cursor of a database source, as values: where it stands, and what it has delivered."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeAlias

import polars as pl

from exchange.connect import Cursor
from exchange.connectors.sql.reader import Position
from exchange.connectors.sql.values import Damaged

if TYPE_CHECKING:
    import numpy as np

Hashes: TypeAlias = "np.ndarray[Any, np.dtype[np.uint64]]"
DEFECT = "_defect"


def nothing() -> Hashes:
    """Return no hashes."""
    import numpy as np  # here and below: a pull of everything does without, and starts sooner

    return np.empty(0, dtype=np.uint64)


@dataclass(frozen=True, slots=True)
class CursorState:
    """The cursor of an incremental pull.

    ``at`` is the newest position delivered, never beyond the database's clock; ``since``, where
    a person had the source start, until the first row behind it is delivered, and ``floor``
    from then on: what lies below is not read again. ``seen`` and
    ``odd`` are hashes of delivered rows: of the stretch that is read again, and of rows whose
    cursor value has no place in the order. ``low``, when set, is where that stretch had to be
    cut because it held too many rows.

    Where rows tell who wrote them, ``settled`` is the number of the first transaction on
    ``server`` of which not all rows up to ``at`` were read. A pull that was broken off reading
    late ones has read them up to the position ``late``, and there up to ``late_settled``.
    """

    at: Position | None = None
    since: Any = None
    floor: Any = None
    settled: int | None = None
    server: str = ""
    late: Position | None = None
    late_settled: int | None = None
    low: Position | None = None
    seen: Hashes = field(default_factory=nothing)
    odd: Hashes = field(default_factory=nothing)

    @classmethod
    def read(cls, cursor: Cursor | None, order: tuple[str, ...]) -> CursorState:
        """Read a cursor; positions in other columns (the settings changed) count as none."""
        at, since = position(cursor, "at", order), position(cursor, "since", order[:1])
        first = None if since is None else since[0]
        if cursor is None:
            return cls()
        floor = position(cursor, "floor", order[:1])
        written = {
            "floor": None if floor is None else floor[0],
            "settled": cursor.get("settled"),
            "server": cursor.get("server", ""),
            "late": position(cursor, "late", order),
            "late_settled": cursor.get("late_settled"),
        }
        if cursor.get("polars") != pl.__version__:
            # Hashes hold within one version of polars only: after an upgrade the stretch that
            # is read again is delivered once more.
            return cls(at=at, since=first, **written)
        low = position(cursor, "low", order)
        seen = _unpack(cursor.get("seen", ""))
        if "seen" not in cursor:  # of the former version, which read no last row again
            low = at
        odd = _unpack(cursor.get("odd", cursor.get("nulls", "")))
        return cls(at, first, low=low, seen=seen, odd=odd, **written)

    def since_value(self, value: Any) -> CursorState:
        """Return the state that starts from a value: rows from it on are read again."""
        return CursorState(since=value, odd=self.odd)

    def cursor(self, order: tuple[str, ...]) -> Cursor:
        """Return the state as plain JSON."""
        out: dict[str, Any] = {"polars": pl.__version__}
        if self.at is not None:
            out["at"] = named(order, self.at)
            out["seen"] = _pack(self.seen)
            if self.settled is not None:
                out |= {"settled": self.settled, "server": self.server}
            if self.late is not None:
                out |= {"late": named(order, self.late), "late_settled": self.late_settled}
        if self.since is not None:
            out["since"] = named(order[:1], (self.since,))
        if self.floor is not None:
            out["floor"] = named(order[:1], (self.floor,))
        if self.low is not None:
            out["low"] = named(order, self.low)
        if len(self.odd):
            out["odd"] = _pack(self.odd)
        return out


def row_hashes(frame: pl.DataFrame, names: Sequence[str]) -> Hashes:
    """Hash rows by their values; what is broken about a row counts, in whatever frame it is."""
    hashes = frame.select(names).hash_rows(seed=0)
    if DEFECT in frame.columns:
        broken = frame[DEFECT].is_not_null()
        hashes = hashes ^ (frame[DEFECT].hash(seed=1) * broken.cast(pl.UInt64))
    return hashes.to_numpy()


def named(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    """Return a position as JSON."""
    return dict(zip(names, map(_encode, values), strict=True))


def position(cursor: Cursor | None, part: str, names: tuple[str, ...]) -> Position | None:
    """Read a position back; one of other columns counts as none."""
    found = (cursor or {}).get(part)
    if not isinstance(found, dict) or tuple(found) != names:
        return None
    return tuple(map(_decode, found.values()))


def _pack(hashes: Hashes) -> str:
    return base64.b64encode(hashes.astype("<u8").tobytes()).decode()


def _unpack(text: str) -> Hashes:
    import numpy as np

    return np.frombuffer(base64.b64decode(text), dtype="<u8").astype(np.uint64)


def _encode(value: Any) -> Any:
    """Return a value as JSON: numbers and text as they are, others by the name of a type."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    for kind, (name, write, _) in _KINDS.items():
        if isinstance(value, kind):
            return {name: write(value)}
    return value if value is None or isinstance(value, int | float | str) else {"text": str(value)}


def _decode(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    ((name, text),) = value.items()
    return _READERS[name](text)


_KINDS: Mapping[type, tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = {
    datetime: ("datetime", datetime.isoformat, datetime.fromisoformat),
    date: ("date", date.isoformat, date.fromisoformat),
    time: ("time", time.isoformat, time.fromisoformat),
    timedelta: (
        "microseconds",
        lambda value: value // timedelta(microseconds=1),
        lambda number: timedelta(microseconds=number),
    ),
    Decimal: ("decimal", str, Decimal),
    Damaged: ("damaged", bytes.hex, Damaged.fromhex),
    bytes: ("bytes", bytes.hex, bytes.fromhex),
}
_READERS: Mapping[str, Callable[[Any], Any]] = {
    **{name: read for name, _, read in _KINDS.values()},
    "float": float,
    "text": str,
}
