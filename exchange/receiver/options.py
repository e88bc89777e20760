"""Settings of a receiver, resolved: secrets and certificates are read already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from exchange.cascade.signing import Family
from exchange.errors import Misconfigured
from exchange.seal.batch.container import MAX_FILE
from exchange.seal.pki.trust import Trust
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
    clients: Mapping[str, str] = field(repr=False)
    """Secret by rid (请求者身份标识) of everybody who may call."""
    sid: str
    """服务标识 of the batch interface; any other is denied."""
    trust: Trust = field(repr=False)
    """Trust in the prefectures' seals and evidence logs."""
    province: str
    """Code or name that goes into receipts."""
    store: str = field(repr=False)
    """Address of the database of received batches; may hold a password."""
    host: str = "127.0.0.1"
    port: int = 8470
    """0 takes a free one and announces it."""
    tls: Tls | None = None
    path: str = "batch"
    witness: str = "witness"
    """Path of the service that signs callers' checkpoints along."""
    witness_name: str = "province"
    """Our name in those lines: printable ASCII without spaces and plus signs."""
    family: Family = "gjzwfwpt"
    window: timedelta = timedelta(minutes=10)
    """How far a caller's clock may be from ours."""
    max_body: int = MAX_FILE
    """Bytes of the largest body that is read."""
    body_seconds: float = 120.0
    """A body that takes longer to arrive is given up."""
    workers: int = 1
    """Batches verified at the same time: one per core."""
    connections: int = 64
    """Connections at the same time; more are answered 503."""

    def __post_init__(self) -> None:
        """Refuse settings under which nobody could deliver."""
        if not (self.clients and self.trust.anchors and all(self.clients.values())):
            raise Misconfigured(
                Text(
                    "接收端没有可用的调用方或信任根",
                    "the receiver has no callers or no trust roots",
                ),
                hint=Text(
                    "请在 receiver.clients 与 receiver.trust 中登记",
                    "name them in receiver.clients and receiver.trust",
                ),
            )
