"""Reasons as data: for each refused row a list of struct (rule, field, value, zh, en)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from exchange.validate.checks import CompiledRule, source
from exchange.validate.source_frame import REASONS

MAX_VALUE: Final = 200
"""Characters of a value that a reason repeats; the record itself is kept beside it."""

REASON: Final = pl.Struct(dict.fromkeys(("rule", "field", "value", "zh", "en"), pl.String()))


@dataclass(frozen=True, slots=True)
class ReasonColumn:
    """The column of reasons, and how many each rule gave."""

    column: pl.Series
    counts: Mapping[str, int]


def tell(
    bad: pl.DataFrame, checks: Sequence[CompiledRule], flags: Sequence[npt.NDArray[np.bool_]]
) -> ReasonColumn:
    """Write down each failed check of each row, in the order of the checks.

    ``flags`` has one array per check over the rows of ``bad``, whose source columns are text.
    """
    if bad.is_empty():
        return ReasonColumn(pl.Series(REASONS, [], dtype=pl.List(REASON)), {})
    failed = [place for place, flag in enumerate(flags) if flag.any()]
    rows = [np.flatnonzero(flags[place]) for place in failed]
    values: list[str | None] = []
    for place, row_values in zip(failed, rows, strict=True):
        values += _values(bad, checks[place].fields, row_values.tolist())
    row = np.concatenate(rows)
    check = np.repeat(np.arange(len(failed)), [row_values.size for row_values in rows])
    texts = {
        "rule": [checks[place].rule for place in failed],
        "field": [",".join(checks[place].fields) for place in failed],
        "zh": [checks[place].text.zh for place in failed],
        "en": [checks[place].text.en for place in failed],
    }
    columns = {name: pl.Series(column, dtype=pl.String)[check] for name, column in texts.items()}
    reasons = pl.DataFrame(columns | {"value": pl.Series(values, dtype=pl.String)})
    reason_lists = (
        pl.DataFrame({"row": row, "reason": reasons.select(*REASON.to_schema()).to_struct()})
        .sort("row", maintain_order=True)
        .group_by("row", maintain_order=True)
        .agg("reason")
    )
    counts = {
        f"{rule}:{field}" if "," not in field else rule: row_values.size
        for rule, field, row_values in zip(texts["rule"], texts["field"], rows, strict=True)
    }
    return ReasonColumn(reason_lists["reason"].alias(REASONS), counts)


def _values(bad: pl.DataFrame, fields: Sequence[str], rows: list[int]) -> list[str | None]:
    """Show what the source said: the value, or ``a=1; b=2`` for several fields."""
    columns = [bad[source(name)].to_list() for name in fields]
    if len(columns) == 1:
        return [_bounded(columns[0][row]) for row in rows]
    pairs = list(zip(fields, columns, strict=True))
    return [
        _bounded("; ".join(f"{name}={column[row] or ''}" for name, column in pairs)) for row in rows
    ]


def _bounded(value: str | None) -> str | None:
    return value if value is None else value[:MAX_VALUE]
