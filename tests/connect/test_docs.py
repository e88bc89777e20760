"""The guide for authors: its code runs, and it leaves no setting and no check out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from exchange.connect import Denied, find, installed
from exchange.connect.conformance import CHECKS
from tests.support.conformity import NO, WAYS, YES, table
from tests.support.web_service import Answer, serving

GUIDE = (Path(__file__).parents[2] / "docs" / "connectors.md").read_text()
CODE = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


@pytest.fixture(scope="module")
def namespace() -> dict[str, Any]:
    space: dict[str, Any] = {}
    for block in CODE:
        exec(compile(block, "docs/connectors.md", "exec"), space)  # noqa: S102 - our own page
    return space


def test_the_first_example_takes_six_lines(namespace: dict[str, Any], tmp_path: Path) -> None:
    assert len([line for line in CODE[0].splitlines() if line.strip()]) <= 6
    (tmp_path / "a.csv").write_text("name\nLi\n")
    hello = namespace["hello"]
    (pulled,) = hello.open({"path": str(tmp_path / "a.csv")}, lambda _: "").pull()
    assert pulled.frame.rows() == [("Li",)]


@pytest.mark.filterwarnings("ignore:not tested")  # numbers do not change
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_counter_conforms(namespace: dict[str, Any], check: Any) -> None:
    check(namespace["CASE"])


def test_hooks_answer(namespace: dict[str, Any]) -> None:
    source = namespace["counter"].open({"upto": 5}, lambda _: "")
    assert source.check().en == "can count to 5"
    assert source.discover()[0]["name"] == "numbers"


def test_the_client_asks_and_judges(namespace: dict[str, Any]) -> None:
    answers = [Answer(b"", 503), Answer(b"town,degrees\nMohe,-30\n"), Answer(b"", 403)]
    with serving(lambda _: answers.pop(0)) as service:
        slept: list[float] = []
        weather = namespace["weather"].open({"url": service.url}, lambda _: "", sleep=slept.append)
        (pulled,) = weather.pull()
        assert pulled.frame.rows() == [("Mohe", -30)]
        assert slept == [1]
        with pytest.raises(Denied):
            list(weather.pull())


def test_every_check_is_described() -> None:
    for check in CHECKS:
        assert f"| `{check.__name__}` |" in GUIDE


@pytest.mark.parametrize("name", ["sql", "files", "rest", "sftp", "kafka", "webtable", "soap"])
def test_every_setting_is_described(name: str) -> None:
    chapter = GUIDE.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    first_cells = "".join(re.findall(r"^\|(.*?)\|", chapter, re.MULTILINE))
    described = set(re.findall(r"`(\w+)`", first_cells))
    assert {setting["name"] for setting in find(name).spec()["settings"]} <= described


def test_the_conformance_table_has_every_connector_and_check() -> None:
    rows = table()
    assert tuple(rows) == WAYS
    assert {way.partition(" ")[0] for way in rows} == set(installed())
    assert {cell for row in rows.values() for cell in row.values()} == {YES, NO}
