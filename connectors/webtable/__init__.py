"""webtable: tables on the web pages of an old system, behind its login.

Page after page is asked for, gently, with the session's cookies; a session that ends is begun
again. The table is the one with exactly the columns of the settings: a page of another shape, a
row of another width, a login page in place of the table is an error, never fewer columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from exchange.connect import (
    Cursor,
    HttpClient,
    HttpLimits,
    Manners,
    Misconfigured,
    Pulled,
    Secret,
    Text,
    connector,
)
from exchange.connectors.rest.increment import Increment, place_of
from exchange.connectors.rest.paging import Paging, PagingOptions
from exchange.connectors.rest.pull import Pull
from exchange.connectors.rest.records import Shape
from exchange.connectors.webtable.page import check_columns
from exchange.connectors.webtable.site import Site, WebLogin, WebQuery

_EDIT = Text("请修改该数据源的配置", "edit the settings of this source")
WebPaging = Literal["none", "page", "link"]


class _Settings(Protocol):
    """The settings below, as all but the pull itself gets them."""

    url: str
    columns: tuple[str, ...]
    method: Literal["GET", "POST"]
    query: dict[str, str]
    form: dict[str, str]
    login_url: str
    user: str
    secret: Secret | None
    user_field: str
    secret_field: str
    login_fields: dict[str, str]
    encoding: str
    rate: float
    retries: int
    max_bytes: int
    connect_seconds: float
    read_seconds: float
    total_seconds: float
    ca: Path | None
    insecure_http: bool


@connector("webtable")
def webtable(
    *,
    url: Annotated[str, Text("表格页的地址，https", "address of the page with the table, https")],
    columns: Annotated[
        tuple[str, ...],
        Text("表头的全部列名；空名称表示不取的无标题列", 'all titles of the table; "": untitled'),
    ] = (),
    method: Annotated[Literal["GET", "POST"], Text("请求方法", "method of the request")] = "GET",
    query: Annotated[
        dict[str, str], Text("固定的查询参数", "query parameters of every request")
    ] = {},  # noqa: B006 - a setting's default is copied, never changed
    form: Annotated[
        dict[str, str], Text("POST 表单的固定内容", "what the form of every POST says")
    ] = {},  # noqa: B006
    login_url: Annotated[
        str, Text("登录页地址，空为不登录", "address of the login page; empty: no login")
    ] = "",
    user: Annotated[str, Text("用户名", "the user")] = "",
    secret: Annotated[Secret | None, Text("密码", "the password")] = None,
    user_field: Annotated[
        str, Text("用户名的表单字段，默认自动识别", "the form's field of the user; else found")
    ] = "",
    secret_field: Annotated[
        str, Text("密码的表单字段，默认自动识别", "the form's field of the password; else found")
    ] = "",
    login_fields: Annotated[
        dict[str, str], Text("登录表单的其他固定字段", "further fields of the login form")
    ] = {},  # noqa: B006
    paging: Annotated[
        WebPaging, Text("翻页：按页号，或按“下一页”链接", "pages by number, or by the next link")
    ] = "none",
    page_param: Annotated[str, Text("页号参数", "parameter of the page's number")] = "page",
    first_page: Annotated[int, Text("第一页的页号", "number of the first page"), Field(ge=0)] = 1,
    page_size: Annotated[int, Text("每页条数", "records of a page"), Field(ge=1, le=100_000)] = 20,
    size_param: Annotated[
        str, Text("每页条数参数，空为不发", "parameter of the page's size; empty: not sent")
    ] = "",
    end: Annotated[
        Literal["empty", "short"],
        Text("末页的标志：空页，或不满的页", "what ends the pages: an empty one, or a short one"),
    ] = "empty",
    next_text: Annotated[str, Text("下一页链接的文字", "text of the next page's link")] = "下一页",
    total: Annotated[
        str, Text("页面上总条数的写法，如 共{}条", "how the page counts records, as '共{}条'")
    ] = "",
    pages: Annotated[
        str, Text("页面上总页数的写法，如 共{}页", "how the page counts pages, as '共{}页'")
    ] = "",
    max_pages: Annotated[int, Text("最多页数", "most pages of a pull"), Field(ge=1)] = 10_000,
    cursor_column: Annotated[
        str, Text("增量列：随修改增大的时间或数", "a time or number that grows with every change")
    ] = "",
    cursor_param: Annotated[
        str, Text("增量参数：从该值起（含）", "parameter: from this value on, inclusive")
    ] = "",
    since: Annotated[
        str, Text("第一次拉取的起点", "where the first pull starts; else everything")
    ] = "",
    overlap: Annotated[
        float,
        Text("每次往回重读：时间的秒数，数的差", "how far back to read again: seconds, or numbers"),
        Field(ge=0),
    ] = 0,
    encoding: Annotated[
        Literal["auto", "utf-8", "gb18030"],
        Text("页面编码，默认按页面声明", "encoding of pages; auto: as they declare"),
    ] = "auto",
    hours: Annotated[
        tuple[str, ...],
        Text(
            '允许读取的时段，北京时间，如 ["20:00-06:00"]；默认不限',
            'when it may be read, Beijing time, such as ["20:00-06:00"]; always by default',
        ),
    ] = (),
    rate: Annotated[
        float, Text("每秒最多请求数，0 不限", "most requests a second; 0: no limit"), Field(ge=0)
    ] = 1,
    retries: Annotated[
        int, Text("每个请求的重试次数", "how often a request is made again"), Field(ge=0, le=10)
    ] = 3,
    max_bytes: Annotated[
        int, Text("一页的字节上限", "most bytes of a page"), Field(ge=1024, le=1 << 28)
    ] = 8 * 1024 * 1024,
    connect_seconds: Annotated[
        float, Text("连接时限，秒", "time to connect, s"), Field(gt=0, le=7200)
    ] = 10,
    read_seconds: Annotated[
        float, Text("无数据时限，秒", "time of silence, s"), Field(gt=0, le=7200)
    ] = 60,
    total_seconds: Annotated[
        float, Text("每个请求时限，秒", "time of a whole request, s"), Field(gt=0, le=7200)
    ] = 300,
    ca: Annotated[Path | None, Text("信任的根证书文件", "file of the authorities to trust")] = None,
    insecure_http: Annotated[
        bool, Text("允许明文 http 到其他机器", "allow plain http to another machine")
    ] = False,
    cursor: Cursor | None,
    now: Callable[[], datetime],
    sleep: Callable[[float], None],
    base: Path,
) -> Iterator[Pulled]:
    """Pull the records of a table on web pages, behind a login: paged, counted, gentle."""
    manners = Manners.read(hours, None, now, sleep)
    manners.check()
    asked = WebQuery(
        url,
        method == "POST",
        query,
        form,
        columns,
        total,
        pages,
        next_text,
        cursor_param,
        encoding,
    )
    names = PagingOptions(
        paging, page_param, size_param, "", "", None, page_size, first_page, end, max_pages
    )
    login = _login(WebLogin(login_url, user, secret, user_field, secret_field, login_fields))
    _check(asked, cursor_column, since)
    limits = HttpLimits(connect_seconds, read_seconds, total_seconds, max_bytes, rate, retries)
    opened = _site(
        asked,
        names,
        login,
        limits,
        ca=base / ca if ca else None,
        insecure_http=insecure_http,
        now=now,
        sleep=sleep,
    )
    with opened as site:
        if not columns:
            raise _no_columns(site)
        increment = Increment.read(cursor, cursor_column, overlap, since) if cursor_column else None
        pull = Pull(site, Shape({}, optional=False), increment, cursor, now)
        yield from manners.paced(pull.frames())


@webtable.columns
def columns_of(columns: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the columns that are named."""
    return tuple(name for name in columns if name) or None


