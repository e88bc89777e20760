"""A way to a server that can go silent: bytes stay on it, connections stay open.

To whoever connects it looks like a network that drops everything; when it is mended, what was
under way arrives, late. It needs no rights and works wherever sockets do.
"""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from select import select
from typing import TYPE_CHECKING

from tests.receiver.faults import answering_twice
from tests.support.sockets import listening

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOOK_SECONDS = 0.05


class Relay:
    """Serves connections of :func:`tests.support.sockets.listening`."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self.silent = threading.Event()
        self.twice = False
        """For HTTP: every answer comes twice."""
        self.closing = False

    def __call__(self, connection: socket.socket) -> None:
        if self.twice:
            answering_twice("http://{}:{}".format(*self._target))(connection)
            return
        with socket.create_connection(self._target, timeout=10) as inner:
            other = {connection: inner, inner: connection}
            while not self.closing:
                ready, _, _ = select(other, [], [], _LOOK_SECONDS)
                while self.silent.is_set() and not self.closing:
                    threading.Event().wait(_LOOK_SECONDS)
                for item in ready:
                    data = item.recv(1 << 16)
                    if not data:
                        return
                    other[item].sendall(data)


@contextmanager
def relaying(relay: Relay) -> Iterator[int]:
    """Listen for a relay; yields the port."""
    with listening(relay) as address:
        try:
            yield int(address.rpartition(":")[2])
        finally:
            relay.closing = True
