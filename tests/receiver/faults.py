"""A province that misbehaves: the real receiver behind a layer that spoils its answers.

``FaultyProvince`` is an application of the same HTTP surface; ``fault`` may be changed at any
time, ``times`` says for how many requests it lasts. Questions are answered as they should be.
"Down" needs no layer: do not serve.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from exchange.receipt import Receipt, issue, read
from exchange.seal.eseal.signature import Sealer
from tests.receipt.seals import NOW
from tests.support.sockets import Handler, read_request


class Fault(StrEnum):
    NONE = "none"
    SLOW = "slow"
    """Says nothing for ``seconds``, then answers."""
    BUSY = "busy"
    """503 with Retry-After, before the receiver sees anything."""
    CRASH = "crash"
    """The receiver takes the batch in, the answer is a 500."""
    REFUSES = "refuses"
    """422 with an envelope."""
    DENIES = "denies"
    NO_CODE = "no code"
    """The envelope has no code."""
    HTML = "html"
    """A proxy's page with status 200."""
    NO_RECEIPT = "no receipt"
    CLOSES_BEFORE = "closes before"
    """Closes after the request, before the answer; the batch was taken in."""
    CLOSES_IN_MID_BODY = "closes in mid-body"
    DRIPS = "drips"
    """One byte of the answer every tenth of a second, and then no more."""
    WRONG_SEAL = "wrong seal"
    """The receipt is sealed by somebody else."""
    WRONG_ROOT = "wrong root"
    WRONG_COUNT = "wrong count"
    BROKEN_RECEIPT = "broken receipt"
    """A byte of the receipt is changed."""
    OTHER_BATCH = "other batch"
    """A receipt of the province for another batch number."""


CHANGES: Mapping[Fault, Callable[[Receipt], Receipt]] = {
    Fault.WRONG_SEAL: lambda receipt: receipt,
    Fault.WRONG_ROOT: lambda receipt: replace(receipt, root="f" * 64),
    Fault.WRONG_COUNT: lambda receipt: replace(receipt, rows_accepted=receipt.rows_accepted + 1),
    Fault.OTHER_BATCH: lambda receipt: replace(receipt, batch_no="2026112399999"),
}
PAGES: Mapping[Fault, tuple[int, bytes]] = {
    Fault.REFUSES: (422, '{"code":"422","message":"目录不存在","data":{}}'.encode()),
    Fault.DENIES: (401, '{"code":"401","message":"签名不正确","data":{}}'.encode()),
    Fault.BUSY: (503, '{"code":"503","message":"繁忙","data":{}}'.encode()),
    Fault.NO_CODE: (200, b'{"message":"ok","data":{}}'),
    Fault.HTML: (200, b"<html>maintenance</html>"),
    Fault.NO_RECEIPT: (200, b'{"code":"200","message":"ok","data":{}}'),
}


class _Abort(Exception):
    """Makes the server close the connection."""


@dataclass
class FaultyProvince:
    """``app`` is the receiver, ``stranger`` seals what the province would not."""

    app: Any
    sealer: Sealer
    stranger: Sealer
    fault: Fault = Fault.NONE
    times: int = 1_000_000
    seconds: float = 2.0
    clock: Callable[[], datetime] = lambda: NOW
    """When a spoilt receipt is sealed."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        delivers = scope["path"].startswith("/sysapi/") and scope.get("method") != "GET"
        fault = self._next() if delivers else Fault.NONE
        if fault in PAGES:
            await _drain(receive)
            await _answer(send, *PAGES[fault])
            return
        if fault is Fault.NONE:
            await self.app(scope, receive, send)
            return
        messages: list[Any] = []

        async def collect(message: Any) -> None:
            messages.append(message)

        await self.app(scope, receive, collect)
        body = b"".join(message.get("body", b"") for message in messages)
        await self._spoil(fault, messages[0]["status"], body, send)

    def _next(self) -> Fault:
        if self.times == 0:
            return Fault.NONE
        self.times -= 1
        return self.fault

    async def _spoil(self, fault: Fault, status: int, body: bytes, send: Any) -> None:
        if fault is Fault.SLOW:
            await asyncio.sleep(self.seconds)
            await _answer(send, status, body)
        elif fault is Fault.CRASH:
            await _answer(send, 500, b'{"code":"500","message":"","data":{}}')
        elif fault is Fault.CLOSES_BEFORE:
            await _start(send, status, body)
            raise _Abort
        elif fault is Fault.CLOSES_IN_MID_BODY:
            await _start(send, status, body)
            await send(
                {"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True}
            )
            raise _Abort
        elif fault is Fault.DRIPS:
            await _start(send, status, body)
            for byte in body[:25]:
                await send({"type": "http.response.body", "body": bytes([byte]), "more_body": True})
                await asyncio.sleep(0.1)
            raise _Abort
        else:
            await _answer(send, status, self._other(fault, body))

    def _other(self, fault: Fault, body: bytes) -> bytes:
        """Put another receipt into the envelope."""
        envelope = json.loads(body)
        data = envelope["data"]["receipt"].encode()
        if fault is Fault.BROKEN_RECEIPT:
            wrong = data.replace(b'"province":"23"', b'"province":"24"')
        else:
            sealer = self.stranger if fault is Fault.WRONG_SEAL else self.sealer
            wrong = issue(CHANGES[fault](read(data)), sealer, self.clock())
        envelope["data"]["receipt"] = wrong.decode()
        return json.dumps(envelope).encode()


async def _drain(receive: Any) -> None:
    while (message := await receive()).get("more_body"):
        del message


async def _start(send: Any, status: int, body: bytes) -> None:
    headers = [(b"content-length", str(len(body)).encode()), (b"retry-after", b"7")]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _answer(send: Any, status: int, body: bytes) -> None:
    await _start(send, status, body)
    await send({"type": "http.response.body", "body": body})


def answering_twice(endpoint: str) -> Handler:
    """Relay to the receiver at ``endpoint`` and pass every answer on twice."""
    url = urlsplit(endpoint)

    def handler(connection: socket.socket) -> None:
        while True:
            request = read_request(connection)
            with socket.create_connection((url.hostname, url.port), timeout=10) as receiver:
                receiver.sendall(request)
                answer = read_request(receiver)
            connection.sendall(answer + answer)

    return handler
