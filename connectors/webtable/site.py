"""A site with a login: cookies of its own, its form, and its pages; asked gently."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from urllib.parse import urlencode, urljoin, urlsplit

from exchange.connect import Denied, HttpClient, Misconfigured, Request, Response, Secret, Text
from exchange.connectors.rest.paging import Page, PagePosition, Paging
from exchange.connectors.rest.pull import with_query
from exchange.connectors.rest.records import Shape
from exchange.connectors.webtable.page import Form, WebPage, WebRecords

_CHARSET = re.compile(r'charset\s*=\s*"?([\w.:-]+)', re.IGNORECASE)
_COOKIE = re.compile(r",\s*(?=[^;,=\s]+=)")
"""Between cookies that were joined into one header; the comma of a date is none."""
_MAX_COOKIES, _MAX_COOKIE = 64, 4_096
_MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_KEPT = {307, 308}
"""Redirects that repeat the request as it was."""


@dataclass(frozen=True, slots=True)
class WebLogin:
    """The login of a site; empty names are found in its form."""

    url: str
    user: str
    secret: Secret | None
    user_field: str
    secret_field: str
    fields: Mapping[str, str]

    def reveal(self) -> str:
        """Return the password."""
        return "" if self.secret is None else self.secret.reveal()


@dataclass(frozen=True, slots=True)
class WebQuery:
    """What is asked for, and how the table is found."""

    url: str
    post: bool
    query: Mapping[str, str]
    form: Mapping[str, str]
    columns: Sequence[str]
    total: str
    pages: str
    next_text: str
    cursor_param: str
    encoding: str


@dataclass
class Cookies:
    """Cookies of one host, by name; where they are valid within it does not matter here."""

    values: dict[str, str] = field(default_factory=dict, repr=False)

    def take(self, header: str) -> None:
        """Take over what an answer sets."""
        for part in _COOKIE.split(header) if header else ():
            pair, *attributes = (item.strip() for item in part.split(";"))
            name, _, value = pair.partition("=")
            if not name or len(pair) > _MAX_COOKIE:
                continue
            ended = any(item.lower().replace(" ", "") == "max-age=0" for item in attributes)
            if ended or not value:
                self.values.pop(name, None)
            elif name in self.values or len(self.values) < _MAX_COOKIES:
                self.values[name] = value

    def header(self) -> dict[str, str]:
        """Return the header that brings them back."""
        pairs = "; ".join(f"{name}={value}" for name, value in self.values.items())
        return {"cookie": pairs} if pairs else {}


@dataclass
class Site:
    """Asks for pages, and logs in when it has to."""

    query: WebQuery
    paging: Paging
    login: WebLogin | None
    client: HttpClient
    cookies: Cookies = field(default_factory=Cookies)
    _is_in: bool = False

    @property
    def url(self) -> str:
        """The address of the table."""
        return self.query.url

    def digest(self) -> str:
        """Return a digest of what is asked."""
        return blake2b(repr(self.query).encode(), digest_size=12).hexdigest()

    def page(
        self, position: PagePosition, since: str, shape: Shape, place: Text
    ) -> tuple[Page, int]:
        """Return a page and its size in bytes; logs in again where the session has ended."""
        shown, size, url = self.shown(position, since, place)
        table = shown.table(self.query.columns)
        for name in self.query.columns:
            if name and name not in shape.paths:
                shape.paths[name] = (name,)
        total = self._total(shown)
        headers = self._next(shown)
        return Page(
            table.rows, _Counted(self._pages(shown), table), headers, url, total, len(table.rows)
        ), size

    def behind(self, position: PagePosition, page: Page, place: Text) -> PagePosition | None:
        """Return the position behind a page; None: it was the last."""
        following = self.paging.after(position, page, place)
        counted = page.document.pages if isinstance(page.document, _Counted) else None
        if counted is not None and following is not None and following.pages >= counted:
            return None
        return following

    def shown(self, position: PagePosition, since: str, place: Text) -> tuple[WebPage, int, str]:
        """Return a page that is no login, its size and its address."""
        if self.login is not None and not self._is_in:
            self._log_in(place)
        for attempt in (0, 1):
            answer, url = self._ask(position, since)
            page = self._parsed(answer, place)
            if not self._is_login(page, url):
                return page, len(answer.body), url
            if self.login is None or attempt:
                break
            self._log_in(place)
        raise self._not_let_in(place, page)

    def _parsed(self, answer: Response, place: Text) -> WebPage:
        match = _CHARSET.search(answer.headers.get("content-type", ""))
        charset = match[1] if match else ""
        if self.query.encoding != "auto":
            charset = self.query.encoding
        return WebPage(answer.body, charset, place)

    def _is_login(self, page: WebPage, url: str) -> bool:
        away = self.login is not None and urlsplit(url).path == urlsplit(self.login.url).path
        return away or page.asks_for_password()

    def _ask(self, position: PagePosition, since: str) -> tuple[Response, str]:
        query = self.query
        sent = self.paging.parameters(position)
        if query.cursor_param and since:
            sent[query.cursor_param] = since
        if self.paging.names.kind == "link" and position.next:
            return self._fetch(str(position.next), {})
        if query.post:
            return self._fetch(
                with_query(query.url, query.query), {**query.form, **sent}, post=True
            )
        return self._fetch(with_query(query.url, {**query.query, **sent}), {})

    def _fetch(
        self, url: str, form: Mapping[str, str], *, post: bool = False, charset: str = "utf-8"
    ) -> tuple[Response, str]:
        """Send a request and go where the site leads, on its own host; return where it ended."""
        for _ in range(_MAX_REDIRECTS + 1):
            request = _PageRequest(url, form if post else {}, charset, self.cookies)
            answer = self.client.fetch(request, post=post, answers=_REDIRECTS)
            self.cookies.take(answer.headers.get("set-cookie", ""))
            if answer.status not in _REDIRECTS:
                return answer, url
            if post and answer.status not in _KEPT:
                post, form = False, {}
            try:
                url = urljoin(url, answer.headers.get("location", ""))
            except ValueError as error:
                raise self._circle(url) from error
        raise self._circle(url)

    def _log_in(self, place: Text) -> None:
        """Fill in the form as a person would, and send it; raises Denied where it is refused."""
        login = self.login
        assert login is not None  # noqa: S101 - asked by the callers
        self.cookies.values.clear()
        where = Text("登录页", "the login page")
        answer, url = self._fetch(login.url, {})
        page = self._parsed(answer, where)
        form = page.login_form()
        if form is None:
            raise Misconfigured(
                Text(
                    f"{login.url} 没有登录表单", f"{login.url} has no form that asks for a password"
                ),
                hint=Text("请检查 login_url", "check login_url"),
            )
        fields = self._filled(form, login)
        charset = _form_charset(answer, self.query.encoding)
        answer, url = self._fetch(
            with_query(urljoin(url, form.action), {} if form.post else fields),
            fields,
            post=form.post,
            charset=charset,
        )
        if self._parsed(answer, where).login_form() is not None:
            raise self._not_let_in(place, self._parsed(answer, where))
        self._is_in = True

    def _filled(self, form: Form, login: WebLogin) -> dict[str, str]:
        user_field = login.user_field or (form.texts[0] if form.texts else "")
        secret_field = login.secret_field or form.passwords[0]
        fields = {
            **form.fields,
            **login.fields,
            user_field: login.user,
            secret_field: login.reveal(),
        }
        rest = [name for name in (*form.texts, *form.passwords) if not fields[name]]
        if not user_field or rest:
            raise Misconfigured(
                Text(
                    f"登录表单还要求填写：{'、'.join(rest) or '用户名'}（验证码无法自动填写）",
                    f"the login form asks for more: {', '.join(rest) or 'a user'} "
                    "(a captcha cannot be filled in)",
                ),
                hint=Text(
                    "固定的值写在 login_fields；有验证码时请对方为接口账号关闭",
                    "write fixed values in login_fields; have a captcha switched off for it",
                ),
            )
        return fields

    def _total(self, page: WebPage) -> int | None:
        if not self.query.total:
            return None
        number = page.number(self.query.total)
        if number is None:
            raise _no_number(page.place, "total", self.query.total)
        return number

    def _pages(self, page: WebPage) -> int | None:
        if not self.query.pages:
            return None
        number = page.number(self.query.pages)
        if number is None:
            raise _no_number(page.place, "pages", self.query.pages)
        return number

    def _next(self, page: WebPage) -> dict[str, str]:
        """Return the next page's link as the header that paging reads."""
        if self.paging.names.kind != "link":
            return {}
        link = page.link(self.query.next_text)
        return {"link": f'<{link}>; rel="next"'} if link else {}

    def _not_let_in(self, place: Text, page: WebPage) -> Denied:
        title = page.title
        return Denied(
            Text(
                f"{place.zh} 显示登录页{title and '：' + title}，不是表格",
                f"{place.en} shows a login page{title and ': ' + title}, not the table",
            ),
            hint=Text(
                "请检查 login_url、user、secret，以及账号是否被锁定",
                "check login_url, user and secret, and whether the account is locked",
            ),
        )

    def _circle(self, url: str) -> Misconfigured:
        return Misconfigured(
            Text(f"{urlsplit(url).path} 一再转向", f"{urlsplit(url).path} redirects for ever"),
            hint=Text("请检查 url 和 login_url", "check url and login_url"),
        )


