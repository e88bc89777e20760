from __future__ import annotations

import contextlib
import inspect
import socket
import ssl
import time
from pathlib import Path

import pytest
import requests.exceptions
import trustme
import urllib3.exceptions
from hypothesis import given
from hypothesis import strategies as st

from exchange.errors import ExchangeError, Misconfigured, Transient
from exchange.http.message import Request
from exchange.http.transport import VERDICTS, Transport, translate
from exchange.settings import Timeouts
from tests.support.sockets import Handler, listening, read_request, reply

SHORT = Timeouts(connect=1, read=0.5, total=1)


def transport(endpoint: str, timeouts: Timeouts = SHORT) -> Transport:
    return Transport(endpoint, monotonic=time.monotonic, timeouts=timeouts, max_answer=4096)


def request(endpoint: str, body: bytes = b"batch") -> Request:
    return Request(f"{endpoint}/sysapi/batch", {"x-secret": "s3cret"}, body)


def failure(handler: Handler, body: bytes = b"batch") -> tuple[ExchangeError, float]:
    with listening(handler) as endpoint, contextlib.closing(transport(endpoint)) as client:
        started = time.monotonic()
        with pytest.raises(ExchangeError) as caught:
            client.post(request(endpoint, body))
        return caught.value, time.monotonic() - started


@pytest.mark.parametrize("status", ["200 OK", "302 Found", "401 Unauthorized", "503 Busy"])
def test_every_status_is_an_answer(status: str) -> None:
    headers = "Location: http://127.0.0.1:1/elsewhere\r\nRetry-After: 7\r\nSet-Cookie: a=b\r\n"
    with (
        listening(reply(status, b"body", headers)) as endpoint,
        contextlib.closing(transport(endpoint)) as client,
    ):
        for _ in range(2):
            answer = client.post(request(endpoint))
            assert (answer.status, answer.body) == (int(status[:3]), b"body")
            assert answer.headers["retry-after"] == "7"


def test_the_bytes_arrive_as_they_are_on_one_connection() -> None:
    items: list[bytes] = []
    connections: list[int] = []

    def handler(connection: socket.socket) -> None:
        connections.append(connection.fileno())
        for _ in range(2):
            items.append(read_request(connection))
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nset-cookie: a=b\r\n\r\n")

    body = bytes(range(256)) * 4000
    with listening(handler) as endpoint, contextlib.closing(transport(endpoint)) as client:
        for _ in range(2):
            client.post(request(endpoint, body))
    assert len(connections) == 1
    for item in items:
        head, _, sent = item.partition(b"\r\n\r\n")
        assert sent == body
        assert b"cookie" not in head
        assert b"accept-encoding: identity" in head


def test_environment_proxies_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    with listening(reply()) as endpoint, contextlib.closing(transport(endpoint)) as client:
        assert client.post(request(endpoint)).status == 200


def drip(connection: socket.socket, data: bytes) -> None:
    for byte in data:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def drips_headers(connection: socket.socket) -> None:
    read_request(connection)
    drip(connection, b"HTTP/1.1 200 OK\r\n" + b"x-long: header\r\n" * 20)


