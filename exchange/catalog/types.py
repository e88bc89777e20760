"""Business types: one table from a name in the catalog to everything it means (D7)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from exchange.catalog.identifiers import (
    LICENCE_ID_PATTERN,
    RESIDENT_ID_PATTERN,
    USCC_PATTERN,
)
from exchange.catalog.model import BusinessType, Physical, Sensitivity
from exchange.catalog.problems import width_hint
from exchange.catalog.words import COMMON_TYPES, TYPE_SYNONYMS
from exchange.text import Text, suggest

MAX_TEXT: Final = 100_000
"""Longest text(n), in characters."""
MAX_PRECISION: Final = 38

_SPEC: Final = re.compile(r"([a-z_]+)(?:\(([^()]*)\))?")
_COUNT: Final = re.compile(r"[1-9][0-9]{0,5}")

# Shapes that have no home in identifiers.py. [0-9], not \d: \d also matches full-width digits.
_MOBILE: Final = "1[3-9][0-9]{9}"
_LANDLINE: Final = "(?:0[0-9]{2,3}-?)?[2-9][0-9]{6,7}(?:-[0-9]{1,6})?"
_SERVICE: Final = "[48]00-?[0-9]{3}-?[0-9]{4}|1[0-9]{2,5}"
_DIVISION: Final = "[1-9][0-9](?:[0-9]{2}(?:[0-9]{2}(?:[0-9]{3}(?:[0-9]{3})?)?)?)?"


class BadType(ValueError):
    """A type text that names no type; tells why and what to write."""

    def __init__(self, what: Text, hint: Text) -> None:
        super().__init__(what.en)
        self.what = what
        self.hint = hint


@dataclass(frozen=True, slots=True)
class TypeEntry:
    """One line of the table: what a reader should know and how the value is built."""

    title: Text
    example: str
    build: Callable[[str, str], BusinessType]
    sensitivity: Sensitivity | None = None
    """What its values are unless the field says otherwise; none: as the resource says."""


def _count(name: str, argument: str, limit: int) -> int:
    if not argument:
        raise BadType(
            Text(f"类型 {name} 没有写长度", f"the type {name} has no length"),
            Text(f"写最大长度，如 {name}(200)", f"write how long it may be: {name}(200)"),
        )
    if _COUNT.fullmatch(argument) is None or int(argument) > limit:
        raise BadType(
            Text(f"{name}({argument}) 的长度无效", f"the length of {name}({argument}) is invalid"),
            width_hint(argument)
            or Text(f"写 1 到 {limit} 的整数", f"write a whole number from 1 to {limit}"),
        )
    return int(argument)


def _text(mask: str | None = None) -> Callable[[str, str], BusinessType]:
    """Build a type of free text with a length limit."""

    def build(name: str, argument: str) -> BusinessType:
        return BusinessType(
            name=name,
            argument=argument,
            physical=Physical.STRING,
            max_chars=_count(name, argument, MAX_TEXT),
            mask=mask,
        )

    return build


def _repeated(symbols: str) -> Callable[[str, str], BusinessType]:
    """Build a type of exactly n of these symbols."""

    def build(name: str, argument: str) -> BusinessType:
        count = _count(name, argument, 1000)
        return BusinessType(
            name=name,
            argument=argument,
            physical=Physical.STRING,
            max_chars=count,
            pattern=f"^{symbols}{{{count}}}$",
        )

    return build


def _plain(
    physical: Physical,
    *,
    max_chars: int | None = None,
    pattern: str | None = None,
    check: str | None = None,
    mask: str | None = None,
) -> Callable[[str, str], BusinessType]:
    """Build a type that takes no argument."""

    def build(name: str, argument: str) -> BusinessType:
        if argument:
            raise BadType(
                Text(f"类型 {name} 不带参数", f"the type {name} takes no argument"),
                Text(f"写 {name}", f"write {name}"),
            )
        return BusinessType(
            name=name,
            physical=physical,
            max_chars=max_chars,
            pattern=pattern,
            check=check,
            mask=mask,
        )

    return build


def _decimal(name: str, argument: str) -> BusinessType:
    match = re.fullmatch(r"([1-9][0-9]?), ?(0|[1-9][0-9]?)", argument)
    if match is None or not int(match[2]) <= int(match[1]) <= MAX_PRECISION:
        raise BadType(
            Text(
                f"{name}({argument}) 的精度无效", f"the precision of {name}({argument}) is invalid"
            ),
            width_hint(argument)
            or Text(
                "写总位数和小数位数，如 decimal(16,6)，总位数不超过 38；在 {} 内要加引号",
                "digits and decimals, decimal(16,6), at most 38 digits; inside {} quote it",
            ),
        )
    return BusinessType(
        name=name,
        argument=f"{match[1]},{match[2]}",
        physical=Physical.DECIMAL,
        precision=int(match[1]),
        scale=int(match[2]),
    )


def _code(name: str, argument: str) -> BusinessType:
    if re.fullmatch("[a-z][a-z0-9_]*", argument) is None:
        raise BadType(
            Text(f"{name}({argument}) 没有代码表的键", f"{name}({argument}) names no code table"),
            width_hint(argument)
            or Text(
                "写代码表的键，不写名称，如 code(sex)",
                "write the table's key, not its title, such as code(sex)",
            ),
        )
    return BusinessType(name=name, argument=argument, physical=Physical.STRING, table=argument)


def _licence(name: str, argument: str) -> BusinessType:
    """Check the character only on request: some issuers compute it by another table."""
    if argument not in {"", "strict"}:
        raise BadType(
            Text(f"{name} 的参数只能是 strict", f"{name} takes no argument but strict"),
            Text("写 licence_id 或 licence_id(strict)", "write licence_id or licence_id(strict)"),
        )
    return BusinessType(
        name=name,
        argument=argument,
        physical=Physical.STRING,
        max_chars=160,
        pattern=LICENCE_ID_PATTERN,
        check="licence_id" if argument else None,
    )


_S3, _S4 = Sensitivity.S3, Sensitivity.S4
_STRING: Final = Physical.STRING

TYPES: Final[Mapping[str, TypeEntry]] = MappingProxyType(
    {
        "text": TypeEntry(Text("文本", "text"), "text(200)", _text()),
        "free_text": TypeEntry(
            Text("自由文本（可能含个人信息）", "free text that may hold personal information"),
            "free_text(4000)",
            _text("free_text"),
            _S4,
        ),
        "person": TypeEntry(Text("姓名", "a person's name"), "person(50)", _text("name"), _S3),
        "address": TypeEntry(Text("地址", "address"), "address(200)", _text("address"), _S3),
        "id_number": TypeEntry(
            Text("任意证件的号码", "number of a document of any kind"),
            "id_number(64)",
            _text("resident_id"),
            _S4,
        ),
        "digits": TypeEntry(
            Text("定长数字代码", "code of n digits"), "digits(10)", _repeated("[0-9]")
        ),
        "hex": TypeEntry(
            Text("定长十六进制", "n hexadecimal digits"), "hex(64)", _repeated("[0-9A-Fa-f]")
        ),
        "code": TypeEntry(Text("代码表中的代码", "code of a code table"), "code(sex)", _code),
        "integer": TypeEntry(Text("整数", "whole number"), "integer", _plain(Physical.LONG)),
        "decimal": TypeEntry(Text("定点小数", "decimal number"), "decimal(16,6)", _decimal),
        "double": TypeEntry(
            Text("浮点数", "floating-point number"), "double", _plain(Physical.DOUBLE)
        ),
        "boolean": TypeEntry(Text("是或否", "yes or no"), "boolean", _plain(Physical.BOOLEAN)),
        "date": TypeEntry(Text("日期", "date"), "date", _plain(Physical.DATE)),
        "datetime": TypeEntry(
            Text("日期时间", "date and time, milliseconds"), "datetime", _plain(Physical.TIMESTAMP)
        ),
        "resident_id": TypeEntry(
            Text("公民身份号码", "citizen number, GB 11643"),
            "resident_id",
            _plain(
                _STRING,
                max_chars=18,
                pattern=RESIDENT_ID_PATTERN,
                check="resident_id",
                mask="resident_id",
            ),
            _S4,
        ),
        "uscc": TypeEntry(
            Text("统一社会信用代码", "unified social credit code, GB 32100"),
            "uscc",
            _plain(_STRING, max_chars=18, pattern=USCC_PATTERN, check="uscc"),
        ),
        "licence_id": TypeEntry(
            Text("电子证照标识", "electronic licence number, GB/T 36904"), "licence_id", _licence
        ),
        "mobile": TypeEntry(
            Text("手机号码", "mobile number"),
            "mobile",
            _plain(_STRING, max_chars=11, pattern=f"^{_MOBILE}$", mask="mobile"),
            _S3,
        ),
        "phone": TypeEntry(
            Text("电话号码（手机、固话或短号）", "mobile, landline or service number"),
            "phone",
            _plain(
                _STRING,
                max_chars=20,
                pattern=f"^(?:{_MOBILE}|{_LANDLINE}|{_SERVICE})$",
                mask="phone",
            ),
            _S3,
        ),
        "email": TypeEntry(
            Text("电子邮箱", "e-mail address"),
            "email",
            _plain(
                _STRING,
                max_chars=254,
                pattern=r"^[0-9A-Za-z._%+-]{1,64}@[0-9A-Za-z-]{1,63}(?:\.[0-9A-Za-z-]{1,63}){1,8}$",
                mask="email",
            ),
            _S3,
        ),
        "bank_card": TypeEntry(
            Text("银行卡号", "bank card number"),
            "bank_card",
            _plain(_STRING, max_chars=19, pattern="^[0-9]{12,19}$", mask="bank_card"),
            _S4,
        ),
        "region": TypeEntry(
            Text("行政区划代码（6 位）", "division code of six digits, GB/T 2260"),
            "region",
            _plain(_STRING, max_chars=6, pattern="^[1-9][0-9]{5}$"),
        ),
        "division": TypeEntry(
            Text("统计用区划代码（2 至 12 位）", "statistical division code, 2 to 12 digits"),
            "division",
            _plain(_STRING, max_chars=12, pattern=f"^{_DIVISION}$"),
        ),
    }
)


def _suggest_type(name: str) -> Text:
    """Name the type that was meant, in the way that it is written."""
    for entry in TYPES.values():
        if name == entry.title.zh:
            return Text(f"“{name}”写作 {entry.example}", f"write {entry.example} for '{name}'")
    if name.lower() in TYPE_SYNONYMS:
        example = TYPE_SYNONYMS[name.lower()]
        return Text(f"“{name}”写作 {example}", f"write {example} for '{name}'")
    if re.fullmatch("[Ss][0-9]", name):
        return Text("分级是 S1 至 S4，写在类型后面", "the level is S1 to S4, behind the type")
    near = suggest(name, TYPES)
    if near.zh.startswith("是不是"):
        return near
    common = [TYPES[key] for key in COMMON_TYPES]
    zh = "、".join(f"{entry.example} {entry.title.zh}" for entry in common)
    en = ", ".join(f"{entry.example} ({entry.title.en})" for entry in common)
    return Text(f"常用：{zh}；其他见 docs/catalog.md", f"such as {en}; others: docs/catalog.md")


def parse_type(text: str) -> BusinessType:
    """Return the type that ``text`` names, such as ``text(200)``; raises :class:`BadType`."""
    match = _SPEC.fullmatch(text)
    entry = TYPES.get(match[1]) if match is not None else None
    if match is None or entry is None:
        name = re.split(r"[（(]", text, maxsplit=1)[0]
        raise BadType(
            Text(f"未知的类型“{text[:60]}”", f"unknown type '{text[:60]}'"),
            width_hint(text) or _suggest_type(name),
        )
    return entry.build(match[1], match[2] or "")
