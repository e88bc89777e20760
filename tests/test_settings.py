from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from exchange.catalog.problems import FileErrors
from exchange.errors import ExchangeError, Misconfigured
from exchange.secrets import read_secret
from exchange.settings import FILE_NAME, SourceSettings, Timeouts, find, load
from exchange.settings.cron import next_time

GOOD = """\
node: {code: "232700", name: 大兴安岭地区}
sources:
  companies: {resource: companies, connector: sql, every: 15m, with: {table: t}}
"""
UPSTREAM = """\
upstream:
  endpoint: https://province.example.gov.cn
  rid: r
  sid: s
  secret: env:S
  trust: [root.pem]
"""
TSA = "tsa: {url: https://tsa.example.gov.cn, trust: [root.pem]}\n"
REGISTRY = "registry: {url: https://registry.example.gov.cn}\n"


def write(folder: Path, text: str) -> Path:
    path = folder / FILE_NAME
    path.write_text(text, encoding="utf-8")
    return path


BAD_CRON = ("0 25 * * *", "* * * *", "@daily", "0 0 31 2 *", "0 2 * * * *", "每天 2 * * *")
"""Out of range, too few fields, a name, a day that never comes, seconds, no number."""


def test_paths_and_addresses_count_from_the_file(tmp_path: Path) -> None:
    result = load(write(tmp_path, GOOD))
    assert result.sources["companies"].every == timedelta(minutes=15)
    assert result.sources["companies"].options == {"table": "t"}
    assert result.resolve(Path("data")) == tmp_path / "data"
    assert result.url(result.store, {}) == f"sqlite:///{tmp_path}/data/store.db"


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
        *(
            (GOOD.replace("every: 15m", f'cron: "{cron}"'), 3, "setting sources.companies.cron")
            for cron in BAD_CRON
        ),
        (GOOD.replace("15m", "0s"), 3, "setting sources.companies.every"),
        (GOOD.replace("15m", "4000d"), 3, "setting sources.companies.every"),
        (GOOD.replace("15m", "9999999999d"), 3, "setting sources.companies.every"),
        (GOOD + UPSTREAM + "  read_seconds: 600\n", 10, "600 s is more than total_seconds, 300 s"),
        (GOOD + UPSTREAM + "  total_seconds: 10\n", 4, "upstream.read_seconds: 60 s is more"),
        (GOOD + UPSTREAM + "  connect_seconds: nan\n", 10, "upstream.connect_seconds"),
        (GOOD + TSA.replace("}", ", read_seconds: 11}"), 4, "more than total_seconds, 10 s"),
        (GOOD + REGISTRY.replace("}", ", total_seconds: 0}"), 4, "registry.total_seconds"),
        (GOOD + REGISTRY.replace("}", ", user: u}"), 4, "user and password come together"),
        (GOOD + "log: {driver: kafka}\n", 4, "log.kafka.bootstrap"),
    ],
)
def test_mistakes_are_named_with_their_line(
    tmp_path: Path, text: str, line: int, says: str
) -> None:
    with pytest.raises(FileErrors) as caught:
        load(write(tmp_path, text))
    assert caught.value.exit_code == 3
    items = [(problem.line, problem.show("en")) for problem in caught.value.problems]
    assert any(at == line and says in item for at, item in items), items
    assert caught.value.what.zh.startswith("配置文件中有")
    assert caught.value.what.en.endswith("in the settings")


def test_time_limits_of_every_outgoing_connection_are_one_value(tmp_path: Path) -> None:
    text = GOOD + UPSTREAM + "  read_seconds: 600\n  total_seconds: 600\n" + TSA + REGISTRY
    settings = load(write(tmp_path, text))
    assert settings.upstream is not None
    assert settings.tsa is not None
    assert settings.registry is not None
    assert settings.upstream.timeouts == Timeouts(connect=5, read=600, total=600)
    assert settings.tsa.timeouts == Timeouts(connect=3, read=5, total=10)
    assert settings.registry.timeouts == Timeouts(connect=5, read=10, total=30)


def test_a_wrong_time_limit_is_explained_in_chinese_too(tmp_path: Path) -> None:
    with pytest.raises(FileErrors) as caught:
        load(write(tmp_path, GOOD + UPSTREAM + "  read_seconds: 600\n"))
    (problem,) = caught.value.problems
    assert "600 秒超过 total_seconds（300 秒）" in problem.show("zh")


@given(st.lists(st.text("0123456789*,-/#LHRWmonja?", max_size=4), min_size=4, max_size=6))
def test_a_cron_expression_has_a_next_time_or_is_refused(fields: list[str]) -> None:
    """Whatever passes here is asked for its next time by a supervised run."""
    expression = " ".join(fields)
    now = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)
    try:
        SourceSettings(resource="companies", connector="sql", cron=expression)
    except ValidationError:
        with pytest.raises(ValueError, match="cron"):
            next_time(expression, now)
    else:
        assert next_time(expression, now) > now


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
