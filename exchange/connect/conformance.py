"""What every connector must do, as checks that its own tests run: shipped with the product.

::

    CASE = Case(open=lambda: hello.open({"path": "people.csv"}, secrets), rows=PEOPLE)

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_hello(check):
        check(CASE)

A check raises AssertionError and says what it expected and what it found. What a case gives
no means to try is warned of as "not tested", which pytest prints at the end; :func:`untested`
lists it. A check may change the data of its case: give each its own (a fixture).
"""

from __future__ import annotations

import gc
import json
import threading
import time
import warnings
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exchange.errors import ExchangeError, Misconfigured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from exchange.connect.surface import Connector, Cursor, Pulled, Source

    Row = tuple[Any, ...]


class NotTested(UserWarning):
    """A case gives a check nothing to try."""


@dataclass(frozen=True)
class Changes:
    """How to change what lies behind a source; each returns the rows that it is about.

    Rows are values of the case's ``identity``. None: the case cannot do it, not tested.
    """

    late: Callable[[], Sequence[Row]] | None = None
    """Add records whose place in the order equals that of the last one delivered."""
    update: Callable[[], Sequence[Row]] | None = None
    """Change records delivered before; return them as they are then."""
    delete: Callable[[], Sequence[Row]] | None = None
    """Remove records of the first frame; return them as they were."""
    outage: Callable[[], AbstractContextManager[None]] | None = None
    """While it holds, nothing more can be read."""


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
    """Counts what is held open elsewhere: connections of a server. Descriptors and threads of
    this process are counted without it."""
    changes: Changes = Changes()
    secret: str = ""
    """Must never show in an error or a repr."""


def delivers_every_row(case: Case) -> None:
    """Deliver every record once in a full pull, and again in the next one without a cursor."""
    for name in ("a full pull", "a second full pull, without a cursor"):
        _same(_count(case, case.open().pull()), Counter(case.rows), name)


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


def sees_late_records(case: Case) -> None:
    """Deliver a record that came behind a finished pull, with a time delivered before."""
    _sees(case, case.changes.late, "late", "a late record of an equal time")


def sees_updates(case: Case) -> None:
    """Deliver a record again that changed behind a finished pull."""
    _sees(case, case.changes.update, "update", "a changed record")


def _sees(case: Case, change: Callable[[], Sequence[Row]] | None, missing: str, what: str) -> None:
    if change is None:
        return _not_tested(case, f"the case has no changes.{missing}")
    cursor: Cursor | None = None
    for pulled in case.open().pull():
        cursor = _json(pulled.cursor)
    expected = Counter(change())
    lost = expected - _count(case, case.open().pull(cursor))
    _require(bool(expected), "the change names no rows")
    _require(not lost, f"{what} is lost: {list(lost)[:5]}")
    return None


def survives_deletions(case: Case) -> None:
    """Lose no other record when one is deleted in mid-pull: a page number is no position."""
    if case.changes.delete is None:
        return _not_tested(case, "the case has no changes.delete")
    stream = case.open().pull()
    before = [pulled for pulled in (next(stream, None),) if pulled is not None]
    deleted = Counter(case.changes.delete())
    _require(bool(deleted), "the change names no rows")
    remaining = Counter(case.rows) - deleted
    try:
        lost = remaining - _count(case, [*before, *stream])
    except ExchangeError:
        lost = Counter()  # it says that it cannot go on: the next pull has to bring the rest
    _require(not lost, f"a pull that goes on beside a deletion lost {list(lost)[:5]}")
    cursor = _json(before[-1].cursor) if before else None
    delivered = _count(case, before if cursor is not None else ())
    delivered.update(_count(case, case.open().pull(cursor)))
    lost = remaining - delivered
    _require(not lost, f"a pull that is resumed behind a deletion lost {list(lost)[:5]}")
    return None


def reports_outages(case: Case) -> None:
    """Raise when the source goes away in mid-pull, and go on from the last cursor afterwards."""
    if case.changes.outage is None:
        return _not_tested(case, "the case has no changes.outage")
    stream = case.open().pull()
    pulls = [next(stream)]
    with case.changes.outage():
        failed = False
        try:
            pulls += stream
        except ExchangeError:
            failed = True
        lost = Counter(case.rows) - _count(case, pulls)
        _require(failed or not lost, f"an outage ends in success, without {list(lost)[:5]}")
        try:
            empty = not _count(case, case.open().pull())
        except ExchangeError:
            empty = False
        _require(not empty or not case.rows, "a pull during an outage is an empty success")
    durable = [place for place, pulled in enumerate(pulls, start=1) if pulled.cursor is not None]
    kept = pulls[: durable[-1]] if durable else []
    delivered = _count(case, kept)
    delivered.update(_count(case, case.open().pull(_json(kept[-1].cursor) if kept else None)))
    lost = Counter(case.rows) - delivered
    _require(not lost, f"resumed behind an outage: lost {list(lost)[:5]}")
    return None


