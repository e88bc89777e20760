from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.catalog.problems import CatalogErrors
from exchange.errors import ExchangeError, Misconfigured
from exchange.settings import FILE_NAME, find, load, read_secret

GOOD = """\
node: {code: "232700", name: 大兴安岭地区}
sources:
  companies: {resource: companies, connector: sql, every: 15m, with: {table: t}}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / FILE_NAME
    path.write_text(text, encoding="utf-8")
    return path


def test_paths_and_addresses_count_from_the_file(tmp_path: Path) -> None:
    found = load(write(tmp_path, GOOD))
    assert found.sources["companies"].every == timedelta(minutes=15)
    assert found.sources["companies"].options == {"table": "t"}
    assert found.resolve(Path("data")) == tmp_path / "data"
    assert found.url(found.store) == f"sqlite:///{tmp_path}/data/store.db"


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (GOOD + "sourcs: {}\n", 4, "did you mean 'sources'"),
        (GOOD.replace("every", "evry"), 3, "did you mean 'every'"),
        (GOOD.replace("connector: sql, ", ""), 3, "missing setting sources.companies.connector"),
        (GOOD.replace('"232700"', "23x"), 1, "node.code"),
        (GOOD + "node: {}\n", 4, "duplicate key"),
        (GOOD + "folder: /elsewhere\n", 4, "unknown setting folder"),
        (GOOD + "\tproduction: true\n", 4, "tab"),
        (GOOD.replace("node:", "node："), 1, "full-width"),
    ],
)
def test_mistakes_are_named_with_their_line(
    tmp_path: Path, text: str, line: int, says: str
) -> None:
    with pytest.raises(CatalogErrors) as caught:
        load(write(tmp_path, text))
    assert caught.value.exit_code == 3
    shown = [(problem.line, problem.show("en")) for problem in caught.value.problems]
    assert any(at == line and says in told for at, told in shown), shown


@settings(max_examples=150)
@given(st.text(max_size=200) | st.text("{}[]:,-\n \"'ab", max_size=80))
def test_any_text_is_settings_or_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.mktemp("any") / FILE_NAME
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ExchangeError):
        load(path)  # nothing so short and wild names a node


def test_a_secret_is_read_by_reference_and_never_named_by_value(tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text("geheim\r\n")
    assert read_secret("file:s.txt", tmp_path, {}) == "geheim"
    assert read_secret("env:S", tmp_path, {"S": "x"}) == "x"
    (tmp_path / "big.txt").write_text("x" * 70_000)
    for reference in ("env:MISSING", "file:missing.txt", "file:big.txt", "geheim"):
        with pytest.raises(Misconfigured) as caught:
            read_secret(reference, tmp_path, {})
        assert caught.value.exit_code == 3


def test_the_file_is_found_from_folders_below(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert find(below, {}) == path
    assert find(below, {"EXCHANGE_CONFIG": "/other.yaml"}) == Path("/other.yaml")
    with pytest.raises(Misconfigured):
        find(Path("/proc"), {})
