"""The receiver under attack: real callers are served, nothing grows. Takes 6 s."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from exchange.cascade.delivery import Answered, Failed
from exchange.cascade.profiles import OutgoingBatch, Target, attempt, profile
from exchange.cascade.signing import BODY_SIGN_HEADER, signed_headers
from exchange.http.transport import Transport
from exchange.receiver.connections import ConnectionLimits
from tests.receipt.seals import NOW
from tests.receiver.batches import make_batch, outgoing
from tests.receiver.province import CREDENTIALS, PREFECTURE, Node, make_caller
from tests.receiver.province import province as open_province
from tests.support.receivers import background
from tests.support.soak import ATTACK

LIMITS = ConnectionLimits(head_seconds=0.5, idle_seconds=1.0, total=256, per_address=256)
OPENING = (b"", b"POST /sysapi/batch HTTP/1.1\r\nhost: x\r\nx-a: ")
"""What a silent connection sends, and one that stops in the head or sends a byte now and then."""


def connect(endpoint: str) -> socket.socket:
    url = urlsplit(endpoint)
    return socket.create_connection((url.hostname, url.port), timeout=10)


def head_of(line: str, *more: str) -> bytes:
    """Make the head of a request of the known caller."""
    signed = [f"{name}: {value}" for name, value in signed_headers(CREDENTIALS, NOW).items()]
    return "\r\n".join([f"{line} HTTP/1.1", "host: x", *more, *signed, "", ""]).encode()


def ended(connection: socket.socket) -> bool:
    """Whether the server has closed a connection that has nothing to be answered."""
    try:
        return bool(select.select([connection], [], [], 0)[0]) and not connection.recv(1 << 16)
    except OSError:
        return True


def until_ended(connection: socket.socket) -> None:
    """Wait until the server has given a connection up; raises TimeoutError after 10 s."""
    with contextlib.suppress(ConnectionError):
        while connection.recv(1 << 16):
            pass


class Attack:
    """Keeps 200 connections open that never become a request: silent, half a head, trickling."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.ends = time.monotonic() + ATTACK.now
        self.open: list[socket.socket | None] = [None] * 200
        self.begun = 0
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while time.monotonic() < self.ends:
            for number, connection in enumerate(self.open):
                if connection is None or ended(connection):
                    if connection is not None:
                        connection.close()
                    self.open[number] = self._connect(number)
                elif number % 3 == 2:
                    with contextlib.suppress(OSError):
                        connection.send(b"x")
            time.sleep(0.05)

    def _connect(self, number: int) -> socket.socket | None:
        try:
            connection = connect(self.endpoint)
            connection.sendall(OPENING[number % 3 > 0])
        except OSError:
            return None
        self.begun += 1
        return connection

    def close(self) -> None:
        for connection in filter(None, self.open):
            connection.close()


@pytest.mark.soak
def test_real_callers_are_served_while_200_connections_say_nothing(tmp_path: Path) -> None:
    waits = []
    with open_province(tmp_path) as province, background(province.app, limits=LIMITS) as endpoint:
        attack, caller = Attack(endpoint), Node(endpoint)
        attack.thread.start()
        number = 0
        while attack.thread.is_alive():
            number += 1
            batch = outgoing(make_batch(PREFECTURE.sealer, number % 99_999 + 1))
            began = time.monotonic()
            assert isinstance(caller.attempt(batch), Answered)
            waits.append(time.monotonic() - began)
            attack.thread.join(0.1)
        for connection in filter(None, attack.open):
            until_ended(connection)
        attack.close()
    waits.sort()
    assert waits[int(len(waits) * 0.99)] < 2.0
    assert attack.begun > 200, "those that were closed came again"


@pytest.mark.parametrize("opening", [*OPENING, OPENING[1] + b"b\r\n"])
def test_a_head_that_does_not_come_is_given_up(opening: bytes, tmp_path: Path) -> None:
    with open_province(tmp_path) as province, background(province.app, limits=LIMITS) as endpoint:
        with connect(endpoint) as connection:
            connection.sendall(opening)
            assert connection.recv(100) == b""
        with connect(endpoint) as connection:  # nor does the second request of a connection
            connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
            connection.sendall(opening)
            until_ended(connection)


def test_the_one_that_waited_longest_gives_way_and_known_callers_last(tmp_path: Path) -> None:
    limits = replace(LIMITS, head_seconds=30.0, idle_seconds=30.0, total=3)
    with (
        open_province(tmp_path) as province,
        background(province.app, limits=limits) as endpoint,
        contextlib.ExitStack() as stack,
    ):
        known = stack.enter_context(connect(endpoint))
        known.sendall(head_of("GET /sysapi/openapi"))
        assert known.recv(1 << 16).startswith(b"HTTP/1.1 200")
        strangers = [stack.enter_context(connect(endpoint)) for _ in range(5)]
        assert all(each.recv(100) == b"" for each in strangers[:3])
        assert not ended(known)
        assert not any(map(ended, strangers[3:]))


def endless(size: int) -> Iterator[bytes]:
    for _ in range(size >> 20):
        yield bytes(1 << 20)


