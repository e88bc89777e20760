"""soap: web services that speak SOAP, by their WSDL in a file and settings alone.

Requests are made by the WSDL; nothing it names elsewhere is fetched. Values come as the service
wrote them. Pages, counts and news work as in rest. A fault, an answer without records where the
service does not say so, another shape: each is an error with its place.
"""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
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
    Request,
    Response,
    Secret,
    Text,
    connector,
)
from exchange.connectors.rest.auth import Account, Authenticator
from exchange.connectors.rest.increment import Increment, place_of
from exchange.connectors.rest.json_path import parse_path
from exchange.connectors.rest.paging import PagePosition, Paging, PagingOptions
from exchange.connectors.rest.pull import Pull, Query, Service
from exchange.connectors.rest.records import Shape
from exchange.connectors.soap.answer import FAULT_STATUS, Inner, find_records, read_answer
from exchange.connectors.soap.wsdl import Description, SoapSecurity

_EDIT = Text("请修改该数据源的配置", "edit the settings of this source")
SoapAuth = Literal["none", "basic", "wsse", "wsse_digest", "parameter"]


class _Settings(Protocol):
    """The settings below, as all but the pull itself gets them."""

    wsdl: Path
    service: str
    port: str


@connector("soap")
def soap(
    *,
    url: Annotated[str, Text("服务地址，https", "address of the service, https")],
    wsdl: Annotated[
        Path, Text("WSDL 文件，其引用的 xsd 在同一文件夹", "the WSDL; its xsd files beside it")
    ],
    operation: Annotated[str, Text("操作", "the operation")] = "",
    service: Annotated[str, Text("服务名，默认第一个", "the service; else the first")] = "",
    port: Annotated[str, Text("端口名，默认第一个", "the port; else the first")] = "",
    parameters: Annotated[dict[str, Any], Text("每次请求的参数", "what every request says")] = {},  # noqa: B006 - a setting's default is copied, never changed
    auth: Annotated[
        SoapAuth,
        Text(
            "认证：“HTTP Basic”、WS-Security 或某个参数", "HTTP Basic, WS-Security or a parameter"
        ),
    ] = "none",
    user: Annotated[str, Text("用户名", "the user")] = "",
    secret: Annotated[Secret | None, Text("密码或令牌", "password, or token")] = None,
    secret_param: Annotated[
        str, Text("携带密钥的参数路径", "path of the parameter that carries the secret")
    ] = "",
    records: Annotated[
        str, Text("记录的路径，如 return.list", "path to the records, as return.list")
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
    inner: Annotated[
        Inner,
        Text("应答是一段文本时，文本的格式", "what the text is that an answer consists of"),
    ] = "none",
    inner_path: Annotated[str, Text("该文本的路径，如“return”", "path to that text")] = "return",
    no_records: Annotated[
        Literal["error", "none"],
        Text("应答没有记录元素时：出错，或视为没有", "no element of a record: error, or none"),
    ] = "error",
    columns: Annotated[
        dict[str, str],
        Text("列名: 值的路径；默认取记录的全部元素", "column: path to its value; else all"),
    ] = {},  # noqa: B006
    absent: Annotated[
        Literal["error", "null"],
        Text("记录缺少元素时", "what an element means that a record lacks"),
    ] = "error",
    paging: Annotated[
        Literal["none", "page", "offset", "cursor"], Text("翻页方式", "how the service pages")
    ] = "none",
    page_size: Annotated[int, Text("每页条数", "records of a page"), Field(ge=1, le=100_000)] = 500,
    page_param: Annotated[str, Text("页号参数的路径", "path of the page's number")] = "page",
    size_param: Annotated[
        str, Text("每页条数参数的路径，空为不发", "path of the page's size; empty: not sent")
    ] = "size",
    offset_param: Annotated[str, Text("偏移参数的路径", "path of the offset")] = "offset",
    first_page: Annotated[int, Text("第一页的页号", "number of the first page"), Field(ge=0)] = 1,
    next_param: Annotated[str, Text("游标参数的路径", "path of the next page's token")] = "cursor",
    next_path: Annotated[
        str, Text("应答中下一页的游标", "path to the next page's token in an answer")
    ] = "",
    end: Annotated[
        Literal["empty", "short"],
        Text("末页的标志：空页，或不满的页", "what ends the pages: an empty one, or a short one"),
    ] = "empty",
    max_pages: Annotated[int, Text("最多页数", "most pages of a pull"), Field(ge=1)] = 100_000,
    cursor_column: Annotated[
        str, Text("增量列：随修改增大的时间或数", "a time or number that grows with every change")
    ] = "",
    cursor_param: Annotated[
        str,
        Text("增量参数的路径：从该值起（含）", "path of the parameter: from this value on"),
    ] = "",
    since: Annotated[
        str, Text("第一次拉取的起点", "where the first pull starts; else everything")
    ] = "",
    overlap: Annotated[
        float,
        Text("每次往回重读：时间的秒数，数的差", "how far back to read again: seconds, or numbers"),
        Field(ge=0),
    ] = 0,
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
    """Pull the records of a SOAP service: paged, counted, incremental."""
    manners = Manners.read(hours, None, now, sleep)
    manners.check()
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
        post=True,
        headers={},
        query={},
        body=parameters,
        parameters_in="json",
        records=parse_path(records),
        total=parse_path(total) if total else None,
        status=parse_path(status_path) if status_path else None,
        status_ok=status_ok,
        cursor_param=cursor_param,
        encoding="auto",
    )
    login = SoapLogin(auth, user, secret, secret_param)
    _check(asked, names, login, cursor_column, since)
    description = Description(base / wsdl, service, port, login.security())
    description.check(operation)
    content = SoapContent(inner, parse_path(inner_path), no_records == "none")
    if inner == "none":
        for path in (asked.records, asked.total, asked.status):
            description.check_path(operation, path or ())
    limits = HttpLimits(
        connect_seconds, read_seconds, total_seconds, max_bytes, rate, retries, longest_wait=60
    )
    client = HttpClient(
        url,
        now=now,
        sleep=sleep,
        limits=limits,
        ca=base / ca if ca else None,
        insecure_http=insecure_http,
        hide=secret.hide if secret else str,
    )
    with _closing(client):
        asking = SoapService(
            asked, Paging(names), _nobody(now), client, description, operation, login, content
        )
        increment = Increment.read(cursor, cursor_column, overlap, since) if cursor_column else None
        shape = Shape(columns, absent == "null")
        yield from manners.paced(Pull(asking, shape, increment, cursor, now).frames())


@soap.columns
def columns_of(columns: dict[str, str]) -> tuple[str, ...] | None:
    """Return the columns that are named; None where the first record names them."""
    return tuple(columns) or None


@soap.discover
def discover(settings: _Settings, base: Path) -> list[dict[str, Any]]:
    """List the operations of the WSDL, with their parameters."""
    description = Description(base / settings.wsdl, settings.service, settings.port, None)
    return [
        {
            "name": name,
            "kind": "operation",
            "with": {"operation": name},
            "comment": ", ".join(f"{parameter}: {kind}" for parameter, kind in parameters),
        }
        for name, parameters in description.operations().items()
    ]


@soap.rewind
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
            hint=Text("与接口的写法一致", "write it as the service does"),
        )
    return {"column": cursor_column, "top": to, "known": []}


