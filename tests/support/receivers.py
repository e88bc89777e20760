"""A receiver that serves from a thread of the test's own process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from exchange.receiver.connections import ConnectionLimits
from exchange.receiver.options import Tls
from exchange.receiver.serve import _LIMITS, _listen, _server, _url


@contextlib.contextmanager
def background(
    app: Any,
    *,
    host: str = "127.0.0.1",
    tls: Tls | None = None,
    limits: ConnectionLimits = _LIMITS,
) -> Iterator[str]:
    """Serve from a thread of this process for as long as the block lasts; yields the address."""
    with _listen(host, 0) as listener:
        server = _server(app, limits, tls)
        thread = threading.Thread(target=server.run, args=([listener],), name="receiver")
        thread.start()
        while not server.started and thread.is_alive():
            thread.join(0.005)
        try:
            yield _url(host, listener, tls)
        finally:
            server.should_exit = True
            thread.join()
