"""One pull of a service: page by page, gathered into frames, each with the cursor behind it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any, Literal, Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import polars as pl

from exchange.connect import (
    Cursor,
    Denied,
    ExchangeError,
    HttpClient,
    Misconfigured,
    Note,
    Pulled,
    Rejected,
    Request,
    Response,
    Text,
)
from exchange.connectors.rest.auth import Authenticator
from exchange.connectors.rest.discovery import count_beside
from exchange.connectors.rest.document import read_document
from exchange.connectors.rest.increment import Increment
from exchange.connectors.rest.json_path import MISSING, Path, walk
from exchange.connectors.rest.paging import Page, PagePosition, Paging, Shifted
from exchange.connectors.rest.records import Row, Shape

FRAME_ROWS = 8_192
FRAME_BYTES = 16 * 1024 * 1024
FRAME_TIME = timedelta(seconds=2)
_MAX_TOTAL_DIGITS = 18


@dataclass(frozen=True, slots=True)
class Query:
    """What every request says, and where its answer holds what."""

    url: str
    post: bool
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: Mapping[str, Any]
    parameters_in: Literal["query", "json", "form"]
    records: Path
    total: Path | None
    status: Path | None
    status_ok: tuple[str, ...]
    cursor_param: str
    encoding: str

    def digest(self) -> str:
        """Return a digest of it."""
        return blake2b(repr(self).encode(), digest_size=12).hexdigest()


class PageSource(Protocol):
    """What gives pages: a web service, or a site with tables."""

    @property
    def paging(self) -> Paging:
        """The way through the pages."""

    @property
    def url(self) -> str:
        """The address, without what is secret."""

    def digest(self) -> str:
        """Return a digest of what is asked: a page of another question is no place to go on."""

    def page(
        self, position: PagePosition, since: str, shape: Shape, place: Text
    ) -> tuple[Page, int]:
        """Return a page and its size in bytes; raises our errors."""

    def behind(self, position: PagePosition, page: Page, place: Text) -> PagePosition | None:
        """Return the position behind a page, without what is secret; None: it was the last."""


@dataclass
class Service:
    """Asks a web service for pages."""

    query: Query
    paging: Paging
    login: Authenticator
    client: HttpClient

    @property
    def url(self) -> str:
        """The address."""
        return self.query.url

    def digest(self) -> str:
        """Return a digest of what is asked."""
        return self.query.digest()

    def page(
        self, position: PagePosition, since: str, shape: Shape, place: Text
    ) -> tuple[Page, int]:
        """Return a page and its size in bytes; raises our errors."""
        document, answer, url = self.document(position, since, place)
        self._check_status(document, place)
        total = self._total(document, place)
        records = self.records(document, total, place)
        rows = self.paging.new_rows(position, shape.rows(records, place), place)
        counted = None
        if total is None and self.paging.names.kind == "none":
            counted = count_beside(document, self.query.records, len(records))
        page = Page(rows, document, answer.headers, url, total, len(records), counted)
        return page, len(answer.body)

    def document(
        self, position: PagePosition, since: str, place: Text
    ) -> tuple[Any, Response, str]:
        """Ask for a page; return its document, the answer and the address."""
        answer, url = self._answer(position, since)
        return read_document(answer, place, self.query.encoding), answer, url

    def records(self, document: Any, total: int | None, place: Text) -> list[Any]:
        """Return the records of a document."""
        records = walk(document, self.query.records)
        if records is None and total == 0:
            return []
        if not isinstance(records, list):
            raise no_records(place, records)
        return records

    def behind(self, position: PagePosition, page: Page, place: Text) -> PagePosition | None:
        """Return the position behind a page, without what is secret; None: it was the last."""
        following = self.paging.after(position, page, place)
        if following is None or self.paging.names.kind != "link":
            return following
        return replace(following, next=without(str(following.next), self.login.query()))

    def _answer(self, position: PagePosition, since: str) -> tuple[Response, str]:
        url, query, body = self._question(position, since)

        def make() -> Request:
            headers = {**self.query.headers, **self.login.headers()}
            if body:
                kind = "x-www-form-urlencoded" if self.query.parameters_in == "form" else "json"
                headers.setdefault("content-type", f"application/{kind};charset=utf-8")
            return Request(with_query(url, {**query, **self.login.query()}), headers, body)

        try:
            return self.client.fetch(make, post=self.query.post), url
        except Denied:
            # A token may be taken back before it ends: one more try, with a new one.
            if not self.login.renew():
                raise
            return self.client.fetch(make, post=self.query.post), url

    def _question(self, position: PagePosition, since: str) -> tuple[str, dict[str, str], bytes]:
        """Return address, parameters and body of a request, without what is secret."""
        query = self.query
        sent = self.paging.parameters(position)
        if query.cursor_param and since:
            sent[query.cursor_param] = since
        if self.paging.names.kind == "link" and position.next:
            return str(position.next), {}, b""
        if query.parameters_in == "query":
            body = json.dumps(query.body, ensure_ascii=False).encode() if query.body else b""
            return query.url, {**query.query, **sent}, body
        content = {**query.body, **sent}
        if query.parameters_in == "form":
            return query.url, dict(query.query), urlencode(content).encode()
        return query.url, dict(query.query), json.dumps(content, ensure_ascii=False).encode()

    def _check_status(self, document: Any, place: Text) -> None:
        query = self.query
        if query.status is None:
            return
        code = walk(document, query.status)
        text = {True: "true", False: "false"}.get(code) if isinstance(code, bool) else code
        if text in query.status_ok:
            return
        shown = "nothing" if code is MISSING else str(code)[:40]
        told = ""
        if isinstance(document, dict):
            named = (document.get(name) for name in ("message", "msg", "error"))
            told = next((text[:200] for text in named if isinstance(text, str)), "")
            told = self.login.hide("".join(c if c.isprintable() else " " for c in told))
        kind = Denied if text in ("401", "403") else Rejected
        raise kind(
            Text(
                f"{place.zh} 的状态码是 {shown}{told and '：' + told}",
                f"{place.en} has the status {shown}{told and ': ' + told}",
            ),
            hint=Text(
                "请按对方的说明处理；正常的值写在 status_ok",
                "see what the service says; status_ok names what is success",
            ),
        )

    def _total(self, document: Any, place: Text) -> int | None:
        if self.query.total is None:
            return None
        value = walk(document, self.query.total)
        if isinstance(value, str) and value.isascii() and value.isdigit():
            return int(value[:_MAX_TOTAL_DIGITS])
        raise Misconfigured(
            Text(f"{place.zh} 的总数处没有整数", f"{place.en} has no whole number at total"),
            hint=Text("请检查 total 的路径", "check the path of total"),
        )


@dataclass
class _Frame:
    """Rows that wait for a frame."""

    rows: list[Row] = field(default_factory=list)
    defects: list[str | None] = field(default_factory=list)
    size: int = 0
    first_page: int = 0
    began: datetime | None = None

    def is_full(self, now: datetime) -> bool:
        waited = self.began is not None and now - self.began >= FRAME_TIME
        return len(self.rows) >= FRAME_ROWS or self.size >= FRAME_BYTES or waited


@dataclass
class Pull:
    """A pull from where ``cursor`` stands; ``increment`` None: everything."""

    service: PageSource
    shape: Shape
    increment: Increment | None
    cursor: Cursor | None
    now: Callable[[], datetime]
    _frame: _Frame = field(default_factory=_Frame)
    _last_page: int = 0
    _stands: Cursor = field(default_factory=dict)
    """The cursor yielded last."""

    def frames(self) -> Iterator[Pulled]:
        """Yield what is new; raises our errors, with the place."""
        self._stands = self.cursor or {}
        position, resumed = self._begin()
        total: int | None = None
        rows, most = position.rows, position.most
        following: PagePosition | None = position
        while following is not None:
            position = following
            place = self._place(position)
            try:
                page, size = self.service.page(position, self._since(), self.shape, place)
                following = self.service.behind(position, page, place)
                self._gather(page, size, position, place)
            except ExchangeError as error:
                yield from self._broken(error, position, resumed=resumed)
                raise
            resumed, total, rows = False, page.total, rows + len(page.rows)
            most = max(most, total or 0)
            if following is not None and self._frame.is_full(self.now()):
                yield self._yield(self._going(following))
        if rows < most:
            # Also where the total went down: what was deleted has shifted the pages behind it.
            yield Pulled(pl.DataFrame(), self._again())
            raise _too_few(rows, most)
        notes = () if page.counted is None else (_more(*page.counted, rows),)
        yield from self._end(rows, total, notes)

    def _begin(self) -> tuple[PagePosition, bool]:
        """Return where to go on; the first page, when what is asked for has changed."""
        at = (self.cursor or {}).get("at")
        if not isinstance(at, Mapping) or at.get("of") != self._question():
            return self.service.paging.start(), False
        known = {name: value for name, value in at.items() if name != "of"}
        return PagePosition(**known), True

    def _question(self) -> str:
        names = repr(self.service.paging.names)
        return blake2b(f"{self.service.digest()} {names}".encode(), digest_size=8).hexdigest()

    def _since(self) -> str:
        return "" if self.increment is None else self.increment.since

    def _place(self, position: PagePosition) -> Text:
        path = urlsplit(self.service.url).path or "/"
        number = position.pages + 1
        return Text(f"{path} 第 {number} 页", f"{path} page {number}")

    def _gather(self, page: Page, size: int, position: PagePosition, place: Text) -> None:
        rows = list(page.rows)
        defects: list[str | None] = [None] * len(rows)
        if self.increment is not None:
            names = list(self.shape.paths)
            rows, defects = self.increment.take(names, rows, self.now(), place)
        frame = self._frame
        if frame.began is None:
            frame.began, frame.first_page = self.now(), position.pages + 1
        frame.rows += rows
        frame.defects += defects
        frame.size += size
        self._last_page = position.pages + 1

    def _yield(self, cursor: Cursor, notes: tuple[Note, ...] = ()) -> Pulled:
        frame, self._frame = self._frame, _Frame()
        self._stands = cursor
        path = urlsplit(self.service.url).path or "/"
        pages = f"{frame.first_page}-{self._last_page}"
        made = self.shape.frame(frame.rows, frame.defects) if frame.rows else pl.DataFrame()
        changes = self.increment is not None
        return Pulled(made, cursor, f"{path} page {pages}", notes, changes=changes)

    def _broken(
        self, error: ExchangeError, position: PagePosition, *, resumed: bool
    ) -> Iterator[Pulled]:
        """Save what was read before the error."""
        if isinstance(error, Shifted):
            yield Pulled(pl.DataFrame(), self._again())
            return
        if self._frame.rows:
            yield self._yield(self._going(position))
        lasting = isinstance(error, Rejected) and not isinstance(error, Denied)
        if resumed and lasting and self.service.paging.names.kind in ("cursor", "link"):
            # A token of yesterday may have ended: the next pull begins with the first page.
            yield Pulled(pl.DataFrame(), self._again())

    def _end(self, rows: int, total: int | None, notes: tuple[Note, ...]) -> Iterator[Pulled]:
        notes += () if self.increment is None else self.increment.notes()
        if total is not None and rows > total:
            text = Text(
                f"服务报 {total} 条，实发 {rows} 条：其间有变化",
                f"the service counts {total} records and sent {rows}: it changed meanwhile",
            )
            notes = (*notes, Note(0, "total", text.joined()))
        cursor = {} if self.increment is None else self.increment.done()
        if self._frame.rows or notes or cursor != self._stands:
            yield self._yield(cursor, notes)

    def _going(self, position: PagePosition) -> dict[str, Any]:
        going = {} if self.increment is None else self.increment.going()
        return {**going, "at": {**position.to_json(), "of": self._question()}}

    def _again(self) -> dict[str, Any]:
        return {} if self.increment is None else self.increment.again()


def with_query(url: str, parameters: Mapping[str, str]) -> str:
    """Add parameters to an address; those it has by the same name are replaced."""
    if not parameters:
        return url
    parts = urlsplit(without(url, parameters))
    query = "&".join(part for part in (parts.query, urlencode(parameters)) if part)
    return urlunsplit(parts._replace(query=query))


def without(url: str, parameters: Mapping[str, str]) -> str:
    """Take parameters out of an address, by name; the others stay as they are written."""
    parts = urlsplit(url)
    kept = [
        item
        for item in parts.query.split("&")
        if item
        and not {name for name, _ in parse_qsl(item, keep_blank_values=True)} & parameters.keys()
    ]
    return urlunsplit(parts._replace(query="&".join(kept), fragment=""))


def _more(path: str, count: int, rows: int) -> Note:
    text = Text(
        f"应答的 {path} 为 {count}，只有 {rows} 条：其余未取，请设置分页（paging）和 total",
        f"{path} of the answer says {count}, and it has {rows}: the others are not read; "
        "set paging and total",
    )
    return Note(0, "total", text.joined())


def _too_few(rows: int, total: int) -> Shifted:
    return Shifted(
        Text(
            f"对方共有 {total} 条，只取到 {rows} 条",
            f"the service counts {total} records, and sent {rows}",
        ),
        hint=Text(
            "未设分页请设置 paging；否则是数据在读取时变动，或对方限制了页数：下次从头读取",
            "set paging where it is not; else it changed while it was read, or the service limits "
            "its pages: the next pull starts again",
        ),
    )


def no_records(place: Text, value: object) -> Misconfigured:
    """Return the error for a document without a list of records."""
    kind = "nothing" if value is MISSING else "null" if value is None else type(value).__name__
    return Misconfigured(
        Text(f"{place.zh} 的 records 处不是数组", f"{place.en} has no list at records: {kind}"),
        hint=Text("请检查 records 的路径", "check the path of records"),
    )
