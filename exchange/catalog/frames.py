"""The column types of a resource's frames, and the check of SQL conditions; imports polars."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Final

import polars as pl

from exchange.catalog.model import TODAY, BusinessType, Field, Physical
from exchange.catalog.problems import shorten, width_hint
from exchange.catalog.trial import trial_frame
from exchange.foreign import original
from exchange.text import Text, suggest

MAX_EXPRESSION: Final = 2000
"""Characters of one condition; keeps the library's recursion shallow."""

_FOREIGN = (pl.exceptions.PolarsError, pl.exceptions.PanicException, TypeError, ValueError)


_DTYPES: Final = {
    Physical.STRING: pl.String(),
    Physical.LONG: pl.Int64(),
    Physical.DATE: pl.Date(),
    Physical.TIMESTAMP: pl.Datetime("ms", "UTC"),
    Physical.BOOLEAN: pl.Boolean(),
    Physical.DOUBLE: pl.Float64(),
}


def dtype(kind: BusinessType) -> pl.DataType:
    """Return the polars type that holds values of a business type."""
    if kind.physical is Physical.DECIMAL:
        return pl.Decimal(kind.precision, kind.scale or 0)
    return _DTYPES[kind.physical]


def frame_schema(fields: Iterable[Field]) -> dict[str, pl.DataType]:
    """Return column → type in catalog order, without cd_operation."""
    return {field.name: dtype(field.type) for field in fields}


@lru_cache(maxsize=64)
def _nothing(kind: pl.DataType) -> pl.Series:
    """Return a column without values: renaming one is much cheaper than making one."""
    return pl.Series([], dtype=kind)


class BadCondition(ValueError):
    """A condition that cannot be checked row by row; tells why and what to write."""

    def __init__(self, what: Text, hint: Text) -> None:
        super().__init__(what.en)
        self.what = what
        self.hint = hint