@dataclass(frozen=True, slots=True)
class _Counted:
    """What a page tells beside its records."""

    pages: int | None
    table: WebRecords


@dataclass(frozen=True, slots=True)
class _PageRequest:
    """Makes a request with the cookies of the moment."""

    url: str
    form: Mapping[str, str]
    charset: str
    cookies: Cookies

    def __call__(self) -> Request:
        headers = {"accept": "text/html,application/xhtml+xml", **self.cookies.header()}
        if not self.form:
            return Request(self.url, headers)
        body = urlencode(self.form, encoding=self.charset, errors="xmlcharrefreplace").encode()
        headers["content-type"] = "application/x-www-form-urlencoded"
        return Request(self.url, headers, body)


def _form_charset(answer: Response, encoding: str) -> str:
    """Return the encoding in which the form of a page is sent: that of the page."""
    if encoding != "auto":
        return encoding
    match = _CHARSET.search(answer.headers.get("content-type", ""))
    name = match[1] if match else ""
    if not name:
        found = re.search(rb"charset\s*=\s*[\"']?([\w-]+)", answer.body[:4096], re.IGNORECASE)
        name = found[1].decode() if found else "utf-8"
    return "gb18030" if name.lower() in {"gbk", "gb2312", "gb18030", "x-gbk"} else "utf-8"


def _no_number(place: Text, setting: str, pattern: str) -> Misconfigured:
    return Misconfigured(
        Text(f"{place.zh} 没有“{pattern}”这样的数", f"{place.en} has no number like {pattern}"),
        hint=Text(f"请按页面修改 {setting}", f"edit {setting} as the page has it"),
    )
