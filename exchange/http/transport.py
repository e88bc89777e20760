"""Transport: the one module that opens a connection over HTTP (owner of ``requests``).

``requests`` has a limit for each read but none for the whole call, so a server that sends
a byte now and then holds its caller for ever. Here every socket call, of headers too, gets
what is left of one total. Redirects, proxies, environment, cookies and compression are off;
certificates are verified; the size of an answer is bounded.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests import exceptions
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

from exchange.errors import ExchangeError, Misconfigured, Transient
from exchange.foreign import network_reason
from exchange.http.message import Request, Response
from exchange.settings import Timeouts
from exchange.text import Text

VERDICTS: Mapping[type[BaseException], type[ExchangeError]] = {
    exceptions.RequestException: Transient,
    exceptions.ConnectionError: Transient,
    exceptions.SSLError: Transient,
    ssl.SSLCertVerificationError: Misconfigured,
    exceptions.Timeout: Transient,
    exceptions.ConnectTimeout: Transient,
    exceptions.ReadTimeout: Transient,
    exceptions.ChunkedEncodingError: Transient,
    exceptions.ContentDecodingError: Transient,
    exceptions.StreamConsumedError: Transient,
    exceptions.RetryError: Transient,
    exceptions.HTTPError: Transient,
    exceptions.InvalidJSONError: Transient,
    exceptions.JSONDecodeError: Transient,
    exceptions.TooManyRedirects: Misconfigured,
    exceptions.ProxyError: Misconfigured,
    exceptions.InvalidProxyURL: Misconfigured,
    exceptions.URLRequired: Misconfigured,
    exceptions.MissingSchema: Misconfigured,
    exceptions.InvalidSchema: Misconfigured,
    exceptions.InvalidURL: Misconfigured,
    exceptions.InvalidHeader: Misconfigured,
    exceptions.UnrewindableBodyError: Misconfigured,
    HTTPError: Transient,
    OSError: Misconfigured,
    UnicodeError: Misconfigured,
}
"""What each foreign error means for us; the nearest class in the error's line decides.

A bare OSError never comes from the network here: it is a certificate file that is not there.
A UnicodeError is a setting in a header that HTTP cannot carry.
"""


DEFAULT_TIMEOUTS = Timeouts()
MAX_ANSWER = 1024 * 1024
"""Bytes of the body of an answer."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What a person does about each failure: it depends on whose endpoint it is."""

    unsafe: Text
    foreign: Text
    connect: Text
    interrupted: Text
    oversized: Text
    oversized_error: type[ExchangeError] = Transient


UPSTREAM = Advice(
    unsafe=Text(
        "请使用 https 地址；确需明文时设置 upstream.insecure_http: true",
        "use an https address, or set upstream.insecure_http: true if it has to be plain",
    ),
    foreign=Text("只向 upstream.endpoint 发送", "only upstream.endpoint is ever called"),
    connect=Text(
        "请检查上级平台地址、接入凭据、证书链(upstream.ca)和本机时间",
        "check the address, the credentials, the certificates (upstream.ca) and the clock",
    ),
    interrupted=Text(
        "会自动重试；长时间不恢复请检查政务外网线路",
        "it is tried again by itself; if it lasts, check the line to the province",
    ),
    oversized=Text(
        "请联系省级平台：批次接口的应答应只含回执",
        "ask the province: the answer to a batch holds a receipt and no more",
    ),
)
"""For the province's interface, and what is called beside it."""


class Transport:
    """Connections to one endpoint; used by one thread at a time."""

    def __init__(
        self,
        endpoint: str,
        *,
        monotonic: Callable[[], float],
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        max_answer: int = MAX_ANSWER,
        ca: Path | None = None,
        insecure_http: bool = False,
        advice: Advice = UPSTREAM,
    ) -> None:
        """Prepare, without connecting; raises Misconfigured for an unsafe endpoint.

        ``ca`` names the authorities to trust instead of the bundled ones; ``insecure_http``
        allows ``http://`` beyond this machine, for sealed lines such as a test network.
        """
        self._timeouts = timeouts
        self._max_answer = max_answer
        self._advice = advice
        self._origin = _origin(endpoint, advice, insecure_http=insecure_http)
        self._deadline = _Deadline(timeouts, monotonic)
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = str(ca) if ca else True
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._session.headers.update({"user-agent": "gov-exchange", "accept": "application/json"})
        self._session.headers["accept-encoding"] = "identity"
        adapter = _Adapter(self._deadline)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, adapter)

    def post(self, request: Request) -> Response:
        """Send a request and read the whole answer, whatever its status.

        Raises Transient when there was no whole answer, Misconfigured when the address, the
        certificate or a file named in the settings is at fault.
        """
        return self._send("POST", request)

    def get(self, request: Request) -> Response:
        """Ask for something, without a body; else as :meth:`post`."""
        return self._send("GET", request)

    def _send(self, method: str, request: Request) -> Response:
        if _origin(request.url, self._advice, insecure_http=True) != self._origin:
            raise _foreign(request.url, self._advice)
        self._deadline.start()
        try:
            with self._session.request(
                method,
                request.url,
                data=request.body or None,
                headers=dict(request.headers),
                timeout=(self._timeouts.connect, self._timeouts.read),
                allow_redirects=False,
                stream=True,
            ) as response:
                return Response(
                    status=response.status_code,
                    headers={name.lower(): value for name, value in response.headers.items()},
                    body=self._body(response),
                )
        except (OSError, HTTPError, UnicodeError) as error:
            raise translate(error, self._origin, self._advice) from error

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _body(self, response: requests.Response) -> bytes:
        body = bytearray()
        for piece in response.iter_content(16 * 1024):
            body += piece
            if len(body) > self._max_answer:
                raise _oversized(self._max_answer, self._advice)
        return bytes(body)


