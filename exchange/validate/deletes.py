"""Deletes on the wire: a record with operation D means its key; the rest may be blank.

The schema of a resource makes required fields plain types, which hold no null. A source that
deletes often knows the key only, so what is missing is written as the type's blank value; a
reader of operation D looks at the key fields and at nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, Final

import polars as pl

from exchange.catalog.frames import dtype
from exchange.catalog.model import OPERATION, Physical, Resource

_BLANK: Final[Mapping[Physical, Any]] = {
    Physical.STRING: "",
    Physical.LONG: 0,
    Physical.DECIMAL: 0,
    Physical.DATE: date(1970, 1, 1),
    Physical.TIMESTAMP: datetime(1970, 1, 1, tzinfo=UTC),
    Physical.BOOLEAN: False,
    Physical.DOUBLE: 0.0,
}


def blank_deletes(accepted: pl.DataFrame, resource: Resource) -> pl.DataFrame:
    """Return the accepted rows with the nulls of deletes blanked where the wire needs a value."""
    deletes = accepted[OPERATION] == "D"
    if not deletes.any():
        return accepted
    return accepted.with_columns(
        pl.when(deletes)
        .then(pl.col(field.name).fill_null(pl.lit(_BLANK[field.type.physical], dtype(field.type))))
        .otherwise(pl.col(field.name))
        .alias(field.name)
        for field in resource.fields
        if field.required
    )
