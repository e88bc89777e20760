"""What every connector must do, as checks that its own tests run: shipped with the product.

::

    CASE = Case(open=lambda: hello.open({"path": "people.csv"}, secrets), rows=PEOPLE)

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_hello(check):
        check(CASE)

A check raises AssertionError and says what it expected and what it found.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from exchange.errors import ExchangeError, Misconfigured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from exchange.connect.surface import Connector, Cursor, Pulled, Source


@dataclass(frozen=True)
class Case:
    """A connector with data behind it, small enough to pull some dozen times.

    Give it several frames (a small batch size): with one frame nothing is tried of resuming.
    """

    open: Callable[[], Source]
    """Opens the source afresh, as a restarted process would."""
    rows: Sequence[tuple[Any, ...]]
    """Every record that a full pull delivers, as values of ``identity``, in any order."""
    identity: tuple[str, ...]
    """Columns that tell records apart."""
    exactly_once: bool = True
    """After a crash no record comes twice; else at least once."""
    news_only: bool = False
    """A pull behind a finished one delivers nothing, as long as nothing changes."""
    broken: Mapping[str, Callable[[], Source]] = field(default_factory=dict)
    """Sources that must fail, by the name of what is broken."""
    open_count: Callable[[], int] | None = None
    """Counts what is held open: connections, descriptors."""
    secret: str = ""
    """Must never show in an error or a repr."""


def delivers_every_row(case: Case) -> None:
    """Deliver every record once in a full pull."""
    rows_pulled = _count(case, case.open().pull())
    _same(rows_pulled, Counter(case.rows), "a full pull")


def resumes_from_every_cursor(case: Case) -> None:
    """Lose nothing when killed behind any frame and started again."""
    pulls = list(case.open().pull())
    if not case.open().connector.resumable:
        return
    durable = 0
    for place, frame in enumerate(pulls):
        if frame.cursor is not None:
            durable = place + 1
        cursor = _json(pulls[durable - 1].cursor) if durable else None
        if place == len(pulls) - 1 and durable == len(pulls):
            continue  # The pull is done: what comes next is a new one.
        rows_pulled = _count(case, pulls[:durable])
        rows_pulled.update(_count(case, case.open().pull(cursor)))
        missing = Counter(case.rows) - rows_pulled
        _require(not missing, f"resumed behind frame {place}: lost {list(missing)[:5]}")
        twice = rows_pulled - Counter(case.rows)
        _require(
            not (case.exactly_once and twice),
            f"resumed behind frame {place}: came twice {list(twice)[:5]}",
        )


def delivers_news_only(case: Case) -> None:
    """Deliver nothing behind a finished pull, or everything again, as declared."""
    cursor: Cursor | None = None
    for item in case.open().pull():
        cursor = item.cursor
    again = _count(case, case.open().pull(_json(cursor)))
    expected = Counter[tuple[Any, ...]]() if case.news_only else Counter(case.rows)
    _same(again, expected, "a second pull")


def keeps_types(case: Case) -> None:
    """Keep columns and types in all frames of all pulls (``_defect`` may come)."""
    pulls = [*case.open().pull(), *case.open().pull()]
    schemas = [dict(item.frame.schema) for item in pulls if item.frame.width]
    for schema in schemas:
        schema.pop("_defect", None)
        _require(schema == schemas[0], f"types changed from {schemas[0]} to {schema}")


def gives_plain_cursors(case: Case) -> None:
    """Cursors survive JSON unchanged, locators are text."""
    for item in case.open().pull():
        _require(_json(item.cursor) == item.cursor, f"{item.cursor} is not plain JSON")
        _require(isinstance(item.locator, str), "a locator is text")


def releases_when_closed(case: Case) -> None:
    """Hold nothing open when a pull is closed early."""
    if case.open_count is None:
        return
    before = case.open_count()
    stream = case.open().pull()
    next(stream)
    stream.close()
    _require(
        case.open_count() <= before, f"{case.open_count() - before} things stay open after close()"
    )


def fails_as_ours(case: Case) -> None:
    """Raise our errors for what is broken, with a hint and without the secret."""
    for name, source in case.broken.items():
        for attempt in (lambda s=source: list(s().pull()), lambda s=source: s().check(timeout=20)):
            try:
                attempt()
            except ExchangeError as error:
                text = " ".join((*error.what, *error.hint, str(error), repr(error)))
                _require(bool(error.hint.en and error.hint.zh), f"{name}: no hint")
                hidden = not case.secret or case.secret not in text
                _require(hidden, f"{name}: the secret shows in the error")
            else:
                _require(condition=False, text=f"{name}: nothing was raised")
    if case.secret:
        _require(case.secret not in repr(case.open()), "the secret shows in the repr")


def documents_settings(case: Case) -> None:
    """Describe every setting in both languages, and refuse a wrong key by name."""
    connector: Connector = case.open().connector
    spec = _json(connector.spec())
    _require(bool(spec["doc"]), f"{connector.name} has no docstring")
    for setting in spec["settings"]:
        helped = setting["zh"] and setting["en"]
        _require(bool(helped), f"setting {setting['name']} has no help in both languages")
    wrong = "no_such_setting"
    try:
        connector.open({wrong: 1}, lambda _reference: "")
    except Misconfigured as error:
        _require(wrong in error.what.en, f"{wrong} is not named in: {error}")
    else:
        _require(condition=False, text="an unknown setting was taken")


def previews(case: Case) -> None:
    """Check, preview and discover answer."""
    source = case.open()
    _require(bool(source.check().en), "check says what it saw")
    frame = source.preview(3)
    expected = min(3, len(case.rows))
    height = 0 if frame is None else frame.height
    _require(height <= expected, f"preview(3) gave {height} rows")
    _require(_json(source.discover()) is not None, "discover answers JSON")


CHECKS: tuple[Callable[[Case], None], ...] = (
    delivers_every_row,
    resumes_from_every_cursor,
    delivers_news_only,
    keeps_types,
    gives_plain_cursors,
    releases_when_closed,
    fails_as_ours,
    documents_settings,
    previews,
)


def _count(case: Case, pulls: Iterable[Pulled]) -> Counter[tuple[Any, ...]]:
    def rows() -> Iterator[tuple[Any, ...]]:
        for item in pulls:
            if item.frame.height:
                yield from item.frame.select(case.identity).iter_rows()

    return Counter(rows())


def _same(actual: Counter[tuple[Any, ...]], expected: Counter[tuple[Any, ...]], name: str) -> None:
    missing, extra = expected - actual, actual - expected
    _require(not missing, f"{name}: {missing.total()} records lost, such as {list(missing)[:5]}")
    _require(not extra, f"{name}: {extra.total()} records too many, such as {list(extra)[:5]}")


def _json(value: Any) -> Any:
    return json.loads(json.dumps(value, ensure_ascii=False, allow_nan=False))


def _require(condition: bool, text: str) -> None:  # noqa: FBT001 - reads as an assertion
    if not condition:
        raise AssertionError(text)
