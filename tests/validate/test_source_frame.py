from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.validate.source_frame import absent_columns, source_columns
from tests.validate.samples import LICENCE

MAPPED = LICENCE.model_copy(update={"columns": {"许可 编号": "number", "持证人": "holder"}})


@pytest.mark.parametrize("title", ["许可编号", "许可\n编号", "许可 编号", " 许可\u3000编\r\n号 "])
def test_white_space_of_a_title_compares_equal(title: str) -> None:
    assert source_columns(MAPPED, [title, "holder"])["number"] == title
    assert "number" not in absent_columns(MAPPED, [title]).values()


def test_the_very_title_comes_first_and_nothing_is_guessed() -> None:
    titles = ["许可编号", "许可 编号", "许可\n编号"]
    assert source_columns(MAPPED, titles)["number"] == "许可 编号"
    assert "number" not in source_columns(MAPPED, [titles[0], titles[2]])


@given(st.text(min_size=1).filter(lambda text: "".join(text.split())))
def test_other_titles_are_other_columns(title: str) -> None:
    alike = "".join(title.split()) in {"许可编号", "持证人"}
    assert bool(source_columns(MAPPED, [title])) == (alike or title in _UNMAPPED)


_UNMAPPED = {field.name for field in LICENCE.fields} - {"number", "holder"}