@soap.concerns
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


@dataclass(frozen=True, slots=True)
class SoapLogin:
    """How a request says who asks."""

    kind: SoapAuth
    user: str
    secret: Secret | None
    parameter: str

    def reveal(self) -> str:
        """Return the secret."""
        return "" if self.secret is None else self.secret.reveal()

    def security(self) -> SoapSecurity | None:
        """Return what stands in the header of WS-Security."""
        if self.kind not in ("wsse", "wsse_digest"):
            return None
        kind: Literal["text", "digest"] = "digest" if self.kind == "wsse_digest" else "text"
        return SoapSecurity(kind, self.user, self.reveal())

    def headers(self) -> dict[str, str]:
        """Return what stands in the request's headers."""
        if self.kind != "basic":
            return {}
        pair = f"{self.user}:{self.reveal()}".encode()
        return {"authorization": f"Basic {base64.b64encode(pair).decode()}"}


@dataclass(frozen=True, slots=True)
class SoapContent:
    """Where an answer holds its document, and whether one without records is an empty one."""

    inner: Inner
    inner_path: tuple[str | int, ...]
    may_be_empty: bool


@dataclass
class SoapService(Service):
    """Asks a SOAP service for pages."""

    description: Description
    operation: str
    account: SoapLogin
    content: SoapContent

    def document(
        self, position: PagePosition, since: str, place: Text
    ) -> tuple[Any, Response, str]:
        """Ask for a page; return its document, the answer and the address."""
        sent: dict[str, Any] = dict(self.paging.parameters(position))
        if self.query.cursor_param and since:
            sent[self.query.cursor_param] = since
        if self.account.kind == "parameter":
            sent[self.account.parameter] = self.account.reveal()
        parameters = copy.deepcopy(dict(self.query.body))
        for path, value in sent.items():
            _put(parameters, path, value)

        def make() -> Request:
            body, headers = self.description.message(self.operation, parameters, self.query.url)
            return Request(self.query.url, {**headers, **self.account.headers()}, body)

        answer = self.client.fetch(make, post=True, answers=(FAULT_STATUS,))
        document = read_answer(answer, self.content.inner, self.content.inner_path, place)
        return document, answer, self.query.url

    def records(self, document: Any, total: int | None, place: Text) -> list[Any]:
        """Return the records of a document; raises Rejected where it may have failed to say any."""
        found = find_records(document, self.query.records, place)
        if found is not None:
            return found
        known = total == 0 or self.query.status is not None or self.content.may_be_empty
        if total or not known:
            raise Rejected(
                Text(
                    f"{place.zh} 没有记录，也没有说明是否为空",
                    f"{place.en} has no record, and does not say that there is none",
                ),
                hint=Text(
                    "设置 total 或 status_path 以核对；确认空应答就是这样时设置 no_records: “none”",
                    "set total or status_path, which are checked; where empty answers are like "
                    "this, set no_records: none",
                ),
            )
        return []


