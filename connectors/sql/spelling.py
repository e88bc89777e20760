"""How each kind of database spells order, comparison and exact values, as SQL expressions.

What is compared is always the table's own column: a text of it sorts by other rules, and no index
serves. Where a column sorts by a number that it does not show (MySQL's ENUM, SET and FLOAT), that
number is ordered, compared and remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import sqlalchemy as sa
from sqlalchemy.sql.expression import ColumnElement

from exchange.connectors.sql import postgres
from exchange.connectors.sql.reader import ZONE, number, shift, unfit
from exchange.connectors.sql.text_forms import NUMBER, OTHER, allowed, classes, limits, usual
from exchange.connectors.sql.values import MAX_PRECISION, ColumnType, Damaged, declared, guessed

Expression = ColumnElement[Any]


def bind(value: Any) -> Expression:
    """Bind a value as the driver's own: SQLAlchemy changes nothing about it."""
    return sa.bindparam(None, value, type_=sa.types.NullType(), unique=True)


def _constant(text: str) -> Expression:
    """Spell a constant of ours: a grouped expression must be the very same in both places."""
    return sa.literal_column(f"'{text}'")


FormCounts = Callable[[Expression, Expression], list[tuple[Any, ...]]]
"""Counts rows by an expression: rows of (form, count, least and greatest length of a column)."""


def _no_forms(_form: Expression, _column: Expression) -> list[tuple[Any, ...]]:
    return []


class Spelling:
    """Any database: columns and the driver's values as they are."""

    defined = True
    """Whether the types of columns are those of a table's definition."""
    unknown: ColumnType | None = None
    """What a column is taken for that nobody defined, as those of a query."""

    def __init__(self, columns: Mapping[str, Expression], forms: FormCounts = _no_forms) -> None:
        """``forms`` counts the forms of a column of text, see :func:`text_forms.usual`."""
        self.columns = columns
        self.how: dict[str, ColumnType] = {}
        self._count_forms = forms
        self._form_names: dict[str, str] = {}

    def define(self, name: str, kind: sa.types.TypeEngine[Any], database: str) -> None:
        """Take the type of a column from a table's definition."""
        self.how[name] = ColumnType(declared(kind, database))

    def picked(self, name: str) -> Expression:
        """Return what is selected as the column's value."""
        return self.columns[name]

    def rank(self, name: str) -> Expression:
        """Return what is ordered and compared."""
        return self.columns[name]

    def exact(self, _name: str) -> Expression | None:
        """Return what is selected beside, where the column's value is not its exact rank."""
        return None

    def remembered(self, _name: str, value: Any) -> Any:
        """Return a selected rank as it can be remembered and bound again."""
        return value

    def bound(self, _name: str, value: Any) -> Expression:
        """Return a remembered rank as an expression to compare with."""
        return bind(value)

    def learn(self, names: Sequence[str], row: Sequence[Any]) -> None:
        """Take the types of columns that nobody declared from their first values."""
        for name, value in zip(names, row, strict=True):
            self.how.setdefault(name, ColumnType(guessed(value)))

    def numeric(self, name: str) -> bool:
        """Whether a column that comes as text holds numbers."""
        return name in self.how and self.how[name].dtype.is_numeric()

    def odd(self, name: str, clock: datetime | None) -> list[ColumnElement[bool]]:
        """Return which values have no place before the clock, as alternatives; NULL apart."""
        how, column = self.how.get(name, self.unknown), self.columns[name]
        if how is not None and how.dtype == pl.String and self._is_text(name):
            return self._odd_texts(name, clock)
        if clock is None or how is None or not how.dtype.is_temporal():
            return []
        least, most = self._limits(how.dtype, clock)
        return [column < least, column > most]

    def _is_text(self, _name: str) -> bool:
        """Whether a column that comes as text is one, and sorts as such."""
        return True

    def _odd_texts(self, name: str, clock: datetime | None) -> list[ColumnElement[bool]]:
        form, column = self._form(name), self.columns[name]
        like = [column.like(bind(pattern)) for pattern in allowed(form)]
        apart = [sa.not_(sa.or_(*like))] if like else []
        ahead = limits(form, clock) if clock is not None else ()
        return apart + [
            sa.and_(column.like(bind(pattern)), column > bind(limit)) for pattern, limit in ahead
        ]

    def _form(self, name: str) -> str:
        """Return the form that most texts of a column have; raises Misconfigured."""
        if name not in self._form_names:
            column = self.columns[name]
            cases = [
                (sa.or_(*(column.like(_constant(p)) for p in patterns)), _constant(form))
                for form, patterns in classes()
            ]
            if (digits := self._digits(column)) is not None:
                cases.append((digits, _constant(NUMBER)))
            form = sa.case(*cases, else_=_constant(OTHER))
            self._form_names[name] = usual(name, self._count_forms(form, column))
        return self._form_names[name]

    def _digits(self, _column: Expression) -> ColumnElement[bool] | None:
        """Spell that a text is nothing but digits, where the database can."""
        return None

    def _limits(self, dtype: pl.DataType, clock: datetime) -> tuple[Expression, Expression]:
        if dtype == pl.Date:
            return bind(date(1, 1, 1)), bind(clock.date())
        return bind(datetime(1, 1, 1)), bind(clock)  # noqa: DTZ001 - the session's zone

    def earlier(self, _name: str, value: Any, overlap: float) -> Any:
        """Return a remembered rank moved back by ``overlap``."""
        return shift(value, overlap)

    def written(self, name: str, text: str) -> Any:
        """Return what a person wrote as a value to compare with; raises Misconfigured."""
        dtype = self.how.get(name, ColumnType(pl.String())).dtype
        if dtype.is_integer() or dtype.is_numeric():
            value = number(name, text)
            if dtype.is_integer():
                return int(value)
            return float(value) if dtype.is_float() else value
        try:
            if dtype == pl.Date:
                return date.fromisoformat(text)
            if dtype.is_temporal():
                return datetime.fromisoformat(text)
        except ValueError as error:
            raise unfit(name, text) from error
        return text


