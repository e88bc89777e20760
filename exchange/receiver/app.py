"""The receiver as a web application: who may call, how much is read, what is answered."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from exchange.cascade.profiles import BATCH_HEADER, DEPARTMENT_HEADER, RESOURCE_HEADER
from exchange.cascade.witness import MAX_BODY
from exchange.receiver.admission import Callers, NotAdmitted, drain
from exchange.receiver.mark import write_mark
from exchange.receiver.openapi import openapi
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
        ahead=settings.ahead,
        store=store,
        sealer=sealer,
        clock=clock,
        entropy=entropy,
        failpoint=failpoint,
    )
    witness = Witness(
        name=settings.witness_name,
        store=store,
        sealer=sealer,
        clock=clock,
        rise=partial(write_mark, store, settings.folder, entropy),
    )
    limiter = CapacityLimiter(settings.workers)
    app = FastAPI(title="exchange receiver", openapi_url=None, docs_url=None, redoc_url=None)

    @app.get("/healthz")
    async def health() -> JSONResponse:
        return _json(Reply(200, "正常"))

    callers = Callers(settings, clock)

    @app.post(f"/sysapi/{settings.witness}")
    async def checkpoint(request: Request) -> JSONResponse:
        async with callers.admit(request) as caller:
            body = await callers.body(request, caller, MAX_BODY)
            return _json(await run_sync(lambda: witness.take(body, caller=caller)))

    @app.get(f"/sysapi/{settings.witness}")
    async def witnessed(request: Request) -> JSONResponse:
        async with callers.admit(request) as caller:
            origin = request.query_params.get("origin", "")
            return _json(await run_sync(lambda: witness.seen(origin, caller=caller)))

    @app.get("/sysapi/openapi")
    async def described(request: Request) -> JSONResponse:
        async with callers.admit(request):
            return JSONResponse(openapi(settings))

    @app.post(f"/sysapi/{settings.path}")
    async def batch(request: Request) -> JSONResponse:
        async with callers.admit(request) as caller:
            body = await callers.body(request, caller, settings.max_body)
            claimed = {
                name: request.headers[header]
                for name, header in _CLAIMS.items()
                if header in request.headers
            }
            reply = await run_sync(
                lambda: reception.take(body, caller=caller, claimed=claimed),
                limiter=limiter,
            )
            return _json(reply)

    @app.exception_handler(NotAdmitted)
    async def not_taken(request: Request, error: NotAdmitted) -> JSONResponse:
        if error.unread:
            await drain(request)
        return _json(error.reply, close=True)

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        answer = _json(Reply(error.status_code, _TITLES.get(error.status_code, "请求无效")))
        answer.headers.update(error.headers or {})  # 405 says what is allowed (RFC 9110 §15.5.6)
        return answer

    @app.exception_handler(Exception)
    async def failed(_: Request, __: Exception) -> JSONResponse:
        return _json(Reply(500, "接收端内部错误"))

    return app


def _json(reply: Reply, *, close: bool = False) -> JSONResponse:
    headers = {"cache-control": "no-store"}
    if reply.retry_after is not None:
        headers["retry-after"] = str(reply.retry_after)
    if close:
        headers["connection"] = "close"
    return JSONResponse(reply.envelope, reply.status, headers)
