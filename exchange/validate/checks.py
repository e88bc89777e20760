"""One check = one boolean column: the catalog's fields and rules as polars expressions.

A check sees a working frame with, for each field, three columns: its typed value under its own
name, the source's value under :func:`source`, and, where the type has a check digit, the
kernel's verdict under :func:`digits`; and ``today``. ``failing`` is true where the record
breaks the check; null and false pass.

The hot path evaluates only ``quick`` expressions over the whole chunk, to find the bad rows;
``failing`` then gives every reason on the few rows found, where source values are text. So a
check whose failures another one's ``quick`` finds as well needs none of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

import polars as pl

from exchange.catalog.model import CodeTable, Field, Physical, Resource
from exchange.catalog.types import TYPES
from exchange.text import Text
from exchange.validate.convert import number_pattern

PLAUSIBLE: Final = (date(1800, 1, 1), date(2199, 12, 31))
"""Days a record may speak of; 2099-12-31 (长期) lies within."""
FOREVER: Final = date(9999, 12, 31)
"""Also written for 长期, a date that never comes."""

CONTROL: Final = (
    "[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f\\u0080-\\u009f\\u00ad\\u200b\\u2028-\\u202e"
    "\\u2060-\\u2069\\ufeff\\ufffd]"
)
"""Control characters but tab and line ends, invisible ones, and U+FFFD, the trace of lost ones."""

FULL_WIDTH: Final = "full_width"
"""The one rule that breaks nothing by itself: it explains why another of its field failed."""
FORMAL: Final = frozenset({"type", "precision", "scale", "pattern", "check_digit", "table"})

_WIDE: Final = "[\uff01-\uff5e\u3000]"
_NUMBER: Final = "^[+-]?(?:[0-9]+[.]?[0-9]*|[.][0-9]+)$"


def source(name: str) -> str:
    """Name the column of the source's own values."""
    return f"{name}\nsource"


def digits(name: str) -> str:
    """Name the column of the check-digit kernel's verdicts."""
    return f"{name}\ndigits"


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """What is checked, how, and what a person is told."""

    rule: str
    fields: tuple[str, ...]
    failing: pl.Expr
    text: Text
    quick: pl.Expr | None = None
    for_deletes: bool = False
    """Holds for withdrawals (操作类型 D) too: the key must be there and be valid."""


_TYPE_TEXTS: Final[Mapping[Physical, Text]] = {
    Physical.STRING: Text(
        "不是文本：浮点数可能已丢失位数，日期、时间和真假值有多种写法；请在来源中改为文本",
        "is no text: a float may have lost digits already, a date, time or boolean is written in "
        "many ways; make it text at the source",
    ),
    Physical.LONG: Text("不是整数", "is no whole number"),
    Physical.DECIMAL: Text(
        "不是数字（不能带千分位、单位或科学计数法）",
        "is no number (no thousands separators, units or exponents)",
    ),
    Physical.DATE: Text(
        "不是有效日期（可用 CCYY-MM-DD、CCYYMMDD、CCYY/MM/DD、CCYY年MM月DD日）",
        "is no valid date (CCYY-MM-DD, CCYYMMDD, CCYY/MM/DD or 'CCYY年MM月DD日')",
    ),
    Physical.TIMESTAMP: Text(
        "不是有效的日期时间（如 2026-01-02 03:04:05，可带时区）",
        "is no valid date and time (such as 2026-01-02 03:04:05, with or without a zone)",
    ),
    Physical.BOOLEAN: Text(
        "不是布尔值（可用 是/否、true/false、1/0、Y/N）",
        "is no boolean ('是/否', true/false, 1/0 or Y/N)",
    ),
    Physical.DOUBLE: Text("不是数字", "is no number"),
}


def field_checks(
    field: Field, tables: Mapping[str, CodeTable], *, in_key: bool
) -> list[CompiledRule]:
    """Return the checks of one field, its presence first."""
    shape = list(_type(field)) + list(_shape(field, tables))
    checks = [*_presence(field, required=field.required or in_key), *shape]
    if field.type.physical is Physical.STRING:
        checks.append(_control(field))
    if any(check.rule in FORMAL for check in shape):
        checks.append(_full_width(field))
    return [
        CompiledRule(check.rule, (field.name,), check.failing, check.text, check.quick, in_key)
        for check in checks
    ]


def rule_checks(resource: Resource) -> list[CompiledRule]:
    """Return the resource's rules: false fails, true and NULL pass."""
    return [
        _for_all_frames(rule.id, rule.fields, ~pl.sql_expr(rule.expression), rule.message)
        for rule in resource.rules
    ]


def _for_all_frames(
    rule: str, fields: tuple[str, ...], failing: pl.Expr, text: Text
) -> CompiledRule:
    return CompiledRule(rule, fields, failing, text, quick=failing)


def _own(rule: str, field: Field, failing: pl.Expr, zh: str, en: str) -> CompiledRule:
    """Build a check of one field, told as "title: what"."""
    return _for_all_frames(
        rule, (field.name,), failing, Text(f"{field.title}：{zh}", f"{field.name} {en}")
    )