@webtable.discover
def discover(
    settings: _Settings, now: Callable[[], datetime], sleep: Callable[[float], None], base: Path
) -> list[dict[str, Any]]:
    """List the tables of the first page by their headers."""
    with _first(settings, now, sleep, base) as site:
        place = Text("第 1 页", "page 1")
        page, _, _ = site.shown(site.paging.start(), "", place)
        return [
            {
                "name": f"table {number}",
                "kind": "table",
                "with": {"columns": header},
                "columns": [{"name": name, "type": "String"} for name in header],
            }
            for number, header in enumerate(page.headers(), start=1)
        ]


@webtable.rewind
def rewind(cursor_column: str, to: str) -> Cursor:
    """Return the cursor from which everything comes again that is not before ``to``."""
    if not cursor_column:
        raise Misconfigured(
            Text("没有 cursor_column，每次都读取全部", "without cursor_column all is read anyway"),
            hint=_EDIT,
        )
    if place_of(to) is None:
        raise Misconfigured(
            Text(f"{to!r} 不是数或时间", f"{to!r} is neither a number nor a time"),
            hint=Text("与页面的写法一致", "write it as the page does"),
        )
    return {"column": cursor_column, "top": to, "known": []}


@webtable.concerns
def concerns(url: str, insecure_http: bool) -> tuple[Text, ...]:  # noqa: FBT001 - a setting
    """Say what a person should look into."""
    if insecure_http and url.startswith("http://"):
        return (
            Text(
                "网站用明文 http：密码和内容可被窃听、篡改",
                "the site is asked by plain http: others can read the password, and change pages",
            ),
        )
    return ()


