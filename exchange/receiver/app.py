"""The receiver as a web application: who may call, how much is read, what is answered."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from datetime import datetime

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from exchange.cascade.profiles import BATCH_HEADER, DEPARTMENT_HEADER, RESOURCE_HEADER
from exchange.cascade.signing import Claim
from exchange.cascade.witness import MAX_BODY
from exchange.receiver.options import ReceiverOptions
from exchange.receiver.reception import Reception, Reply
from exchange.receiver.witnessing import Witness
from exchange.seal.eseal.signature import Sealer
from exchange.store.database import Store

_CLAIMS = {
    "batch_no": BATCH_HEADER,
    "resource": RESOURCE_HEADER,
    "department": DEPARTMENT_HEADER,
}
_DRAIN = 4
"""How many times the largest body is still read, and dropped, so that a refusal arrives."""

_TITLES = {404: "没有这个服务", 405: "该服务只接受 POST 请求"}


def create_app(
    settings: ReceiverOptions,
    *,
    store: Store,
    sealer: Sealer,
    clock: Callable[[], datetime],
    entropy: Callable[[int], bytes],
    failpoint: Callable[[str], None] = lambda _name: None,
) -> FastAPI:
    """Build the application; nothing is opened or written before the first request."""
    reception = Reception(
        folder=settings.folder,
        province=settings.province,
        trust=settings.trust,
        store=store,
        sealer=sealer,
        clock=clock,
        entropy=entropy,
        failpoint=failpoint,
    )
    witness = Witness(
        name=settings.witness_name,
        trust=settings.trust,
        store=store,
        sealer=sealer,
        clock=clock,
    )
    limiter = CapacityLimiter(settings.workers)
    app = FastAPI(title="exchange receiver", openapi_url=None, docs_url=None, redoc_url=None)

    @app.get("/healthz")
    async def health() -> JSONResponse:
        return _json(Reply(200, "正常"))

    @app.post(f"/sysapi/{settings.witness}")
    async def checkpoint(request: Request) -> JSONResponse:
        body = await _body(request, settings, clock, MAX_BODY)
        if isinstance(body, JSONResponse):
            return body
        return _json(await run_sync(lambda: witness.take(body, rid=_rid(request, settings))))

    @app.post(f"/sysapi/{settings.path}")
    async def batch(request: Request) -> JSONResponse:
        body = await _body(request, settings, clock, settings.max_body)
        if isinstance(body, JSONResponse):
            return body
        claimed = {
            name: request.headers[header]
            for name, header in _CLAIMS.items()
            if header in request.headers
        }
        reply = await run_sync(
            lambda: reception.take(body, rid=_rid(request, settings), claimed=claimed),
            limiter=limiter,
        )
        return _json(reply)

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        return _json(Reply(error.status_code, _TITLES.get(error.status_code, "请求无效")))

    @app.exception_handler(Exception)
    async def failed(_: Request, __: Exception) -> JSONResponse:
        return _json(Reply(500, "接收端内部错误"))

    return app


async def _body(
    request: Request, settings: ReceiverOptions, clock: Callable[[], datetime], limit: int
) -> bytes | JSONResponse:
    """Return the body of a known caller, or the answer to anybody else."""
    denied = authenticate(
        Claim.of(request.headers, settings.family), settings=settings, now=clock()
    )
    try:
        async with asyncio.timeout(settings.body_seconds):
            body = await _read(request, limit, keep=denied is None)
    except TimeoutError:
        return _json(Reply(408, "请求体接收超时"), close=True)
    except ClientDisconnect:
        return _json(Reply(400, "连接中断"), close=True)
    if denied is not None:
        return _json(denied)
    if body is None:
        return _json(Reply(413, f"请求体超过 {limit} 字节"), close=True)
    return body


def _rid(request: Request, settings: ReceiverOptions) -> str:
    return request.headers[f"{settings.family}_rid"]


def authenticate(claim: Claim, *, settings: ReceiverOptions, now: datetime) -> Reply | None:
    """Return None for a known caller, else why not.

    An unknown caller and a wrong signature are answered alike and cost the same work.
    """
    known = claim.rid in settings.clients
    secret = settings.clients[claim.rid] if known else secrets.token_hex()
    if not (claim.holds(secret) and known):
        return Reply(401, "请求者身份或签名不正确")
    if not claim.is_recent(now, settings.window):
        return Reply(401, "请求时间超出允许范围，请校准系统时间")
    if claim.sid != settings.sid:
        return Reply(403, "无权调用该服务")
    return None


async def _read(request: Request, limit: int, *, keep: bool) -> bytes | None:
    """Read the body; None when it is longer than ``limit`` or not wanted.

    What is not wanted is read and dropped within bounds: a server that closes on unread data
    resets the connection, and the caller never sees why it was refused.
    """
    pieces: list[bytes] = []
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if keep and size <= limit:
            pieces.append(piece)
        elif size > limit * _DRAIN:
            return None
        else:
            pieces.clear()
    return b"".join(pieces) if keep and size <= limit else None


def _json(reply: Reply, *, close: bool = False) -> JSONResponse:
    headers = {"cache-control": "no-store"}
    if reply.retry_after is not None:
        headers["retry-after"] = str(reply.retry_after)
    if close:
        headers["connection"] = "close"
    return JSONResponse(reply.envelope, reply.status, headers)
