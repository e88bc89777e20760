"""Settings of a receiver, resolved: secrets and certificates are read already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from exchange.cascade.signing import Family
from exchange.errors import Misconfigured
from exchange.receiver.callers import Caller
from exchange.receiver.connections import ConnectionLimits
from exchange.seal.batch.container import MAX_FILE
from exchange.text import Text


@dataclass(frozen=True, slots=True)
class Tls:
    """Certificate and key of the server, PEM files."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverOptions:
    """What a receiver needs to know; secrets never show in a repr."""

    folder: Path
    """Where the received files are kept."""
    callers: Mapping[str, Caller] = field(repr=False)
    """Everybody who may call, by rid (请求者身份标识)."""
    sid: str
    """服务标识 of the batch interface; any other is denied."""
    province: str
    """Code or name that goes into receipts."""
    store: str = field(repr=False)
    """Address of the database of received batches; may hold a password."""
    host: str = "127.0.0.1"
    port: int = 8470
    """0 takes a free one and announces it."""
    share_port: bool = False
    """Several receivers may listen on the port: the kernel shares connections out among them."""
    tls: Tls | None = None
    path: str = "batch"
    witness: str = "witness"
    """Path of the service that signs callers' checkpoints along."""
    witness_name: str = "province"
    """Our name in those lines: printable ASCII without spaces and plus signs."""
    family: Family = "gjzwfwpt"
    window: timedelta = timedelta(minutes=10)
    """How far a caller's clock may be from ours."""
    ahead: timedelta = timedelta(minutes=1)
    """How far ahead of our clock a batch may have been sealed; a later one is too early (425)."""
    max_body: int = MAX_FILE
    """Bytes of the largest body that is read."""
    body_seconds: float = 120.0
    """A body that takes longer to arrive is given up."""
    workers: int = 1
    """Batches verified at the same time: one per core."""
    requests: int = 64
    """Requests of known callers at the same time; more are answered 503."""
    requests_per_caller: int = 16
    """Requests of one caller at the same time; more are answered 429."""
    limits: ConnectionLimits = field(default_factory=ConnectionLimits)
    """Limits of connections, whoever makes them."""

    def __post_init__(self) -> None:
        """Refuse settings under which nobody could deliver."""
        callers = self.callers.values()
        if not callers or not all(each.secret and each.trust.anchors for each in callers):
            raise Misconfigured(
                Text(
                    "接收端没有调用方，或有调用方没有密钥或信任根",
                    "the receiver has no callers, or one without a secret or without roots",
                ),
                hint=Text(
                    "请在 receiver.clients（rid、secret、roots）与 receiver.trust 中登记",
                    "name them in receiver.clients (rid, secret, roots) and receiver.trust",
                ),
            )
