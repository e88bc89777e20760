"""The webtable connector against an old system on a real HTTP server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.connect import Denied, Misconfigured, Pulled, Rejected, Source, Text, Transient
from exchange.connect.conformance import CHECKS, Case, Changes
from exchange.connectors.webtable import webtable
from exchange.connectors.webtable.page import WebPage
from exchange.connectors.webtable.site import Cookies
from tests.support.conformity import conform
from tests.support.old_site import COLUMNS, PASSWORD, USER, OldSite, records
from tests.support.servers import nobody
from tests.support.web_service import Answer, Behaviour, Service, serving

PLACE = Text("页", "page")


class Clock:
    """A clock that goes on when somebody sleeps, and by ``step`` with every look."""

    def __init__(self, step: float = 0) -> None:
        self.moment = datetime(2026, 11, 1, tzinfo=UTC)
        self.step = timedelta(seconds=step)
        self.slept: list[float] = []

    def now(self) -> datetime:
        self.moment += self.step
        return self.moment

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.moment += timedelta(seconds=seconds)


@pytest.fixture
def serve() -> Iterator[Callable[[Behaviour], Service]]:
    with ExitStack() as stack:
        yield lambda behaviour: stack.enter_context(serving(behaviour))


def root(served: Service) -> str:
    return served.url.removesuffix(urlsplit(served.url).path)


def source(base: str, clock: Clock | None = None, **options: Any) -> Source:
    clock = clock or Clock()
    given = {
        "url": f"{base}/list.asp",
        "columns": list(COLUMNS),
        "login_url": f"{base}/login.asp",
        "user": USER,
        "secret": "env:PASSWORD",
        "paging": "page",
        "total": "共{}条",
        **options,
    }
    return webtable.open(given, lambda _: PASSWORD, now=clock.now, sleep=clock.sleep)


def numbers(pulls: list[Pulled]) -> list[str]:
    return [number for p in pulls if p.frame.height for number in p.frame["编号"].to_list()]


# --- what every connector must do -------------------------------------------------------------

MODES: dict[str, dict[str, Any]] = {
    "page": {},
    "link": {"paging": "link", "total": ""},
    "incremental": {"cursor_column": "更新时间", "cursor_param": "since"},
}


def changes(site: OldSite, served: Service) -> Changes:
    def late() -> list[tuple[str, str]]:
        site.records.append(("B9999", "late", site.records[-1][2]))
        return [("B9999", "late")]

    def update() -> list[tuple[str, str]]:
        number, _, _ = site.records.pop(0)
        site.records.append((number, "changed", "2026-10-09 00:00:00"))
        return [(number, "changed")]

    @contextmanager
    def outage() -> Iterator[None]:
        before, served.behaviour = served.behaviour, lambda _: Answer(b"away", 503)
        yield
        served.behaviour = before

    # A deletion shifts the pages: the count shows it, and the next pull starts again (below).
    return Changes(late=late, update=update, delete=None, outage=outage)


@pytest.mark.filterwarnings("ignore:not tested")
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("mode", MODES)
def test_webtable_conforms(
    mode: str, check: Callable[[Case], None], serve: Callable[[Behaviour], Service]
) -> None:
    site = OldSite(records(20))
    served = serve(site)
    base, options = root(served), MODES[mode]
    with nobody() as nowhere:
        conform(
            f"webtable {mode}",
            check,
            Case(
                # The clock goes on by seconds: each page comes in a frame of its own.
                open=lambda: source(base, Clock(step=3), **options),
                changes=changes(site, served),
                rows=[(number, name) for number, name, _ in site.records],
                identity=("编号", "姓名"),
                news_only=mode == "incremental",
                secret=PASSWORD,
                broken={
                    "password": lambda: source(base, user="nobody", **options),
                    "columns": lambda: source(base, **{**options, "columns": ["编号", "名称"]}),
                    "server": lambda: source(f"http://{nowhere}", **options),
                },
            ),
        )


# --- login and sessions -----------------------------------------------------------------------


@pytest.mark.parametrize("way", ["redirect", "inline"])
def test_a_session_that_ends_among_the_pages_is_begun_again(
    way: str, serve: Callable[[Behaviour], Service]
) -> None:
    site = OldSite(records(45), session_pages=3, inline_login=way == "inline")
    pulls = list(source(root(serve(site))).pull())
    assert numbers(pulls) == [number for number, _, _ in site.records]
    assert site.logins == 3, "seven pages, three of a session"


def test_a_login_that_does_not_last_is_denied(serve: Callable[[Behaviour], Service]) -> None:
    site = OldSite(records(9), session_pages=0)
    with pytest.raises(Denied, match="page 1 shows a login page: 系统登录"):
        list(source(root(serve(site))).pull())
    assert site.logins == 2


def test_a_login_page_is_no_table(serve: Callable[[Behaviour], Service]) -> None:
    base = root(serve(OldSite(records(9), inline_login=True)))
    with pytest.raises(Denied, match="shows a login page: 系统登录, not the table"):
        list(source(base, login_url="", user="", secret=None).pull())


def test_a_captcha_is_told(serve: Callable[[Behaviour], Service]) -> None:
    base = root(serve(OldSite(records(9), captcha=True)))
    with pytest.raises(Misconfigured, match="asks for more: captcha"):
        list(source(base).pull())


def test_the_site_leads_nowhere_else(serve: Callable[[Behaviour], Service]) -> None:
    served = serve(lambda _: Answer(b"", 302, {"location": "http://192.0.2.1/login"}))
    with pytest.raises(Misconfigured, match=r"not configured: 192\.0\.2\.1"):
        list(source(root(served)).pull())
    served.behaviour = lambda _: Answer(b"", 302, {"location": "/login.asp"})
    with pytest.raises(Misconfigured, match="redirects for ever"):
        list(source(root(served)).pull())


def test_pages_are_asked_for_gently(serve: Callable[[Behaviour], Service]) -> None:
    served, clock = serve(OldSite(records(20))), Clock()
    list(source(root(served), clock).pull())
    assert clock.slept == [1.0] * (len(served.asked) - 1)


def test_nothing_is_asked_outside_the_hours(serve: Callable[[Behaviour], Service]) -> None:
    served = serve(OldSite(records(20)))
    night = source(root(served), hours=["20:00-06:00"])  # the clock says 8:00 in Beijing
    with pytest.raises(Transient, match="outside the hours for reading: 20:00-06:00"):
        list(night.pull())
    assert served.asked == []
    ends = source(root(served), Clock(step=600), hours=["07:00-09:00"])
    stream = ends.pull()
    taken = [next(stream)]
    with pytest.raises(Transient, match="outside the hours"):
        taken.extend(stream)
    rest = list(source(root(served)).pull(taken[-1].cursor))
    assert numbers([*taken, *rest]) == [f"A{n:04}" for n in range(20)]


# --- pages ------------------------------------------------------------------------------------


def test_pages_end_by_their_count(serve: Callable[[Behaviour], Service]) -> None:
    site = OldSite(records(20), last_for_ever=True)
    served = serve(site)
    base = root(served)
    expected = [number for number, _, _ in site.records]
    ways: tuple[dict[str, Any], ...] = (
        {},
        {"total": "", "pages": "共{}页"},
        {"method": "POST"},
    )
    for options in ways:
        assert numbers(list(source(base, **options).pull())) == expected
    with pytest.raises(Rejected, match="page 4 is a page that came before"):
        list(source(base, total="").pull())
    with pytest.raises(Misconfigured, match=r"page 1 has no number like 总计\{\}"):
        list(source(base, total="总计{}").pull())


def test_a_deletion_among_the_pages_is_told_and_the_next_pull_starts_again(
    serve: Callable[[Behaviour], Service],
) -> None:
    site = OldSite(records(20))
    stream = source(root(serve(site)), Clock(step=3)).pull()
    pulls = [next(stream)]
    del site.records[0]
    with pytest.raises(Transient, match="counts 20 records, and sent 19"):
        pulls += stream
    again = list(source(root(serve(site))).pull(pulls[-1].cursor))
    assert numbers(again) == [number for number, _, _ in site.records]


def test_an_empty_table_is_no_error(serve: Callable[[Behaviour], Service]) -> None:
    assert numbers(list(source(root(serve(OldSite([])))).pull())) == []


def test_values_come_as_they_are_shown(serve: Callable[[Behaviour], Service]) -> None:
    site = OldSite([("0007", "<b>张&三</b>", "2026-10-01 00:00:00"), ("x", "", "")])
    (pulled,) = source(root(serve(site))).pull()
    assert pulled.frame.drop("_defect").rows() == [
        ("0007", "<b>张&三</b>", "2026-10-01 00:00:00"),
        ("x", None, None),
    ]


@pytest.mark.parametrize(
    ("before", "after", "error"),
    [
        ("<th>姓名</th>", "<th>名称</th>", "missing 姓名, more 名称"),
        ("<th>姓名</th>", "", "missing 姓名, more -"),
        ("<th>姓名</th>", "<th>姓名</th><th>电话</th>", "missing -, more 电话"),
        ("<td>&nbsp;张1 </td>", "", "row 2 has 3 cells, its header 4"),
        ("<td>&nbsp;张1 </td>", "<td>a</td><td>b</td>", "row 2 has 5 cells, its header 4"),
        ("<td><input type=checkbox></td>", "<td>x</td>", "row 1 has text in a column without a"),
        ("<table", "<div", "has no table with these columns"),
        ("<td>&nbsp;A", "<td><td>A", "cells, its header 4"),
    ],
)
def test_a_page_of_another_shape_is_an_error(
    before: str, after: str, error: str, serve: Callable[[Behaviour], Service]
) -> None:
    site = OldSite(records(9), mangle=lambda text: text.replace(before, after))
    with pytest.raises(Rejected, match=error):
        list(source(root(serve(site))).pull())


def test_a_page_in_another_encoding_is_refused(serve: Callable[[Behaviour], Service]) -> None:
    site = OldSite(records(3))

    def broken(asked: Any) -> Answer:
        answer = site(asked)
        answer.body = answer.body.replace("张".encode("gbk"), b"\xff\xff")
        return answer

    with pytest.raises(Rejected, match="page 1: the page is not in the encoding gb2312"):
        list(source(root(serve(broken))).pull())


def test_a_link_that_is_a_script_is_told(serve: Callable[[Behaviour], Service]) -> None:
    site = OldSite(records(9), mangle=lambda t: t.replace("/list.asp?page=2", "javascript:go(2)"))
    with pytest.raises(Misconfigured, match="下一页 is a script, not a link"):
        list(source(root(serve(site)), paging="link", total="").pull())


def test_columns_are_found_and_have_to_be_named(serve: Callable[[Behaviour], Service]) -> None:
    base = root(serve(OldSite(records(9))))
    unnamed = source(base, columns=[])
    with pytest.raises(Misconfigured, match="columns is missing; the page has: 编号, 姓名"):
        list(unnamed.pull())
    (entry,) = unnamed.discover()
    assert entry["with"] == {"columns": list(COLUMNS)}
    assert numbers(list(source(base, **entry["with"]).pull())) == [f"A{n:04}" for n in range(9)]


# --- parts ------------------------------------------------------------------------------------


def test_cookies_of_one_header_are_told_apart() -> None:
    jar = Cookies({"gone": "x"})
    jar.take("a=1; expires=Wed, 01 Dec 2027 10:18:14 GMT, b=2=3; path=/, gone=; Max-Age=0, c")
    assert jar.header() == {"cookie": "a=1; b=2=3"}


@given(st.text(max_size=300))
def test_any_header_of_cookies_is_taken(text: str) -> None:
    jar = Cookies()
    jar.take(text)
    assert len(jar.header().get("cookie", "")) <= len(text)


@given(st.lists(st.sampled_from([
    "<table>", "</table>", "<tr>", "</tr>", "<td rowspan=2>", "<td colspan=3>", "<th>", "</td>",
    "编号", "姓名", "<form>", "<input type=password>", "<a href=x>下一页</a>", "共 1 条",
    "&#0;", "<!--",
]), max_size=25))  # fmt: skip
def test_any_page_is_read_or_refused(parts: list[str]) -> None:
    try:
        page = WebPage("".join(parts).encode(), "utf-8", PLACE)
        page.login_form()
        page.number("共{}条")
        page.headers()
        table = page.table(["编号", "姓名"])
    except Rejected:
        return
    assert all(len(row) == 2 for row in table.rows)
