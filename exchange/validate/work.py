"""A chunk laid out for the checks: source columns found by name, blanks emptied, types made."""

from __future__ import annotations

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
from exchange.validate.screen import screen
from exchange.validate.source_frame import (
    DEFECT,
    RESERVED,
    as_text,
    only_deletes,
    source_columns,
)

OPERATIONS: Final = pl.Enum(["I", "U", "D"])
INSERT: Final = "I"


def require_columns(resource: Resource, frame: pl.DataFrame) -> None:
    """Raise :class:`Misconfigured` when a field that every record must have has no column."""
    columns = source_columns(resource, frame.columns)
    missing = [
        field
        for field in resource.fields
        if field.name not in columns and (field.required or field.name in resource.key)
    ]
    if missing and only_deletes(frame):
        missing = [field for field in missing if field.name in resource.key]
    if missing and frame.width > 0:
        raise _missing(resource, missing, set(frame.columns) - set(columns.values()) - RESERVED)


def _missing(resource: Resource, needed: list[Field], unused: set[str]) -> Misconfigured:
    names = {name: column for column, name in resource.columns.items()}
    columns = [names.get(field.name, field.name) for field in needed]
    name_list = "、".join(
        f"{column}（{field.title}）" for column, field in zip(columns, needed, strict=True)
    )
    near = suggest(columns[0], unused)
    return Misconfigured(
        Text(
            f"来源缺少资源 {resource.name} 的必填列：{name_list}",
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
        columns = source_columns(resource, frame.columns)
        require_columns(resource, frame)
        self.height = frame.height
        self.ignored = tuple(
            column
            for column in frame.columns
            if column not in RESERVED and column not in columns.values()
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
            self._add(field, frame[columns[field.name]] if field.name in columns else None, zone)
        self.frame = pl.DataFrame(
            [self.operations, *self.typed, *self._sources, *self._digits]
        ).with_columns(pl.lit(today).alias(TODAY))

    def texts(self, rows: npt.NDArray[np.intp]) -> pl.DataFrame:
        """Return these rows of the chunk with what the source said as text."""
        part = self.frame[rows]
        return part.with_columns(
            as_text(part[values.name]) for values in self._sources if values.dtype != pl.String
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
            operations = pl.Series(OPERATION, [INSERT], dtype=pl.String).new_from_index(
                0, self.height
            )
        else:
            operations = screen(as_text(frame[OPERATION])).values.fill_null(INSERT)
        self._sources.append(operations.alias(source(OPERATION)))
        return operations.cast(OPERATIONS, strict=False)


def _defects(frame: pl.DataFrame) -> pl.Series:
    """Return what the connector found broken about each record."""
    if DEFECT in frame.columns:
        return as_text(frame[DEFECT]).alias(source(DEFECT))
    none = pl.Series(source(DEFECT), [None], dtype=pl.String)
    return none.new_from_index(0, frame.height)
