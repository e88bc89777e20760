"""Records as text for a person: one line a field, personal data masked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import polars as pl

from exchange.catalog.masking import HIDDEN, mask_field
from exchange.catalog.model import OPERATION, Resource
from exchange.validate.source_frame import ROW, as_text, source_columns

_OPEN = frozenset({ROW, OPERATION})
"""Columns of ours that say nothing about anybody."""


def masked(frame: pl.DataFrame, resource: Resource) -> list[dict[str, str]]:
    """Mask a source's rows by the fields they fill; what the catalog does not name is hidden."""
    fields = {column: name for name, column in source_columns(resource, frame.columns).items()}
    columns: dict[str, list[str]] = {}
    for name in frame.columns:
        texts = [text or "" for text in as_text(frame[name]).to_list()]
        if name in fields:
            field = resource.field(fields[name])
            texts = [mask_field(field, text) for text in texts]
        elif name not in _OPEN:
            texts = [HIDDEN if text else "" for text in texts]
        columns[name] = texts
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def lines(values: Mapping[str, str], titles: Mapping[str, str]) -> Iterator[str]:
    """Write a record, empty values left out."""
    for name, value in values.items():
        if value:
            title = titles.get(name)
            yield f"    {name}{f' {title}' if title else ''} = {value}"