class Sqlite(Spelling):
    """SQLite: every value has a type of its own, whatever its column says.

    Numbers sort before text, and text before bytes: a value of another type than most have
    stands beyond all the others. ``usual`` asks for the type that most values of a column have.
    """

    unknown = ColumnType(pl.String())  # values that are no text are set apart by their own type

    def __init__(
        self,
        columns: Mapping[str, Expression],
        usual: Callable[[Expression], str],
        forms: FormCounts = _no_forms,
    ) -> None:
        super().__init__(columns, forms)
        self._usual = usual
        self._kinds: dict[str, str] = {}

    def bound(self, name: str, value: Any) -> Expression:
        """Bind a text of damaged bytes as the text that it is there."""
        if isinstance(value, Damaged):
            return sa.cast(bind(bytes(value)), sa.Text)
        return super().bound(name, value)

    def odd(self, name: str, clock: datetime | None) -> list[ColumnElement[bool]]:
        """Set apart the values of another type; compare text with the clock as text only."""
        kind = stored(self.columns[name])
        if name not in self._kinds:
            self._kinds[name] = self._usual(kind)
        apart = [kind != bind(self._kinds[name])]
        return apart + (super().odd(name, clock) if self._kinds[name] == "text" else [])

    def _digits(self, column: Expression) -> ColumnElement[bool] | None:
        return sa.not_(column.bool_op("GLOB")(_constant("*[^0-9]*")))


def stored(column: Expression) -> Expression:
    """Return the type that SQLite stores a value as; whole and other numbers compare alike."""
    kind = sa.func.typeof(column)
    return sa.case(
        (kind.in_([sa.literal_column("'integer'"), sa.literal_column("'real'")]), bind("number")),
        else_=kind,
    )


