"""A web service on a real HTTP server: it serves records in pages, and misbehaves as told."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass
class Asked:
    """A request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    def number(self, name: str, default: int) -> int:
        return int(self.query.get(name, default))


@dataclass
class Answer:
    """What the service sends."""

    body: bytes = b"{}"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    """Whether the connection ends in the middle of the body."""


def as_json(document: Any, **headers: str) -> Answer:
    text = json.dumps(document, ensure_ascii=False).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(text, headers={"content-type": "application/json; charset=utf-8", **names})


Behaviour = Callable[[Asked], Answer]


@dataclass
class Service:
    """The running service; ``behaviour`` may be changed between requests."""

    url: str
    behaviour: Behaviour
    asked: list[Asked] = field(default_factory=list)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print what went wrong here; a client that hangs up did not go wrong."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextlib.contextmanager
def serving(behaviour: Behaviour) -> Iterator[Service]:
    """Serve on loopback and a free port until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10
        wbufsize = -1  # head and body in one piece: no wait for an acknowledgement

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def _answer(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            query = dict(parse_qsl(parts.query, keep_blank_values=True))
            asked = Asked(self.command, parts.path, query, headers, body)
            service.asked.append(asked)
            answer = service.behaviour(asked)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer.body)))
            self.end_headers()
            if answer.cut:
                self.wfile.write(answer.body[: len(answer.body) // 2])
                self.close_connection = True
            else:
                self.wfile.write(answer.body)

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    with _Server(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        service = Service(f"http://127.0.0.1:{server.server_address[1]}/api/cases", behaviour)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield service
        finally:
            server.shutdown()
            thread.join(10)


def pages(records: Sequence[Any], *, largest: int = 1_000, key: str = "list") -> Behaviour:
    """Serve ``?page=&size=`` in an envelope with the total; ``largest`` caps the size."""

    def behaviour(asked: Asked) -> Answer:
        size = min(asked.number("size", 10), largest)
        start = (asked.number("page", 1) - 1) * size
        data = {key: list(records[start : start + size]), "total": len(records)}
        return as_json({"code": "200", "message": "", "data": data})

    return behaviour


def offsets(records: Sequence[Any]) -> Behaviour:
    """Serve ``?offset=&size=`` as a bare list."""

    def behaviour(asked: Asked) -> Answer:
        start = asked.number("offset", 0)
        return as_json(list(records[start : start + asked.number("size", 10)]))

    return behaviour


def tokens(records: Sequence[Any], size: int) -> Behaviour:
    """Serve ``?cursor=``; the answer names the next token, null on the last page.

    A token is a place in the order of ``id``: a deletion shifts nothing.
    """

    def behaviour(asked: Asked) -> Answer:
        last = int(asked.query.get("cursor", "t0").removeprefix("t"))
        behind = [record for record in records if record["id"] > last]
        following = f"t{behind[size - 1]['id']}" if len(behind) > size else None
        return as_json({"items": behind[:size], "next": following})

    return behaviour


def links(records: Sequence[Any], size: int) -> Behaviour:
    """Serve pages that name the next one in a Link header, in the order of ``id``."""

    def behaviour(asked: Asked) -> Answer:
        behind = [record for record in records if record["id"] > asked.number("after", 0)]
        answer = as_json(behind[:size])
        if len(behind) > size:
            address = f"{asked.path}?after={behind[size - 1]['id']}"
            answer.headers["link"] = f'<{asked.path}>; rel="first", <{address}>; rel="next"'
        return answer

    return behaviour


def since(records: Sequence[dict[str, Any]], column: str, *, inclusive: bool = True) -> Behaviour:
    """Serve ``?since=&page=&size=``: records from a value on, in pages."""

    def behaviour(asked: Asked) -> Answer:
        bound = asked.query.get("since", "")
        some = [
            record
            for record in records
            if not bound or record[column] > bound or (inclusive and record[column] == bound)
        ]
        return pages(some)(asked)

    return behaviour
