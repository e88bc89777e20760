"""From settings to a client of kafka-python: addresses, TLS, SASL, time limits.

Raises Misconfigured for settings that contradict each other or would send anything in the clear
beyond this machine; nothing is connected here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exchange.errors import Misconfigured
from exchange.kafka_client import PROXY, HiddenPassword, is_loopback, tls_context
from exchange.text import Text

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

    from exchange.settings import KafkaSettings

PREFIX = "exchange."
"""Topics, consumer groups and transactional ids begin with it: one prefix for the ACLs."""
METADATA_MS = 5_000
"""Longest time until a new topic, partition or leader is noticed by itself."""
IDLE_MS = 540_000
_BACKOFF_MS, _LONGEST_BACKOFF_MS = 50, 1_000
IN_FLIGHT = 64
"""Requests of many threads share a connection; a full one refuses more."""


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
        "proxy_url": PROXY,
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
        config["sasl_plain_password"] = HiddenPassword(secret(settings.password))
    return config


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
    far = [address for address in settings.bootstrap if not is_loopback(address)]
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


def _tls(settings: KafkaSettings, base: Path) -> ssl.SSLContext:
    """Make the TLS context: the peer's name is always checked."""
    try:
        return tls_context(
            base / settings.ca if settings.ca else None,
            base / settings.certificate if settings.certificate else None,
            base / settings.key if settings.key else None,
        )
    except OSError as error:  # a file is missing, or is no PEM
        raise _wrong(
            Text("读不了 log.kafka 的证书文件", "cannot use the certificate files of log.kafka"),
            Text(
                "核对 ca、certificate、key 的路径,内容须为 PEM 且互相匹配",
                "check the paths of ca, certificate and key: PEM files that belong together",
            ),
        ) from error


def _wrong(what: Text, hint: Text) -> Misconfigured:
    return Misconfigured(what, hint=hint)
