"""From settings to a client of kafka-python: addresses, TLS, SASL, time limits.

Raises Misconfigured for settings that contradict each other or would send anything in the clear
beyond this machine; nothing is connected here except by :func:`opened`.
"""

from __future__ import annotations

import socket
import ssl
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, TypeVar

from kafka.errors import KafkaError
from kafka.net.compat import KafkaNetClient
from kafka.net.inet import KafkaNetSocket

from exchange.errors import Misconfigured
from exchange.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from exchange.settings import KafkaSettings

PREFIX = "exchange."
"""Topics, consumer groups and transactional ids begin with it: one prefix for the ACLs."""
METADATA_MS = 5_000
"""Longest time until a new topic, partition or leader is noticed by itself."""
IDLE_MS = 540_000
_RECEIVED_BYTES = 262_144
_NEWS_MS = 20
"""Between two questions for topics, partitions and leaders."""
_BACKOFF_MS, _LONGEST_BACKOFF_MS = 50, 1_000
IN_FLIGHT = 64
"""Requests of many threads share a connection; a full one refuses more."""

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


class _Secret(str):
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


def connection(
    settings: KafkaSettings, *, secret: Callable[[str], str], base: Path, worker: str
) -> dict[str, Any]:
    """Return what every client of the cluster is configured with.

    ``base``: folder that relative certificate paths count from.
    """
    _check(settings)
    milliseconds = int(settings.request_seconds * 1000)
    config: dict[str, Any] = {
        "bootstrap_servers": list(settings.bootstrap),
        "proxy_url": "direct://",
        "client_id": PREFIX + (worker or "node"),
        "request_timeout_ms": milliseconds,
        "bootstrap_timeout_ms": milliseconds,
        "connections_max_idle_ms": IDLE_MS,
        "metadata_max_age_ms": METADATA_MS,
        "reconnect_backoff_ms": _BACKOFF_MS,
        "reconnect_backoff_max_ms": _LONGEST_BACKOFF_MS,
        "retry_backoff_ms": _BACKOFF_MS,
        "security_protocol": ("SASL_" if settings.user else "")
        + ("SSL" if settings.tls else "PLAINTEXT"),
    }
    if settings.tls:
        config["ssl_context"] = _tls(settings, base)
    if settings.user and settings.password:
        config["sasl_mechanism"] = settings.mechanism
        config["sasl_plain_username"] = settings.user
        config["sasl_plain_password"] = _Secret(secret(settings.password))
    return config


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


def _check(settings: KafkaSettings) -> None:
    """Refuse settings that contradict each other."""
    if bool(settings.user) != bool(settings.password):
        raise _wrong(
            Text("log.kafka 的 user 与 password 必须同时给出", "log.kafka: user needs password"),
            Text("两个都填写,或都不填写", "give both user and password, or neither"),
        )
    if not settings.tls and (settings.ca or settings.certificate or settings.key):
        raise _wrong(
            Text("log.kafka 给出了证书但 tls 未开启", "log.kafka names certificates without tls"),
            Text("设置 tls: true,或去掉证书", "set tls: true, or take the certificates out"),
        )
    if bool(settings.certificate) != bool(settings.key):
        raise _wrong(
            Text(
                "log.kafka 的 certificate 与 key 必须同时给出",
                "log.kafka: certificate needs key",
            ),
            Text("两个都填写,或都不填写", "give both certificate and key, or neither"),
        )
    if settings.min_insync > settings.replication:
        raise _wrong(
            Text(
                f"min_insync {settings.min_insync} 大于 replication {settings.replication}",
                f"min_insync {settings.min_insync} exceeds replication {settings.replication}",
            ),
            Text("min_insync 不能超过副本数", "min_insync must not exceed replication"),
        )
    far = [address for address in settings.bootstrap if not _loopback(address)]
    if far and not settings.tls and not settings.insecure_plaintext:
        raise _wrong(
            Text(
                f"到 {', '.join(far)} 的连接没有加密",
                f"the connection to {', '.join(far)} would be in the clear",
            ),
            Text(
                "设置 tls: true;确需明文时设置 insecure_plaintext: true",
                "set tls: true, or insecure_plaintext: true when that is what you mean",
            ),
        )


def _loopback(address: str) -> bool:
    host = address.rpartition(":")[0]
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _tls(settings: KafkaSettings, base: Path) -> ssl.SSLContext:
    """Make the TLS context: the peer's name is always checked."""
    try:
        context = ssl.create_default_context(
            cafile=str(base / settings.ca) if settings.ca else None
        )
        if settings.certificate and settings.key:
            context.load_cert_chain(base / settings.certificate, base / settings.key)
    except OSError as error:  # a file is missing, or is no PEM
        raise _wrong(
            Text("读不了 log.kafka 的证书文件", "cannot use the certificate files of log.kafka"),
            Text(
                "核对 ca、certificate、key 的路径,内容须为 PEM 且互相匹配",
                "check the paths of ca, certificate and key: PEM files that belong together",
            ),
        ) from error
    return context


def _wrong(what: Text, hint: Text) -> Misconfigured:
    return Misconfigured(what, hint=hint)
