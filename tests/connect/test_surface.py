"""The plugin surface: six lines make a connector, and whatever it raises is ours."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.connect import (
    Cursor,
    Denied,
    ExchangeError,
    Misconfigured,
    Note,
    Pulled,
    Rejected,
    Secret,
    Text,
    Transient,
    connector,
    find,
    installed,
    slices,
)
from exchange.connect.conformance import CHECKS, Case
from exchange.connect.error_map import ERROR_MAP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SIX_LINES = """\
import polars
from exchange.connect import connector

@connector("hello")
def hello(path: str):
    yield polars.read_csv(path)
"""


def no_secrets(reference: str) -> str:
    raise AssertionError(reference)


def test_six_lines_make_a_connector(tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text(SIX_LINES)
    (tmp_path / "people.csv").write_text("name,age\nLi,7\nWang,8\n")
    hello = find("hello.py:hello", base=tmp_path)
    source = hello.open({"path": str(tmp_path / "people.csv")}, no_secrets)
    (pulled,) = source.pull()
    assert pulled.frame.rows() == [("Li", 7), ("Wang", 8)]
    assert pulled.cursor is None
    assert not hello.resumable
    assert "name, age" in source.check().en
    assert source.discover() == [
        {
            "name": "hello",
            "columns": [{"name": "name", "type": "String"}, {"name": "age", "type": "Int64"}],
        }
    ]
    result = source.preview(1)
    assert result is not None
    assert result.height == 1


@connector("counting")
def counting(
    *,
    upto: Annotated[int, Text("数到几", "count up to this")] = 9,
    password: Annotated[Secret | None, Text("口令", "the password")] = None,
    cursor: Cursor | None,
) -> Iterator[Pulled]:
    """Count, three numbers a frame."""
    if password is not None and password.reveal() != "open sesame":
        raise ValueError(f"wrong password {password.reveal()}")
    for first in range(cursor["next"] if cursor else 0, upto, 3):
        numbers = list(range(first, min(first + 3, upto)))
        yield Pulled(pl.DataFrame({"n": numbers}), {"next": numbers[-1] + 1}, "numbers")


def _counting(password: str) -> Callable[[], Any]:
    settings = {"password": "env:COUNTING"}
    return lambda: counting.open(settings, lambda _: password)


COUNTING = Case(
    open=_counting("open sesame"),
    rows=[(n,) for n in range(9)],
    identity=("n",),
    news_only=True,
    broken={"password": _counting("hunter2")},
    secret="hunter2",
)


@pytest.mark.filterwarnings("ignore:not tested")  # numbers do not change
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_connector_with_a_cursor_conforms(check: Callable[[Case], None]) -> None:
    check(COUNTING)


@connector("forgetful")
def forgetful(*, cursor: Cursor | None) -> Iterator[Pulled]:
    """Skip a record on resuming."""
    for first in range((cursor["next"] + 1) if cursor else 0, 9, 3):
        yield Pulled(pl.DataFrame({"n": range(first, first + 3)}), {"next": first + 3})


@connector("stuttering")
def stuttering(*, cursor: Cursor | None) -> Iterator[Pulled]:
    """Repeat a record on resuming."""
    for first in range(max(0, cursor["next"] - 1) if cursor else 0, 9, 3):
        frame = pl.DataFrame({"n": range(first, min(first + 3, 9))})
        yield Pulled(frame, {"next": first + 3})


@connector("shifting")
def shifting(*, cursor: Cursor | None) -> Iterator[Pulled]:
    """Change the type of a column on the way."""
    yield Pulled(pl.DataFrame({"n": [0]}), cursor)
    yield Pulled(pl.DataFrame({"n": ["1"]}), {"next": 2})


@pytest.mark.filterwarnings("ignore:not tested")
@pytest.mark.parametrize("faulty", [forgetful, stuttering, shifting])
def test_the_suite_finds_faulty_connectors(faulty: Any) -> None:
    case = Case(open=lambda: faulty.open({}, no_secrets), rows=COUNTING.rows, identity=("n",))
    failed = []
    for check in CHECKS:
        try:
            check(case)
        except AssertionError:
            failed.append(check.__name__)
    assert {"resumes_from_every_cursor", "keeps_types"} & set(failed)


def test_settings_are_refused_all_at_once_and_by_name() -> None:
    with pytest.raises(Misconfigured) as caught:
        counting.open({"upt": 3, "password": "hunter2"}, no_secrets)
    result = str(caught.value)
    assert "did you mean 'upto'" in result
    assert "reference only" in result
    assert "hunter2" not in result
    assert "是不是“upto”" in caught.value.what.zh


def test_a_literal_address_is_fine_without_a_password() -> None:
    @connector("address")
    def address(url: Secret) -> Iterator[pl.DataFrame]:
        yield pl.DataFrame({"url": [url.reveal()]})

    (pulled,) = address.open({"url": "sqlite:///a.db"}, no_secrets).pull()
    assert pulled.frame["url"].to_list() == ["sqlite:///a.db"]
    for leaking in ("postgresql://me:hunter2@host/db", "mysql://host/db?password=hunter2"):
        with pytest.raises(Misconfigured) as caught:
            address.open({"url": leaking}, no_secrets)
        assert "hunter2" not in str(caught.value)


def test_secrets_stay_out_of_errors_of_every_kind() -> None:
    @connector("leaky")
    def leaky(url: Secret, ours: bool) -> Iterator[pl.DataFrame]:  # noqa: FBT001
        text = f"cannot log in at {url.reveal()} with hunter 2"
        if ours:
            raise Transient(Text(text, text), hint=Text("等", "wait"))
        yield from ()
        raise RuntimeError(text)

    for ours in (True, False):
        source = leaky.open(
            {"url": "env:U", "ours": ours}, lambda _: "postgresql://me:hunter%202@host/db"
        )
        with pytest.raises(ExchangeError) as caught:
            list(source.pull())
        assert "hunter" not in str(caught.value)
        assert caught.value.__cause__ is None, "a cause would be printed with the traceback"
        assert "hunter" not in repr(source)


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (ConnectionResetError("gone"), Transient),
        (TimeoutError("late"), Transient),
        (PermissionError("no"), Denied),
        (FileNotFoundError("where"), Misconfigured),
        (OSError("disk"), Transient),
        (ModuleNotFoundError("driver"), Misconfigured),
        (ZeroDivisionError("author"), Rejected),
        (pl.exceptions.ComputeError("columns"), Rejected),
        (Denied(Text("否", "no"), hint=Text("问", "ask")), Denied),
    ],
)
def test_foreign_errors_cross_the_border(error: Exception, verdict: type[Exception]) -> None:
    @connector("raising")
    def raising() -> Iterator[pl.DataFrame]:
        yield pl.DataFrame({"n": [1]})
        raise error

    stream = raising.open({}, no_secrets).pull()
    next(stream)
    with pytest.raises(verdict) as caught:
        next(stream)
    assert type(caught.value) is verdict
    if not isinstance(error, ExchangeError):
        assert type(error).__name__ in str(caught.value)
        assert caught.value.__cause__ is error


def test_the_border_names_classes_that_exist() -> None:
    for name in ERROR_MAP:
        module, _, kind = name.rpartition(".")
        assert isinstance(getattr(__import__(module, fromlist=[kind]), kind), type)


def test_an_exception_of_the_author_is_told_with_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text(
        "import polars\n"
        "from exchange.connect import connector\n\n"
        '@connector("late")\n'
        "def late(path: str):\n"
        "    yield polars.DataFrame({'n': [1]})\n"
        "    parse(path)\n\n"
        "def parse(path):\n"
        "    return int(path)\n"
    )
    (tmp_path / "early.py").write_text("value = 1\nvalue.missing\n")
    (tmp_path / "spelling.py").write_text("x = 1\ndef (:\n")
    source = find("late.py:late", base=tmp_path).open({"path": "x"}, no_secrets)
    with pytest.raises(Rejected, match=r"ValueError.*\(late\.py:10\)"):
        list(source.pull())
    with pytest.raises(Rejected, match=r"AttributeError.*\(early\.py:2\)"):
        find("early.py:x", base=tmp_path)
    with pytest.raises(Rejected, match=r"SyntaxError.*spelling\.py:2"):
        find("spelling.py:x", base=tmp_path)


def test_one_declaration_gives_the_json_schema() -> None:
    schema = counting.schema()
    assert schema["properties"]["upto"]["type"] == "integer"
    assert schema["properties"]["upto"]["description"] == "数到几 / count up to this"
    assert schema["additionalProperties"] is False
    (secret, _) = schema["properties"]["password"]["anyOf"]
    assert secret["writeOnly"] is True
    for name in installed():
        assert set(find(name).schema()["properties"]) == {
            setting["name"] for setting in find(name).spec()["settings"]
        }


def test_wrong_frames_and_cursors_are_refused() -> None:
    @connector("wrong")
    def wrong(item: str) -> Iterator[Any]:
        yield {
            "frame": [1],
            "cursor": Pulled(pl.DataFrame(), {"at": object()}),
            "huge": Pulled(pl.DataFrame(), {"at": "x" * 1_000_000}),
        }[item]

    for item in ("frame", "cursor", "huge"):
        with pytest.raises(Rejected):
            list(wrong.open({"item": item}, no_secrets).pull())


def test_parameters_without_types_are_refused_at_once() -> None:
    with pytest.raises(TypeError, match="needs a type"):

        @connector("untyped")
        def untyped(path):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            yield path


def test_check_gives_up_in_time() -> None:
    @connector("hanging")
    def hanging() -> Iterator[pl.DataFrame]:
        time.sleep(5)
        yield pl.DataFrame()

    started = time.monotonic()
    with pytest.raises(Transient, match="did not answer"):
        hanging.open({}, no_secrets).check(timeout=0.1)
    assert time.monotonic() - started < 2


def test_hooks_answer_for_the_connector() -> None:
    @connector("hooked")
    def hooked(path: str) -> Iterator[pl.DataFrame]:
        yield pl.DataFrame({"path": [path]})

    @hooked.check
    def check(path: str) -> Text:
        return Text(path, path)

    @hooked.discover
    def discover() -> list[dict[str, Any]]:
        return [{"name": "all"}]

    source = hooked.open({"path": "/here"}, no_secrets)
    assert source.check() == Text("/here", "/here")
    assert source.discover() == [{"name": "all"}]


def test_a_function_may_take_all_settings_at_once() -> None:
    @connector("whole")
    def whole(*, path: str, rows: int = 3) -> Iterator[pl.DataFrame]:
        yield pl.DataFrame({"n": [path] * rows})

    @whole.check
    def check(settings: Any, rows: int) -> Text:
        return Text(settings.path, f"{settings.rows} {rows}")

    assert whole.open({"path": "/here"}, no_secrets).check() == Text("/here", "3 3")

    @connector("own")
    def own(*, settings: str) -> Iterator[pl.DataFrame]:
        yield pl.DataFrame({"n": [settings]})

    @own.columns
    def columns(settings: str) -> tuple[str, ...]:
        return (settings,)

    assert own.open({"settings": "x"}, no_secrets).columns() == ("x",)


def test_closing_early_closes_the_generator() -> None:
    closed = []

    @connector("resource")
    def resource() -> Iterator[pl.DataFrame]:
        try:
            yield pl.DataFrame({"n": [1]})
            yield pl.DataFrame({"n": [2]})
        finally:
            closed.append(True)

    stream = resource.open({}, no_secrets).pull()
    next(stream)
    stream.close()
    assert closed == [True]


def test_registry_finds_the_installed_and_suggests() -> None:
    assert find("sql").name == "sql"
    assert find("files").name == "files"
    assert {"sql", "files"} <= set(installed())
    with pytest.raises(Misconfigured, match="did you mean 'files'"):
        find("file")


def test_registry_refuses_what_is_no_connector(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("value = 1 / 0\n")
    (tmp_path / "plain.py").write_text("def plain(): pass\n")
    with pytest.raises(Rejected, match="ZeroDivisionError"):
        find("broken.py:x", base=tmp_path)
    with pytest.raises(Misconfigured, match="no connector"):
        find("plain.py:plain", base=tmp_path)
    with pytest.raises(Misconfigured, match="no connector file"):
        find("missing.py:x", base=tmp_path)


@pytest.mark.parametrize("name", ["sql", "files"])
def test_built_ins_describe_every_setting(name: str) -> None:
    spec = json.loads(json.dumps(find(name).spec()))
    assert all(setting["zh"] and setting["en"] for setting in spec["settings"])


def test_notes_travel_with_the_frame() -> None:
    @connector("noting")
    def noting() -> Iterator[Pulled]:
        yield Pulled(pl.DataFrame(), {}, "sheet", (Note(1, "title", "附件1"),))

    (pulled,) = noting.open({}, no_secrets).pull()
    assert pulled.notes == (Note(1, "title", "附件1"),)


@given(
    st.lists(st.text(max_size=40), max_size=60),
    st.integers(min_value=1, max_value=20),
    st.integers(min_value=1, max_value=400),
)
def test_slices_keep_order_and_bounds(texts: list[str], rows: int, size: int) -> None:
    frame = pl.DataFrame({"text": texts}, schema={"text": pl.String})
    pieces = list(slices(frame, rows, size))
    assert [text for piece in pieces for text in piece["text"]] == texts
    for piece in pieces:
        assert 1 <= piece.height <= rows
        assert piece.height == 1 or piece.estimated_size() <= size
