"""Text on a narrow screen: no line is wider, no word is cut, nothing is lost."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.cli.layout import fold, pad, table, width_of

WORDS = st.text(st.sampled_from("ab1/é，。（）“”企业名称０ "), min_size=0, max_size=120)
HEADS = ("资源", "拉取", "主要拒收原因")
ROWS = [
    ("行政许可信息（双公示）", "1,000", "统一社会信用代码 校验位错误 ×2\n许可内容 含控制字符 ×1"),
    ("电子印章台账", "7", ""),
]


@given(WORDS, st.integers(12, 60))
def test_folding_keeps_every_character_and_the_width(text: str, width: int) -> None:
    lines = fold(text, width)
    assert re.sub(r"\s", "", "".join(lines)) == re.sub(r"\s", "", text)
    words = set(re.findall(r"[ab1/é]+", text))
    assert words <= set(re.findall(r"[ab1/é]+", "\n".join(lines))), "a word is cut"
    for line in lines:
        longest = max(map(width_of, re.findall(r"[^ 企业名称０]+", line)), default=0)
        assert width_of(line) <= max(width, longest + 8)


@given(WORDS)
def test_a_line_that_fits_is_left_alone(text: str) -> None:
    assert fold(text, max(width_of(text), 1)) == [text]


def test_a_line_begins_with_no_closing_mark() -> None:
    lines = fold("许可决定日期，不得晚于今天。" * 4, 20)
    assert not [line for line in lines if line.lstrip()[0] in "，。"]
    assert max(map(width_of, lines)) <= 20


def test_a_wide_screen_has_columns_and_numbers_at_the_right() -> None:
    assert table(HEADS, ROWS, 80) == [
        "资源                     拉取  主要拒收原因",
        "─" * 61,
        "行政许可信息（双公示）  1,000  统一社会信用代码 校验位错误 ×2",
        "                               许可内容 含控制字符 ×1",
        "电子印章台账                7",
    ]


def test_a_narrow_screen_has_one_record_below_the_other() -> None:
    assert table(HEADS, ROWS, 50) == [
        "行政许可信息（双公示）",
        "  拉取 1,000",
        "  主要拒收原因 统一社会信用代码 校验位错误 ×2",
        "               许可内容 含控制字符 ×1",
        "电子印章台账",
        "  拉取 7",
    ]


@pytest.mark.parametrize("width", [60, 62])
def test_the_last_column_is_folded_before_the_row(width: int) -> None:
    lines = table(HEADS, ROWS, width)
    assert lines[0].startswith("资源  ")
    assert max(map(width_of, lines)) <= width


def test_widths_are_those_of_a_terminal() -> None:
    assert [width_of(text) for text in ("abc", "企业", "e\u0301", "×…")] == [3, 4, 1, 2]
    assert pad("企业", 6) == "企业  "
