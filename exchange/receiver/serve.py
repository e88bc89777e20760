"""Run a receiver with uvicorn: on a socket of our own, so that port 0 tells its number."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import threading
from collections.abc import Callable, Generator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from sqlalchemy import make_url

from exchange.durable import remove_parts
from exchange.errors import Integrity, Misconfigured, Transient
from exchange.foreign import os_reason
from exchange.receiver.app import create_app
from exchange.receiver.connections import (
    MAX_HEAD,
    ConnectionLimits,
    Connections,
    LimitedConnection,
)
from exchange.receiver.mark import check_mark, write_mark
from exchange.receiver.memory import keep_freed_memory
from exchange.receiver.options import ReceiverOptions, Tls
from exchange.seal.eseal.signature import Sealer
from exchange.store.database import open_store
from exchange.text import Text

_LIMITS = ConnectionLimits()
_GRACE_SECONDS = 30
_STOPPING = (signal.SIGINT, signal.SIGTERM)


def run_receiver(
    settings: ReceiverOptions,
    *,
    sealer: Sealer,
    clock: Callable[[], datetime],
    entropy: Callable[[int], bytes],
    announce: Callable[[str], None],
) -> None:
    """Open the store, tidy up after a crash and serve until a signal; see :func:`serve`."""
    keep_freed_memory()
    check_database(settings.store, settings.folder)
    with contextlib.closing(open_store(settings.store, clock=clock, migrate=True)) as store:
        check_mark(store, settings.folder)
        remove_parts(settings.folder)
        write_mark(store, settings.folder, entropy)
        app = create_app(settings, store=store, sealer=sealer, clock=clock, entropy=entropy)
        serve(
            app,
            host=settings.host,
            port=settings.port,
            limits=settings.limits,
            announce=announce,
            tls=settings.tls,
            share_port=settings.share_port,
        )
        write_mark(store, settings.folder, entropy)


def check_database(address: str, folder: Path) -> None:
    """Raise Integrity where batches were received and the database's file is gone or empty.

    Whoever delivers such a batch once more would get a second, other receipt. A file without a
    row in a database that is there is no sign: a kill between the two leaves it.
    """
    url = make_url(address)
    file = Path(url.database or "")
    there = file.is_file() and file.stat().st_size > 0  # a disk that was full leaves an empty one
    gone = url.get_backend_name() == "sqlite" and not there
    if not gone or next(folder.rglob("*.avro"), None) is None:
        return
    raise Integrity(
        Text(
            f"接收端的数据库丢失：{folder} 中有收到的批次，而数据库文件不存在",
            f"the receiver's database was lost: there are batches in {folder}, and no database",
        ),
        hint=Text(
            "从备份恢复数据库；没有备份时移走这些文件再启动，重复投递的批次会得到新的回执，请通知各节点",
            "restore the database from a backup; without one move the files away and start: a"
            " batch that is delivered again gets a new receipt, which its node has to know",
        ),
    )


def serve(
    app: Any,
    *,
    host: str,
    port: int,
    announce: Callable[[str], None],
    tls: Tls | None = None,
    limits: ConnectionLimits = _LIMITS,
    share_port: bool = False,
) -> None:
    """Serve until SIGINT or SIGTERM, then finish what is under way.

    ``announce`` gets one JSON line with the address as soon as it can be called. Raises
    Transient when the port is taken, Misconfigured for an unusable certificate.
    """
    with _listen(host, port, shared=share_port) as listener:
        server = _server(app, limits, tls)
        announce(json.dumps({"url": _url(host, listener, tls)}))
        server.run(sockets=[listener])


class _Loop(asyncio.SelectorEventLoop):
    """Gives a TLS handshake as long as the head of a request; else it may take a minute."""

    def __init__(self, handshake_seconds: float) -> None:
        super().__init__()
        self._handshake_seconds = handshake_seconds

    async def create_server(self, *args: Any, **options: Any) -> asyncio.Server:
        if options.get("ssl") is not None:
            options["ssl_handshake_timeout"] = self._handshake_seconds
        return await super().create_server(*args, **options)


class _ReceiverServer(uvicorn.Server):
    """Stops on a signal and returns: uvicorn would raise the signal again and end the process."""

    def __init__(self, config: uvicorn.Config, limits: ConnectionLimits) -> None:
        super().__init__(config)
        self._limits = limits

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        with asyncio.Runner(loop_factory=partial(_Loop, self._limits.head_seconds)) as runner:
            runner.run(self.serve(sockets=sockets))

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {each: signal.signal(each, self.handle_exit) for each in _STOPPING}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)


def _listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=128, reuse_port=shared)
    except OSError as error:
        raise Transient(
            Text(
                f"无法监听 {host}:{port}：{os_reason(error).zh}", f"cannot listen on {host}:{port}"
            ),
            hint=Text(
                "端口可能已被占用，请更换 receiver.port 或停止占用它的程序",
                "the port may be taken: change receiver.port, or stop whoever uses it",
            ),
        ) from error
    # An answer is two small writes, head and body; without this the second one waits 40 ms for
    # the first one to be acknowledged. asyncio sets it only on sockets of its own making.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _server(app: Any, limits: ConnectionLimits, tls: Tls | None) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        loop="asyncio",
        # uvicorn says a class, and calls it like this.
        http=partial(LimitedConnection, connections=Connections(limits)),  # type: ignore[arg-type]
        h11_max_incomplete_event_size=MAX_HEAD,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=int(limits.idle_seconds) + 1,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        ssl_certfile=tls.certificate if tls else None,
        ssl_keyfile=tls.key if tls else None,
    )
    try:
        config.load()
    except OSError as error:
        raise Misconfigured(
            Text(
                f"无法使用接收端的 TLS 证书：{os_reason(error).zh}",
                f"cannot use the TLS certificate: {os_reason(error).en}",
            ),
            hint=Text(
                "请检查 receiver.certificate 与 receiver.key",
                "check receiver.certificate and receiver.key",
            ),
        ) from error
    return _ReceiverServer(config, limits)


def _url(host: str, listener: socket.socket, tls: Tls | None) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{name}:{listener.getsockname()[1]}"
