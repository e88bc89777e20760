"""Guess the business type of one column; the validator's own checks count what fits.

A type whose values prove themselves (check digits, the form of a date) is guessed from the
values, one that anything could be (a region, a bank card) only where the title says so too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Final

import polars as pl

from exchange.catalog.masking import mask
from exchange.catalog.model import CodeTable, Department, Field, Resource
from exchange.catalog.types import MAX_PRECISION, MAX_TEXT, parse_type
from exchange.validate.draft.words import PERSON, PROVINCES, hints
from exchange.validate.screen import BLANK
from exchange.validate.source_frame import as_text
from exchange.validate.validator import Validator, compile_resource

MAX_ROWS: Final = 20_000
"""Rows of a source that are looked at."""
MAX_CODES: Final = 30
"""Different values of what may be a code table."""
MAX_CODE_CHARS: Final = 30
EXACT_DIGITS: Final = 15
"""Longer digits are codes: spreadsheets keep no more of a number."""

_MIN_RULE: Final = 10
"""Values from which a small set of them is no accident."""
_MAX_MASKED: Final = 500
"""Values that are searched for personal data."""
_LENGTHS: Final = (10, 20, 50, 100, 200, 500, 1000, 2000, 4000, 10_000, 40_000, MAX_TEXT)
_LEAST: Final[Mapping[str, int]] = {"person": 50, "address": 200, "id_number": 50, "free_text": 500}
_HEX: Final = (32, 40, 64)
_MIN_DIGITS: Final = 4
_REGION_DIGITS: Final = 6
_TABLE: Final = "values"


@dataclass(frozen=True, slots=True)
class SourceColumn:
    """What a source says about a column; unknown parts are empty."""

    name: str
    type: str = ""
    comment: str = ""
    nullable: bool = True
    max_chars: int | None = None


@dataclass(frozen=True, slots=True)
class Guess:
    """A business type, and the share of the values that fit it; None: there were no values."""

    type: str
    share: float | None
    codes: tuple[str, ...] = ()
    """Codes of its table, where the type is a code; ``type`` is then ``code``."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A type, and from which share on it is taken: by the values alone, and with a hint."""

    type: str
    alone: float
    hinted: float
    hint: str = ""

    def threshold(self, kinds: frozenset[str]) -> float:
        return self.hinted if (self.hint or self.type) in kinds else self.alone


_NEVER: Final = 2.0
_CANDIDATES: Final = (
    _Candidate("resident_id", 0.6, 0.3),
    _Candidate("uscc", 0.6, 0.3),
    _Candidate("licence_id", 0.6, 0.3),
    _Candidate("email", 0.8, 0.5),
    _Candidate("mobile", 0.8, 0.5),
    _Candidate("phone", _NEVER, 0.5),
    _Candidate("bank_card", _NEVER, 0.8),
    _Candidate("region", _NEVER, 0.8),
    _Candidate("boolean", _NEVER, 0.8),
    _Candidate("date", 0.8, 0.5),
    _Candidate("datetime", 0.8, 0.5),
)
_NUMBER: Final = 0.8
_HINTED_NUMBER: Final = 0.5


def guess(values: pl.Series, column: SourceColumn, *, today: date) -> Guess:
    """Guess the type of a column from its first values (bounded) and its title."""
    kinds = hints(column.name, column.comment)
    present = _present(values)
    if present.is_empty():
        return Guess(_unseen(column, kinds), None)
    fit = _Fit(present, today)
    kind = present.dtype
    if kind == pl.String:
        return _of_text(fit, column, kinds)
    if kind.is_integer():
        return _of_integers(fit, kinds)
    if kind.is_float():
        return _of_floats(fit)
    return fit.of(_SAME.get(kind.base_type()) or _exact(present, column))


def _present(values: pl.Series) -> pl.Series:
    """Return the values that there are: a blank cell is none."""
    if values.dtype in (pl.Categorical, pl.Enum):
        values = values.cast(pl.String)
    if values.dtype == pl.String:
        values = values.filter((values.str.strip_chars(BLANK) != "").fill_null(value=False))
    return values.drop_nulls().alias("value")


