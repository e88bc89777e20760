"""Profiles: how one kind of provincial interface wants a batch and says what it thinks of it.

A profile is a pair of pure functions, so a new interface is one class and one row in
:data:`PROFILES`. ``national`` is 数据直达 v0.55: one-step signing, four headers, the envelope
``{"code", "message", "data"}``. Its 库表 and 文件 payloads take the exchange's own channel:
the body is the sealed batch, an Avro container file, exactly as it was sealed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol

from exchange.cascade.delivery import Answered, Blocked, Failed, Outcome, Refused
from exchange.cascade.signing import Credentials, signed_headers
from exchange.errors import Misconfigured, Rejected, Transient
from exchange.http.message import Request, Response
from exchange.http.retry import retry_after
from exchange.text import Text

CONTENT_TYPE = "application/avro"
BATCH_HEADER = "exchange-batch"
"""批次号, so that a proxy's log can be searched by business number."""
RESOURCE_HEADER = "exchange-resource"
DEPARTMENT_HEADER = "exchange-department"
"""统一社会信用代码 of the department."""

ACCEPTED = "200"
_BUSY = frozenset({408, 425, 429})
"""Client errors that time heals: too slow, too early, too often."""
_NOT_OURS = frozenset({401, 403})
EARLY = "425"
"""The batch was sealed in the future by the province's clock."""
GAP = 424
"""The province has not received the batch before this one: it waits for that, or for a person."""
_NO_SUCH_PATH = frozenset({404, 405})
_PATH = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")
_MAX_MESSAGE = 300


@dataclass(frozen=True, slots=True)
class OutgoingBatch:
    """A sealed batch on its way; ``data`` is always the same bytes for one number."""

    resource: str
    batch_no: str
    department: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Target:
    """The province's interface: ``endpoint`` and ``path`` of the batch service."""

    endpoint: str
    credentials: Credentials
    path: str = "batch"
    sign_body: bool = False
    """Sign bodies too, where the province asks for it."""

    def __post_init__(self) -> None:
        """Refuse a path that would leave the endpoint."""
        if not _PATH.fullmatch(self.path):
            raise Misconfigured(
                Text(f"接口路径 {self.path!r} 不合法", f"{self.path!r} is no interface path"),
                hint=Text("只用字母、数字、- _ 和 /", "use letters, digits, - _ and / only"),
            )


class Profile(Protocol):
    """One kind of interface, without I/O."""

    def request(self, batch: OutgoingBatch, target: Target, now: datetime) -> Request:
        """Build the request of one attempt; signatures carry the time, so build it anew."""

    def outcome(self, answer: Response, now: datetime) -> Outcome:
        """Interpret an answer; never raises."""


class National:
    """数据直达 v0.55: ``POST {endpoint}/sysapi/{path}``, one-step signing."""

    def request(self, batch: OutgoingBatch, target: Target, now: datetime) -> Request:
        """Build the request: the sealed file as the body, who and what in the headers."""
        return Request(
            url=f"{target.endpoint.rstrip('/')}/sysapi/{target.path}",
            headers={
                **signed_headers(target.credentials, now, batch.data if target.sign_body else None),
                "content-type": CONTENT_TYPE,
                BATCH_HEADER: batch.batch_no,
                RESOURCE_HEADER: batch.resource,
                DEPARTMENT_HEADER: batch.department,
            },
            body=batch.data,
        )

    def outcome(self, answer: Response, now: datetime) -> Outcome:
        """Interpret the envelope; a missing code is a failure, for we know nothing then."""
        envelope = _AnswerEnvelope.of(answer.body)
        status = answer.status
        reason = envelope.message or f"HTTP {status}"
        if 200 <= status < 300:  # noqa: PLR2004 (RFC 9110 §15.3)
            if not envelope.code:
                return Failed("answer", Text("应答没有 code", "the answer has no code").joined())
            if envelope.code == ACCEPTED:
                if envelope.receipt:
                    return Answered(envelope.receipt)
                return Failed(
                    "receipt", Text("已受理但没有回执", "accepted, but no receipt").joined()
                )
            # An HTTP 200 may still carry a code of the HTTP kind, such as "401" or "503".
            # "300" is the platform's own word for "failed" and no redirect.
            status = int(envelope.code) if re.fullmatch("[45][0-9]{2}", envelope.code) else 400
        code = envelope.code or str(status)
        if status >= 500 or status in _BUSY:  # noqa: PLR2004 (RFC 9110 §15.6)
            return Failed(code, reason, retry_after(answer.headers.get("retry-after"), now))
        # 404 without an envelope is a wrong address or a proxy's word, not the platform's.
        blocked = status in _NOT_OURS or status == GAP
        if status < 400 or blocked or (status in _NO_SUCH_PATH and not envelope.code):  # noqa: PLR2004 (redirects, RFC 9110 §15.4)
            return Blocked(code, reason)
        return Refused(code, reason)


PROFILES: Mapping[str, Profile] = {"national": National()}


def profile(name: str) -> Profile:
    """Look a profile up by its name; raises Misconfigured for one that is not in the table."""
    if name in PROFILES:
        return PROFILES[name]
    names = ", ".join(PROFILES)
    raise Misconfigured(
        Text(f"未知的上级接口类型 {name[:64]!r}", f"unknown profile {name[:64]!r}"),
        hint=Text(f"可用的类型：{names}", f"known profiles: {names}"),
    )


def attempt(
    batch: OutgoingBatch,
    target: Target,
    *,
    profile: Profile,
    post: Callable[[Request], Response],
    now: Callable[[], datetime],
) -> Outcome:
    """Send a batch once and say how it went, as an event of its delivery."""
    try:
        answer = post(profile.request(batch, target, now()))
    except Transient as error:
        return Failed("network", error.what.joined())
    except Rejected as error:
        return Blocked("settings", error.what.joined())
    return profile.outcome(answer, now())


class _AnswerEnvelope(NamedTuple):
    """The envelope's parts as far as they can be read; empty where they cannot."""

    code: str = ""
    message: str = ""
    receipt: bytes = b""

    @classmethod
    def of(cls, body: bytes) -> _AnswerEnvelope:
        try:
            envelope = json.loads(body)
        except (ValueError, RecursionError):
            return cls()
        if not isinstance(envelope, dict):
            return cls()
        code, message, data = (envelope.get(name) for name in ("code", "message", "data"))
        receipt = data.get("receipt") if isinstance(data, dict) else None
        return cls(
            _printable(str(code)) if isinstance(code, str | int) else "",
            _printable(message) if isinstance(message, str) else "",
            receipt.encode(errors="replace") if isinstance(receipt, str) else b"",
        )


def _printable(text: str) -> str:
    """Make foreign text fit for a terminal, a log line and a table cell."""
    return "".join(char if char.isprintable() else " " for char in text[:_MAX_MESSAGE]).strip()
