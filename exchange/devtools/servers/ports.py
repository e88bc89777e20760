"""Ports of loopback for servers of our own: taken, never assumed."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from exchange.errors import Transient
from exchange.text import Text

PORTS = range(20000, 32000)
"""Below those that the kernel gives to connections by itself."""


@contextmanager
def taken_port(count: int = 1) -> Iterator[int]:
    """Take a port of loopback, or the first of some neighbours: nobody listens on them.

    Until the end nobody else who asks here gets them; what tells others is a name that ends with
    this process. They lie below those that the kernel gives to connections, so that a server that
    is down keeps its own. Raises Transient when none is left.
    """
    for number in random.sample(PORTS, len(PORTS)):
        with ExitStack() as marks:
            if all(_take(marks, number + place) for place in range(count)):
                yield number
                return
    raise Transient(
        Text("没有空闲端口", "no port is free"),
        hint=Text("请稍后再试", "try again later"),
    )


def _take(marks: ExitStack, port: int) -> bool:
    mark = marks.enter_context(socket.socket(socket.AF_UNIX))
    try:
        mark.bind(f"\0gov-exchange/port/{port}")
    except OSError:
        return False
    return is_free(port)


def free_port() -> int:
    """Return a port of loopback that nobody listens on; whoever asks next may get it too."""
    with taken_port() as port:
        return port


def is_free(port: int) -> bool:
    """Tell whether nobody listens on a port of loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