class _Fit:
    """Counts how many values of a column fit a type."""

    def __init__(self, values: pl.Series, today: date) -> None:
        self.values = values
        self.today = today

    def share(self, spec: str, codes: tuple[str, ...] = ()) -> float:
        """Return the share of the values that the validator takes as this type."""
        validator = _validator(spec, codes)
        failing = validator.failing(self.values.to_frame(), today=self.today)
        return 1 - int(failing.sum()) / len(self.values)

    def of(self, spec: str) -> Guess:
        """Return the guess of a type, with its share."""
        return Guess(spec, self.share(spec))

    def first(self, candidates: Iterable[_Candidate], kinds: frozenset[str]) -> Guess | None:
        """Return the first candidate that enough values fit."""
        for candidate in candidates:
            threshold = candidate.threshold(kinds)
            if threshold <= 1 and (share := self.share(candidate.type)) >= threshold:
                return Guess(candidate.type, share)
        return None


@lru_cache(maxsize=64)
def _validator(spec: str, codes: tuple[str, ...]) -> Validator:
    """Compile a resource of one field; the same few types are asked for every column."""
    tables = {_TABLE: CodeTable(name=_TABLE, title="-", values={code: code for code in codes})}
    field = Field(name="value", title="-", type=parse_type(spec))
    nobody = Department(id="-", code="-", name="-")
    resource = Resource(name="-", code="-", title="-", department=nobody, fields=(field,), key=())
    return compile_resource(resource, tables)


def _of_text(fit: _Fit, column: SourceColumn, kinds: frozenset[str]) -> Guess:
    values = fit.values
    if match := fit.first(_CANDIDATES, kinds):
        return match
    if _is_region(values, kinds):
        return fit.of("region")
    kind = _text_kind(values, kinds)
    if kind not in {"person", "address"} and (codes := _codes(values, kinds)):
        return Guess("code", fit.share(f"code({_TABLE})", codes), codes)
    for guessed in (_number(fit, kinds), _fixed(fit, kinds)):
        if guessed is not None:
            return guessed
    return fit.of(_text_type(values, column, kind))


def _text_kind(values: pl.Series, kinds: frozenset[str]) -> str:
    """Tell which text it is: names and addresses are personal data, and masked."""
    if "person" in kinds:
        return "person"
    if "address" in kinds:
        return "address"
    if "id_number" in kinds:
        return "id_number"
    names = values.str.contains(PERSON).mean()
    if "name" not in kinds and isinstance(names, float) and names >= 0.8:  # noqa: PLR2004
        return "person"
    sample = values.unique(maintain_order=True).head(_MAX_MASKED)
    if any(mask("free_text", text) != text for text in sample.to_list()):
        return "free_text"
    return "text"


def _of_integers(fit: _Fit, kinds: frozenset[str]) -> Guess:
    candidates = [c for c in _CANDIDATES if c.type in {"mobile", "phone", "region", "boolean"}]
    if match := fit.first(candidates, kinds):
        return match
    if "date" in kinds and (share := fit.share("date")) >= _NUMBER:
        return Guess("date", share)
    if "code" in kinds and (codes := _codes(fit.values.cast(pl.String), kinds)):
        return Guess("code", fit.share(f"code({_TABLE})", codes), codes)
    return fit.of("integer")


def _of_floats(fit: _Fit) -> Guess:
    if (share := fit.share("integer")) == 1:
        return Guess("integer", share)
    spec = _decimal(as_text(fit.values))
    if spec is not None and (share := fit.share(spec)) == 1:
        return Guess(spec, share)
    return fit.of("double")


_SAME: Final = {pl.Boolean: "boolean", pl.Date: "date", pl.Datetime: "datetime"}


def _exact(values: pl.Series, column: SourceColumn) -> str:
    kind = values.dtype
    if not isinstance(kind, pl.Decimal):
        return _text_type(as_text(values), column)
    scale = kind.scale or 0
    precision = min(kind.precision or MAX_PRECISION, MAX_PRECISION)
    return f"decimal({max(precision, scale, 1)},{scale})"


def _number(fit: _Fit, kinds: frozenset[str]) -> Guess | None:
    """Guess a number in text, unless its digits are a code: leading zeros, or too many."""
    values = fit.values
    digits = values.str.count_matches("[0-9]")
    zeros = values.str.contains(r"^[+-]?0[0-9]").any()
    if zeros or kinds & {"number", "phone", "id_number"} or _most(digits) > EXACT_DIGITS:
        return None
    lengths = values.str.len_chars()
    same = lengths.n_unique() == 1 and int(lengths[0]) >= _REGION_DIGITS
    specs = ("integer", *filter(None, (_decimal(values),)), "double")
    best = max((Guess(spec, fit.share(spec)) for spec in specs), key=lambda item: item.share or 0)
    if (best.share or 0) < (_HINTED_NUMBER if "amount" in kinds else _NUMBER):
        return None
    code = best.type == "integer" and same and len(values) >= _MIN_RULE and "amount" not in kinds
    return None if code else best


