"""Clients of kafka-python that leave nothing behind, for the log and for connectors.

Sockets are read in large pieces and closed when nobody answers; passwords show in no repr. The
library's errors are turned into ours by those who use it.
"""

from __future__ import annotations

import socket
import ssl
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, TypeVar

from kafka.errors import KafkaError
from kafka.net.compat import KafkaNetClient
from kafka.net.inet import KafkaNetSocket

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PROXY = "direct://"
"""What the option ``proxy_url`` says, so that sockets are ours."""
_RECEIVED_BYTES = 262_144
_NEWS_MS = 20
"""Between two questions for topics, partitions and leaders."""

Client = TypeVar("Client")


class _Socket(socket.socket):
    """A socket that is read in large pieces: the library's are 4 KiB, each with a lock to take."""

    def recv(self, _size: int, flags: int = 0, /) -> bytes:
        """Read what has come."""
        return super().recv(_RECEIVED_BYTES, flags)

    def __repr__(self) -> str:
        """Name it: the library does so at each wait, and addresses cost two calls."""
        return f"<socket {self.fileno()}>"


class _Direct(KafkaNetSocket):  # type: ignore[misc]  # the library has no types
    """Sockets of ours, closed when nobody answers: the library leaves that to the collector.

    Its way to be told so is the address of a proxy, of which this is none.
    """

    SCHEMES = ("direct",)

    def socket(self, family: int = 0, sock_type: int = 0, proto: int = 0) -> _Socket:
        """Make one."""
        return _Socket(family, sock_type, proto)

    async def sock_connect(self, net: Any, sock: Any, *place: Any, **limit: Any) -> Any:
        """Connect, or close."""
        try:
            return await super().sock_connect(net, sock, *place, **limit)
        except BaseException:
            sock.close()
            raise


class HiddenPassword(str):
    """A password that no repr shows: kafka-python logs its whole configuration at DEBUG."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class _Client(KafkaNetClient):  # type: ignore[misc]  # the library has no types
    """The library's client, except for two things.

    Who asks for news of topics gets them soon: the library waits 100 ms since the last ones,
    whatever its settings say, and each new producer and member of a group has to ask.

    A broker that does not answer is not ready, and no error: the thread that writes forgets a
    request of a transaction when it meets an error here, and waits for its answer until the
    transaction is out of time: kafka-python 3.0.12, ``Sender._maybe_send_pending_request``.
    """

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.cluster.config["retry_backoff_ms"] = _NEWS_MS

    def await_ready(self, node_id: Any, timeout_ms: float = 30_000) -> bool:
        try:
            return bool(super().await_ready(node_id, timeout_ms))
        except KafkaError:
            return False


def opened(kind: Callable[..., Client], **config: Any) -> Client:
    """Make a client, and leave neither thread nor socket behind when it cannot be made."""
    made: list[_Client] = []

    def make(**parts: Any) -> _Client:
        made.append(_Client(**parts))
        return made[-1]

    try:
        return kind(kafka_client=make, **config)
    except BaseException:
        for client in made:
            client.close()
        raise


def is_loopback(address: str) -> bool:
    """Tell whether ``host:port`` is on this machine."""
    host = address.rpartition(":")[0]
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def tls_context(ca: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """Make the TLS context: the peer's name is always checked. Raises OSError for no PEM files."""
    context = ssl.create_default_context(cafile=str(ca) if ca else None)
    if certificate and key:
        context.load_cert_chain(certificate, key)
    return context