def translate(error: BaseException, origin: str, advice: Advice = UPSTREAM) -> ExchangeError:
    """Return our error for a foreign one; the caller raises it ``from`` the foreign one.

    Texts name the class of the error and the origin only: a foreign message may quote
    anything, a header or an address included.
    """
    cause = _certificate_error(error) or error
    verdict = next(VERDICTS[kind] for kind in type(cause).__mro__ if kind in VERDICTS)
    why = network_reason(cause)
    if verdict is Misconfigured:
        return Misconfigured(
            Text(
                f"无法安全连接 {origin}：{why.zh}", f"cannot connect to {origin} safely: {why.en}"
            ),
            hint=advice.connect,
        )
    return verdict(
        Text(f"与 {origin} 的通信中断：{why.zh}", f"no answer from {origin}: {why.en}"),
        hint=advice.interrupted,
    )


def _certificate_error(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """Find a refused certificate, which the libraries wrap several times."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error


def _origin(address: str, advice: Advice, *, insecure_http: bool) -> str:
    """Return ``scheme://host:port``; raises Misconfigured unless TLS or this machine."""
    try:
        url = urlsplit(address)
        host, port = url.hostname or "", url.port
    except ValueError as error:
        raise _unsafe(address.partition(":")[0][:20], advice) from error
    safe = url.scheme == "https" or (url.scheme == "http" and (insecure_http or _is_loopback(host)))
    if not safe or not host or url.username is not None:
        raise _unsafe(f"{url.scheme}://{host}", advice)
    return f"{url.scheme}://{host}:{port or (443 if url.scheme == 'https' else 80)}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _unsafe(origin: str, advice: Advice) -> Misconfigured:
    return Misconfigured(
        Text(f"地址 {origin} 不安全", f"the endpoint {origin} is not safe to use"),
        hint=advice.unsafe,
    )


def _foreign(url: str, advice: Advice) -> Misconfigured:
    return Misconfigured(
        Text(
            f"拒绝向配置以外的地址发送：{urlsplit(url).netloc[:100]}",
            f"refused to send to an address that is not configured: {urlsplit(url).netloc[:100]}",
        ),
        hint=advice.foreign,
    )


def _oversized(limit: int, advice: Advice) -> ExchangeError:
    return advice.oversized_error(
        Text(f"应答超过 {limit} 字节", f"the answer is longer than {limit} bytes"),
        hint=advice.oversized,
    )


# --- the total: below requests and urllib3, where the sockets are ----------------------------


_PIECE = 64 * 1024


class _Deadline:
    """What is left of the total of the running request."""

    def __init__(self, timeouts: Timeouts, monotonic: Callable[[], float]) -> None:
        self._timeouts = timeouts
        self._monotonic = monotonic
        self._ends = 0.0

    def start(self) -> None:
        self._ends = self._monotonic() + self._timeouts.total

    def left(self) -> float:
        """Return the seconds left; raises TimeoutError when there are none."""
        left = self._ends - self._monotonic()
        if left <= 0:
            raise TimeoutError("the total time of the request is used up")
        return left

    def silence(self) -> float:
        return min(self._timeouts.read, self.left())


class _BodyReader(io.RawIOBase):
    """Reads a socket, giving each call what is left."""

    def __init__(self, sock: socket.socket, deadline: _Deadline) -> None:
        self._sock = sock
        self._stream = sock.makefile("rb", buffering=0)
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        self._sock.settimeout(self._deadline.silence())
        return self._stream.readinto(buffer)

    def close(self) -> None:
        self._stream.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """Parses an answer from a :class:`_BodyReader`."""

    def __init__(
        self, deadline: _Deadline, sock: socket.socket, *args: Any, **options: Any
    ) -> None:
        super().__init__(sock, *args, **options)
        self.fp.close()
        self.fp = io.BufferedReader(_BodyReader(sock, deadline))


class _Bounded(HTTPConnection):
    """A connection whose writes and reads keep to the deadline."""

    def __init__(self, deadline: _Deadline, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._deadline = deadline
        self.response_class = partial(_Response, deadline)  # type: ignore[assignment]

    def connect(self) -> None:
        self.timeout = min(self.timeout or self._deadline.left(), self._deadline.left())
        super().connect()

    def send(self, data: Any) -> None:
        # urllib3 would write under the connect timeout: too short for a batch on a slow line.
        if self.sock is None:
            self.connect()
        view = memoryview(data)
        for start in range(0, len(view), _PIECE):
            # A TLS socket counts its timeout anew with each record: hence in pieces.
            self.sock.settimeout(self._deadline.left())
            super().send(view[start : start + _PIECE])


class _BoundedTls(_Bounded, HTTPSConnection):
    """The same over TLS."""


class _Adapter(HTTPAdapter):
    """Makes bounded connections, one per endpoint; never retries by itself."""

    def __init__(self, deadline: _Deadline) -> None:
        self._deadline = deadline
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = {
            "http": partial(_pool, HTTPConnectionPool, partial(_Bounded, self._deadline)),
            "https": partial(_pool, HTTPSConnectionPool, partial(_BoundedTls, self._deadline)),
        }


def _pool(kind: Any, connection: Any, *args: Any, **options: Any) -> HTTPConnectionPool:
    pool: HTTPConnectionPool = kind(*args, **options)
    pool.ConnectionCls = connection
    return pool
