"""Invented people and companies, a column at a time, with valid check digits.

Codes are made as byte matrices (n rows × 18) so that a million take a fraction of a second; the
scalar functions of :mod:`exchange.catalog.identifiers` are the reference they are tested against.
Nobody real is meant: every part is drawn from a seeded generator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from exchange.catalog.identifiers import (
    ORGANISATION_ALPHABET,
    ORGANISATION_WEIGHTS,
    RESIDENT_ID_CHECKS,
    RESIDENT_ID_WEIGHTS,
    USCC_ALPHABET,
    USCC_WEIGHTS,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

Bytes: TypeAlias = NDArray[np.uint8]
"""ASCII characters: one row of the matrix is one code."""
Days: TypeAlias = NDArray[np.datetime64]
Random: TypeAlias = np.random.Generator

COUNTIES: Final = {
    "232701": "漠河市",
    "232721": "呼玛县",
    "232722": "塔河县",
    "232761": "加格达奇区",
    "232762": "松岭区",
    "232763": "新林区",
    "232764": "呼中区",
}
"""County-level divisions of 大兴安岭 as the statistics authority codes them (domain.md §6)."""

_SURNAMES: Final = (
    "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕苏卢蒋蔡贾丁魏薛叶阎"
    "余潘杜戴夏钟汪田任姜范方石姚谭廖邹熊金陆郝孔白崔康毛邱秦江史顾侯邵孟龙万段雷钱汤尹黎易常武乔贺赖龚文"
)
_GIVEN: Final = (
    "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超兰霞平刚桂英华玉萍红梅玲建国志海林雪松岭冬春生宇浩轩梓涵欣怡子墨晨"
    "曦佳琪思远文博雅婷俊凯鹏飞龙云峰山川江河清泉瑞祥福贵宝成德才永康振兴"
)
_BRANDS: Final = (
    "兴安 北极 樟岭 蓝莓谷 鄂岭 瑞林 塔河源 呼玛河 绿野 冰雪 极光 松涛 白桦 红松 岭上 "
    "北国 林海 金山 龙江源 神州北极 寒地 百合 雪原 华林 恒泰 鑫源 顺达 宏宇 永盛 佳和"
)
_TRADES: Final = (
    "林业 蓝莓食品 中药材种植 森林旅游 建筑工程 物流运输 矿业 木制品加工 食用菌 "
    "山产品购销 餐饮管理 商贸 农业开发 清洁能源 汽车维修 物业服务 医药连锁 文化传媒 "
    "电子商务 劳务派遣"
)
_FORMS: Final = ("有限责任公司", "有限公司", "股份有限公司")
_STREETS: Final = "人民路 兴安大街 林海路 胜利路 曙光街 光明路 红旗街 育才路 站前街 北山路"

_DIGIT: Final = ord("0")
_ORGANISATION_CHECKS: Final = np.frombuffer(b"0X987654321", np.uint8)
"""Check character by the weighted sum modulo 11: 11 - Σ, 10 → X, 11 → 0."""
_RESIDENT_CHECKS: Final = np.frombuffer(RESIDENT_ID_CHECKS.encode(), np.uint8)
_USCC: Final = np.frombuffer(USCC_ALPHABET.encode(), np.uint8)
_USCC_VALUE: Final = np.zeros(256, np.int64)
_USCC_VALUE[_USCC] = np.arange(len(_USCC))
_ORGANISATION_VALUE: Final = np.zeros(256, np.int64)
_ORGANISATION_VALUE[np.frombuffer(ORGANISATION_ALPHABET.encode(), np.uint8)] = np.arange(36)


def column(characters: Bytes) -> pl.Series:
    """Return a byte matrix as a String column, one value per row."""
    return pl.Series(np.ascontiguousarray(characters).view(f"S{characters.shape[1]}").ravel()).cast(
        pl.String
    )


def matrix(values: pl.Series) -> Bytes:
    """Return ASCII strings of one common length as a byte matrix."""
    joined = "".join(values.to_list()).encode("ascii")
    return np.frombuffer(joined, np.uint8).reshape(len(values), -1)


def digits(numbers: NDArray[np.int64], width: int) -> Bytes:
    """Return non-negative numbers as decimal digits, zero-padded to ``width``."""
    powers = 10 ** np.arange(width - 1, -1, -1)
    return (numbers[:, None] // powers % 10 + _DIGIT).astype(np.uint8)


def pick(random: Random, pool: Sequence[str] | pl.Series, count: int) -> pl.Series:
    """Draw ``count`` values of ``pool``, with replacement."""
    values = pool if isinstance(pool, pl.Series) else pl.Series(pool, dtype=pl.String)
    return values.gather(random.integers(0, len(values), count))


def person_names(random: Random, count: int) -> pl.Series:
    """Make personal names (姓名) of two or three characters."""
    second = [*_GIVEN, *[""] * (len(_GIVEN) // 3)]
    return (
        pick(random, list(_SURNAMES), count)
        + pick(random, list(_GIVEN), count)
        + pick(random, second, count)
    )


def company_names(random: Random, counties: pl.Series) -> pl.Series:
    """Make company names of the given counties (by code)."""
    count = len(counties)
    place = counties.replace_strict(COUNTIES, return_dtype=pl.String)
    trade = pick(random, _BRANDS.split(), count) + pick(random, _TRADES.split(), count)
    return "大兴安岭" + place + trade + pick(random, _FORMS, count)


def addresses(random: Random, counties: pl.Series) -> pl.Series:
    """Make street addresses in the given counties (by code)."""
    count = len(counties)
    place = counties.replace_strict(COUNTIES, return_dtype=pl.String)
    number = pl.Series(random.integers(1, 300, count)).cast(pl.String)
    return place + pick(random, _STREETS.split(), count) + number + "号"


def usccs(random: Random, counties: Bytes, *, kind: str = "91") -> Bytes:
    """Make USCCs (统一社会信用代码) of ``kind`` (91 company, 92 sole trader) and county.

    GB 32100-2015 with the inner GB 11714 digit; organisation codes begin with MA, as those given
    out since 2015 do.
    """
    count = len(counties)
    codes = np.empty((count, 18), np.uint8)
    codes[:, 0:2] = np.frombuffer(kind.encode(), np.uint8)
    codes[:, 2:8] = counties
    codes[:, 8:10] = np.frombuffer(b"MA", np.uint8)
    codes[:, 10:16] = _USCC[random.integers(0, len(_USCC), (count, 6))]
    inner = _ORGANISATION_VALUE[codes[:, 8:16]] @ np.array(ORGANISATION_WEIGHTS)
    codes[:, 16] = _ORGANISATION_CHECKS[inner % 11]
    outer = _USCC_VALUE[codes[:, :17]] @ np.array(USCC_WEIGHTS)
    codes[:, 17] = _USCC[-outer % 31]
    return codes


def resident_ids(random: Random, counties: Bytes, births: Days, male: NDArray[np.bool_]) -> Bytes:
    """Make citizen numbers (公民身份号码) of the given county, birth dates and sex."""
    count = len(counties)
    numbers = np.empty((count, 18), np.uint8)
    numbers[:, 0:6] = counties
    numbers[:, 6:14] = calendar_digits(births)
    serial = 2 * random.integers(0, 500, count) + male
    numbers[:, 14:17] = digits(serial, 3)
    total = (numbers[:, :17] - np.uint8(_DIGIT)).astype(np.int64) @ np.array(RESIDENT_ID_WEIGHTS)
    numbers[:, 17] = _RESIDENT_CHECKS[total % 11]
    return numbers


def calendar_digits(days: Days) -> Bytes:
    """Return dates as YYYYMMDD."""
    months = days.astype("datetime64[M]")
    month = months.astype(np.int64)
    day = (days.astype("datetime64[D]") - months.astype("datetime64[D]")).astype(np.int64) + 1
    return digits((1970 + month // 12) * 10_000 + (month % 12 + 1) * 100 + day, 8)


def mobiles(random: Random, count: int) -> Bytes:
    """Make mobile numbers: 1, then 3–9, then nine digits."""
    return digits(random.integers(13_000_000_000, 20_000_000_000, count), 11)


def days(random: Random, first: str, last: str, count: int) -> Days:
    """Draw ``count`` days between ``first`` and ``last`` (ISO dates, both included)."""
    start, end = np.datetime64(first, "D"), np.datetime64(last, "D")
    return start + random.integers(0, (end - start).astype(np.int64) + 1, count)
