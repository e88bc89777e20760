"""The screens of docs/screens are what the commands show: on 80 and 140 columns, zh and en."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from exchange.cli.layout import width_of
from exchange.devtools.demo.demonstration import DemoResult
from tests.cli.screens import FOLDER, VARIANTS, demo, make_demo, path_of, walk
from tests.support.soak import SCREENS
from tests.test_messages import HAN, NAMES

WALKS = [("zh", 80), ("en", 140), ("zh", 140), ("en", 80)]
OWN = re.compile(
    r"[A-Za-z0-9_*.-]*[._/@*][A-Za-z0-9_*./-]+|[A-Za-z]+-[A-Za-z0-9-]+|\[[a-z_]+\]|[0-9a-zA-Z]*[0-9][0-9A-Za-z]*"
    r"|CN|province|schemas|seals|sources|companies|credit_\w+|contact|internal|id|uscc|name|founded|status|mynode|data|departments"
)
"""What is the same in both languages: names, codes, columns and paths of the node."""


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> DemoResult:
    return make_demo(tmp_path_factory.mktemp("demo"))


@pytest.mark.parametrize(("lang", "width"), VARIANTS)
def test_the_demo_looks_as_on_its_page(result: DemoResult, lang: str, width: int) -> None:
    assert demo(result, lang, width).rstrip() == page(lang, width)[0].rstrip()


@pytest.mark.soak
@pytest.mark.parametrize(("lang", "width"), WALKS[: SCREENS.now])
def test_the_walk_looks_as_on_its_page(tmp_path: Path, lang: str, width: int) -> None:
    assert walk(tmp_path, lang, width).rstrip() == page(lang, width)[1].rstrip()


def page(lang: str, width: int) -> tuple[str, str]:
    """Cut a page in two: the demo, and the walk."""
    shown, init, rest = path_of(lang, width).read_text("utf-8").partition("$ exchange init")
    return shown, init + rest


@pytest.mark.parametrize(("lang", "width"), VARIANTS)
def test_no_line_is_wider_than_its_screen(lang: str, width: int) -> None:
    lines = path_of(lang, width).read_text("utf-8").split("\n")
    assert [line for line in lines if width_of(line) > width and not line.startswith("$ ")] == []


def test_each_screen_is_in_one_language() -> None:
    for lang, width in VARIANTS:
        lines = path_of(lang, width).read_text("utf-8").split("\n")
        shown = [line for line in lines if not line.startswith("$ ")]
        if lang == "zh":
            text = OWN.sub("", re.sub("exchange .*", "", "\n".join(shown)))
            words = set(re.findall("[A-Za-z]{2,}", text))
            assert words <= NAMES, sorted(words - NAMES)


def test_there_is_no_other_page() -> None:
    assert sorted(FOLDER.glob("*.txt")) == sorted(path_of(*variant) for variant in VARIANTS)
    assert HAN.search(path_of("zh", 80).read_text("utf-8"))
