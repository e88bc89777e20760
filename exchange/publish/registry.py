"""The schema registry: gives each schema the number that stands in every message.

Speaks the REST interface of Confluent Schema Registry, which others speak as well, with two
calls: *what is the number of this schema under this subject*, and *register it*. So an operator
may register the schemas himself and give us the right to read only.

Source: Confluent documentation, "Schema Registry API Reference".
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote

from exchange.errors import Denied, ExchangeError, Misconfigured, Rejected, Transient
from exchange.http.message import Request, Response
from exchange.http.transport import Transport
from exchange.settings import RegistrySettings, Settings
from exchange.text import Text

FRESH_SECONDS = 60.0
"""How long a number is believed. A registry that was made anew gives other numbers."""

_TYPE = "application/vnd.schemaregistry.v1+json"
_OK = 200
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _CONFLICT, _INVALID = 401, 403, 404, 409, 422
_UNKNOWN = frozenset({40401, 40402, 40403})
"""Error codes: no such subject, version, schema."""
_BUSY = frozenset({408, 429})
_SERVER = 500
_MAX_ID = 2**31 - 1
_MAX_MESSAGE = 1000


class Schemas(Protocol):
    """Whoever numbers schemas."""

    def number(self, subject: str, schema: str) -> int:
        """Return the number of a schema (JSON text) under a subject."""


@dataclass(frozen=True, slots=True)
class Login:
    """User and password (HTTP Basic)."""

    user: str
    password: str = field(repr=False)

    def header(self) -> str:
        """Return the value of ``authorization``."""
        return "Basic " + b64encode(f"{self.user}:{self.password}".encode()).decode()


class Registry:
    """A registry; used by one thread at a time."""

    def __init__(
        self,
        url: str,
        transport: Transport,
        *,
        monotonic: Callable[[], float],
        login: Login | None = None,
    ) -> None:
        """Prepare, without connecting. ``transport`` is one to ``url``."""
        self._url = url.rstrip("/")
        self._transport = transport
        self._monotonic = monotonic
        self._headers = {"content-type": _TYPE, "accept": f"{_TYPE}, application/json"}
        if login is not None:
            self._headers["authorization"] = login.header()
        self._known: dict[tuple[str, str], tuple[int, float]] = {}

    def number(self, subject: str, schema: str) -> int:
        """Return the number of a schema, registering it when it is new.

        Asked at most once a minute for each. Raises Transient when the registry is away, Denied
        when it does not let us, Rejected when the schema is not compatible with its predecessor,
        Misconfigured when what answers is no registry.
        """
        now = self._monotonic()
        cached, asked_at = self._known.get((subject, schema), (0, now - FRESH_SECONDS))
        if now - asked_at < FRESH_SECONDS:
            return cached
        identifier = self._find(subject, schema)
        number = self._register(subject, schema) if identifier is None else identifier
        self._known[subject, schema] = number, now
        return number

    def _find(self, subject: str, schema: str) -> int | None:
        answer = self._post(f"/subjects/{quote(subject, safe='')}", schema)
        if answer.status == _NOT_FOUND and _content(answer).get("error_code") in _UNKNOWN:
            return None
        return self._number(answer)

    def _register(self, subject: str, schema: str) -> int:
        answer = self._post(f"/subjects/{quote(subject, safe='')}/versions", schema)
        if answer.status == _CONFLICT:
            raise _incompatible(subject, _message(answer), self._differences(subject, schema))
        return self._number(answer)

    def _differences(self, subject: str, schema: str) -> str:
        """Ask what is incompatible, in the registry's words; "" when it does not say."""
        path = f"/compatibility/subjects/{quote(subject, safe='')}/versions/latest?verbose=true"
        try:
            messages = _content(self._post(path, schema)).get("messages")
        except ExchangeError:
            return ""
        return _printable("; ".join(map(str, messages))) if isinstance(messages, list) else ""

    def _post(self, path: str, schema: str) -> Response:
        body = json.dumps({"schema": schema, "schemaType": "AVRO"}).encode()
        try:
            return self._transport.post(Request(self._url + path, self._headers, body))
        except ExchangeError as error:
            raise unreachable(error, self._url) from error

    def _number(self, answer: Response) -> int:
        """Read a number out of an answer; raises what the answer says instead."""
        status, message = answer.status, _message(answer)
        if status == _OK:
            number = _content(answer).get("id")
            if type(number) is int and 0 <= number <= _MAX_ID:
                return number
        if status in (_UNAUTHORIZED, _FORBIDDEN):
            raise Denied(
                Text(
                    f"模式注册中心拒绝访问：{status} {message}", f"the registry: {status} {message}"
                ),
                hint=Text(
                    "请检查 registry.user、registry.password 及其对该主题的权限",
                    "check registry.user and registry.password, and their rights on the subject",
                ),
            )
        if status == _INVALID:
            raise Rejected(
                Text(f"模式注册中心不接受该模式：{message}", f"the registry refuses: {message}"),
                hint=Text("请与注册中心管理员核对", "settle it with whoever runs the registry"),
            )
        if status >= _SERVER or status in _BUSY:
            raise Transient(
                Text(f"模式注册中心繁忙：{status} {message}", f"the registry: {status} {message}"),
                hint=Text("数据未丢失；稍后重试", "nothing is lost; it is tried again"),
            )
        raise Misconfigured(
            Text(
                f"{self._url} 的应答不像模式注册中心：{status} {message}",
                f"what answers at {self._url} is no schema registry: {status} {message}",
            ),
            hint=Text(
                "请检查 registry.url（不跟随重定向）",
                "check registry.url; redirects are not followed",
            ),
        )