def gives_plain_cursors(case: Case) -> None:
    """Cursors survive JSON unchanged, locators are text; neither has the secret in it."""
    for pulled in case.open().pull():
        _require(_json(pulled.cursor) == pulled.cursor, f"{pulled.cursor} is not plain JSON")
        _require(isinstance(pulled.locator, str), "a locator is text")
        shown = json.dumps(pulled.cursor) + pulled.locator + repr(pulled.notes)
        hidden = not case.secret or case.secret not in shown
        _require(hidden, "the secret shows in a cursor, a locator or a note")


def releases_when_closed(case: Case) -> None:
    """Hold nothing open: when a pull is closed early, at its end, after an error or a check."""

    def closed_early() -> None:
        stream = case.open().pull()
        next(stream, None)
        stream.close()

    def to_the_end() -> None:
        for _ in case.open().pull():
            pass

    def looked_at() -> None:
        case.open().check()
        case.open().preview(1)
        case.open().discover()

    def failed() -> None:
        for source in case.broken.values():
            with suppress(ExchangeError):
                for _ in source().pull():
                    pass

    uses: dict[str, Callable[[], object]] = {
        "close()": closed_early,
        "its end": to_the_end,
        "check, preview and discover": looked_at,
        "an error": failed,
    }
    gc.collect()
    for name, use in uses.items():
        use()  # what a library keeps for good, it takes now
        before = _held(case)
        for _ in range(_USES):
            use()
        over = _settled(case, before)
        _require(over < _USES, f"{over} things stay open after {_USES} times {name}")


_USES = 2
"""Times that a use is tried: what stays open each time is no accident of other threads."""
_SETTLE_SECONDS = 2.0


def _held(case: Case) -> int:
    """Count what is open: descriptors and threads of this process, and what the case counts."""
    folder = Path("/proc/self/fd")
    descriptors = len(list(folder.iterdir())) if folder.is_dir() else 0
    elsewhere = case.open_count() if case.open_count is not None else 0
    return descriptors + threading.active_count() + elsewhere


def _settled(case: Case, before: int) -> int:
    """Return how much more is open than before, once threads and servers have had their time."""
    until = time.monotonic() + _SETTLE_SECONDS
    while (over := _held(case) - before) >= _USES and time.monotonic() < until:
        gc.collect()
        time.sleep(0.02)
    return over


def fails_as_ours(case: Case) -> None:
    """Raise our errors for what is broken, with a hint and without the secret."""
    if not case.broken:
        _not_tested(case, "the case has no broken sources")
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
    """Check, preview, columns and discover answer, and say what a pull brings."""
    source = case.open()
    _require(bool(source.check().en), "check says what it saw")
    shown = source.preview(3)
    expected = min(3, len(case.rows))
    height = 0 if shown is None else shown.height
    _require(height <= expected, f"preview(3) gave {height} rows")
    _require(bool(height) or not expected, "preview(3) gave nothing, a pull gives rows")
    entries = _json(source.discover())
    _require(isinstance(entries, list) and all("name" in e for e in entries), "discover: names")
    columns = source.columns()
    if columns is not None and shown is not None:
        pulled = set(shown.columns) - {"_row", "_defect", "cd_operation"}
        _require(set(columns) == pulled, f"columns says {columns}, a pull brings {pulled}")


CHECKS: tuple[Callable[[Case], None], ...] = (
    delivers_every_row,
    resumes_from_every_cursor,
    delivers_news_only,
    sees_late_records,
    sees_updates,
    survives_deletions,
    reports_outages,
    keeps_types,
    gives_plain_cursors,
    releases_when_closed,
    fails_as_ours,
    documents_settings,
    previews,
)


def untested(case: Case) -> list[str]:
    """List what the case gives no means to try."""
    changes = case.changes
    means = {
        "late records (changes.late)": changes.late,
        "updates (changes.update)": changes.update,
        "deletions (changes.delete)": changes.delete,
        "outages (changes.outage)": changes.outage,
        "broken sources (broken)": case.broken or None,
        "connections held elsewhere (open_count)": case.open_count,
        "secrets (secret)": case.secret or None,
    }
    return [f"not tested: {name}" for name, value in means.items() if value is None]


def _not_tested(case: Case, why: str) -> None:
    name = case.open().connector.name
    warnings.warn(NotTested(f"not tested: {name}: {why}"), stacklevel=3)


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