def _login(login: WebLogin) -> WebLogin | None:
    """Return the login, None where there is none; raises Misconfigured for half of one."""
    if not login.url:
        return None
    if not login.user or login.secret is None:
        raise Misconfigured(
            Text("login_url 需要 user 和 secret", "login_url needs user and secret"), hint=_EDIT
        )
    return login


def _check(asked: WebQuery, cursor_column: str, since: str) -> None:
    """Raise Misconfigured for settings that contradict each other."""
    check_columns(asked.columns)
    problems: list[Text] = []
    if asked.form and not asked.post:
        problems.append(Text("form 需要 method: POST", "form needs method: POST"))
    problems += [
        Text(f"{name} 中要有 {{}}", f"{name} has no {{}}")
        for name, pattern in (("total", asked.total), ("pages", asked.pages))
        if pattern and "{}" not in pattern
    ]
    if bool(asked.cursor_param) != bool(cursor_column):
        problems.append(
            Text(
                "cursor_column 和 cursor_param 要一起写",
                "cursor_column and cursor_param stand together",
            )
        )
    if since and place_of(since) is None:
        problems.append(
            Text(f"since {since!r} 不是数或时间", f"since {since!r} is neither a number nor a time")
        )
    if problems:
        raise Misconfigured(
            Text("；".join(p.zh for p in problems), "; ".join(p.en for p in problems)), hint=_EDIT
        )


def _no_columns(site: Site) -> Misconfigured:
    page, _, _ = site.shown(site.paging.start(), "", Text("第 1 页", "page 1"))
    shown = "; ".join(", ".join(header) for header in page.headers())[:1_000] or "-"
    return Misconfigured(
        Text(f"缺少 columns；页面上的表头：{shown}", f"columns is missing; the page has: {shown}"),
        hint=Text(
            "在 columns 写出全部列名：exchange connector discover",
            "write all titles in columns: `exchange connector discover` shows them",
        ),
    )


@contextmanager
def _first(
    settings: _Settings, now: Callable[[], datetime], sleep: Callable[[float], None], base: Path
) -> Iterator[Site]:
    """Open the site for its first page."""
    given = settings
    post = given.method == "POST"
    asked = WebQuery(given.url, post, given.query, given.form, (), "", "", "", "", given.encoding)
    names = PagingOptions("none", "", "", "", "", None, 1, 1, "empty", 1)
    login = WebLogin(
        given.login_url,
        given.user,
        given.secret,
        given.user_field,
        given.secret_field,
        given.login_fields,
    )
    limits = HttpLimits(
        given.connect_seconds,
        given.read_seconds,
        given.total_seconds,
        given.max_bytes,
        given.rate,
        given.retries,
    )
    opened = _site(
        asked,
        names,
        _login(login),
        limits,
        ca=base / given.ca if given.ca else None,
        insecure_http=given.insecure_http,
        now=now,
        sleep=sleep,
    )
    with opened as site:
        yield site


@contextmanager
def _site(
    asked: WebQuery,
    names: PagingOptions,
    login: WebLogin | None,
    limits: HttpLimits,
    *,
    ca: Path | None,
    insecure_http: bool,
    now: Callable[[], datetime],
    sleep: Callable[[float], None],
) -> Iterator[Site]:
    hide = login.secret.hide if login is not None and login.secret is not None else str
    client = HttpClient(
        asked.url,
        now=now,
        sleep=sleep,
        limits=limits,
        ca=ca,
        insecure_http=insecure_http,
        hide=hide,
    )
    try:
        yield Site(asked, Paging(names), login, client)
    finally:
        client.close()