def _put(parameters: dict[str, Any], path: str, value: Any) -> None:
    """Set a parameter at a path of names."""
    *parts, last = path.split(".")
    for part in parts:
        inner = parameters.setdefault(part, {})
        if not isinstance(inner, dict):
            raise Misconfigured(
                Text(
                    f"参数 {path} 的上一级不是对象", f"what holds the parameter {path} is no object"
                ),
                hint=_EDIT,
            )
        parameters = inner
    parameters[last] = value


def _nobody(now: Callable[[], datetime]) -> Authenticator:
    """Return the login that adds nothing to an address: that of SOAP stands in the message."""

    def client() -> HttpClient:
        raise AssertionError("there are no tokens to fetch")

    return Authenticator(
        Account("none", "", None, "", "", "", "header", "", "", "gjzwfwpt"), client, now
    )


@contextmanager
def _closing(client: HttpClient) -> Iterator[None]:
    try:
        yield
    finally:
        client.close()


def _check(
    asked: Query, names: PagingOptions, login: SoapLogin, cursor_column: str, since: str
) -> None:
    """Raise Misconfigured for settings that contradict each other."""
    needs: Mapping[str, tuple[bool, str]] = {
        "none": (True, ""),
        "basic": (bool(login.user and login.secret), "user, secret"),
        "wsse": (bool(login.user and login.secret), "user, secret"),
        "wsse_digest": (bool(login.user and login.secret), "user, secret"),
        "parameter": (bool(login.parameter and login.secret), "secret_param, secret"),
    }
    problems: list[Text] = []
    has, missing = needs[login.kind]
    if not has:
        problems.append(
            Text(f"auth: {login.kind} 需要 {missing}", f"auth: {login.kind} needs {missing}")
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