def _decimal(texts: pl.Series) -> str | None:
    """Return a decimal that holds the numbers among the texts, with two digits to spare."""
    plain = texts.filter(texts.str.contains(r"^[+-]?[0-9]+(?:[.][0-9]+)?$"))
    if plain.is_empty():
        return None
    parts = plain.str.strip_chars_start("+-").str.split_exact(".", 1).struct.unnest()
    scale = max(2, _most(parts["field_1"].str.len_chars()))
    needed = _most(parts["field_0"].str.len_chars()) + scale
    if needed > MAX_PRECISION:
        return None
    return f"decimal({min(max(16, needed + 2), MAX_PRECISION)},{scale})"


def _most(counts: pl.Series) -> int:
    return int(counts.fill_null(0).to_numpy().max(initial=0))


def _fixed(fit: _Fit, kinds: frozenset[str]) -> Guess | None:
    """Guess a code of a fixed length: digits, or hexadecimal digits of a digest."""
    lengths = fit.values.str.len_chars()
    if lengths.n_unique() != 1 or len(fit.values) < _MIN_RULE:
        return None
    length = int(lengths[0])
    if length >= _MIN_DIGITS and (share := fit.share(f"digits({length})")) == 1:
        hidden = "id_number" in kinds
        return None if hidden else Guess(f"digits({length})", share)
    if length in _HEX and (share := fit.share(f"hex({length})")) == 1:
        return Guess(f"hex({length})", share)
    return None


def _is_region(values: pl.Series, kinds: frozenset[str]) -> bool:
    """Tell codes of six digits that begin with a province's, under a title that says code."""
    if "region_code" not in kinds or len(values) < _MIN_RULE:
        return False
    if not values.str.contains("^[1-9][0-9]{5}$").all():
        return False
    return bool(values.str.slice(0, 2).is_in(list(PROVINCES)).all())


def _codes(values: pl.Series, kinds: frozenset[str]) -> tuple[str, ...]:
    """Return the values as codes of a table, where they are few and come again and again."""
    several = values.n_unique()
    hinted = "code" in kinds
    if several > MAX_CODES or (several == 1 and not hinted):
        return ()
    longest = _most(values.str.len_chars())
    if longest > (MAX_CODE_CHARS if hinted else 10):
        return ()
    numbers = values.str.contains(r"^[+-]?[0-9.]+$").any()
    wanted = 2 if hinted else 20 if numbers else 5
    if not hinted and (kinds & {"name", "number"} or len(values) < _MIN_RULE):
        return ()
    if numbers and not hinted and longest > 2:  # noqa: PLR2004 - years and amounts
        return ()
    if len(values) < wanted * several:
        return ()
    return tuple(sorted(values.unique().to_list()))


def _text_type(values: pl.Series, column: SourceColumn, kind: str = "text") -> str:
    longest = max(1, _most(values.str.len_chars()))
    length = column.max_chars if column.max_chars and column.max_chars >= longest else None
    if length is None:
        spare = max(longest + longest // 2, _LEAST.get(kind, 1))
        length = next((size for size in _LENGTHS if size >= spare), MAX_TEXT)
    return f"{kind}({min(length, MAX_TEXT)})"


_UNSEEN: Final[Mapping[str, str]] = {
    # Beginnings of a source's types; without values nothing else is known.
    "int": "integer",
    "bigint": "integer",
    "smallint": "integer",
    "bool": "boolean",
    "date": "date",
    "timestamp": "datetime",
    "datetime": "datetime",
    "double": "double",
    "float": "double",
    "real": "double",
}


def _unseen(column: SourceColumn, kinds: frozenset[str]) -> str:
    source_type = column.type.lower()
    for start in sorted(_UNSEEN, key=len, reverse=True):
        if source_type.startswith(start):
            return _UNSEEN[start]
    for kind in _titled(kinds):
        return kind
    return f"text({min(column.max_chars or 200, MAX_TEXT)})"


def _titled(kinds: frozenset[str]) -> Iterator[str]:
    """Yield the types that a title alone makes likely, the most private first."""
    for kind, spec in (
        ("resident_id", "resident_id"),
        ("mobile", "mobile"),
        ("phone", "phone"),
        ("person", "person(50)"),
        ("address", "address(200)"),
        ("id_number", "id_number(64)"),
        ("uscc", "uscc"),
        ("date", "date"),
        ("datetime", "datetime"),
    ):
        if kind in kinds:
            yield spec