class Postgres(Spelling):
    """PostgreSQL through another driver: exact values are its own text, as by columns."""

    defined = False

    def __init__(
        self,
        columns: Mapping[str, Expression],
        types: Mapping[str, str],
        scales: Mapping[str, tuple[int | None, int | None]],
        forms: FormCounts = _no_forms,
    ) -> None:
        super().__init__(columns, forms)
        self._types = types
        self.how = {name: _postgres_column(types[name], *scales[name]) for name in columns}

    def picked(self, name: str) -> Expression:
        """Select dates and times as text: the driver fails on those that Python cannot hold."""
        kind, spelled = self._types[name], self._spelled(name)
        if kind == "timestamp with time zone":
            return sa.literal_column(f"{spelled}::timestamp::text")
        if kind.startswith(("timestamp", "date")):
            return sa.literal_column(f"{spelled}::text")
        return sa.literal_column(postgres.picked(spelled, kind))

    def exact(self, name: str) -> Expression | None:
        """Select the server's text of a value."""
        return sa.literal_column(f"{self._spelled(name)}::text")

    def bound(self, name: str, value: Any) -> Expression:
        """Cast the text back."""
        return sa.cast(sa.literal(str(value), sa.Text), _Named(self._types[name]))

    def numeric(self, name: str) -> bool:
        """Whether a column that comes as text holds numbers."""
        return self._types[name] in postgres.NUMERIC

    def odd(self, name: str, clock: datetime | None) -> list[ColumnElement[bool]]:
        """Compare as PostgreSQL's own module spells it."""
        kind = self._types[name]
        form = self._form(name) if kind in postgres.LIKE_TEXT else OTHER
        spelled = postgres.odd(self._spelled(name), kind, clock, form)
        return [sa.literal_column(part) for part in spelled]

    def _form(self, name: str) -> str:
        """Return the form that most texts of a column have; raises Misconfigured."""
        if name not in self._form_names:
            form: Expression = sa.literal_column(postgres.form_of(self._spelled(name)))
            column: Expression = sa.literal_column(f"{self._spelled(name)}::text")
            self._form_names[name] = usual(name, self._count_forms(form, column))
        return self._form_names[name]

    def earlier(self, name: str, value: Any, overlap: float) -> Any:
        """Return a text moved back by ``overlap``."""
        return postgres.earlier(self._types[name], value, overlap)

    def written(self, _name: str, text: str) -> Any:
        """Leave the reading to the server's cast."""
        return text

    def _spelled(self, name: str) -> str:
        return f"q.{postgres.quoted(name)}"


