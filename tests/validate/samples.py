"""A small resource with every physical type and kind of check, and values for it."""

from __future__ import annotations

import random
from datetime import date

import polars as pl

from exchange.catalog.identifiers import (
    USCC_ALPHABET,
    organisation_check,
    resident_id_check,
    uscc_check,
)
from exchange.catalog.model import CodeTable, Department, Field, Resource, Rule
from exchange.catalog.types import parse_type
from exchange.text import Text
from exchange.validate.claimed_keys import ClaimedKeys
from exchange.validate.validator import CheckResult, Validator, compile_resource

TODAY = date(2026, 11, 23)
TABLES = {"state": CodeTable(name="state", title="状态", values={"1": "有效", "2": "无效"})}
DEPARTMENT = Department(id="bureau", code="11100000000013338W", name="测试局")


def field(
    name: str, kind: str, *, required: bool = False, required_when: str | None = None
) -> Field:
    return Field(
        name=name,
        title=f"字段{name}",
        type=parse_type(kind),
        required=required,
        required_when=required_when,
    )


def rule(name: str, expression: str, *fields: str) -> Rule:
    return Rule(id=name, expression=expression, message=Text("不符", "broken"), fields=fields)


LICENCE = Resource(
    name="licence",
    code="307001/1",
    title="许可",
    department=DEPARTMENT,
    key=("number",),
    unique=(("serial", "issuer"),),
    fields=(
        field("number", "text(12)", required=True),
        field("holder", "text(20)", required=True),
        field("kind", "text(8)"),
        field("code", "uscc", required_when="kind = '法人'"),
        field("person", "resident_id"),
        field("phone", "mobile"),
        field("state", "code(state)", required=True),
        field("decided", "date", required=True),
        field("until", "date"),
        field("fine", "decimal(7,2)"),
        field("changed", "datetime"),
        field("count", "integer"),
        field("public", "boolean"),
        field("ratio", "double"),
        field("serial", "text(12)"),
        field("issuer", "uscc"),
    ),
    rules=(
        rule("decided-past", "decided <= today", "decided"),
        rule("until-after", "decided <= until", "decided", "until"),
        rule("fine-positive", "fine > 0", "fine"),
    ),
)
VALIDATOR = compile_resource(LICENCE, TABLES)


def uscc(chance: random.Random) -> str:
    head = "".join(chance.choices(USCC_ALPHABET, k=8))
    body = "".join(chance.choices(USCC_ALPHABET, k=8))
    code = head + body + organisation_check(body)
    # The inner digit may be a letter that a USCC has no room for.
    return code + uscc_check(code) if code[16] in USCC_ALPHABET else uscc(chance)


def resident_id(chance: random.Random) -> str:
    number = (
        f"{chance.randint(110000, 659999)}{chance.randint(1930, 2015)}"
        f"{chance.randint(1, 12):02}{chance.randint(1, 28):02}{chance.randint(0, 999):03}"
    )
    return number + resident_id_check(number)


def good(count: int, *, first: int = 0) -> pl.DataFrame:
    """Make text rows without fault."""
    chance = random.Random(first)  # noqa: S311 - samples
    codes = [uscc(chance) for _ in range(count)]
    return pl.DataFrame(
        {
            "number": [f"N{first + place}" for place in range(count)],
            "holder": ["呼玛县某某公司"] * count,
            "kind": ["法人"] * count,
            "code": codes,
            "person": [resident_id(chance) for _ in range(count)],
            "phone": ["13900001111"] * count,
            "state": ["1"] * count,
            "decided": ["2026-01-02"] * count,
            "until": ["2099-12-31"] * count,
            "fine": ["12.50"] * count,
            "changed": ["2026-01-02 03:04:05"] * count,
            "count": ["7"] * count,
            "public": ["是"] * count,
            "ratio": ["0.5"] * count,
            "serial": [f"S{first + place}" for place in range(count)],
            "issuer": codes,
        },
        schema=dict.fromkeys((item.name for item in LICENCE.fields), pl.String),
    )


def check(
    frame: pl.DataFrame, claimed: ClaimedKeys | None = None, validator: Validator = VALIDATOR
) -> CheckResult:
    return validator.check(frame, today=TODAY, claimed=claimed or ClaimedKeys())


def found(checked: CheckResult) -> list[list[str]]:
    """Return rule:field of each refused row's reasons."""
    return [
        [f"{reason['rule']}:{reason['field']}" for reason in reasons]
        for reasons in checked.rejected["_reasons"].to_list()
    ]