@contextmanager
def connect(
    settings: Settings,
    registry: RegistrySettings,
    *,
    environ: Mapping[str, str],
    monotonic: Callable[[], float],
) -> Iterator[Registry]:
    """Open the registry of the settings; raises Misconfigured for an unsafe address."""
    try:
        transport = Transport(
            registry.url,
            monotonic=monotonic,
            timeouts=registry.timeouts,
            ca=settings.resolve(registry.ca) if registry.ca else None,
            insecure_http=registry.insecure_http,
        )
    except Misconfigured as error:
        raise unreachable(error, registry.url) from error
    login = None
    if registry.user is not None and registry.password is not None:
        login = Login(registry.user, settings.secret(registry.password, environ))
    with closing(transport):
        yield Registry(registry.url, transport, monotonic=monotonic, login=login)


def unreachable(error: ExchangeError, url: str) -> ExchangeError:
    """Say of an error of the connection that it is the registry's; the caller raises it."""
    if isinstance(error, Misconfigured):
        return Misconfigured(
            Text(
                f"无法安全连接模式注册中心 {url}：{error.what.zh}",
                f"cannot talk to the schema registry at {url} safely: {error.what.en}",
            ),
            hint=Text(
                "请检查 registry.url、registry.ca；确需明文时设置 registry.insecure_http",
                "check registry.url and registry.ca; registry.insecure_http allows plain http",
            ),
        )
    return Transient(
        Text(
            f"模式注册中心无应答：{error.what.zh}",
            f"the schema registry does not answer: {error.what.en}",
        ),
        hint=Text(
            "数据未丢失；恢复后继续发布", "nothing is lost; publishing goes on when it is back"
        ),
    )


def _incompatible(subject: str, message: str, differences: str) -> Rejected:
    what = differences or message
    return Rejected(
        Text(
            f"模式与 {subject} 的上一版本不兼容：{what}",
            f"the schema is not compatible with the last one of {subject}: {what}",
        ),
        hint=Text(
            "与下游商定后放宽该主题的兼容级别，或撤回目录变更；见 docs/publish.md",
            "agree with the readers and relax the subject's compatibility, or take the catalog's "
            "change back; see docs/publish.md",
        ),
    )


def _content(answer: Response) -> dict[str, Any]:
    """Read a JSON object; empty when the answer is none."""
    try:
        content = json.loads(answer.body)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _message(answer: Response) -> str:
    return _printable(str(_content(answer).get("message", "")))


def _printable(text: str) -> str:
    """Bound what others wrote, and keep control characters off the terminal."""
    return "".join(c if c.isprintable() else " " for c in text[:_MAX_MESSAGE])