class _Named(sa.types.UserDefinedType[Any]):
    """A type by the name that the server gave it."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: Any) -> str:
        return self.name


def _postgres_column(kind: str, precision: int | None, scale: int | None) -> ColumnType:
    if kind == "numeric" and precision is not None and scale is not None:
        fits = 0 <= scale <= precision <= MAX_PRECISION
        return ColumnType(pl.Decimal(precision, scale) if fits else pl.String(), sent=True)
    dtype = _POSTGRES.get(kind, pl.String())
    return ColumnType(dtype, sent=dtype.is_temporal())


_POSTGRES: Mapping[str, pl.DataType] = {
    **dict.fromkeys(("smallint", "integer", "bigint"), pl.Int64()),
    **dict.fromkeys(("real", "double precision"), pl.Float64()),
    "boolean": pl.Boolean(),
    "date": pl.Date(),
    "timestamp without time zone": pl.Datetime("us"),
    "timestamp with time zone": pl.Datetime("us", "UTC"),
}


class Mysql(Spelling):
    """MySQL and MariaDB through PyMySQL: values are the text that the server sends."""

    defined = False

    def __init__(
        self,
        columns: Mapping[str, Expression],
        fields: Sequence[Any],
        forms: FormCounts = _no_forms,
    ) -> None:
        super().__init__(columns, forms)
        self._fields = dict(zip(columns, fields, strict=True))
        self.how = {
            name: ColumnType(_mysql_dtype(field), sent=True) for name, field in self._fields.items()
        }

    def _is_text(self, name: str) -> bool:
        """Whether it is text: neither a time, nor a padded number, nor one of a list."""
        field = self._fields[name]
        return field.type_code in _TEXTS and not field.flags & (_ENUM | _SET)

    def _digits(self, column: Expression) -> ColumnElement[bool] | None:
        return column.bool_op("REGEXP")(_constant("^[0-9]+$"))

    def rank(self, name: str) -> Expression:
        """Return the number behind what is shown, where there is one."""
        field, column = self._fields[name], self.columns[name]
        if field.flags & (_ENUM | _SET):
            return column + sa.literal_column("0")
        if field.type_code == _FLOAT:
            return column + sa.literal_column("0e0")
        return column

    def exact(self, name: str) -> Expression | None:
        """Select the rank beside, where it is another than the column."""
        rank = self.rank(name)
        return None if rank is self.columns[name] else rank

    def remembered(self, name: str, value: Any) -> Any:
        """Return numbers as such: MySQL compares a number with text as floats."""
        field = self._fields[name]
        if value is None or (field.type_code in _TEXT and not field.flags & (_ENUM | _SET)):
            return value
        if field.type_code == _BIT:
            return int.from_bytes(value, "big")
        if field.type_code in (_FLOAT, _DOUBLE):
            return float(value)
        return Decimal(value) if field.type_code in _DECIMALS else int(value)

    def earlier(self, name: str, value: Any, overlap: float) -> Any:
        """Return a value moved back by ``overlap``; dates and times are text here."""
        if self._fields[name].type_code == _DATE:
            return str(shift(date.fromisoformat(value), overlap))
        return shift(value, overlap)

    def written(self, name: str, text: str) -> Any:
        """Return what a person wrote: dates and times as text."""
        value = super().written(name, text)
        if isinstance(value, datetime) and value.tzinfo is not None:
            value = value.astimezone(ZONE).replace(tzinfo=None)
        return str(value) if isinstance(value, date) else value

    def _limits(self, dtype: pl.DataType, clock: datetime) -> tuple[Expression, Expression]:
        most = str(clock.date()) if dtype == pl.Date else str(clock)
        return bind("0001-01-01"), bind(most)


# Numbers and flags of the wire protocol.
_FLOAT, _DOUBLE, _TIMESTAMP, _DATE, _DATETIME, _NEWDATE, _BIT = 4, 5, 7, 10, 12, 14, 16
_DECIMALS = (0, 246)
_INTEGERS = (1, 2, 3, 8, 9)
_LONG = 8
_YEAR = 13
_TEXT = {
    # What is remembered as it came: NULL, times, dates, text, JSON, bytes, geometries.
    *(6, _TIMESTAMP, _DATE, 11, _DATETIME, _NEWDATE, 15, 242),
    *range(245, 256),
} - {246}
_TEXTS = {15, *range(249, 255)}
_UNSIGNED, _ZEROFILL, _ENUM, _SET = 32, 64, 256, 2048


def _mysql_dtype(field: Any) -> pl.DataType:
    """Return the column type that shows every value as the database does."""
    kind, flags = field.type_code, field.flags
    if flags & _ZEROFILL:
        return pl.String()
    if kind in _INTEGERS:
        return pl.UInt64() if kind == _LONG and flags & _UNSIGNED else pl.Int64()
    if kind in _DECIMALS:
        # The display width counts the point and the sign.
        precision = field.length - (field.scale > 0) - (not flags & _UNSIGNED)
        fits = 0 < precision <= MAX_PRECISION
        return pl.Decimal(precision, field.scale) if fits else pl.String()
    return _MYSQL.get(kind, pl.String())


_MYSQL: Mapping[int, pl.DataType] = {
    _FLOAT: pl.Float64(),
    _DOUBLE: pl.Float64(),
    _TIMESTAMP: pl.Datetime("us", "UTC"),
    _DATE: pl.Date(),
    _NEWDATE: pl.Date(),
    _DATETIME: pl.Datetime("us"),
    _BIT: pl.UInt64(),
}
