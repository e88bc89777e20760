"""A frame as a source gave it: reserved columns, the columns of fields, values as text."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import polars as pl

from exchange.catalog.model import OPERATION, Resource

ROW: Final = "_row"
"""Reserved column: 1-based position of the record in its file."""
DEFECT: Final = "_defect"
"""Reserved column: what the connector found broken about the record; null when nothing."""
REASONS: Final = "_reasons"
"""Reserved column: why a record is refused."""
VERSION: Final = "_exchange_version"
"""Reserved column: when a refused record came first, as a number that rises in its partition."""
RESERVED: Final = frozenset({ROW, DEFECT, OPERATION, REASONS, VERSION})
DELETE: Final = "D"


def source_columns(resource: Resource, columns: Collection[str]) -> Mapping[str, str]:
    """Find the source column of each field: by the catalog's mapping, else by its own name.

    White space in titles compares equal, where that is clear: nobody can write a line end of a
    spreadsheet's header into the catalog.
    """
    titles = _titles(columns)
    matches = {
        name: titles[_squeezed(column)] if column not in columns else column
        for column, name in resource.columns.items()
        if column in columns or _squeezed(column) in titles
    }
    for field in resource.fields:
        if field.name in columns and field.name not in resource.columns:
            matches.setdefault(field.name, field.name)
    return matches


def _squeezed(title: str) -> str:
    return "".join(title.split())


def _titles(columns: Collection[str]) -> Mapping[str, str]:
    """Return the columns by their titles without white space, but those of which two are alike."""
    alike: dict[str, list[str]] = {}
    for column in columns:
        alike.setdefault(_squeezed(column), []).append(column)
    return {title: names[0] for title, names in alike.items() if len(names) == 1}


def absent_columns(resource: Resource, columns: Collection[str]) -> Mapping[str, str]:
    """Return columns that the catalog names and the source lacks, each with its field.

    Of optional fields: without the others nothing is sealed.
    """
    matches = source_columns(resource, columns)
    names = {name: column for column, name in resource.columns.items()}
    return {
        names.get(field.name, field.name): field.name
        for field in resource.fields
        if field.name not in matches and not field.required and field.name not in resource.key
    }


def missing_columns(resource: Resource, columns: Collection[str]) -> Mapping[str, str]:
    """Return columns of required fields that the source lacks, each with its field."""
    present = source_columns(resource, columns)
    wanted = {name: column for column, name in resource.columns.items()}
    return {
        wanted.get(field.name, field.name): field.name
        for field in resource.fields
        if field.name not in present and (field.required or field.name in resource.key)
    }


def only_deletes(frame: pl.DataFrame) -> bool:
    """Tell whether all records are withdrawals, which need nothing but the key."""
    if OPERATION not in frame.columns or frame[OPERATION].dtype.base_type() not in {
        pl.String,
        pl.Enum,
        pl.Categorical,
    }:
        return False
    return bool((frame[OPERATION].cast(pl.String) == DELETE).fill_null(value=False).all())


def as_text(values: pl.Series) -> pl.Series:
    """Write any column as text, whatever it holds: columns of any library, years of any size.

    Days and instants as Python writes them; a year that the library cannot write, as the number
    of days, or of the units of an instant, since 1970.
    """
    kind = values.dtype
    if kind == pl.String:
        return values
    if kind.is_numeric() or kind in (pl.Null, pl.Enum, pl.Categorical):
        return values.cast(pl.String)
    if kind == pl.Date or isinstance(kind, pl.Datetime):
        return _times_as_text(values)
    try:
        texts = [None if value is None else str(value) for value in values.to_list()]
    except (ValueError, OverflowError):
        physical = values.to_physical().to_list()
        texts = [None if value is None else str(value) for value in physical]
    return pl.Series(values.name, texts, dtype=pl.String)


def _times_as_text(values: pl.Series) -> pl.Series:
    written = pl.col("value")
    form = "%Y-%m-%d"
    if isinstance(values.dtype, pl.Datetime):
        zone = "%:z" if values.dtype.time_zone else ""
        form += f" %H:%M:%S%.{_DIGITS[values.dtype.time_unit]}f{zone}"
    whole = "[.]0+(|[+-][0-9:]+)$"
    frame = values.to_frame("value").with_columns(sized=written.dt.year().is_not_null())
    text = pl.when("sized").then(written).dt.to_string(form).str.replace(whole, "$1")
    texts = frame.select(text.fill_null(written.to_physical().cast(pl.String)))
    return texts.to_series().alias(values.name)


_DIGITS: Final = {"ms": 6, "us": 6, "ns": 9}
"""Decimals of a second."""
