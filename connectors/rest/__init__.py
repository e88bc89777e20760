"""rest: web services that answer JSON, without code.

Pages are asked for one after the other and gathered into frames. Every column comes as text,
numbers as the service wrote them. What cannot be read as it was meant is refused with its
place: a page that came before, another shape, a web page, a key twice in an object, fewer
records than the service counts.
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
    Rejected,
    Secret,
    Text,
    connector,
)
from exchange.connectors.rest.auth import Account, Authenticator, AuthKind, Platform
from exchange.connectors.rest.discovery import lists_of
from exchange.connectors.rest.increment import Increment, place_of
from exchange.connectors.rest.json_path import parse_path
from exchange.connectors.rest.paging import Paging, PagingKind, PagingOptions
from exchange.connectors.rest.pull import Pull, Query, Service
from exchange.connectors.rest.records import Shape

_EDIT = Text("请修改该数据源的配置", "edit the settings of this source")
Value = str | int | bool


class _Settings(Protocol):
    """The settings below, as all but the pull itself gets them."""

    url: str
    method: Literal["GET", "POST"]
    headers: dict[str, str]
    query: dict[str, Value]
    body: dict[str, Any]
    parameters_in: Literal["query", "json", "form"]
    auth: AuthKind
    user: str
    secret: Secret | None
    auth_name: str
    token_url: str
    scope: str
    client_in: Literal["header", "body"]
    rid: str
    sid: str
    platform: Platform
    paging: PagingKind
    page_size: int
    page_param: str
    size_param: str
    offset_param: str
    first_page: int
    next_param: str
    end: Literal["empty", "short"]
    max_pages: int
    status_ok: tuple[str, ...]
    encoding: str
    rate: float
    retries: int
    longest_wait: float
    max_bytes: int
    connect_seconds: float
    read_seconds: float
    total_seconds: float
    ca: Path | None
    insecure_http: bool


@connector("rest")
def rest(
    *,
    url: Annotated[str, Text("接口地址，https", "address of the service, https")],
    method: Annotated[Literal["GET", "POST"], Text("请求方法", "method of the request")] = "GET",
    headers: Annotated[
        dict[str, str], Text("请求头（不写密钥）", "headers of the request, no secrets")
    ] = {},  # noqa: B006 - a setting's default is copied, never changed
    query: Annotated[
        dict[str, Value], Text("固定的查询参数", "query parameters of every request")
    ] = {},  # noqa: B006
    body: Annotated[
        dict[str, Any], Text("POST 请求体的固定内容", "what the body of every POST says")
    ] = {},  # noqa: B006
    parameters_in: Annotated[
        Literal["query", "json", "form"],
        Text("翻页和增量参数放在哪里", "where the parameters of paging and of news stand"),
    ] = "query",
    auth: Annotated[AuthKind, Text("认证方式", "how the node says who it is")] = "none",
    user: Annotated[str, Text("用户名或 client_id", "the user, or client_id")] = "",
    secret: Annotated[
        Secret | None,
        Text("密码、令牌、client_secret 或 appsecret", "password, token, or client or app secret"),
    ] = None,
    auth_name: Annotated[
        str,
        Text("携带密钥的请求头或参数名", "name of the header or parameter that carries the secret"),
    ] = "",
    token_url: Annotated[
        str, Text("取令牌或密钥的地址", "address that gives the token or the key")
    ] = "",
    scope: Annotated[str, Text("OAuth2 的 scope", "scope of OAuth2")] = "",
    client_in: Annotated[
        Literal["header", "body"],
        Text("取令牌时 client 信息放在哪里", "where a token's request names the client"),
    ] = "header",
    rid: Annotated[str, Text("请求者身份标识", "who calls: rid of the platform")] = "",
    sid: Annotated[str, Text("服务标识", "what is called: sid of the platform")] = "",
    platform: Annotated[
        Platform, Text("签名请求头的前缀", "prefix of the signature's headers")
    ] = "gjzwfwpt",
    paging: Annotated[PagingKind, Text("翻页方式", "how the service pages")] = "none",
    page_size: Annotated[int, Text("每页条数", "records of a page"), Field(ge=1, le=100_000)] = 500,
    page_param: Annotated[str, Text("页号参数", "parameter of the page's number")] = "page",
    size_param: Annotated[
        str, Text("每页条数参数，空为不发", "parameter of the page's size; empty: not sent")
    ] = "size",
    offset_param: Annotated[str, Text("偏移参数", "parameter of the offset")] = "offset",
    first_page: Annotated[int, Text("第一页的页号", "number of the first page"), Field(ge=0)] = 1,
    next_param: Annotated[str, Text("游标参数", "parameter of the next page's token")] = "cursor",
    next_path: Annotated[
        str,
        Text("应答中下一页的游标或地址", "path to the next page's token or address"),
    ] = "",
    end: Annotated[
        Literal["empty", "short"],
        Text("末页的标志：空页，或不满的页", "what ends the pages: an empty one, or a short one"),
    ] = "empty",
    max_pages: Annotated[int, Text("最多页数", "most pages of a pull"), Field(ge=1)] = 100_000,
    records: Annotated[
        str, Text("记录数组的路径，如 data.list", "path to the list of records, as data.list")
    ] = "",
    total: Annotated[
        str, Text("总条数的路径，用于核对", "path to the number of records, which is checked")
    ] = "",
    status_path: Annotated[
        str, Text("应答中状态码的路径", "path to the status within an answer")
    ] = "",
    status_ok: Annotated[
        tuple[str, ...], Text("表示成功的状态码", "values of the status that mean success")
    ] = ("200", "0"),
    columns: Annotated[
        dict[str, str],
        Text("列名: 值的路径；默认取记录的全部字段", "column: path to its value; else all fields"),
    ] = {},  # noqa: B006
    absent: Annotated[
        Literal["error", "null"],
        Text("记录缺少字段时", "what a field means that a record lacks"),
    ] = "error",
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
        Literal["auto", "utf-8", "gbk", "gb18030"],
        Text("应答编码，默认按 charset", "encoding of answers; auto: as they declare"),
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
    ] = 0,
    retries: Annotated[
        int, Text("每个请求的重试次数", "how often a request is made again"), Field(ge=0, le=10)
    ] = 3,
    longest_wait: Annotated[
        float,
        Text("一次最长等待秒数（Retry-After）", "longest wait, s, also for Retry-After"),
        Field(ge=0, le=3600),
    ] = 60,
    max_bytes: Annotated[
        int, Text("一个应答的字节上限", "most bytes of an answer"), Field(ge=1024, le=1 << 28)
    ] = 16 * 1024 * 1024,
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
    """Pull the records of a web service that answers JSON: paged, counted, incremental."""
    manners = Manners.read(hours, None, now, sleep)
    manners.check()
    account = Account(
        auth, user, secret, auth_name, token_url, scope, client_in, rid, sid, platform
    )
    names = PagingOptions(
        paging,
        page_param,
        size_param,
        offset_param,
        next_param,
        parse_path(next_path) if next_path else None,
        page_size,
        first_page,
        end,
        max_pages,
    )
    asked = Query(
        url,
        method == "POST",
        headers,
        {name: _text(value) for name, value in query.items()},
        body,
        parameters_in,
        parse_path(records),
        parse_path(total) if total else None,
        parse_path(status_path) if status_path else None,
        status_ok,
        cursor_param,
        encoding,
    )
    _check(asked, names, cursor_column, since)
    shape = Shape(columns, absent == "null")
    limits = HttpLimits(
        connect_seconds, read_seconds, total_seconds, max_bytes, rate, retries, longest_wait
    )
    opened = _service(
        asked,
        names,
        account,
        limits,
        ca=ca and base / ca,
        insecure_http=insecure_http,
        now=now,
        sleep=sleep,
    )
    with opened as service:
        increment = Increment.read(cursor, cursor_column, overlap, since) if cursor_column else None
        yield from manners.paced(Pull(service, shape, increment, cursor, now).frames())


@rest.discover
def discover(
    settings: _Settings, now: Callable[[], datetime], sleep: Callable[[float], None], base: Path
) -> list[dict[str, Any]]:
    """List the lists of records in the first page, with paths, columns and counts."""
    given = settings
    asked = Query(
        given.url,
        given.method == "POST",
        given.headers,
        {name: _text(value) for name, value in given.query.items()},
        given.body,
        given.parameters_in,
        (),
        None,
        None,
        given.status_ok,
        "",
        given.encoding,
    )
    names = PagingOptions(
        "none" if given.paging == "link" else given.paging,
        given.page_param,
        given.size_param,
        given.offset_param,
        given.next_param,
        None,
        given.page_size,
        given.first_page,
        given.end,
        given.max_pages,
    )
    account = Account(
        given.auth,
        given.user,
        given.secret,
        given.auth_name,
        given.token_url,
        given.scope,
        given.client_in,
        given.rid,
        given.sid,
        given.platform,
    )
    limits = HttpLimits(
        given.connect_seconds,
        given.read_seconds,
        given.total_seconds,
        given.max_bytes,
        given.rate,
        given.retries,
        given.longest_wait,
    )
    opened = _service(
        asked,
        names,
        account,
        limits,
        ca=given.ca and base / given.ca,
        insecure_http=given.insecure_http,
        now=now,
        sleep=sleep,
    )
    with opened as service:
        place = Text("第 1 页", "page 1")
        document, _, _ = service.document(service.paging.start(), "", place)
    entries = lists_of(document)
    if not entries:
        raise Rejected(
            Text("应答中没有记录数组", "the answer holds no list of records"),
            hint=Text("请检查 url 和参数；查询结果可能为空", "check url and parameters"),
        )
    return entries


@rest.columns
def columns_of(columns: dict[str, str]) -> tuple[str, ...] | None:
    """Return the columns that are named; None where the first record names them."""
    return tuple(columns) or None


@rest.rewind
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
            hint=Text(
                "时间写成 2026-11-01 08:00:00，与接口的写法一致",
                "write it as the service does, such as 2026-11-01 08:00:00",
            ),
        )
    return {"column": cursor_column, "top": to, "known": []}


@rest.concerns
def concerns(url: str, insecure_http: bool) -> tuple[Text, ...]:  # noqa: FBT001 - a setting
    """Say what a person should look into."""
    if insecure_http and url.startswith("http://"):
        return (
            Text(
                "接口用明文 http：内容和密钥可被窃听、篡改",
                "the service is called by plain http: others can read and change what it sends",
            ),
        )
    return ()


@contextmanager
def _service(
    asked: Query,
    names: PagingOptions,
    account: Account,
    limits: HttpLimits,
    *,
    ca: Path | None,
    insecure_http: bool,
    now: Callable[[], datetime],
    sleep: Callable[[float], None],
) -> Iterator[Service]:
    def client(address: str) -> HttpClient:
        return HttpClient(
            address,
            now=now,
            sleep=sleep,
            limits=limits,
            ca=ca,
            insecure_http=insecure_http,
            hide=login.hide,
        )

    login = Authenticator(account, lambda: client(account.token_url), now)
    opened = client(asked.url)
    try:
        yield Service(asked, Paging(names), login, opened)
    finally:
        opened.close()


def _text(value: Value) -> str:
    """Write a value as an address carries it: booleans in lower case."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check(asked: Query, names: PagingOptions, cursor_column: str, since: str) -> None:
    """Raise Misconfigured for settings that contradict each other."""
    problems: list[Text] = []
    if not asked.post and (asked.body or asked.parameters_in != "query"):
        problems.append(
            Text("body 和 parameters_in 需要 method: POST", "body and parameters_in need POST")
        )
    if names.kind == "cursor" and names.next_path is None:
        problems.append(Text("paging: cursor 需要 next_path", "paging: cursor needs next_path"))
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
