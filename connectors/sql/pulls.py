"""How a table is pulled: whole in the order of its key, or what is new since a cursor.

Both decide only; a :class:`TableReader` asks the database. All comparing is the database's own:
text, numbers and intervals sort there by rules that nobody repeats here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

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
from exchange.connectors.sql.reader import Chunk, Position, Rows, TableReader, Want
from exchange.connectors.sql.window import MAX_WINDOW_ROWS, Window


def snapshot(
    reader: TableReader, names: Sequence[str], key: tuple[str, ...], cursor: Cursor | None
) -> Iterator[Pulled]:
    """Read everything; with a key in its order, so that the next pull can go on."""
    if not key:
        # Without a key a pull that died can only start again (at least once).
        for chunk in reader.read(Want(), names):
            yield Pulled(chunk.frame, {})
        return
    frame = pl.DataFrame()
    before = position(cursor, "after", key)
    for chunk in reader.read(Want(order=key, after=before), names):
        frame = chunk.frame
        if frame.height:
            before = _checked(chunk, key, before)
            yield Pulled(frame, {"after": named(key, before)})
    # The snapshot is complete: the next pull starts from the beginning.
    yield Pulled(frame.clear(), {})


def odd_rows(reader: TableReader, order: tuple[str, ...]) -> tuple[int, int]:
    """Count rows with a cursor value beyond the clock, and with one that is impossible."""
    ahead = impossible = 0
    for chunk in reader.read(Want(order, Rows.ODD), order):
        ahead += int(chunk.frame[order[0]].is_not_null().sum())
        if DEFECT in chunk.frame.columns:
            impossible += int(
                (chunk.frame[order[0]].is_null() & chunk.frame[DEFECT].is_not_null()).sum()
            )
    return ahead, impossible


@dataclass
class Incremental:
    """One pull of what is new: the stretch read again, then the rows behind it, then the odd.

    The odd come last, so that too many of them hold up nobody else.
    """

    reader: TableReader
    names: Sequence[str]
    order: tuple[str, ...]
    overlap: float
    state: CursorState
    _window: Window = field(init=False)
    _frame: pl.DataFrame = field(default_factory=pl.DataFrame)

    def __post_init__(self) -> None:
        """Read nothing yet."""
        column = self.order[0]
        numeric = self.reader.numeric(column)
        self._window = Window(self.names, column, self.overlap, numeric, self.state.low)

    def pulls(self) -> Iterator[Pulled]:
        """Yield what was not delivered yet; the last frame is empty and moves the cursor."""
        yield from self._again()
        yield from self._new()
        notes: list[Note] = []
        yield from self._odd(notes)
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
        since = state.at[0]
        if self.overlap:
            since = self.reader.earlier(self.order[0], since, self.overlap)
        want = Want(self.order, Rows.TIMELY, since, after=state.low, upto=state.at)
        known = np.union1d(state.seen, state.odd)
        for chunk in self.reader.read(want, self.names):
            self._frame = chunk.frame
            hashes = row_hashes(chunk.frame, self.names)
            self._window.take(chunk, hashes)
            yield from self._fresh(chunk.frame, hashes, known, odd=False)
        self.state = replace(self.state, seen=self._window.hashes, low=self._window.low)

    def _new(self) -> Iterator[Pulled]:
        """Read what is behind the last position."""
        import numpy as np

        state, before = self.state, None
        want = Want(self.order, Rows.TIMELY, state.since, after=state.at)
        for chunk in self.reader.read(want, self.names):
            frame = self._frame = chunk.frame
            if not frame.height:
                continue
            before = _checked(chunk, self.order, before)
            self._window.slide(chunk)
            self.state = replace(
                self.state,
                at=before,
                since=None,
                seen=self._window.hashes,
                low=self._window.low,
            )
            if len(state.odd):
                # Beyond the clock yesterday, and in its place today.
                held = np.isin(row_hashes(frame, self.names), state.odd)
                frame = frame.filter(pl.Series(~held))
            if frame.height:
                yield self._pulled(frame)

    def _odd(self, notes: list[Note]) -> Iterator[Pulled]:
        """Read rows whose cursor value has no place in the order; each comes once."""
        import numpy as np

        known, found, ahead = self.state.odd, nothing(), 0
        for chunk in self.reader.read(Want(self.order, Rows.ODD), self.names):
            self._frame = frame = chunk.frame
            hashes = row_hashes(frame, self.names)
            found = np.union1d(found, hashes)
            if len(found) > MAX_WINDOW_ROWS:
                raise self._too_many()
            new = pl.Series(~np.isin(hashes, known))
            ahead += int((new & frame[self.order[0]].is_not_null()).sum())
            yield from self._fresh(frame, hashes, known, odd=True)
        # What was remembered and is odd no more has its place now, or is gone.
        self.state = replace(self.state, odd=found)
        if ahead:
            notes.append(self._ahead(ahead))

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
        what = (
            Text(f"回看 {self.overlap:g} 的范围", f"overlap {self.overlap:g}")
            if self.overlap
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
            "现在先取来，以后变化时再取；游标停在这些行之前",
            f"rows with a value of {self.order[0]} beyond the database's clock "
            f"({self.reader.clock}): {count}; they come now, and again when they change; "
            "the cursor stays before them",
        )
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


def _checked(chunk: Chunk, order: tuple[str, ...], before: Position | None) -> Position:
    """Return the last position; a NULL or a value twice at a border could lose rows."""
    if chunk.null is not None:
        raise Misconfigured(
            Text(f"键列 {chunk.null} 有空值", f"the key column {chunk.null} holds NULL"),
            hint=Text("键列必须非空且唯一", "key columns are unique and never NULL"),
        )
    if before is not None and chunk.position(0) == before:
        raise Misconfigured(
            Text(
                f"键 {', '.join(order)} 不唯一：{before}",
                f"the key {', '.join(order)} is not unique: {before}",
            ),
            hint=Text("请在 key 中写全能唯一确定一行的列", "name columns in key that are unique"),
        )
    return chunk.last()
