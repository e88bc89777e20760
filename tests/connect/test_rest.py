"""The rest connector against a real HTTP server that behaves, and one that does not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.cli.source import shown_place
from exchange.connect import (
    Denied,
    ExchangeError,
    Misconfigured,
    Pulled,
    Rejected,
    Response,
    Source,
    Text,
    Transient,
    unwrap_secret,
)
from exchange.connect.conformance import CHECKS, Case, Changes
from exchange.connectors.rest import rest
from exchange.connectors.rest.document import read_document
from exchange.connectors.rest.increment import MAX_KNOWN, earlier, place_of
from exchange.connectors.rest.json_path import MISSING, parse_path, walk
from exchange.connectors.rest.paging import next_link
from tests.support import web_service
from tests.support.conformity import conform
from tests.support.servers import nobody
from tests.support.web_service import Answer, Asked, Behaviour, Service, as_json, serving

START = datetime(2026, 11, 1, 8, tzinfo=UTC)
SECRET = "s3cret-of-the-test"


class Clock:
    """A clock that goes on when somebody sleeps, and by ``step`` with every look."""

    def __init__(self, step: float = 0) -> None:
        self.moment = START
        self.step = timedelta(seconds=step)
        self.slept: list[float] = []

    def now(self) -> datetime:
        self.moment += self.step
        return self.moment

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.moment += timedelta(seconds=seconds)


@pytest.fixture
def service() -> Iterator[Callable[[Behaviour], Service]]:
    with ExitStack() as stack:
        yield lambda behaviour: stack.enter_context(serving(behaviour))


def source(of: Service | str, clock: Clock | None = None, **options: Any) -> Source:
    clock = clock or Clock()
    url = of if isinstance(of, str) else of.url
    return rest.open(
        {"url": url, **options}, lambda _reference: SECRET, now=clock.now, sleep=clock.sleep
    )


PAGED: dict[str, Any] = {
    "paging": "page",
    "records": "data.list",
    "total": "data.total",
    "page_size": 50,
}


def cases(count: int, first: int = 1) -> list[dict[str, Any]]:
    return [
        {
            "id": number,
            "name": f"张三{number}",
            "updated": f"2026-10-{1 + number // 60:02} 00:00:{number % 60 // 10:02}",
        }
        for number in range(first, first + count)
    ]


def ids(pulls: list[Pulled]) -> list[int]:
    return [int(i) for p in pulls if p.frame.height for i in p.frame["id"].to_list()]


def connected(served: Service) -> int:
    """Count our open connections to the service."""
    port = f":{urlsplit(served.url).port:04X}"
    lines = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    return sum(line[2].endswith(port) and line[3] == "01" for line in lines)


# --- what every connector must do -------------------------------------------------------------

MODES: dict[str, tuple[Callable[[list[dict[str, Any]]], Behaviour], dict[str, Any]]] = {
    "page": (web_service.pages, PAGED),
    "offset": (web_service.offsets, {"paging": "offset", "page_size": 7}),
    "cursor": (
        lambda rows: web_service.tokens(rows, 7),
        {"paging": "cursor", "records": "items", "next_path": "next"},
    ),
    "link": (lambda rows: web_service.links(rows, 7), {"paging": "link"}),
    "incremental": (
        lambda rows: web_service.since(rows, "updated"),
        {**PAGED, "page_size": 7, "cursor_column": "updated", "cursor_param": "since"},
    ),
}


def changes(served: Service, records: list[dict[str, Any]], mode: str) -> Changes:
    """Change the records that are served."""

    def late() -> list[tuple[str, str]]:
        records.append({"id": 9999, "name": "late", "updated": records[-1]["updated"]})
        return [("9999", "late")]

    def update() -> list[tuple[str, str]]:
        changed = {**records[0], "name": "changed", "updated": "2026-10-09 00:00:00"}
        if mode == "incremental":
            records.append(records.pop(0))
            records[-1] = changed
        else:
            records[0] = changed
        return [(str(changed["id"]), "changed")]

    def delete() -> list[tuple[str, str]]:
        gone = records.pop(1)
        return [(str(gone["id"]), gone["name"])]

    @contextmanager
    def outage() -> Iterator[None]:
        before, served.behaviour = served.behaviour, lambda _: Answer(b"away", 503)
        yield
        served.behaviour = before

    # By number or offset a deletion shifts the pages: the pull says so, and the next one starts
    # again. That is tested below.
    tells = mode in ("page", "offset", "incremental")
    return Changes(late=late, update=update, delete=None if tells else delete, outage=outage)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("mode", MODES)
def test_rest_conforms(
    mode: str, check: Callable[[Case], None], service: Callable[[Behaviour], Service]
) -> None:
    make, options = MODES[mode]
    records = cases(60)
    good = service(make(records))
    wrong = service(lambda _: Answer(f"no {SECRET} for you".encode(), 401))
    page = service(lambda _: Answer(b"<html><title>login</title></html>"))
    with nobody() as nowhere:
        conform(
            f"rest {mode}",
            check,
            Case(
                # The clock goes on by seconds: each page comes in a frame of its own.
                open=lambda: source(good, Clock(step=3), **options),
                changes=changes(good, records, mode),
                rows=[(str(r["id"]), r["name"]) for r in records],
                identity=("id", "name"),
                news_only=mode == "incremental",
                open_count=lambda: connected(good),
                secret=SECRET,
                broken={
                    "secret": lambda: source(wrong, auth="bearer", secret="env:S", **options),
                    "page": lambda: source(page, **options),
                    "server": lambda: source(f"http://{nowhere}/", **options),
                    "path": lambda: source(good, **{**options, "records": "nowhere"}),
                },
            ),
        )


def test_500_rows_in_pages_of_50_are_one_frame(service: Callable[[Behaviour], Service]) -> None:
    served = service(web_service.pages(cases(500)))
    (pulled,) = source(served, **PAGED).pull()
    assert pulled.frame.height == 500
    assert pulled.locator == "/api/cases page 1-10"
    assert len(served.asked) == 10, "the total ends it, no page is asked for in vain"


# --- values -----------------------------------------------------------------------------------


def test_values_come_as_the_service_wrote_them(service: Callable[[Behaviour], Service]) -> None:
    text = (
        '[{"n": 12345678901234567890123, "d": 1.10, "e": 1e3, "f": 0.1000000000000000055,'
        ' "b": true, "z": null, "s": "007", "u": "\\u5f20\\ud83d\\ude00"}]'
    )
    served = service(lambda _: Answer(text.encode()))
    (pulled,) = source(served).pull()
    assert pulled.frame.drop("_defect").rows() == [
        ("12345678901234567890123", "1.10", "1e3", "0.1000000000000000055", "true", None, "007",
         "张😀")
    ]  # fmt: skip
    assert pulled.frame["_defect"].to_list() == [None]


def test_half_a_character_is_the_defect_of_its_record(
    service: Callable[[Behaviour], Service],
) -> None:
    served = service(lambda _: Answer(rb'[{"s": "ok"}, {"s": "\ud800"}]'))
    (pulled,) = source(served).pull()
    assert pulled.frame["s"].to_list() == ["ok", r"\ud800"]
    assert [defect is not None for defect in pulled.frame["_defect"]] == [False, True]


def test_nested_values_are_taken_by_path_only(service: Callable[[Behaviour], Service]) -> None:
    served = service(lambda _: as_json([{"id": 1, "at": {"city": "漠河", "codes": ["a", "b"]}}]))
    with pytest.raises(Misconfigured, match="record 1: at is an object"):
        list(source(served).pull())
    columns = {"id": "id", "城市": "at.city", "second": "at.codes[1]"}
    (pulled,) = source(served, columns=columns).pull()
    assert pulled.frame.drop("_defect").to_dicts() == [{"id": "1", "城市": "漠河", "second": "b"}]


def test_a_page_of_another_shape_is_named(service: Callable[[Behaviour], Service]) -> None:
    records: list[Any] = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}, {"id": 3, "mane": "c"}]
    served = service(web_service.pages(records))
    one = {**PAGED, "page_size": 1}
    stream = source(served, **one).pull()
    saved = next(stream)
    assert ids([saved]) == [1, 2], "what was read before stays"
    with pytest.raises(Rejected, match=r"page 3, record 1 has other fields.*mane more; name less"):
        next(stream)
    named = {**one, "columns": {"id": "id", "name": "name"}}
    with pytest.raises(Misconfigured, match="page 3, record 1 has no name"):
        list(source(served, **named).pull())
    (pulled,) = source(served, **named, absent="null").pull()
    assert pulled.frame["name"].to_list() == ["a", "b", None]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'[{"a": 1, "a": 2}]', "'a' stands twice"),
        (b'[{"a": NaN}]', "NaN is no number"),
        (b'[{"a": -Infinity}]', "-Infinity is no number"),
        (b'[{"a": 1}', "no JSON"),
        (b"", "no JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"\xef\xbb\xbf <!DOCTYPE html><title>\xe7\x99\xbb\xe5\xbd\x95</title>", "web page .*登录"),
        (b"<?xml version='1.0'?><a/>", "XML"),
        (b'["a"]', "record 1 is no object"),
        (b'{"list": []}', "no list at records: dict"),
        (b'[{"a": "\xd5\xc5"}]', "not encoded in utf-8"),
        (b'[{"_defect": "1"}]', "reserved"),
    ],
)
def test_what_cannot_be_read_as_meant_is_refused(
    body: bytes, error: str, service: Callable[[Behaviour], Service]
) -> None:
    served = service(lambda _: Answer(body))
    with pytest.raises(Rejected, match=error):
        list(source(served).pull())


@pytest.mark.parametrize("name", ["GBK", "gb2312", "gb18030"])
def test_gbk_is_decoded_as_declared_or_set(
    name: str, service: Callable[[Behaviour], Service]
) -> None:
    body = '[{"name": "张俓誠"}]'.encode("gb18030")
    served = service(lambda _: Answer(body, headers={"content-type": f"text/json;charset={name}"}))
    (pulled,) = source(served).pull()
    assert pulled.frame["name"].to_list() == ["张俓誠"]
    served.behaviour = lambda _: Answer(body, headers={"content-type": "text/json;charset=rot13"})
    with pytest.raises(Misconfigured, match="unknown encoding: rot13"):
        list(source(served).pull())
    (pulled,) = source(served, encoding="gbk").pull()
    assert pulled.frame["name"].to_list() == ["张俓誠"]


def test_the_lists_of_an_unknown_service_are_found(
    service: Callable[[Behaviour], Service],
) -> None:
    records = [{"id": n, "at": {"city": "漠河", "codes": [1]}, "a.b": "x"} for n in range(7)]
    document = {
        "code": 0,
        "data": {"pageNum": 1, "pageSize": 50, "total": 700, "list": records, "empty": []},
        "links": [{"rel": "next"}],
    }
    served = service(lambda _: as_json(document))
    first, second = source(served, paging="page").discover()
    assert first["with"] == {
        "records": "data.list",
        "total": "data.total",
        "columns": {"id": "id", "at_city": "at.city", "a.b": '["a.b"]'},
    }
    assert second["with"] == {"records": "links"}
    (pulled,) = source(served, **{**first["with"], "total": ""}).pull()
    assert pulled.frame.drop("_defect").row(0) == ("0", "漠河", "x")
    served.behaviour = lambda _: as_json({"data": {"list": [], "total": 0}})
    with pytest.raises(Rejected, match="holds no list of records"):
        source(served).discover()


# --- pages ------------------------------------------------------------------------------------


def test_a_service_that_gives_fewer_than_asked_loses_nothing(
    service: Callable[[Behaviour], Service],
) -> None:
    records = cases(95)
    served = service(web_service.pages(records, largest=10))
    assert ids(list(source(served, **PAGED).pull())) == list(range(1, 96))
    uncounted = {**PAGED, "total": ""}
    assert ids(list(source(served, **uncounted).pull())) == list(range(1, 96))
    assert ids(list(source(served, **uncounted, end="short").pull())) == list(range(1, 11))


def test_a_service_that_ignores_the_page_is_found(service: Callable[[Behaviour], Service]) -> None:
    same = as_json({"data": {"list": cases(50), "total": 500}})
    served = service(lambda _: same)
    stream = source(served, **PAGED).pull()
    saved = next(stream)
    assert len(ids([saved])) == 50
    with pytest.raises(Rejected, match="page 2 is a page that came before"):
        next(stream)
    assert len(served.asked) == 2
    with pytest.raises(Rejected, match="page 2 is a page that came before"):
        list(source(served, **PAGED).pull(saved.cursor))
    served.behaviour = web_service.pages(cases(500))
    assert ids(list(source(served, **PAGED).pull(saved.cursor))) == list(range(51, 501))


@pytest.mark.parametrize("kind", ["cursor", "link"])
def test_pages_in_a_circle_come_to_an_end(
    kind: str, service: Callable[[Behaviour], Service]
) -> None:
    def circle(asked: Asked) -> Answer:
        at = int(asked.query.get("cursor", "0"))
        following = str((at + 1) % 3)
        document = {"items": cases(5, first=len(served.asked) * 5), "next": following}
        return as_json(document, link=f'<?cursor={following}>; rel="next"')

    served = service(circle)
    options: dict[str, Any] = {
        "paging": kind,
        "records": "items",
        **({"next_path": "next"} if kind == "cursor" else {}),
    }
    with pytest.raises(Rejected, match="came before"):
        list(source(served, **options).pull())
    assert len(served.asked) == 4


def test_fewer_records_than_the_total_are_an_error(
    service: Callable[[Behaviour], Service],
) -> None:
    def short(asked: Asked) -> Answer:
        start = (asked.number("page", 1) - 1) * 50
        return as_json({"data": {"list": cases(100)[start : start + 50], "total": 120}})

    served = service(short)
    stream = source(served, **PAGED).pull()
    again = next(stream)
    assert (again.frame.height, again.cursor) == (0, {}), "the next pull starts again"
    with pytest.raises(Transient, match="counts 120 records, and sent 100"):
        next(stream)
    served.behaviour = lambda _: as_json({"data": {"list": None, "total": 0}})
    assert list(source(served, **PAGED).pull()) == []
    served.behaviour = lambda _: as_json({"data": {"list": None, "total": 1}})
    with pytest.raises(Misconfigured, match="no list at records: null"):
        list(source(served, **PAGED).pull())
    served.behaviour = lambda _: as_json({"data": {"list": [], "total": "many"}})
    with pytest.raises(Misconfigured, match="no whole number at total"):
        list(source(served, **PAGED).pull())


def test_a_count_beside_a_list_without_paging_is_told(
    service: Callable[[Behaviour], Service],
) -> None:
    """Without paging a service gives its first page: the others are not missed in silence."""
    answer = {"data": {"total": 1234, "list": cases(20)}, "pageCount": 99}
    (pulled,) = source(service(lambda _: as_json(answer)), records="data.list").pull()
    assert pulled.frame.height == 20
    (note,) = pulled.notes
    assert note.kind == "total"
    assert "data.total of the answer says 1234, and it has 20" in note.text
    whole = {"data": {"total": 20, "list": cases(20)}, "pageCount": 99}
    (pulled,) = source(service(lambda _: as_json(whole)), records="data.list").pull()
    assert pulled.notes == ()


@pytest.mark.parametrize("mode", ["page", "offset", "incremental"])
@pytest.mark.parametrize("killed", [False, True], ids=["in one pull", "resumed"])
def test_a_deletion_that_shifts_the_pages_is_found(
    mode: str, *, killed: bool, service: Callable[[Behaviour], Service]
) -> None:
    make, options = MODES[mode]
    records = cases(60)
    served = service(make(records))
    stream = source(served, Clock(step=3), **options).pull()
    first = next(stream)
    if killed:
        stream.close()
        stream = source(served, Clock(step=3), **options).pull(first.cursor)
    del records[1]
    pulls: list[Pulled] = [first]
    with pytest.raises(Transient, match=r"does not follow|counts 60 records, and sent 59"):
        pulls.extend(stream)
    cursor = first.cursor
    assert cursor is not None
    again = source(served, **options).pull({k: v for k, v in cursor.items() if k != "at"})
    assert ids(list(again)) == [r["id"] for r in records]


def test_a_token_that_has_ended_starts_again(service: Callable[[Behaviour], Service]) -> None:
    options: dict[str, Any] = {"paging": "cursor", "records": "items", "next_path": "next"}
    served = service(web_service.tokens(cases(30), 10))
    first = next(source(served, Clock(step=3), **options).pull())
    served.behaviour = lambda asked: (
        Answer(b"expired", 400) if "cursor" in asked.query else as_json({"items": [], "next": None})
    )
    stream = source(served, **options).pull(first.cursor)
    assert next(stream).cursor == {}
    with pytest.raises(Rejected, match="HTTP 400: expired"):
        next(stream)


def test_another_question_is_no_place_to_go_on(service: Callable[[Behaviour], Service]) -> None:
    served = service(web_service.pages(cases(100)))
    first = next(source(served, Clock(step=3), **PAGED).pull())
    assert ids(list(source(served, **PAGED).pull(first.cursor))) == list(range(51, 101))
    changed = {**PAGED, "page_size": 20}
    assert ids(list(source(served, **changed).pull(first.cursor))) == list(range(1, 101))
    changed = {**PAGED, "query": {"year": 2026}}
    assert ids(list(source(served, **changed).pull(first.cursor))) == list(range(1, 101))


def test_parameters_may_stand_in_the_body(service: Callable[[Behaviour], Service]) -> None:
    def behaviour(asked: Asked) -> Answer:
        sent = json.loads(asked.body)
        assert sent["kind"] == "许可"
        assert asked.headers["content-type"] == "application/json;charset=utf-8"
        asked.query = {name: str(value) for name, value in sent.items()}
        return web_service.pages(cases(100))(asked)

    served = service(behaviour)
    options: dict[str, Any] = {
        **PAGED,
        "method": "POST",
        "body": {"kind": "许可"},
        "parameters_in": "json",
    }
    assert ids(list(source(served, **options).pull())) == list(range(1, 101))
    assert {asked.method for asked in served.asked} == {"POST"}


# --- news -------------------------------------------------------------------------------------


def test_news_come_once_and_late_ones_of_the_last_value_too(
    service: Callable[[Behaviour], Service],
) -> None:
    options = MODES["incremental"][1]
    records = cases(60)
    served = service(web_service.since(records, "updated"))
    pulls = list(source(served, **options).pull())
    assert ids(pulls) == list(range(1, 61))
    assert all(pulled.changes for pulled in pulls)
    last = records[-1]["updated"]
    records += [{"id": 61, "name": "late", "updated": last}]
    records[-2] = {**records[-2], "name": "changed in the same second"}
    more = list(source(served, **options).pull(pulls[-1].cursor))
    assert ids(more) == [60, 61]
    assert served.asked[-1].query["since"] == last
    again = list(source(served, **options).pull(more[-1].cursor))
    assert ids(again) == []


def test_an_overlap_reads_further_back(service: Callable[[Behaviour], Service]) -> None:
    options: dict[str, Any] = {**MODES["incremental"][1], "overlap": 30}
    records = [{"id": i, "updated": f"2026-10-01T08:00:{i:02}+08:00"} for i in range(10, 50)]
    served = service(web_service.since(records, "updated"))
    pulls = list(source(served, **options).pull())
    records.append({"id": 99, "updated": "2026-10-01T08:00:25+08:00"})
    more = list(source(served, **options).pull(pulls[-1].cursor))
    assert served.asked[-1].query["since"] == "2026-10-01T08:00:19+08:00"
    assert ids(more) == [99]


def test_values_without_a_place_hide_nothing(service: Callable[[Behaviour], Service]) -> None:
    records: list[dict[str, Any]] = [
        {"id": 1, "updated": "2026-10-01 00:00:00"},
        {"id": 2, "updated": "2206-10-01 00:00:00"},
        {"id": 3, "updated": "yesterday"},
        {"id": 4, "updated": None},
    ]
    served = service(lambda _: as_json(records))
    options: dict[str, Any] = {"cursor_column": "updated", "cursor_param": "since"}
    (pulled,) = source(served, **options).pull()
    assert [defect is None for defect in pulled.frame["_defect"]] == [True, True, False, True]
    assert [note.kind for note in pulled.notes] == ["clock"]
    assert pulled.cursor is not None
    assert pulled.cursor["top"] == "2026-10-01 00:00:00"
    records.append({"id": 5, "updated": "2026-10-02 00:00:00"})
    (pulled,) = source(served, **options).pull(pulled.cursor)
    assert ids([pulled]) == [5]
    assert served.asked[-1].query["since"] == "2026-10-01 00:00:00"
    records.append({"id": 6, "updated": "17"})
    with pytest.raises(Misconfigured, match="cannot be compared"):
        list(source(served, **options).pull(pulled.cursor))


def test_a_service_that_does_not_filter_is_noted(service: Callable[[Behaviour], Service]) -> None:
    records = [{"id": i, "updated": str(i)} for i in range(1, 5)]
    served = service(lambda _: as_json(records))
    options: dict[str, Any] = {"cursor_column": "updated", "cursor_param": "since"}
    (pulled,) = source(served, **options).pull()
    (pulled,) = source(served, **options).pull(pulled.cursor)
    assert ids([pulled]) == [1, 2, 3], "nothing is dropped that was not known"
    assert [note.kind for note in pulled.notes] == ["filter"]


def test_a_rewind_starts_from_a_value(service: Callable[[Behaviour], Service]) -> None:
    options = MODES["incremental"][1]
    records = cases(60)
    served = service(web_service.since(records, "updated"))
    done = list(source(served, **options).pull())[-1].cursor
    start = source(served, **options).rewind(done, records[30]["updated"])
    assert shown_place(start) == json.dumps({"column": "updated", "top": records[30]["updated"]})
    expected = [r["id"] for r in records if r["updated"] >= records[30]["updated"]]
    assert ids(list(source(served, **options).pull(start))) == expected
    with pytest.raises(Misconfigured, match="neither a number nor a time"):
        source(served, **options).rewind(done, "yesterday")
    with pytest.raises(Misconfigured, match="without cursor_column"):
        source(served, **PAGED).rewind(done, "1")


def test_the_cursor_stays_bounded(service: Callable[[Behaviour], Service]) -> None:
    records = [{"id": i, "updated": "2026-10-01 00:00:00"} for i in range(2 * MAX_KNOWN + 10)]
    served = service(lambda _: as_json(records))
    options: dict[str, Any] = {"cursor_column": "updated", "cursor_param": "since"}
    (pulled,) = source(served, **options).pull()
    assert pulled.frame.height == len(records)
    assert pulled.cursor is not None
    assert len(pulled.cursor["known"]) == MAX_KNOWN
    assert [note.kind for note in pulled.notes] == ["overlap"]


@given(
    st.datetimes(datetime(1000, 1, 2), datetime(9999, 1, 1)),  # noqa: DTZ001 - a wall clock
    st.sampled_from(
        ["%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S.%f"]
    ),
    st.integers(0, 86_400),
)
def test_an_earlier_value_is_written_as_the_value_is(
    moment: datetime, form: str, seconds: int
) -> None:
    text = moment.strftime(form)
    back = earlier(text, seconds)
    assert len(back) == len(text)
    one, other = place_of(back), place_of(text)
    assert isinstance(one, datetime)
    assert isinstance(other, datetime)
    gap = (other - one).total_seconds()
    assert gap == seconds or (form == "%Y-%m-%d" and seconds <= gap < seconds + 86_400)


# --- status, waits, sizes ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, Denied), (403, Denied), (404, Misconfigured), (302, Misconfigured),
        (400, Rejected), (422, Rejected), (408, Transient), (429, Transient), (500, Transient),
        (503, Transient),
    ],
)  # fmt: skip
def test_every_status_is_judged(
    status: int, kind: type[ExchangeError], service: Callable[[Behaviour], Service]
) -> None:
    headers = {"location": "http://elsewhere.example/login"}
    served = service(lambda _: Answer(b"because", status, headers))
    clock = Clock()
    with pytest.raises(kind) as caught:
        list(source(served, clock).pull())
    assert type(caught.value) is kind
    assert str(status) in caught.value.what.zh
    assert clock.slept == ([1, 2, 4] if kind is Transient else [])
    if status == 302:
        assert "elsewhere.example" in caught.value.what.en


def test_retry_after_is_kept_within_limits(service: Callable[[Behaviour], Service]) -> None:
    answers = [
        Answer(b"slow down", 429, {"retry-after": "17"}),
        Answer(b"not yet", 503, {"retry-after": "Sun, 01 Nov 2026 08:00:40 GMT"}),
        as_json(cases(3)),
    ]
    served = service(lambda _: answers.pop(0))
    clock = Clock()
    assert ids(list(source(served, clock).pull())) == [1, 2, 3]
    assert clock.slept == [17, 23]
    served.behaviour = lambda _: Answer(b"", 429, {"retry-after": "3600"})
    with pytest.raises(Transient, match="come again in 3600 s"):
        list(source(served, clock).pull())
    assert clock.slept == [17, 23]


def test_a_cut_body_is_asked_for_again(service: Callable[[Behaviour], Service]) -> None:
    whole = as_json(cases(3))
    answers = [Answer(whole.body, headers=whole.headers, cut=True), whole]
    served = service(lambda _: answers.pop(0))
    assert ids(list(source(served).pull())) == [1, 2, 3]
    served.behaviour = lambda _: Answer(whole.body, headers=whole.headers, cut=True)
    with pytest.raises(Transient):
        list(source(served).pull())


def test_requests_keep_to_the_rate(service: Callable[[Behaviour], Service]) -> None:
    served = service(web_service.pages(cases(200)))
    clock = Clock()
    list(source(served, clock, rate=4, **PAGED).pull())
    assert clock.slept == [0.25] * 3


def test_answers_are_bounded(service: Callable[[Behaviour], Service]) -> None:
    served = service(lambda _: Answer(b" " * 3000))
    with pytest.raises(Misconfigured, match="longer than 2048 bytes"):
        list(source(served, max_bytes=2048).pull())


def test_a_silent_service_costs_its_time_only(service: Callable[[Behaviour], Service]) -> None:
    from threading import Event

    over = Event()

    def silent(_asked: Asked) -> Answer:
        over.wait(10)
        return as_json([])

    served = service(silent)
    try:
        with pytest.raises(Transient):
            list(
                source(
                    served, read_seconds=0.05, total_seconds=10, retries=0, connect_seconds=5
                ).pull()
            )
    finally:
        over.set()


def test_an_error_in_an_envelope_is_no_empty_success(
    service: Callable[[Behaviour], Service],
) -> None:
    answer = {"code": "500", "message": "数据库\n维护", "data": {"list": [], "total": 0}}
    served = service(lambda _: as_json(answer))
    options: dict[str, Any] = {**PAGED, "status_path": "code"}
    with pytest.raises(Rejected, match="status 500: 数据库 维护"):
        list(source(served, **options).pull())
    answer["code"] = "401"
    with pytest.raises(Denied):
        list(source(served, **options).pull())
    del answer["code"]
    with pytest.raises(Rejected, match="status nothing"):
        list(source(served, **options).pull())


# --- where requests go ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1/api", "ftp://127.0.0.1/a", "file:///etc/passwd", "gopher://127.0.0.1/",
        "https://user:word@example.test/", "http://[::1", "//example.test/",
    ],
)  # fmt: skip
def test_unsafe_addresses_are_refused(url: str) -> None:
    with pytest.raises(Misconfigured, match="not safe") as caught:
        list(source(url).pull())
    assert "word" not in str(caught.value)


def test_plain_http_elsewhere_is_an_explicit_concern() -> None:
    assert source("http://10.0.0.1/", insecure_http=True).concerns()
    assert source("https://10.0.0.1/").concerns() == ()


def test_links_lead_nowhere_else(service: Callable[[Behaviour], Service]) -> None:
    elsewhere = service(lambda _: as_json(cases(5)))
    served = service(lambda _: as_json(cases(5), link=f'<{elsewhere.url}?a=1>; rel="next"'))
    with pytest.raises(Misconfigured, match="not configured"):
        list(source(served, paging="link", auth="bearer", secret="env:S").pull())
    assert elsewhere.asked == []


# --- who asks ---------------------------------------------------------------------------------


def test_basic_bearer_header_and_query(service: Callable[[Behaviour], Service]) -> None:
    served = service(lambda _: as_json(cases(1)))
    given_secret: dict[str, Any] = {"secret": "env:S"}
    list(source(served, auth="basic", user="li", **given_secret).pull())
    list(source(served, auth="bearer", **given_secret).pull())
    list(source(served, auth="header", auth_name="X-Api-Key", **given_secret).pull())
    list(source(served, auth="query", auth_name="key", query={"key": "0"}, **given_secret).pull())
    basic, bearer, header, query = served.asked
    assert base64.b64decode(basic.headers["authorization"][6:]).decode() == f"li:{SECRET}"
    assert bearer.headers["authorization"] == f"Bearer {SECRET}"
    assert header.headers["x-api-key"] == SECRET
    assert query.query == {"key": SECRET}
    with pytest.raises(Misconfigured, match="auth: oauth2 needs user, token_url"):
        list(source(served, auth="oauth2", **given_secret).pull())


def test_a_secret_in_the_query_stays_out_of_cursors(
    service: Callable[[Behaviour], Service],
) -> None:
    def echoing(asked: Asked) -> Answer:
        answer = web_service.links(cases(9), 3)(asked)
        if "link" in answer.headers:
            answer.headers["link"] = answer.headers["link"].replace("?", f"?key={SECRET}&")
        return answer

    served = service(echoing)
    pulls = list(
        source(
            served, Clock(step=3), paging="link", auth="query", auth_name="key", secret="env:S"
        ).pull()
    )
    assert ids(pulls) == list(range(1, 10))
    assert all(asked.query["key"] == SECRET for asked in served.asked)
    assert SECRET not in json.dumps([pulled.cursor for pulled in pulls])


@pytest.mark.parametrize("client_in", ["header", "body"])
def test_oauth2_tokens_are_kept_until_they_end(
    client_in: str, service: Callable[[Behaviour], Service]
) -> None:
    refused: list[str] = []

    def behaviour(asked: Asked) -> Answer:
        if asked.path == "/api/cases/token":
            form = asked.body.decode()
            assert "grant_type=client_credentials" in form
            assert ("client_secret" in form) == (client_in == "body")
            tokens.append(f"token-{len(tokens)}")
            return as_json({"access_token": tokens[-1], "expires_in": 100})
        if asked.headers["authorization"] == f"Bearer {tokens[0]}" and len(served.asked) > 20:
            refused.append(tokens[0])
            return Answer(tokens[0].encode(), 401)
        assert asked.headers["authorization"] == f"Bearer {tokens[-1]}"
        return web_service.pages(cases(40))(asked)

    tokens: list[str] = []
    served = service(behaviour)
    login: dict[str, Any] = {
        "auth": "oauth2",
        "user": "node 1",
        "secret": "env:S",
        "token_url": f"{served.url}/token",
        "client_in": client_in,
    }
    options: dict[str, Any] = {**PAGED, "page_size": 10, **login}
    assert len(ids(list(source(served, **options).pull()))) == 40
    assert len(tokens) == 1
    if client_in == "header":
        pair = base64.b64decode(served.asked[0].headers["authorization"][6:])
        assert pair.decode() == f"node+1:{SECRET}"
    # 40 s a request: the token ends on the way.
    tokens.clear()
    assert len(ids(list(source(served, Clock(), rate=0.025, **options).pull()))) == 40
    assert len(tokens) == 2


def test_a_token_that_is_taken_back_is_renewed_once(
    service: Callable[[Behaviour], Service],
) -> None:
    tokens: list[str] = []

    def behaviour(asked: Asked) -> Answer:
        if asked.path.endswith("/token"):
            tokens.append(f"token-{len(tokens)}")
            return as_json({"access_token": tokens[-1], "expires_in": "7200"})
        if asked.headers["authorization"] in broken:
            return Answer(f"{tokens[-1]} has ended".encode(), 401)
        return web_service.pages(cases(20))(asked)

    served = service(behaviour)
    login: dict[str, Any] = {
        "auth": "oauth2",
        "user": "u",
        "secret": "env:S",
        "token_url": f"{served.url}/token",
    }
    broken = {"Bearer token-0"}
    assert len(ids(list(source(served, **PAGED, **login).pull()))) == 20
    assert len(tokens) == 2
    broken |= {f"Bearer token-{i}" for i in range(9)}
    with pytest.raises(Denied, match=r"\*\*\* has ended"):
        list(source(served, **PAGED, **login).pull())
    served.behaviour = lambda _: as_json({"error": "no"})
    with pytest.raises(Denied, match="gives no token"):
        list(source(served, **PAGED, **login).pull())


def signature(key: str, headers: dict[str, str], prefix: str) -> str:
    """Sign as the platform does, in words of the specification: sid + rid + rtime."""
    message = "".join(headers[f"{prefix}_{name}"] for name in ("sid", "rid", "rtime"))
    return base64.b64encode(hmac.digest(key.encode(), message.encode(), hashlib.sha256)).decode()


def test_requests_are_signed_for_the_national_platforms(
    service: Callable[[Behaviour], Service],
) -> None:
    def behaviour(asked: Asked) -> Answer:
        good = signature(SECRET, asked.headers, "gjgxjhpt") == asked.headers["gjgxjhpt_sign"]
        return as_json(cases(1)) if good else Answer(b"", 401)

    served = service(behaviour)
    account: dict[str, Any] = {"secret": "env:S", "rid": "rid-sd", "sid": "sid-cat-001"}
    options: dict[str, Any] = {"auth": "hmac", "platform": "gjgxjhpt", **account}
    assert ids(list(source(served, **options).pull())) == [1]
    headers = served.asked[0].headers
    assert headers["gjgxjhpt_rtime"] == str(int(START.timestamp() * 1000))


def test_older_gateways_give_the_key_first(service: Callable[[Behaviour], Service]) -> None:
    ends = int((START + timedelta(minutes=5)).timestamp() * 1000)
    asked_keys: list[dict[str, str]] = []

    def behaviour(asked: Asked) -> Answer:
        if asked.path == "/auth":
            sent = json.loads(asked.body)
            asked_keys.append(sent)
            assert signature("appkey", sent, "gjgxjhpt") == sent["gjgxjhpt_sign"]
            # The vector of the specification: it opens to "secret-x" with this appkey.
            data = {"secret": "71LQuck64oXMyYr0I0Nciw==", "secretEndTime": str(ends)}
            return as_json({"code": "0", "message": "", "data": data})
        good = signature("secret-x", asked.headers, "gjgxjhpt") == asked.headers["gjgxjhpt_sign"]
        return web_service.pages(cases(200))(asked) if good else Answer(b"", 401)

    served = service(behaviour)
    address = served.url.replace("/api/cases", "/auth")
    options: dict[str, Any] = {
        **PAGED,
        "auth": "hmac_two_step",
        "platform": "gjgxjhpt",
        "secret": "env:S",
        "rid": "r",
        "sid": "s",
        "token_url": address,
    }
    clock = Clock()
    opened = rest.open(
        {"url": served.url, "rate": 0.01, **options},
        lambda _: "appkey",
        now=clock.now,
        sleep=clock.sleep,
    )
    assert len(ids(list(opened.pull()))) == 200
    assert len(asked_keys) == 2, "100 s a request: the key ends after three"


# --- small parts ------------------------------------------------------------------------------

NAMES = st.text(st.characters(exclude_characters='.[]"', exclude_categories=["Cs"]), min_size=1)


@given(st.lists(NAMES | st.integers(0, 3), min_size=1, max_size=5), st.integers())
def test_a_path_leads_where_it_says(steps: list[str | int], value: int) -> None:
    text = ""
    for step in steps:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    assert parse_path(text) == tuple(steps)
    document: Any = value
    for step in reversed(steps):
        document = {step: document} if isinstance(step, str) else [None] * step + [document]
    assert walk(document, parse_path(text)) == value
    assert walk(document, (*parse_path(text), "more")) is MISSING


@pytest.mark.parametrize("text", ["a..b", ".a", "a[", "a[-1]", "a[x]", 'a["', "a]", "a[1"])
def test_a_path_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Misconfigured, match="is no path"):
        parse_path(text)
    assert parse_path('["a.b"][0].c') == ("a.b", 0, "c")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON, st.sampled_from(["utf-8", "utf-8-sig", "gb18030"]))
def test_documents_are_read_as_they_are(document: Any, encoding: str) -> None:
    name = encoding.removesuffix("-sig")
    body = json.dumps(document, ensure_ascii=False).encode(encoding)
    answer = Response(200, {"content-type": f"application/json; charset={name}"}, body)

    def literal(value: Any) -> Any:
        match value:
            case bool():
                return value
            case int():
                return str(value)
            case list():
                return [literal(item) for item in value]
            case dict():
                return {key: literal(item) for key, item in value.items()}
        return value

    assert read_document(answer, Text("p", "p")) == literal(document)


@pytest.mark.parametrize(
    ("header", "target"),
    [
        ('<https://a/?p=2>; rel="next"', "https://a/?p=2"),
        ('<a?x=1,2>; rel="last", <b>; title="x, y"; rel=next', "b"),
        ('<a>; rel="prev next"', "a"),
        ('<a>; rel="nextish"', ""),
        ("", ""),
        ("garbage; rel=next", ""),
    ],
)
def test_link_headers(header: str, target: str) -> None:
    assert next_link(header) == target


@given(st.text())
def test_a_link_header_never_breaks(header: str) -> None:
    next_link(header)


@given(st.text(max_size=40), st.text(max_size=60))
def test_a_session_secret_opens_or_is_denied(appkey: str, wrapped: str) -> None:
    assert unwrap_secret("appkey", "71LQuck64oXMyYr0I0Nciw==") == "secret-x"
    with suppress(Denied):
        unwrap_secret(appkey.encode(errors="replace").decode(), wrapped)


def test_a_session_secret_of_another_key_is_denied() -> None:
    with pytest.raises(Denied) as caught:
        unwrap_secret("another", "71LQuck64oXMyYr0I0Nciw==")
    assert caught.value.__cause__ is not None
