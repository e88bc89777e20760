"""A check that a library's exception ends: the records at fault apart, the others go on.

Compiled checks raise nothing. Should a library raise all the same, its exception must not stop
the resource: the same message would fail again with every attempt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import polars as pl

from exchange.catalog.frames import frame_schema
from exchange.catalog.model import OPERATION, Resource
from exchange.errors import ExchangeError
from exchange.text import Text
from exchange.validate.claimed_keys import ClaimedKeys
from exchange.validate.oversized import refuse_all
from exchange.validate.reasons import REASON
from exchange.validate.source_frame import REASONS
from exchange.validate.validator import CheckResult
from exchange.validate.work import OPERATIONS

CHECK_FAILED: Final = "check.failed"
"""Rule of a record that a library could not check."""
MAX_CHECKS: Final = 2_000
"""Checks spent on a message; what is not told apart then is refused as a whole."""

FrameCheck = Callable[[pl.DataFrame, ClaimedKeys], CheckResult]
_OURS: Final = (ExchangeError, OSError, MemoryError)


def check_isolated(
    check: FrameCheck,
    resource: Resource,
    frame: pl.DataFrame,
    claimed: ClaimedKeys,
    *,
    most: int = MAX_CHECKS,
) -> CheckResult:
    """Check records; those at which a library raises are refused, with the exception's type.

    Errors of ours, of I/O and of memory pass through. A failure costs about 2 log2(rows) checks
    a record, ``most`` of them in all.
    """
    parts: list[tuple[int, CheckResult]] = []
    ranges, failure = [(0, frame.height)], ""
    while ranges:
        start, rows = ranges.pop()
        part, result = frame[start : start + rows], None
        if most > 0:
            most -= 1
            try:
                result = check(part, claimed)
            except _OURS:
                raise
            except (Exception, pl.exceptions.PanicException) as error:  # noqa: BLE001 - any library's
                failure = type(error).__name__
        if result is None and rows > 1 and most > 0:
            half = rows // 2
            ranges += [(start + half, rows - half), (start, half)]
            continue
        if result is None:
            why = _why(failure)
            result = refuse_all(_nothing(resource, part, claimed), part, why, rule=CHECK_FAILED)
        claimed = result.claimed
        parts.append((start, result))
    return _joined(parts)


def _why(failure: str) -> Text:
    return Text(
        f"检查这条记录时程序出错（{failure}）；记录原样保留，请报告此问题，程序更新后重新送检",
        f"the program failed at this record ({failure}); it is kept as it is: report this, and "
        "send it through again when the program is mended",
    )


def _nothing(resource: Resource, frame: pl.DataFrame, claimed: ClaimedKeys) -> CheckResult:
    """Return the verdict on no records."""
    schema = {OPERATION: OPERATIONS, **frame_schema(resource.fields)}
    reasons = pl.Series(REASONS, [], dtype=pl.List(REASON))
    none = np.zeros(0, dtype=np.intp)
    return CheckResult(
        accepted=pl.DataFrame(schema=schema),
        accepted_rows=none,
        rejected=frame.drop(REASONS, strict=False).clear().with_columns(reasons),
        rejected_rows=none,
        counts={},
        ignored_columns=(),
        coarsened={},
        claimed=claimed,
    )


def _joined(parts: Sequence[tuple[int, CheckResult]]) -> CheckResult:
    """Return the verdict on a whole chunk from those on its parts, in order."""
    if len(parts) == 1:
        return parts[0][1]
    results = [result for _, result in parts]
    return CheckResult(
        accepted=pl.concat(result.accepted for result in results),
        accepted_rows=np.concatenate([r.accepted_rows + start for start, r in parts]),
        rejected=pl.concat(result.rejected for result in results),
        rejected_rows=np.concatenate([r.rejected_rows + start for start, r in parts]),
        counts=_sums([result.counts for result in results]),
        ignored_columns=tuple(dict.fromkeys(c for r in results for c in r.ignored_columns)),
        coarsened=_sums([result.coarsened for result in results]),
        claimed=results[-1].claimed,
    )


def _sums(counts: Sequence[Mapping[str, int]]) -> Mapping[str, int]:
    total: Counter[str] = Counter()
    for part in counts:
        total.update(part)
    return dict(total)
