"""Compare a source's rows with the state that was delivered; write what leads to the new one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from exchange.catalog.model import OPERATION, Resource
from exchange.connect import Pulled
from exchange.errors import Misconfigured, Transient
from exchange.pipeline.difference.digests import KeyedRows, of_frame
from exchange.pipeline.difference.known import (
    ChangePart,
    KnownState,
    Places,
    StateWriter,
    write_frame,
)
from exchange.text import Text
from exchange.validate.source_frame import DEFECT, DELETE, as_text, source_columns
from exchange.validate.work import require_columns

PART_ROWS: Final = 65_536
"""Rows of a part, about."""
_HIGH, _LOW = "_difference_high", "_difference_low"
_TWIN: Final = "the key stands in several rows of the source, and one of them was delivered before"


class Comparison:
    """One reading of a source, against the state before (None: there is none)."""

    def __init__(
        self, folder: Path, resource: Resource, known: KnownState | None, sorted_rows: int
    ) -> None:
        """Write into a folder that is there.

        Raises Misconfigured where the rows before are known by another key.
        """
        if known is not None and known.contents.key != list(resource.key):
            raise _another_key(resource.name)
        self._folder = folder
        self._resource = resource
        self._known = known
        self._writer = StateWriter(folder, resource.key, sorted_rows)
        self._present = np.zeros(self.before, dtype=np.bool_)
        self._names = {name: column for column, name in resource.columns.items()}
        self._waiting: list[pl.DataFrame] = []
        self._place = ""
        self._parts: list[ChangePart] = []
        self._notes: list[dict[str, Any]] = []
        self._gone: np.ndarray[Any, np.dtype[np.intp]] | None = None
        self.now = 0
        """Rows that the source has."""

    @property
    def before(self) -> int:
        """Count the keys of the state before."""
        return 0 if self._known is None else len(self._known)

    @property
    def deleted(self) -> int:
        """Count the keys that are gone; asked when everything was taken."""
        return int(self.before - self._present.sum())

    @property
    def is_unchanged(self) -> bool:
        """Whether every row is there, as it was; asked when everything was taken."""
        changes = self._parts or self._waiting
        return self._known is not None and not changes and not self.deleted

    def take(self, pulled: Pulled) -> None:
        """Compare what the source brings.

        Raises Misconfigured where it cannot be compared, Transient where it is not whole yet.
        """
        if pulled.changes or pulled.next_pull:
            raise _no_whole_state()
        if pulled.unfinished:
            raise _unfinished()
        self._notes += [asdict(note) for note in pulled.notes]
        frame = _present(pulled.frame)
        if not frame.width:
            return
        require_columns(self._resource, frame)
        columns = source_columns(self._resource, frame.columns)
        if not frame.height:
            return
        self._names |= columns
        self.now += frame.height
        key = [columns[name] for name in self._resource.key]
        rows = of_frame(frame, key, [columns.get(field.name) for field in self._resource.fields])
        self._writer.add(rows)
        operations = self._operations(rows)
        frame = frame.with_columns(
            operations, pl.Series(_HIGH, rows.high), pl.Series(_LOW, rows.low)
        ).filter(operations.is_not_null())
        self._keep(frame, pulled.locator)

    def _operations(self, rows: KeyedRows) -> pl.Series:
        """Return I for a new row, U for a changed one, null for one that is as it was."""
        if self._known is None:
            return pl.Series(OPERATION, ["I"]).new_from_index(0, len(rows))
        places = self._known.find(rows)
        self._present[places[places >= 0]] = True
        same = self._known.same(places, rows)
        operations = np.where(places < 0, "I", "U")
        column = pl.Series(OPERATION, operations, dtype=pl.String)
        return column.set(pl.Series(same), None) if same.any() else column

    def _keep(self, frame: pl.DataFrame, locator: str) -> None:
        """Keep changed rows until there are enough for a part."""
        if not frame.height:
            return
        if self._waiting and (locator != self._place or frame.schema != self._waiting[0].schema):
            self._end_part()
        self._place = locator
        self._waiting.append(frame)
        if sum(item.height for item in self._waiting) >= PART_ROWS:
            self._end_part()

    def _end_part(self) -> None:
        if not self._waiting:
            return
        frame = pl.concat(self._waiting)
        self._waiting = []
        name = f"change{len(self._parts)}.arrow"
        write_frame(self._folder / name, frame)
        self._parts.append(ChangePart(name, self._place, frame.height))

    def finish(self, *, delete: bool) -> None:
        """Write the new state; with ``delete`` without the keys that are gone, else with them."""
        self._end_part()
        gone = np.flatnonzero(~self._present)
        deletions: list[ChangePart] = []
        for number, rows in enumerate(self._known.at(gone) if self._known else ()):
            if delete:
                deletions += self._deletions(number, rows)
            else:
                self._writer.add(rows)
        self._writer.finish()
        contents = self._writer.contents
        twins = self._writer.twins.all()
        changes = self._parts if twins is None else self._judged(*twins)
        contents.parts = deletions + changes
        contents.notes = self._notes if contents.parts else []
        contents.write(self._folder)

    def _deletions(self, number: int, rows: KeyedRows) -> list[ChangePart]:
        """Write the deletions of some keys; a row without a key cannot be deleted."""
        names = [self._names.get(name, name) for name in self._resource.key]
        frame = rows.texts.drop_nulls().rename(dict(zip(rows.texts.columns, names, strict=True)))
        if not frame.height:
            return []
        parts = []
        for start in range(0, frame.height, PART_ROWS):
            piece = frame[start : start + PART_ROWS]
            name = f"deletion{number}-{start}.arrow"
            write_frame(self._folder / name, piece.with_columns(pl.lit(DELETE).alias(OPERATION)))
            parts.append(ChangePart(name, "", piece.height))
        return parts

    def _judged(self, twins: KeyedRows, counts: Places) -> list[ChangePart]:
        """Write the parts again: a key that several rows have is judged by all of them.

        Rows of a key that has the same ones as before are dropped. The others are inserts, of
        which a pull takes the first and refuses the rest. Where one of them is as it was and so
        is not delivered, it stands, and the rest carry a defect.
        """
        known = self._known
        same = known.same(known.find(twins), twins) if known else np.zeros(len(twins), np.bool_)
        names = [_HIGH, _LOW]
        paths = [self._folder / part.file for part in self._parts]
        delivered = pl.concat(
            [pl.read_ipc(path, columns=names) for path in paths] or [_keys(twins)[:0]]
        )
        group = _keys(twins).with_columns(pl.Series("same", same), pl.Series("rows", counts))
        group = group.join(delivered.group_by(names).len(), on=names, how="left")
        parts = []
        for part, path in zip(self._parts, paths, strict=True):
            frame = pl.read_ipc(path)
            found = frame.select(names).join(group, on=names, how="left", maintain_order="left")
            path.unlink()
            frame = _as_twins(frame, found)
            if frame.height:
                write_frame(path, frame)
                parts.append(ChangePart(part.file, part.locator, frame.height))
        return parts


def _as_twins(frame: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """Judge rows by what is known of the others of their keys (null: there are no others)."""
    twin = found["rows"].is_not_null()
    if not twin.any():
        return frame
    defect = pl.when(found["len"] < found["rows"]).then(pl.lit(_TWIN))
    defects = [pl.col(DEFECT).cast(pl.String), defect] if DEFECT in frame.columns else [defect]
    operation = pl.when(twin).then(pl.lit("I")).otherwise(pl.col(OPERATION))
    return frame.with_columns(
        pl.coalesce(defects).alias(DEFECT), operation.alias(OPERATION)
    ).filter(~found["same"].fill_null(value=False))


def changes_of(part: Path) -> pl.DataFrame:
    """Read a part of the changes as it is delivered."""
    return pl.read_ipc(part).drop(_HIGH, _LOW, strict=False)


def _keys(rows: KeyedRows) -> pl.DataFrame:
    return pl.DataFrame({_HIGH: rows.high, _LOW: rows.low})


def _present(frame: pl.DataFrame) -> pl.DataFrame:
    """Leave out what the source itself marks as deleted."""
    if OPERATION not in frame.columns:
        return frame
    deleted = as_text(frame[OPERATION]).str.strip_chars() == DELETE
    return frame.filter(~deleted.fill_null(value=False)).drop(OPERATION)


def _another_key(resource: str) -> Misconfigured:
    return Misconfigured(
        Text(
            f"资源 {resource} 的主键已改变，无法与上次送出的状态比对",
            f"the key of {resource} has changed: there is no comparing with what was delivered",
        ),
        hint=Text(
            "用 exchange source rewind 数据源 --to-beginning --apply 全部重送",
            "deliver everything again: exchange source rewind SOURCE --to-beginning --apply",
        ),
    )


def _no_whole_state() -> Misconfigured:
    return Misconfigured(
        Text(
            "该数据源只给出变化，不能再做快照比对",
            "this source gives changes only: there is no whole state to compare",
        ),
        hint=Text(
            "去掉 difference，或去掉 cursor_column 等增量设置",
            "drop `difference`, or what makes the source incremental, such as cursor_column",
        ),
    )


def _unfinished() -> Transient:
    return Transient(
        Text("来源正在更新，尚不完整", "the source is being written and is not whole yet"),
        hint=Text("下次拉取自动继续", "the next pull looks again"),
    )


__all__: Sequence[str] = ("PART_ROWS", "Comparison", "changes_of")
