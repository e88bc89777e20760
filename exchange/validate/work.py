"""A chunk laid out for the checks: source columns found by name, blanks emptied, types made."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from exchange.catalog.model import OPERATION, TODAY, Field, Physical, Resource
from exchange.errors import Misconfigured
from exchange.text import Text, suggest
from exchange.validate.checks import digits, source
from exchange.validate.convert import convert
from exchange.validate.digits import KERNELS
from exchange.validate.reasons import COLUMN
from exchange.validate.screen import screen

ROW: Final = "_row"
"""Reserved column: 1-based position of the record in its file."""
DEFECT: Final = "_defect"
"""Reserved column: what the connector found broken about the record; null when nothing."""
RESERVED: Final = frozenset({ROW, DEFECT, OPERATION, COLUMN})

OPERATIONS: Final = pl.Enum(["I", "U", "D"])
INSERT: Final = "I"
DELETE: Final = "D"


def source_columns(resource: Resource, columns: Collection[str]) -> Mapping[str, str]:
    """Find the source column of each field: by the catalog's mapping, else by its own name."""
    found = {name: column for column, name in resource.columns.items() if column in columns}
    for field in resource.fields:
        if field.name in columns and field.name not in resource.columns:
            found.setdefault(field.name, field.name)
    return found


def absent_columns(resource: Resource, columns: Collection[str]) -> Mapping[str, str]:
    """Return columns that the catalog names and the source lacks, each with its field.

    Of optional fields: without the others nothing is sealed.
    """
    found = source_columns(resource, columns)
    wanted = {name: column for column, name in resource.columns.items()}
    return {
        wanted.get(field.name, field.name): field.name
        for field in resource.fields
        if field.name not in found and not field.required and field.name not in resource.key
    }


def _require(resource: Resource, found: Mapping[str, str], frame: pl.DataFrame) -> None:
    """Raise :class:`Misconfigured` when a field that every record must have has no column."""
    missing = [
        field
        for field in resource.fields
        if field.name not in found and (field.required or field.name in resource.key)
    ]
    if missing and not frame.is_empty() and only_deletes(frame):
        missing = [field for field in missing if field.name in resource.key]
    if missing and frame.width > 0:
        raise _missing(resource, missing, set(frame.columns) - set(found.values()) - RESERVED)


def only_deletes(frame: pl.DataFrame) -> bool:
    """Tell whether all records are withdrawals, which need nothing but the key."""
    if OPERATION not in frame.columns or frame[OPERATION].dtype.base_type() not in {
        pl.String,
        pl.Enum,
        pl.Categorical,
    }:
        return False
    return bool((frame[OPERATION].cast(pl.String) == DELETE).fill_null(value=False).all())


def _missing(resource: Resource, needed: list[Field], unused: set[str]) -> Misconfigured:
    wanted = {name: column for column, name in resource.columns.items()}
    columns = [wanted.get(field.name, field.name) for field in needed]
    listed = "、".join(
        f"{column}（{field.title}）" for column, field in zip(columns, needed, strict=True)
    )
    near = suggest(columns[0], unused)
    return Misconfigured(
        Text(
            f"来源缺少资源 {resource.name} 的必填列：{listed}",
            f"the source lacks required columns of {resource.name}: {', '.join(columns)}",
        ),
        hint=Text(
            f"{columns[0]} {near.zh} 在目录的 columns 中写明“来源列: 字段”，或在来源中补上该列",
            f"{columns[0]}: {near.en} Map it under columns (source column: field) in the catalog, "
            "or add it at the source",
        ),
    )


class Work:
    """One chunk: typed columns, source columns, kernels' verdicts, and notes for the result."""

    def __init__(self, resource: Resource, frame: pl.DataFrame, zone: str, today: date) -> None:
        found = source_columns(resource, frame.columns)
        _require(resource, found, frame)
        self.height = frame.height
        self.ignored = tuple(
            column
            for column in frame.columns
            if column not in RESERVED and column not in found.values()
        )
        self.typed: list[pl.Series] = []
        self.suspects: set[str] = set()
        """Fields whose text may hold control characters."""
        self.coarsened: dict[str, int] = {}
        self._sources: list[pl.Series] = []
        self._digits: list[pl.Series] = []
        self.operations = self._operations(frame)
        self._sources.append(_defects(frame))
        for field in resource.fields:
            self._add(field, frame[found[field.name]] if field.name in found else None, zone)
        self.frame = pl.DataFrame(
            [self.operations, *self.typed, *self._sources, *self._digits]
        ).with_columns(pl.lit(today).alias(TODAY))

    def texts(self, rows: npt.NDArray[np.intp]) -> pl.DataFrame:
        """Return these rows of the chunk with what the source said as text."""
        some = self.frame[rows]
        return some.with_columns(
            as_text(some[values.name]) for values in self._sources if values.dtype != pl.String
        )

    def _add(self, field: Field, values: pl.Series | None, zone: str) -> None:
        if values is None:
            values = pl.Series(field.name, [None], dtype=pl.String).new_from_index(0, self.height)
        values = values.alias(field.name)
        if values.dtype == pl.String:
            screened = screen(values)
            values = screened.values
            if screened.controls and field.type.physical is Physical.STRING:
                self.suspects.add(field.name)
        converted = convert(values, field.type, zone=zone)
        self.typed.append(converted.values)
        self._sources.append(values.alias(source(field.name)))
        if converted.coarsened:
            self.coarsened[field.name] = converted.coarsened
        if field.type.check is not None:
            verdicts = KERNELS[field.type.check](converted.values)
            self._digits.append(pl.Series(digits(field.name), verdicts))

    def _operations(self, frame: pl.DataFrame) -> pl.Series:
        """Return 操作类型 of each row: insert where nothing is said, null where it is unknown."""
        if OPERATION not in frame.columns:
            said = pl.Series(OPERATION, [INSERT], dtype=pl.String).new_from_index(0, self.height)
        else:
            said = screen(as_text(frame[OPERATION])).values.fill_null(INSERT)
        self._sources.append(said.alias(source(OPERATION)))
        return said.cast(OPERATIONS, strict=False)


def _defects(frame: pl.DataFrame) -> pl.Series:
    """Return what the connector found broken about each record."""
    if DEFECT in frame.columns:
        return as_text(frame[DEFECT]).alias(source(DEFECT))
    none = pl.Series(source(DEFECT), [None], dtype=pl.String)
    return none.new_from_index(0, frame.height)


def as_text(values: pl.Series) -> pl.Series:
    """Write any column as text; whatever has no text of its own in the library, as Python does."""
    if values.dtype == pl.String:
        return values
    if values.dtype.is_numeric() or values.dtype in (pl.Null, pl.Enum, pl.Categorical):
        return values.cast(pl.String)
    texts = [None if value is None else str(value) for value in values.to_list()]
    return pl.Series(values.name, texts, dtype=pl.String)
