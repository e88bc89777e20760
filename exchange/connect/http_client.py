"""HTTP for connectors: one origin, bounded requests, and one judgement of every status.

A request that failed for a passing reason is made again, a few times: after what the server
asked for (``Retry-After``), else after 1, 2, 4 … seconds. Everything else is an error of ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from exchange.errors import Denied, ExchangeError, Misconfigured, Rejected, Transient
from exchange.http.message import Request, Response
from exchange.http.retry import retry_after
from exchange.text import Text

_DENIED = frozenset({401, 403})
_ADDRESS = frozenset({404, 405, 407, 410, 501, 505})
_BUSY = frozenset({408, 425, 429})
_MAX_QUOTE = 200


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What one request may cost: seconds, bytes of an answer, requests a second, attempts."""

    connect_seconds: float = 10
    read_seconds: float = 60
    total_seconds: float = 300
    max_bytes: int = 16 * 1024 * 1024
    rate: float = 0
    """Requests a second; 0: no limit."""
    retries: int = 3
    longest_wait: float = 60
    """Seconds; a server that wants more is left for the next pull."""


class HttpClient:
    """Requests to one origin, for one connector; close it."""

    def __init__(
        self,
        url: str,
        *,
        now: Callable[[], datetime],
        sleep: Callable[[float], None],
        limits: HttpLimits,
        ca: Path | None = None,
        insecure_http: bool = False,
        hide: Callable[[str], str] = str,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare, without connecting; raises Misconfigured for an address that is not safe.

        Plain ``http://`` to another machine needs ``insecure_http``. ``hide`` blanks what must
        not be seen out of a server's own words.
        """
        from exchange.http.transport import Advice, Transport
        from exchange.settings import Timeouts

        advice = Advice(
            unsafe=Text(
                "请使用 https 地址（地址里不写用户名）；确需明文时设置 insecure_http: true",
                "use an https address without a user in it; where it has to be plain, "
                "set insecure_http: true",
            ),
            foreign=Text(
                "只访问 url 指定的主机", "only the host that the settings name is ever called"
            ),
            connect=Text(
                "请检查地址、证书链（ca）和本机时间",
                "check the address, the certificates (ca) and the clock",
            ),
            interrupted=Text(
                "会自动重试；请检查对方服务和网络",
                "it is tried again by itself; check the service and the network",
            ),
            oversized=Text(
                "请减小 page_size 或调大 max_bytes", "lower page_size, or raise max_bytes"
            ),
            oversized_error=Misconfigured,
        )
        self._now, self._sleep, self._limits, self._hide = now, sleep, limits, hide
        self._last: datetime | None = None
        try:
            timeouts = Timeouts(limits.connect_seconds, limits.read_seconds, limits.total_seconds)
        except ValueError as error:
            raise Misconfigured(
                Text("时间上限互相矛盾", "the time limits contradict each other"),
                hint=Text(
                    "connect_seconds 和 read_seconds 不能大于 total_seconds",
                    "connect_seconds and read_seconds are at most total_seconds",
                ),
            ) from error
        self._transport = Transport(
            url,
            monotonic=monotonic,
            timeouts=timeouts,
            max_answer=limits.max_bytes,
            ca=ca,
            insecure_http=insecure_http,
            advice=advice,
        )

    def fetch(
        self, make: Callable[[], Request], *, post: bool = False, answers: Collection[int] = ()
    ) -> Response:
        """Return the answer of a request that succeeded (2xx); raises our errors.

        ``make`` builds the request of each attempt: signatures carry the time. ``answers``
        are further statuses that the caller judges itself. No redirect is followed.
        """
        attempt = 0
        while True:
            self._pace()
            request = make()
            wait: timedelta | None = None
            try:
                answer = self._transport.post(request) if post else self._transport.get(request)
                error = judge(answer, urlsplit(request.url), self._hide)
                if error is None or answer.status in answers:
                    return answer
                wait = retry_after(answer.headers.get("retry-after"), self._now())
            except Transient as failure:
                error = failure
            if not isinstance(error, Transient) or attempt >= self._limits.retries:
                raise error
            seconds = 2.0**attempt if wait is None else max(0.0, wait.total_seconds())
            if seconds > self._limits.longest_wait:
                raise _later(error, seconds)
            self._sleep(seconds)
            attempt += 1

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def _pace(self) -> None:
        """Wait so that requests keep to the rate."""
        now = self._now()
        if self._limits.rate and self._last is not None:
            gap = 1 / self._limits.rate - (now - self._last).total_seconds()
            if gap > 0:
                self._sleep(gap)
                now = self._now()
        self._last = now


def judge(
    answer: Response, url: SplitResult, hide: Callable[[str], str] = str
) -> ExchangeError | None:
    """Return what a status means for a source: None for success (2xx).

    401 and 403 are denied; 404, 405, 410 and redirects are a wrong address; 408, 425, 429 and
    5xx pass; every other refusal is for good.
    """
    status = answer.status
    if 200 <= status < 300:  # noqa: PLR2004 (RFC 9110 §15.3)
        return None
    place = f"{url.netloc}{url.path}"[:_MAX_QUOTE]
    quote = hide(_quote(answer))[:_MAX_QUOTE]
    what = Text(
        f"{place} 应答 HTTP {status}{quote and '：' + quote}",
        f"{place} answers HTTP {status}{quote and ': ' + quote}",
    )
    if status in _DENIED:
        return Denied(
            what, hint=Text("请检查账号、密钥和授权", "check the account, its secret and rights")
        )
    if 300 <= status < 400:  # noqa: PLR2004 (RFC 9110 §15.4)
        target = _host(answer.headers.get("location", ""))
        return Misconfigured(
            Text(
                f"{place} 转向 {target or '另一地址'}（HTTP {status}），不跟随",
                f"{place} redirects to {target or 'another address'} (HTTP {status}); "
                "redirects are not followed",
            ),
            hint=Text(
                "请在 url 写最终地址；若转向登录页，请检查 auth",
                "write the final address in url; if it leads to a login page, check auth",
            ),
        )
    if status in _ADDRESS:
        return Misconfigured(
            what, hint=Text("请检查 url 和 method", "check the address and the method")
        )
    if status in _BUSY or status >= 500:  # noqa: PLR2004 (RFC 9110 §15.6)
        return Transient(
            what,
            hint=Text(
                "对方暂时不可用，会自动重试", "the service is busy or broken: it is tried again"
            ),
        )
    return Rejected(what, hint=Text("请检查请求参数", "check the parameters of the request"))


def _host(address: str) -> str:
    try:
        return urlsplit(address).netloc[:100]
    except ValueError:
        return ""


def _later(error: Transient, seconds: float) -> Transient:
    wait = f"{seconds:.0f}"
    return Transient(
        Text(
            f"{error.what.zh}；要求 {wait} 秒后再来",
            f"{error.what.en}; it asks to come again in {wait} s",
        ),
        hint=Text(
            "下次拉取会继续；要在本次内等待，请调大 longest_wait",
            "the next pull goes on; to wait within a pull, raise longest_wait",
        ),
    )


def _quote(answer: Response) -> str:
    """Return the server's own words, if they are short text; no web pages."""
    head = answer.body[: _MAX_QUOTE * 2].lstrip()
    if head.startswith(b"<"):
        return ""
    text = head.decode("utf-8", "replace")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
