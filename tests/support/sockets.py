"""A raw TCP server for what no well-behaved HTTP server does."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

Handler = Callable[[socket.socket], None]


@contextlib.contextmanager
def listening(handler: Handler) -> Iterator[str]:
    """Serve each connection with ``handler`` in its own thread; yields the address."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        workers: list[threading.Thread] = []
        acceptor = threading.Thread(target=_accept, args=(server, handler, workers))
        acceptor.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            for thread in (acceptor, *workers):
                thread.join(10)


def _accept(server: socket.socket, handler: Handler, threads: list[threading.Thread]) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = server.accept()
            thread = threading.Thread(target=_serve, args=(connection, handler))
            threads.append(thread)
            thread.start()


def _serve(connection: socket.socket, handler: Handler) -> None:
    with connection, contextlib.suppress(OSError):
        connection.settimeout(10)
        handler(connection)


def read_request(connection: socket.socket) -> bytes:
    """Read a whole request; its body is as long as it says."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _some(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = (
        int(line.split(b":")[1])
        for line in head.lower().split(b"\r\n")
        if line.startswith(b"content-length")
    )
    length = next(lengths, 0)
    while len(body) < length:
        body += _some(connection)
    return head + b"\r\n\r\n" + body


def reply(status: str = "200 OK", body: bytes = b"{}", headers: str = "") -> Handler:
    """Answer every request of a connection the same way."""

    def handler(connection: socket.socket) -> None:
        while True:
            read_request(connection)
            connection.sendall(
                f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n{headers}\r\n".encode() + body
            )

    return handler


def _some(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise ConnectionResetError
    return data