class Conditions:
    """Checks SQL conditions (``polars.sql_expr``) against the fields of one resource."""

    def __init__(self, fields: Iterable[Field], broken: Collection[str] = ()) -> None:
        """``broken`` names fields that could not be read: conditions on them are let pass."""
        fields = tuple(fields)
        self._titles = {field.name: Text(field.title, "") for field in fields}
        kinds = {**frame_schema(fields), TODAY: pl.Date()}
        self._empty = pl.DataFrame([_nothing(kind).alias(name) for name, kind in kinds.items()])
        self._sorted = self._empty.lazy().with_row_index("_row").sort("_row")
        self._broken = frozenset(broken)
        self.sound: frozenset[str] = frozenset()
        """Conditions that :meth:`try_together` found to be right."""

    def try_together(self, expressions: Iterable[str]) -> None:
        """Try conditions at once, which costs little more than trying one.

        Where any of them is wrong nothing is learnt, and :meth:`names` tries each by itself.
        """
        trees: dict[str, pl.Expr] = {}
        known = set(self._empty.columns)
        try:
            for expression in expressions:
                if len(expression) <= MAX_EXPRESSION and _misread(expression) is None:
                    tree = pl.sql_expr(expression)
                    if (roots := set(tree.meta.root_names())) and roots <= known:
                        trees[expression] = tree
            answers = [tree.alias(str(place)) for place, tree in enumerate(trees.values())]
            right = all(kind == pl.Boolean for kind in self._empty.select(answers).dtypes)
            if trees and right and self._passes_a_sort(*trees.values()):
                reads = {name for tree in trees.values() for name in tree.meta.root_names()}
                trial_frame(self._empty.select(sorted(reads)).schema).select(answers)
                self.sound = frozenset(trees)
        except _FOREIGN:
            return

    def names(self, expression: str) -> tuple[str, ...]:
        """Return the fields that ``expression`` reads, in catalog order, without ``today``.

        Raises :class:`BadCondition` unless it is SQL over existing fields, judges each record
        by itself and answers true, false or NULL.
        """
        if len(expression) > MAX_EXPRESSION:
            raise BadCondition(
                Text("条件过长", "the condition is too long"),
                Text(
                    f"不超过 {MAX_EXPRESSION} 个字符，请拆成几条规则",
                    f"at most {MAX_EXPRESSION} characters: make several rules of it",
                ),
            )
        try:
            tree = pl.sql_expr(expression)
            roots = set(tree.meta.root_names())
        except _FOREIGN as error:
            raise _unreadable(expression, error) from error
        if roots & self._broken:
            return ()
        for name in sorted(roots - set(self._empty.columns)):
            raise BadCondition(
                Text(f"条件引用了不存在的字段“{name}”", f"the condition names no field: '{name}'"),
                width_hint(name) or suggest(name, self._empty.columns, self._titles),
            )
        if not roots:
            raise BadCondition(
                Text("条件没有引用任何字段", "the condition reads no field"),
                Text("写字段名，如 xk_jdrq <= today", "name fields, such as xk_jdrq <= today"),
            )
        reads = tuple(name for name in self._empty.columns if name in roots and name != TODAY)
        if expression in self.sound:
            return reads
        try:
            answer = self._empty.select(tree.alias("answer")).schema["answer"]
            by_row = answer != pl.Boolean or self._passes_a_sort(tree)
        except _FOREIGN as error:
            raise _unreadable(expression, error) from error
        if answer != pl.Boolean:
            raise BadCondition(
                Text(
                    f"条件的结果是 {answer}，不是真或假",
                    f"the condition answers {answer}, not true or false",
                ),
                Text(
                    "写比较，如 a <= b、a IS NOT NULL", "write a comparison: a <= b, a IS NOT NULL"
                ),
            )
        if not by_row:
            raise BadCondition(
                Text(
                    "条件跨记录（聚合、窗口），或可能在某条记录上出错",
                    "the condition looks across records, or can fail on one",
                ),
                Text(
                    "每条记录单独判断，不用聚合；CAST 改为 TRY_CAST；唯一性用 key 或 unique",
                    "judge each record by itself, without aggregates; TRY_CAST for CAST; "
                    "for uniqueness use key or unique",
                ),
            )
        self._refuse_failures(expression, tree, roots)
        return reads

    def _refuse_failures(self, expression: str, tree: pl.Expr, roots: Collection[str]) -> None:
        """Refuse functions that mean something else here, or that fail at some value."""
        if (function := _misread(expression)) is not None:
            raise BadCondition(
                Text(
                    f"{function} 把第二个文字当作正则表达式，不是原文",
                    f"{function} takes what it looks for as a regular expression",
                ),
                Text(
                    "包含用 LIKE '%文字%'，开头用 STARTS_WITH，格式用 ~ '正则表达式'",
                    "write LIKE '%text%', STARTS_WITH, or ~ 'regular expression'",
                ),
            )
        try:
            trial_frame(self._empty.select(sorted(roots)).schema).select(tree)
        except _FOREIGN as error:
            quoted = original(shorten(str(error).strip().split("\n", 1)[0], 160))
            raise BadCondition(
                Text(
                    f"条件遇到某些值会出错：{quoted.zh}",
                    f"the condition fails at some values: {quoted.en}",
                ),
                Text(
                    "文字中的日期请在目录中定义为日期字段；长度、位置、指数写成固定的非负数；"
                    "正则表达式写成固定文字",
                    "make text that is a date a field of the type date; write lengths, places "
                    "and exponents as constants that are not negative, patterns as constants",
                ),
            ) from error

    def _passes_a_sort(self, *conditions: pl.Expr) -> bool:
        """Tell whether all conditions are row by row and cannot raise.

        The library itself decides: its optimizer moves a filter below a sort only when the
        filter is row by row, and below numbered rows only when it is sure not to raise. Of
        several it leaves those above that may not pass.
        """
        return self._sorted.filter(*conditions).explain().startswith("SORT BY")


_QUOTED: Final = re.compile("'(?:[^']|'')*'|\"[^\"]*\"")
_PATTERNS: Final = re.compile(r"\b(?:STRPOS|POSITION)\b(?=\s*\()", re.IGNORECASE)
"""Functions that take a regular expression where SQL has a text."""


def _misread(expression: str) -> str | None:
    """Return the name of a function that means something else here than in SQL."""
    match = _PATTERNS.search(_QUOTED.sub("''", expression))
    return None if match is None else match[0].upper()


def _unreadable(expression: str, error: BaseException) -> BadCondition:
    """Turn the library's complaint into a finding."""
    detail = shorten(str(error).strip().split("\n", 1)[0], 160)
    quoted = original(detail)
    hint = width_hint(re.sub("'[^']*'", "", expression))
    if hint is None and "to a string" in detail:
        hint = Text("日期写作 DATE '2099-12-31'", "write a date as DATE '2099-12-31'")
    return BadCondition(
        Text(f"条件无法执行：{quoted.zh}", f"the condition cannot be run: {quoted.en}"),
        hint
        or Text(
            "检查括号、引号和类型；文字用单引号，与 SQL 关键字同名的字段用双引号",
            "check brackets, quotes and types: 'text' in single quotes, "
            'a field named like an SQL word in "double quotes"',
        ),
    )
