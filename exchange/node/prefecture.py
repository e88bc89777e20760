"""The prefecture that a new node is of: its code and name, its departments, its province."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from exchange.catalog.identifiers import is_uscc
from exchange.catalog.model import Area
from exchange.errors import Misconfigured
from exchange.text import Text

PROVINCES: Final[Mapping[str, str]] = {
    "11": "北京市",
    "12": "天津市",
    "13": "河北省",
    "14": "山西省",
    "15": "内蒙古自治区",
    "21": "辽宁省",
    "22": "吉林省",
    "23": "黑龙江省",
    "31": "上海市",
    "32": "江苏省",
    "33": "浙江省",
    "34": "安徽省",
    "35": "福建省",
    "36": "江西省",
    "37": "山东省",
    "41": "河南省",
    "42": "湖北省",
    "43": "湖南省",
    "44": "广东省",
    "45": "广西壮族自治区",
    "46": "海南省",
    "50": "重庆市",
    "51": "四川省",
    "52": "贵州省",
    "53": "云南省",
    "54": "西藏自治区",
    "61": "陕西省",
    "62": "甘肃省",
    "63": "青海省",
    "64": "宁夏回族自治区",
    "65": "新疆维吾尔自治区",
    "71": "台湾省",
    "81": "香港特别行政区",
    "82": "澳门特别行政区",
}
"""Provinces by the first two digits of a division code (GB/T 2260)."""
_NUMBER: Final = 6
_NAME: Final = re.compile(r"[\w（）()·-]{1,40}")
_NAMES: Final = Text("名称用汉字、字母、数字、括号", "use letters, digits and brackets")


@dataclass(frozen=True, slots=True)
class Prefecture:
    """What the settings, the catalog and the seals of a new node are made for."""

    area: Area
    departments: Mapping[str, tuple[str, str]]
    """Department's key in the catalog → 统一社会信用代码 and name."""

    @classmethod
    def of(cls, code: str, name: str, departments: Sequence[str]) -> Prefecture:
        """Read what a person wrote; ``departments`` are ``code=name``, the first keeps the data.

        Raises Misconfigured, naming what is missing or wrong.
        """
        if not (code and name and departments):
            raise Misconfigured(
                Text(
                    "--code、--name、--department 要一起写",
                    "--code, --name, --department go together",
                ),
                hint=Text(
                    "如 --code 350100 --name 福州市 --department 信用代码=部门名称",
                    "such as --code 350100 --name '福州市' --department USCC=NAME",
                ),
            )
        if len(code) != _NUMBER or not code.isascii() or not code.isdecimal():
            raise _wrong(
                Text(f"--code {code} 不是行政区划代码", f"--code {code} is no division code"),
                Text("6 位数字，如 350100", "six digits, such as 350100"),
            )
        if code[:2] not in PROVINCES:
            raise _wrong(
                Text(f"没有以 {code[:2]} 开头的省级代码", f"no province begins with {code[:2]}"),
                Text("按 GB/T 2260 填写", "write it as in GB/T 2260"),
            )
        units: dict[str, tuple[str, str]] = {}
        if _NAME.fullmatch(name) is None:
            raise _wrong(Text(f"--name {name} 不可用", f"--name {name} cannot be used"), _NAMES)
        for number, text in enumerate(departments, start=1):
            unit, equals, title = (part.strip() for part in text.partition("="))
            if not (equals and title and is_uscc(unit)):
                raise _wrong(
                    Text(
                        f"--department {text} 不是“信用代码=部门名称”",
                        f"--department '{text}' is no USCC=NAME",
                    ),
                    Text(
                        "统一社会信用代码 18 位，校验位须正确",
                        "the unified social credit code has 18 characters, check digits included",
                    ),
                )
            if _NAME.fullmatch(title) is None:
                what = Text(f"部门名称 {title} 不可用", f"the name {title} cannot be used")
                raise _wrong(what, _NAMES)
            if any(unit == other for other, _ in units.values()):
                what = Text(f"部门 {unit} 写了两次", f"department {unit} is named twice")
                raise _wrong(what, Text("去掉其中一个", "remove one of them"))
            units["data" if number == 1 else f"department{number}"] = (unit, title)
        return cls(Area(code=code, name=name.strip()), units)


def province_of(code: str) -> tuple[str, str]:
    """Return division code and name of the province of an area."""
    return f"{code[:2]}0000", PROVINCES.get(code[:2], "")


def _wrong(what: Text, hint: Text) -> Misconfigured:
    return Misconfigured(what, hint=hint)
