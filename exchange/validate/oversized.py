"""Records that cannot be checked or cannot travel: refused with a reason, and cut where too large.

Nothing is dropped: a record that fits no message is kept with its long values cut and marked as
broken at its source, so that it cannot pass a check later as something it was not.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from exchange.text import Text
from exchange.validate.reasons import REASON
from exchange.validate.source_frame import DEFECT, REASONS, as_text
from exchange.validate.validator import CheckResult

_KEPT: Final = 100_000
"""Characters that stay of a record, shared among its columns."""
_LONGEST: Final = 1_000
"""Characters that stay of a value."""


def shorten_values(records: pl.DataFrame, size: int) -> pl.DataFrame:
    """Return records of ``size`` bytes with long values cut and a defect that says so.

    What is neither text, number, time nor boolean becomes text. Reasons stay as they are.
    """
    longest = min(_LONGEST, max(1, _KEPT // max(1, records.width)))
    columns = [
        column
        if column.name in (REASONS, DEFECT) or _is_short(column)
        else _shorten(column, longest)
        for column in records
    ]
    note = f"the record has {size} bytes, more than a message carries: long values are cut"
    earlier = records[DEFECT].to_list() if DEFECT in records.columns else [None] * records.height
    defects = [note if old is None else f"{str(old)[:_LONGEST]}; {note}" for old in earlier]
    return pl.DataFrame(columns).with_columns(pl.Series(DEFECT, defects, dtype=pl.String))


TOO_LARGE: Final = (
    "record.size",
    Text("记录过大，无法放入一个批次", "the record is too large for a batch"),
)
"""Rule and text of a record that fits no batch."""
COLUMNS: Final = "columns"
"""Rule of a record without the columns of the catalog."""


def refuse(
    result: CheckResult, frame: pl.DataFrame, flags: npt.NDArray[np.bool_], rule: str, why: Text
) -> CheckResult:
    """Move the accepted records with a flag to the refused ones, in the input's order."""
    rows = result.accepted_rows[flags]
    extra = _with_reason(frame[rows], rule, why)
    every = np.concatenate((result.rejected_rows, rows))
    order = np.argsort(every, kind="stable")
    return replace(
        result,
        accepted=result.accepted.filter(pl.Series(~flags)),
        accepted_rows=result.accepted_rows[~flags],
        rejected=pl.concat([result.rejected, extra])[order],
        rejected_rows=every[order],
        counts={**result.counts, rule: rows.size},
    )


def add_reason(
    result: CheckResult, flags: npt.NDArray[np.bool_], rule: str, why: Text
) -> CheckResult:
    """Give the refused records with a flag one more reason."""
    rejected = result.rejected
    more = _with_reason(rejected, rule, why)[REASONS].alias("more")
    reasons = (
        pl.when(pl.Series(flags)).then(pl.concat_list(REASONS, more)).otherwise(pl.col(REASONS))
    )
    return replace(result, rejected=rejected.with_columns(reasons.alias(REASONS)))


def refuse_all(
    nothing: CheckResult, frame: pl.DataFrame, why: Text, *, rule: str = COLUMNS
) -> CheckResult:
    """Refuse every record of a chunk, as one whose columns are not those of the catalog.

    ``nothing``: the verdict on no rows. The records can be replayed once the catalog fits.
    """
    return replace(
        nothing,
        rejected=_with_reason(frame, rule, why),
        rejected_rows=np.arange(frame.height),
        counts={rule: frame.height} if frame.height else {},
    )


def _with_reason(records: pl.DataFrame, rule: str, why: Text) -> pl.DataFrame:
    reason = {"rule": rule, "field": "", "value": None, "zh": why.zh, "en": why.en}
    reasons = pl.Series(REASONS, [[reason]] * records.height, dtype=pl.List(REASON))
    return records.drop(REASONS, strict=False).with_columns(reasons)


def _is_short(column: pl.Series) -> bool:
    return column.dtype.is_numeric() or column.dtype.is_temporal() or column.dtype == pl.Boolean


def _shorten(column: pl.Series, longest: int) -> pl.Series:
    text = as_text(column)
    return (
        pl.select(
            pl.when(text.str.len_chars() > longest)
            .then(text.str.slice(0, longest - 1) + "…")
            .otherwise(text)
        )
        .to_series()
        .alias(column.name)
    )
