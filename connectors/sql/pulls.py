"""How a table is pulled: whole in the order of its key, or what is new since a cursor.

Both decide only; a :class:`TableReader` asks the database. All comparing is the database's own:
text, numbers and intervals sort there by rules that nobody repeats here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from exchange.connect import Cursor, Misconfigured, Note, Pulled, Text
from exchange.connectors.sql.cursor import (
    DEFECT,
    CursorState,
    Hashes,
    named,
    nothing,
    position,
    row_hashes,
)
from exchange.connectors.sql.epoch import epoch_ahead, looks_ahead
from exchange.connectors.sql.reader import (
    Chunk,
    Horizon,
    Position,
    Rows,
    Settled,
    TableReader,
    Want,
)
from exchange.connectors.sql.window import (
    MAX_WINDOW_ROWS,
    USUAL_NUMBERS,
    Window,
    usual_overlap,
)


def snapshot(
    reader: TableReader, names: Sequence[str], key: tuple[str, ...], cursor: Cursor | None
) -> Iterator[Pulled]:
    """Read everything; with a key in its order, so that the next pull can go on.

    A row with NULL in the key has no position. Where NULL sorts last, a pull that goes on would
    miss such rows: they are read once more at its end.
    """
    if not key:
        # Without a key a pull that died can only start again (at least once).
        for chunk in reader.read(Want(), names):
            yield Pulled(chunk.frame, {})
        return
    frame = pl.DataFrame()
    resumed = before = position(cursor, "after", key)
    for chunk in reader.read(Want(order=key, after=before), names):
        frame = chunk.frame
        if frame.height:
            before = _checked(chunk, key, before)
            yield Pulled(frame, {} if before is None else {"after": named(key, before)})
    if resumed is not None and before is not None:
        for chunk in reader.read(Want(key, Rows.UNPLACED), names):
            if chunk.frame.height:
                yield Pulled(chunk.frame, {"after": named(key, before)})
    # The snapshot is complete: the next pull starts from the beginning.
    yield Pulled(frame.clear(), {})


@dataclass(frozen=True, slots=True)
class OddRows:
    """How many rows have no place in the order of a cursor column, by why."""

    ahead: int = 0
    """Beyond the clock, or text of another form than most values have."""
    impossible: int = 0
    """A value that cannot be read."""
    unplaced: int = 0
    """NULL in a column of the key."""


def odd_rows(reader: TableReader, order: tuple[str, ...]) -> OddRows:
    """Count rows that have no place in the order, those without a cursor value apart."""
    ahead = impossible = unplaced = 0
    for chunk in reader.read(Want(order, Rows.ODD), order):
        frame = chunk.frame
        loose = _unplaced(frame, order)
        unplaced += int(loose.sum())
        ahead += int((frame[order[0]].is_not_null() & ~loose).sum())
        if DEFECT in frame.columns:
            impossible += int((frame[order[0]].is_null() & frame[DEFECT].is_not_null()).sum())
    return OddRows(ahead, impossible, unplaced)


def _unplaced(frame: pl.DataFrame, order: Sequence[str]) -> pl.Series:
    """Tell which rows have NULL in a column of the key."""
    nulls = pl.any_horizontal(pl.lit(value=False), *(pl.col(n).is_null() for n in order[1:]))
    return frame.select(nulls.alias("null")).to_series()


@dataclass
class Incremental:
    """One pull of what is new: the late rows, then the rows behind them, then the odd.

    Where rows tell which transaction wrote them, only rows of settled transactions are read
    (:class:`Horizon`): what was written up to the last position since the last pull is late, no
    row comes twice, and none is missed however long its transaction lasted. Elsewhere a stretch
    up to the last position is read again, and what was delivered is known by its hash.
    The odd come last, so that too many of them hold up nobody else.
    """

    reader: TableReader
    names: Sequence[str]
    order: tuple[str, ...]
    overlap: float | None
    state: CursorState
    _window: Window = field(init=False)
    _horizon: Horizon | None = field(init=False)
    _frame: pl.DataFrame = field(default_factory=pl.DataFrame)

    def __post_init__(self) -> None:
        """Read nothing yet."""
        column = self.order[0]
        numeric = self.reader.numeric(column)
        self._window = Window(self.names, column, self.overlap, numeric, self.state.low)
        self._horizon = self.reader.horizon()

    def pulls(self) -> Iterator[Pulled]:
        """Yield what was not delivered yet; the last frame is empty and moves the cursor."""
        notes: list[Note] = []
        before, horizon = self.state.settled, self._horizon
        if horizon is None:
            self.state = replace(self.state, settled=None, late=None, late_settled=None)
            yield from self._again()
        else:
            yield from self._late(horizon)
            if before == horizon.oldest and horizon.holder:
                notes.append(_held_up(horizon))
        yield from self._new()
        yield from self._odd(notes)
        if self.state.at is not None:
            ahead = epoch_ahead(self.reader, self.order, self.state.at[0])
            notes += [] if ahead is None else [self._epoch(ahead)]
        if self.state.low is not None:
            notes.append(self._narrowed(self.state.low))
        yield self._pulled(self._frame.clear(), tuple(notes))

    def _pulled(self, frame: pl.DataFrame, notes: tuple[Note, ...] = ()) -> Pulled:
        return Pulled(frame, self.state.cursor(self.order), notes=notes, changes=True)

    def _again(self) -> Iterator[Pulled]:
        """Read the stretch up to the last position again: it may hold late and changed rows."""
        import numpy as np

        state = self.state
        if state.at is None:
            return
        since, settled = state.at[0], self._settled()
        if reach := self._reach(since):
            since = self.reader.earlier(self.order[0], since, reach)
        floor, low, at = state.floor, state.low, state.at
        want = Want(self.order, Rows.TIMELY, since, floor, low, at, settled)
        known = np.union1d(state.seen, state.odd)
        for chunk in self.reader.read(want, self.names):
            self._frame = chunk.frame
            hashes = row_hashes(chunk.frame, self.names)
            self._window.take(chunk, hashes)
            yield from self._fresh(chunk.frame, hashes, known, odd=False)
        self.state = replace(self.state, seen=self._window.hashes, low=self._window.low)

    def _late(self, horizon: Horizon) -> Iterator[Pulled]:
        """Read what was written up to the last position since the last pull."""
        state = self.state
        numbers = (state.settled, state.late_settled)
        ahead = any(number is not None and number > horizon.oldest for number in numbers)
        if state.at is None:
            pass
        elif state.settled is None:  # of a former version
            yield from self._again()
        elif ahead or state.server != horizon.server:
            # Numbers of another server: nobody knows who wrote what before.
            self.state = replace(state, late=None, late_settled=None)
            yield from self._written(None, horizon, None, state.at)
        else:
            yield from self._written(state.settled, horizon, state.late, state.at)
            if state.late is not None:
                since = state.late_settled
                self.state = replace(self.state, late=None, late_settled=None)
                yield from self._written(since, horizon, None, state.late)
        self.state = replace(
            self.state,
            settled=horizon.oldest,
            server=horizon.server,
            late=None,
            late_settled=None,
            low=None,
            seen=nothing(),
        )

    def _written(
        self, since: int | None, horizon: Horizon, after: Position | None, upto: Position
    ) -> Iterator[Pulled]:
        """Read the rows of a stretch that transactions wrote from number ``since`` on."""
        import numpy as np

        if since == horizon.oldest:
            return
        least = self.reader.earlier(self.order[0], upto[0], self.overlap) if self.overlap else None
        settled = horizon.settled(since)
        want = Want(self.order, Rows.TIMELY, least, None, after, upto, settled)
        known = np.union1d(self.state.seen, self.state.odd)
        for chunk in self.reader.read(want, self.names):
            frame = self._frame = chunk.frame
            if not frame.height:
                continue
            self.state = replace(self.state, late=chunk.last(), late_settled=horizon.oldest)
            if len(known):
                frame = frame.filter(pl.Series(~np.isin(row_hashes(frame, self.names), known)))
            if frame.height:
                yield self._pulled(frame)

    def _settled(self) -> Settled | None:
        return None if self._horizon is None else self._horizon.settled()

    def _reach(self, value: Any) -> float:
        """Return how far below the last value rows are read again."""
        if self.overlap is not None:
            return self.overlap
        numeric = self.reader.numeric(self.order[0])
        return USUAL_NUMBERS if numeric else usual_overlap(value)

    def _new(self) -> Iterator[Pulled]:
        """Read what is behind the last position."""
        import numpy as np

        state, before = self.state, None
        want = Want(self.order, Rows.TIMELY, state.since, after=state.at, settled=self._settled())
        for chunk in self.reader.read(want, self.names):
            frame = self._frame = chunk.frame
            if not frame.height:
                continue
            before = _checked(chunk, self.order, before)
            floor = state.since if state.since is not None else state.floor
            self.state = replace(self.state, at=before, since=None, floor=floor)
            if self._horizon is None:
                self._window.slide(chunk)
                self.state = replace(self.state, seen=self._window.hashes, low=self._window.low)
            if len(state.odd):
                # Beyond the clock yesterday, and in its place today.
                held = np.isin(row_hashes(frame, self.names), state.odd)
                frame = frame.filter(pl.Series(~held))
            if frame.height:
                yield self._pulled(frame)

    def _odd(self, notes: list[Note]) -> Iterator[Pulled]:
        """Read rows whose cursor value has no place in the order; each comes once."""
        import numpy as np

        known, found, ahead, unplaced = self.state.odd, nothing(), 0, 0
        for chunk in self.reader.read(Want(self.order, Rows.ODD), self.names):
            self._frame = frame = chunk.frame
            hashes = row_hashes(frame, self.names)
            found = np.union1d(found, hashes)
            if len(found) > MAX_WINDOW_ROWS:
                raise self._too_many()
            new = pl.Series(~np.isin(hashes, known))
            loose = _unplaced(frame, self.order)
            ahead += int((new & frame[self.order[0]].is_not_null() & ~loose).sum())
            unplaced += int((new & loose).sum())
            yield from self._fresh(frame, hashes, known, odd=True)
        # What was remembered and is odd no more has its place now, or is gone.
        self.state = replace(self.state, odd=found)
        if ahead:
            notes.append(self._ahead(ahead))
        if unplaced:
            notes.append(_without_key(self.order[1:], unplaced))

    def _fresh(
        self, frame: pl.DataFrame, hashes: Hashes, known: Hashes, *, odd: bool
    ) -> Iterator[Pulled]:
        """Yield the rows that are not known, and remember them."""
        import numpy as np

        new = ~np.isin(hashes, known)
        if not new.any():
            return
        state = self.state
        if odd:
            self.state = replace(state, odd=np.union1d(state.odd, hashes[new]))
        else:
            self.state = replace(state, seen=np.union1d(state.seen, hashes[new]))
        yield self._pulled(frame.filter(pl.Series(new)))

    def _narrowed(self, low: Position) -> Note:
        reach = self._reach(low[0])
        what = (
            Text(f"回看 {reach:g} 的范围", f"overlap {reach:g}")
            if reach
            else Text("最后一个值", "the last value")
        )
        text = Text(
            f"{what.zh}内超过 {MAX_WINDOW_ROWS} 行：{low} 之前迟到提交的行看不到",
            f"{what.en} holds more than {MAX_WINDOW_ROWS} rows: rows committed late "
            f"before {low} are not seen",
        )
        return Note(0, "overlap", text.joined())

    def _ahead(self, count: int) -> Note:
        text = Text(
            f"{self.order[0]} 的值晚于数据库时钟（{self.reader.clock}）的行：{count} 行；"
            "现在先取来，以后变化时再取；游标停在这些行之前；写法与多数值不同的文字也计入",
            f"rows with a value of {self.order[0]} beyond the database's clock "
            f"({self.reader.clock}): {count}; they come now, and again when they change; "
            "the cursor stays before them; text of another form than most values counts, too",
        )
        return Note(0, "clock", text.joined())

    def _epoch(self, ahead: int) -> Note:
        text = looks_ahead(self.order[0], ahead)
        return Note(0, "clock", text.joined())

    def _too_many(self) -> Misconfigured:
        column = self.order[0]
        return Misconfigured(
            Text(
                f"超过 {MAX_WINDOW_ROWS} 行在增量列 {column} 中没有可用的值（为空、非法或晚于"
                "数据库时钟）；其余各行已读取",
                f"more than {MAX_WINDOW_ROWS} rows have no value in the cursor column {column} "
                "that can be used (NULL, impossible, or beyond the database's clock); "
                "the other rows were read",
            ),
            hint=Text(
                "请补全该列，或改用别的增量列，或去掉 cursor_column 做全量读取",
                "fill the column, choose another one, or drop cursor_column to read everything",
            ),
        )


def _held_up(horizon: Horizon) -> Note:
    text = Text(
        f"事务 {horizon.oldest} 及其后写入的行暂不读取：上次拉取时它在进行，现在仍在进行"
        f"（{horizon.holder}）",
        f"rows written from transaction {horizon.oldest} on wait: it was running at the last "
        f"pull and still is ({horizon.holder})",
    )
    return Note(0, "transaction", text.joined())


def _without_key(key: Sequence[str], count: int) -> Note:
    names = ", ".join(key)
    text = Text(
        f"键列 {names} 为空的行：{count} 行；现在先取来，以后变化时再取",
        f"rows with NULL in the key ({names}): {count}; they come now, and again when they change",
    )
    return Note(0, "key", text.joined())


def _checked(chunk: Chunk, order: tuple[str, ...], before: Position | None) -> Position | None:
    """Return the last position that there is; a value twice at a border could lose rows."""
    if before is not None and chunk.position(0) == before:
        raise Misconfigured(
            Text(
                f"键 {', '.join(order)} 不唯一：{before}",
                f"the key {', '.join(order)} is not unique: {before}",
            ),
            hint=Text("请在 key 中写全能唯一确定一行的列", "name columns in key that are unique"),
        )
    if chunk.null is None:
        return chunk.last()
    places = map(chunk.position, reversed(range(chunk.frame.height)))
    return next((place for place in places if None not in place), before)
