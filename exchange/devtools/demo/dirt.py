"""Faults as departments' data has them, planted one to a record and counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import numpy as np
import polars as pl

PLACEHOLDER: Final = "00000000000000000X"
"""Stands for "none" in real credit data (domain.md §6)."""
_DIGITS: Final = "0123456789"
_FULL_WIDTH: Final = "０１２３４５６７８９"


class Dirt(StrEnum):
    """What is wrong with a record."""

    WRONG_CHECK_DIGIT = "wrong_check_digit"
    PLACEHOLDER = "placeholder"
    MISSING = "missing"
    CONDITION = "condition"
    """A value that others in the record call for is not there."""
    BAD_ORDER = "bad_order"
    """The end lies before the beginning."""
    IN_FUTURE = "in_future"
    UNKNOWN_CODE = "unknown_code"
    TOO_LONG = "too_long"
    FULL_WIDTH = "full_width"
    BAD_SHAPE = "bad_shape"
    OUT_OF_RANGE = "out_of_range"
    NOT_A_NUMBER = "not_a_number"
    NO_SUCH_DAY = "no_such_day"
    NUL = "nul"
    DUPLICATE = "duplicate"


@dataclass(frozen=True, slots=True)
class Fault:
    """A way to spoil a record: the new values by column, where it can be done at all."""

    kind: Dirt
    values: Mapping[str, pl.Expr]
    where: pl.Expr = field(default_factory=lambda: pl.lit(value=True))


def fault(kind: Dirt, column: str, value: str | pl.Expr | None) -> Fault:
    """Make the fault that puts ``value`` into ``column`` of a record that has one there."""
    new = value if isinstance(value, pl.Expr) else pl.lit(value, pl.String)
    return Fault(kind, {column: new}, pl.col(column).is_not_null())


def duplicate(key: Sequence[str]) -> Fault:
    """Make the fault of a record with the key of the one before."""
    return Fault(Dirt.DUPLICATE, {column: pl.col(column).shift(1) for column in key})


def wrong_check_digit(column: str) -> Fault:
    """Make the fault of a code whose last character is another."""
    last = pl.when(pl.col(column).str.ends_with("0")).then(pl.lit("1")).otherwise(pl.lit("0"))
    return fault(Dirt.WRONG_CHECK_DIGIT, column, pl.col(column).str.head(-1) + last)


def full_width(column: str) -> Fault:
    """Make the fault of digits typed with a Chinese keyboard."""
    return fault(
        Dirt.FULL_WIDTH, column, pl.col(column).str.replace_many(list(_DIGITS), list(_FULL_WIDTH))
    )


def plant(
    frame: pl.DataFrame, random: np.random.Generator, faults: Sequence[Fault], *, share: float
) -> tuple[pl.DataFrame, pl.Series]:
    """Spoil about ``share`` of the rows, at least one for each fault.

    Returns the frame and, for each row, its dirt by kind, null where it is clean.

    Only every second row is ever spoilt, so that the record before each is clean: a duplicate
    repeats a record that passes.
    """
    places = np.full(frame.height, -1)
    free = np.arange(frame.height) % 2 == 1
    quota = max(1, round(frame.height * share / len(faults)))
    for number, defect in enumerate(faults):
        possible = frame.select(defect.where.alias("possible") & pl.lit(pl.Series(free)))
        candidates = np.flatnonzero(possible.to_series().to_numpy())
        rows = random.choice(candidates, min(quota, len(candidates)), replace=False)
        places[rows] = number
        free[rows] = False
    place = pl.lit(pl.Series(places))
    spoilt = frame
    for number, defect in enumerate(faults):
        spoilt = spoilt.with_columns(
            pl.when(place == number).then(value).otherwise(column).alias(column)
            for column, value in defect.values.items()
        )
    kinds = pl.Series([*(defect.kind.value for defect in faults), None], dtype=pl.String)
    return spoilt, kinds.gather(np.where(places < 0, len(faults), places))
