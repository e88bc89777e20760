"""Asks a time-stamping authority over HTTP (RFC 3161 §3.4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from exchange.errors import Misconfigured, Transient
from exchange.http.message import Request, Response
from exchange.text import Text

_OK: Final = 200
_AGAIN: Final = frozenset({408, 425, 429})
_SERVERS: Final = 500


def post_to(url: str, post: Callable[[Request], Response]) -> Callable[[bytes], bytes]:
    """Make what sends a request to ``url`` and returns the body of the answer.

    Raises Transient when there is no answer now, Misconfigured when it is not that of a TSA.
    """

    def ask(body: bytes) -> bytes:
        headers = {
            "content-type": "application/timestamp-query",
            "accept": "application/timestamp-reply",
        }
        answer = post(Request(url=url, headers=headers, body=body))
        if answer.status == _OK:
            return answer.body
        what = Text(f"时间戳服务应答 HTTP {answer.status}", f"the TSA answers HTTP {answer.status}")
        if answer.status in _AGAIN or answer.status >= _SERVERS:
            raise Transient(what, hint=Text("稍后会重试", "it will be asked again"))
        raise Misconfigured(
            what, hint=Text("请检查 tsa.url", "check the address: tsa.url of the settings")
        )

    return ask
