"""A province on loopback: the real receiver, a real server, a real client."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from exchange.cascade.delivery import Outcome
from exchange.cascade.profiles import OutgoingBatch, Target, attempt, profile
from exchange.cascade.signing import Credentials
from exchange.http.transport import Transport
from exchange.receiver.app import create_app
from exchange.receiver.callers import Caller, Scope
from exchange.receiver.options import ReceiverOptions
from exchange.seal.pki.trust import Trust
from exchange.settings import Timeouts
from exchange.store.database import Store, open_store
from tests.receipt.seals import NOW, Party, make_party
from tests.support.receivers import background
from tests.support.stored import make_store

PREFECTURE = make_party("prefecture")
PROVINCE = make_party("province")
SECRET = "secret-x"
CREDENTIALS = Credentials("rid-dxal", "sid-batch", SECRET)


PATIENT = Timeouts(connect=2, read=20, total=30)


@dataclass
class Clock:
    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Province:
    """A receiver that is not listening yet."""

    settings: ReceiverOptions
    store: Store
    clock: Clock = field(default_factory=Clock)
    party: Party = PROVINCE

    @property
    def app(self) -> FastAPI:
        return create_app(
            self.settings,
            store=self.store,
            sealer=self.party.sealer,
            clock=self.clock,
            entropy=os.urandom,
        )

    @property
    def files(self) -> list[Path]:
        return sorted(path for path in self.settings.folder.rglob("*") if path.is_file())


ANY = Scope(departments="any", resources="any", seals="any", origins="any")
TRUST = Trust((PREFECTURE.root,))


def make_caller(rid: str, trust: Trust = TRUST, *, secret: str = SECRET, **scope: Any) -> Caller:
    return Caller(rid=rid, secret=secret, trust=trust, scope=replace(ANY, **scope))


def make_settings(
    folder: Path, store: str, *, trust: Trust = TRUST, **changes: Any
) -> ReceiverOptions:
    values: dict[str, Any] = {
        "folder": folder / "received",
        "callers": {CREDENTIALS.rid: make_caller(CREDENTIALS.rid, trust)},
        "sid": CREDENTIALS.sid,
        "province": "23",
        "store": store,
        "port": 0,
        "workers": 2,
    }
    return ReceiverOptions(**values | changes)


@contextlib.contextmanager
def province(folder: Path, url: str | None = None, **changes: Any) -> Iterator[Province]:
    clock = Clock()
    path = folder / "province.db"
    if url is None and not path.exists():
        make_store(path)
    settings = make_settings(folder, url or f"sqlite:///{path}", **changes)
    with contextlib.closing(open_store(settings.store, clock=clock, migrate=True)) as store:
        yield Province(settings, store, clock)


@dataclass
class Node:
    """The cascade's side: attempts deliveries at one endpoint."""

    endpoint: str
    credentials: Credentials = CREDENTIALS
    now: datetime = NOW
    timeouts: Timeouts = PATIENT

    def attempt(self, batch: OutgoingBatch) -> Outcome:
        transport = Transport(self.endpoint, monotonic=time.monotonic, timeouts=self.timeouts)
        with contextlib.closing(transport):
            return attempt(
                batch,
                Target(self.endpoint, self.credentials),
                profile=profile("national"),
                post=transport.post,
                now=lambda: self.now,
            )


@contextlib.contextmanager
def node(app: Any, **options: Any) -> Iterator[Node]:
    with background(app, **options) as endpoint:
        yield Node(endpoint)