def drips_body(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 200\r\n\r\n")
    drip(connection, b"x" * 200)


def silent(connection: socket.socket) -> None:
    read_request(connection)
    connection.recv(1)


def deaf(connection: socket.socket) -> None:
    time.sleep(1.5)
    connection.recv(1)


def hangs_up(connection: socket.socket) -> None:
    connection.recv(10)


def closes_in_mid_body(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 200\r\n\r\nhalf")


def closes_in_mid_chunk(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n64\r\nhalf")


def speaks_nonsense(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(b"\x00\xff nonsense\r\n\r\n")


def never_stops(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b"x" * 65536)


def is_a_bomb(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nbomb"
    )


@pytest.mark.parametrize(
    "handler",
    [
        drips_headers,
        drips_body,
        silent,
        hangs_up,
        closes_in_mid_body,
        closes_in_mid_chunk,
        speaks_nonsense,
        never_stops,
        is_a_bomb,
    ],
)
def test_a_province_at_its_worst_is_transient_and_cannot_hold_us(handler: Handler) -> None:
    error, seconds = failure(handler)
    assert isinstance(error, Transient)
    assert seconds < SHORT.total + 1
    assert "s3cret" not in str(error)


def test_a_province_that_does_not_read_cannot_hold_us() -> None:
    error, seconds = failure(deaf, body=bytes(32 * 1024 * 1024))
    assert isinstance(error, Transient)
    assert seconds < SHORT.total + 1


def test_nobody_listens() -> None:
    with listening(reply()) as endpoint:
        pass
    with contextlib.closing(transport(endpoint)) as client, pytest.raises(Transient):
        client.post(request(endpoint))


@pytest.mark.parametrize("value", ["身份", "a\nb", "a\rb", " a"])
def test_a_header_that_http_cannot_carry_is_ours_to_fix(value: str) -> None:
    with listening(reply()) as endpoint, contextlib.closing(transport(endpoint)) as client:
        with pytest.raises(Misconfigured):
            client.post(Request(f"{endpoint}/x", {"gjzwfwpt_rid": value}, b""))
        assert client.post(request(endpoint)).status == 200


# --- TLS -------------------------------------------------------------------------------------


@contextlib.contextmanager
def tls_server(authority: trustme.CA, name: str):  # type: ignore[no-untyped-def]  # noqa: ANN201
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)

    def handler(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            reply(body=b"safe")(secured)

    with listening(handler) as endpoint:
        yield endpoint.replace("http://127.0.0.1", "https://localhost")


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return authority


def test_tls_under_the_given_authority(authority: trustme.CA, tmp_path: Path) -> None:
    with tls_server(authority, "localhost") as endpoint:
        client = Transport(endpoint, monotonic=time.monotonic, ca=tmp_path / "ca.pem")
        with contextlib.closing(client):
            assert client.post(request(endpoint, bytes(300_000))).body == b"safe"


@pytest.mark.parametrize("case", ["unknown authority", "another name", "no such file"])
def test_tls_that_does_not_hold_is_ours_to_fix(
    case: str, authority: trustme.CA, tmp_path: Path
) -> None:
    name = "elsewhere.example" if case == "another name" else "localhost"
    ca = {"unknown authority": None, "no such file": tmp_path / "none.pem"}.get(
        case, tmp_path / "ca.pem"
    )
    with tls_server(authority, name) as endpoint:
        client = Transport(endpoint, monotonic=time.monotonic, timeouts=SHORT, ca=ca)
        with contextlib.closing(client), pytest.raises(Misconfigured) as caught:
            client.post(request(endpoint))
    assert caught.value.__cause__ is not None


# --- where we may send -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://province.example",
        "http://10.0.0.1:8080",
        "ftp://127.0.0.1",
        "https://user:pass@province.example",
        "https://",
        "province.example",
        "http://127.0.0.1:99999",
        "file:///etc/passwd",
    ],
)
def test_unsafe_endpoints_are_refused_at_once(endpoint: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        transport(endpoint)
    assert "pass@" not in str(caught.value)


def test_plain_http_can_be_allowed() -> None:
    Transport("http://10.0.0.1", monotonic=time.monotonic, insecure_http=True).close()


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1:9/x",
        "http://127.0.0.1:10/x",
        "http://127.0.0.1:9@elsewhere/x",
        "http://localhost:9/x",
        "http://127.0.0.1.elsewhere:9/x",
    ],
)
def test_only_the_configured_origin_is_called(url: str) -> None:
    with (
        contextlib.closing(transport("http://127.0.0.1:9")) as client,
        pytest.raises(Misconfigured),
    ):
        client.post(Request(url, {}, b""))


# --- the error map ---------------------------------------------------------------------------


def test_every_error_of_requests_has_a_verdict() -> None:
    names = {
        error
        for _, error in inspect.getmembers(requests.exceptions, inspect.isclass)
        if issubclass(error, requests.exceptions.RequestException)
        and error.__module__.startswith("requests")
    }
    assert len(names) > 20
    assert names - VERDICTS.keys() == set()


def test_every_error_of_urllib3_is_ours_then() -> None:
    items = [
        error
        for _, error in inspect.getmembers(urllib3.exceptions, inspect.isclass)
        if issubclass(error, Exception) and not issubclass(error, Warning)
        if error.__module__ == "urllib3.exceptions" and not error.__name__.startswith("ProxyScheme")
    ]
    assert len(items) > 20
    for error in items:
        assert issubclass(error, urllib3.exceptions.HTTPError)
        assert isinstance(translate(error.__new__(error), "https://p"), Transient)


@given(st.sampled_from(sorted(VERDICTS, key=lambda item: item.__name__)))
def test_translation_is_the_table(kind: type[BaseException]) -> None:
    error = translate(kind.__new__(kind), "https://province:443")
    assert type(error) is VERDICTS[kind]
    assert "province" in str(error)


def test_timeouts_refuse_nonsense() -> None:
    for wrong in ({"connect": 0.0}, {"read": 400.0}, {"total": 1.0}):
        with pytest.raises(ValueError, match="total"):
            Timeouts(**wrong)