@pytest.mark.parametrize("path", ["/sysapi/batch", "/sysapi/none", "/healthz"])
def test_the_body_of_a_refused_request_is_not_swallowed(path: str, tmp_path: Path) -> None:
    with open_province(tmp_path) as province, background(province.app) as endpoint:
        sent = 0
        with connect(endpoint) as connection, contextlib.suppress(OSError):
            connection.sendall(
                f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {1 << 30}\r\n\r\n".encode()
            )
            for piece in endless(1 << 30):
                connection.sendall(piece)
                sent += len(piece)
        assert sent < 64 << 20, "a MiB, and what lies in buffers of the system"


def ask_without_end(connection: socket.socket) -> None:
    """Ask for what is long and take no answer; blocks when all buffers are full."""
    while True:
        connection.sendall(head_of("GET /sysapi/openapi") * 100)


def test_answers_that_nobody_takes_end_the_connection(tmp_path: Path) -> None:
    with (
        open_province(tmp_path) as province,
        background(province.app, limits=LIMITS) as endpoint,
        connect(endpoint) as connection,
    ):
        connection.settimeout(60)
        with pytest.raises(ConnectionError):
            ask_without_end(connection)


def test_a_caller_that_asks_for_leave_first_sends_nothing(tmp_path: Path) -> None:
    with (
        open_province(tmp_path) as province,
        background(province.app) as endpoint,
        connect(endpoint) as connection,
    ):
        connection.sendall(
            b"POST /sysapi/batch HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n"
            b"expect: 100-continue\r\n\r\n"
        )
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 401")


@contextlib.contextmanager
def half_a_batch(endpoint: str) -> Iterator[None]:
    """Have a request of the known caller under way: its body does not end."""
    with connect(endpoint) as connection:
        connection.sendall(head_of("POST /sysapi/batch", "content-length: 100") + b"x")
        wait_until_busy(endpoint)
        yield


def wait_until_busy(endpoint: str) -> None:
    """Wait until the server has taken up the request: another one is told that it is too many."""
    headers = signed_headers(CREDENTIALS, NOW)
    while True:
        answer = requests.get(f"{endpoint}/sysapi/openapi", headers=headers, timeout=10)
        if answer.status_code != 200:
            return


@pytest.mark.parametrize(
    ("limit", "code"), [({"requests_per_caller": 1}, "429"), ({"requests": 1}, "503")]
)
def test_too_many_requests_at_once_are_told_to_come_back(
    limit: dict[str, int], code: str, tmp_path: Path
) -> None:
    batch = outgoing(make_batch(PREFECTURE.sealer))
    with (
        open_province(tmp_path, **limit) as province,  # type: ignore[arg-type]
        background(province.app) as endpoint,
    ):
        with half_a_batch(endpoint):
            outcome = Node(endpoint).attempt(batch)
            assert isinstance(outcome, Failed)
            assert outcome.code == code
            assert outcome.retry_after is not None
            assert requests.get(f"{endpoint}/healthz", timeout=10).status_code == 200
        while isinstance(outcome, Failed):  # until the server has noticed that it is gone
            outcome = Node(endpoint).attempt(batch)
        assert isinstance(outcome, Answered)


def test_what_is_allowed_and_what_there_is(tmp_path: Path) -> None:
    with open_province(tmp_path) as province, background(province.app) as endpoint:
        wrong = requests.get(f"{endpoint}/sysapi/batch", timeout=10)
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
        stranger = requests.get(f"{endpoint}/sysapi/openapi", timeout=10)
        assert stranger.status_code == 401
        headers = signed_headers(CREDENTIALS, NOW)
        document = requests.get(f"{endpoint}/sysapi/openapi", headers=headers, timeout=10).json()
    assert {"/sysapi/batch", "/sysapi/witness", "/healthz"} <= document["paths"].keys()
    assert "424" in document["paths"]["/sysapi/batch"]["post"]["responses"]


def deliver(endpoint: str, batch: OutgoingBatch, *, sign_body: bool) -> object:
    with contextlib.closing(Transport(endpoint, monotonic=time.monotonic)) as transport:
        target = Target(endpoint, CREDENTIALS, sign_body=sign_body)
        post = transport.post
        return attempt(batch, target, profile=profile("national"), post=post, now=lambda: NOW)


def test_a_signed_body_cannot_be_exchanged_under_its_headers(tmp_path: Path) -> None:
    first, other = (outgoing(make_batch(PREFECTURE.sealer, number)) for number in (1, 2))
    callers = {CREDENTIALS.rid: replace(make_caller(CREDENTIALS.rid), signs_body=True)}
    with (
        open_province(tmp_path, callers=callers) as province,
        background(province.app) as endpoint,
    ):
        assert isinstance(deliver(endpoint, first, sign_body=True), Answered)
        assert not isinstance(deliver(endpoint, other, sign_body=False), Answered)
        stolen = signed_headers(CREDENTIALS, NOW, first.data)
        assert BODY_SIGN_HEADER in stolen
        url = f"{endpoint}/sysapi/batch"
        again = requests.post(url, data=first.data, headers=stolen, timeout=10)
        assert again.status_code == 200, "the same once more is the same receipt"
        swapped = requests.post(url, data=other.data, headers=stolen, timeout=10)
        assert swapped.status_code == 401
    assert province.store.received_batches.counts()[0] == 1