def _presence(field: Field, *, required: bool) -> Iterator[CompiledRule]:
    absent = pl.col(source(field.name)).is_null()
    if required:
        yield _own("required", field, absent, "必填，但没有值", "is required, but has no value")
    elif field.required_when is not None:
        yield _own(
            "required_when",
            field,
            pl.sql_expr(field.required_when) & absent,
            f"在此情形下必填（{field.required_when}）",
            f"is required where {field.required_when}",
        )


def _type(field: Field) -> Iterator[CompiledRule]:
    """Tell values without an exact counterpart in the field's type."""
    loss = pl.col(field.name).is_null() & pl.col(source(field.name)).is_not_null()
    type_text = _TYPE_TEXTS[field.type.physical]
    if field.type.physical is not Physical.DECIMAL:
        yield _own("type", field, loss, type_text.zh, type_text.en)
        return
    precision, scale = field.type.precision or 0, field.type.scale or 0
    number = pl.col(source(field.name)).str.contains(_NUMBER)
    fits = pl.col(source(field.name)).str.contains(number_pattern(field.type))
    check = _own("type", field, loss & ~number, type_text.zh, type_text.en)
    yield CompiledRule(check.rule, check.fields, check.failing, check.text, quick=loss)
    for rule, failing, zh, en in (
        (
            "precision",
            loss & number & fits,
            f"整数部分超过 {precision - scale} 位",
            f"has more than {precision - scale} digits before the point",
        ),
        (
            "scale",
            loss & number & ~fits,
            f"小数超过 {scale} 位，不作四舍五入",
            f"has more than {scale} decimals, and nothing is rounded",
        ),
    ):
        text = Text(f"{field.title}：{zh}", f"{field.name} {en}")
        yield CompiledRule(rule, (field.name,), failing, text)


def _shape(field: Field, tables: Mapping[str, CodeTable]) -> Iterator[CompiledRule]:
    """Tell values of the right type and the wrong form."""
    kind, value = field.type, pl.col(field.name)
    if kind.physical in {Physical.DATE, Physical.TIMESTAMP}:
        day = value.dt.date() if kind.physical is Physical.TIMESTAMP else value
        yield _own(
            "range",
            field,
            ~day.is_between(*PLAUSIBLE) & (day != FOREVER),
            f"日期不在 {PLAUSIBLE[0]} 至 {PLAUSIBLE[1]} 之间",
            f"is not between {PLAUSIBLE[0]} and {PLAUSIBLE[1]}",
        )
    if kind.max_chars is not None:
        yield _own(
            "length",
            field,
            value.str.len_chars() > kind.max_chars,
            f"超过 {kind.max_chars} 个字符",
            f"has more than {kind.max_chars} characters",
        )
    formed = pl.lit(value=True)
    if kind.pattern is not None:
        formed = value.str.contains(kind.pattern)
        title = TYPES[kind.name].title if kind.name in TYPES else Text(kind.spec, kind.spec)
        check = _own(
            "pattern", field, ~formed, f"格式不符（{title.zh}）", f"is not formed as {title.en}"
        )
        # A kernel refuses whatever the pattern of its type refuses, and costs no more.
        yield (
            check
            if kind.check is None
            else CompiledRule(check.rule, check.fields, check.failing, check.text)
        )
    if kind.check is not None:
        check = _own(
            "check_digit",
            field,
            ~pl.col(digits(field.name)) & value.is_not_null() & formed,
            "校验位、日期不符或为占位代码",
            "has a wrong check digit or date, or is a placeholder",
        )
        quick = ~pl.col(digits(field.name)) & value.is_not_null()
        yield CompiledRule(check.rule, check.fields, check.failing, check.text, quick)
    if kind.table is not None:
        table = tables[kind.table]
        few = 6
        value_list = "、".join(
            f"{code} {label}" for code, label in list(table.values.items())[:few]
        )
        more = "……" if len(table.values) > few else ""
        yield _own(
            "table",
            field,
            ~value.is_in(list(table.values)),
            f"不在代码表“{table.title}”中（{value_list}{more}）",
            f"is no code of table {table.name}",
        )


def _control(field: Field) -> CompiledRule:
    """Tell invisible characters; the validator screens whole columns, so this is not quick."""
    text = Text(
        f"{field.title}：含不可见的控制字符（如 NUL、BOM）或乱码字符，请在来源中改正",
        f"{field.name} has control characters (such as NUL or a BOM) or lost ones: mend the source",
    )
    return CompiledRule("control", (field.name,), pl.col(field.name).str.contains(CONTROL), text)


def _full_width(field: Field) -> CompiledRule:
    """Hint at full-width characters; told only beside a reason of :data:`FORMAL`."""
    text = Text(
        f"{field.title}：含全角字符，请改为半角（如 ０→0、（→(）",
        f"{field.name} has full-width characters: write them half-width (such as 0 for '０')",
    )
    return CompiledRule(
        FULL_WIDTH, (field.name,), pl.col(source(field.name)).str.contains(_WIDE), text
    )
