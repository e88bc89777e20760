"""Connections with limits: silent, trickling and idle ones end, and never keep a caller out.

A connection is *waiting* until the head of a request is complete, and again between requests.
So is one whose peer does not take its answers.
Waiting has a time limit. When there are too many connections, of all or of one address, the one
that has waited longest gives way: strangers before callers that have shown who they are.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTION: Final = "exchange.connection"
"""Key of the connection in the scope of a request."""
MAX_HEAD: Final = 16 * 1024
"""Bytes of the head of a request."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How long and how many; the times in seconds."""

    head_seconds: float = 10.0
    """From the connection, or a request's first byte, until its head is complete."""
    idle_seconds: float = 75.0
    """Between two requests: longer than the pauses between a node's batches."""
    total: int = 512
    per_address: int = 256


@dataclass
class Connections:
    """The open connections of a server; used in its event loop only."""

    limits: ConnectionLimits
    open: dict[LimitedConnection, None] = field(default_factory=dict)
    """In the order in which they began to wait, oldest first; those at work included."""
    by_address: Counter[str] = field(default_factory=Counter)

    def enter(self, new: LimitedConnection) -> None:
        """Take a connection in; another one gives way where there are too many, else it does."""
        self.open[new] = None
        self.by_address[new.address] += 1
        if self.by_address[new.address] > self.limits.per_address:
            self._evict(new, new.address)
        elif len(self.open) > self.limits.total:
            self._evict(new, None)

    def leave(self, connection: LimitedConnection) -> None:
        """Forget a connection."""
        if connection in self.open:
            del self.open[connection]
            self.by_address[connection.address] -= 1
            if not self.by_address[connection.address]:
                del self.by_address[connection.address]

    def wait(self, connection: LimitedConnection) -> None:
        """Note that a connection begins to wait."""
        if connection in self.open:
            del self.open[connection]
            self.open[connection] = None

    def _evict(self, new: LimitedConnection, address: str | None) -> None:
        others = [
            each
            for each in self.open
            if each is not new and each.waiting and address in {None, each.address}
        ]
        strangers = [each for each in others if not each.known]
        (strangers or others or [new])[0].abort()


class LimitedConnection(H11Protocol):
    """A connection of uvicorn's with the limits of ``connections``."""

    def __init__(self, *args: Any, connections: Connections, **options: Any) -> None:
        super().__init__(*args, **options)
        self._connections = connections
        self._timer: asyncio.TimerHandle | None = None
        self._serve, self.app = self.app, self._begin
        self.waiting = True
        self.known = False
        """Whether a known caller has shown a right signature here."""
        self.address = ""
        self._idle = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the head of a request."""
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        self._arm(self._connections.limits.head_seconds)
        self._connections.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._disarm()
        self._connections.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Give the head of the next request its time from its first byte."""
        if self._idle:
            self._idle = False
            self._arm(self._connections.limits.head_seconds)
        super().data_received(data)

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the peer to take what was answered."""
        limits = self._connections.limits
        if self.conn.their_state is h11.SEND_BODY:
            self.transport.close()  # nobody reads the rest of this body
        closing = self.transport.is_closing()
        self.waiting = True
        self._idle = not closing
        self._arm(limits.head_seconds if closing else limits.idle_seconds)
        self._connections.wait(self)
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Wait for a peer that does not take its answers."""
        super().pause_writing()
        self.waiting = True
        self._arm(self._connections.limits.head_seconds)

    def resume_writing(self) -> None:
        """Go on; between two requests its time runs on."""
        super().resume_writing()
        if self.cycle is not None and not self.cycle.response_complete:
            self.waiting = False
            self._disarm()

    def abort(self) -> None:
        """End the connection at once."""
        self._disarm()
        self._connections.leave(self)
        self.transport.abort()

    async def _begin(self, scope: Any, receive: Any, send: Any) -> None:
        self.waiting = self.flow.write_paused
        self._idle = False
        self._disarm()
        if self.waiting:  # answers before this one were not taken yet
            self._arm(self._connections.limits.head_seconds)
        scope[CONNECTION] = self
        await self._serve(scope, receive, send)

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._timer = self.loop.call_later(seconds, self.abort)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
