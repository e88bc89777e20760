"""Who is let in: the signature of a request, how many at a time, how much of a body is read."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime

from starlette.requests import ClientDisconnect, Request

from exchange.cascade.signing import BODY_SIGN_HEADER, Claim, body_sign
from exchange.receiver.callers import Caller
from exchange.receiver.connections import CONNECTION, LimitedConnection
from exchange.receiver.options import ReceiverOptions
from exchange.receiver.reception import Reply

_DRAIN, _DRAIN_SECONDS = 1 << 20, 5.0
"""Bytes and seconds of a refused body that are read, and dropped, so that a refusal arrives: a
server that closes on unread data resets the connection, and the caller never sees why."""


class NotAdmitted(Exception):
    """A request that is not let in; ``unread``: some of its body may still come."""

    def __init__(self, reply: Reply, *, unread: bool = True) -> None:
        super().__init__(reply.message)
        self.reply = reply
        self.unread = unread


@dataclass
class Callers:
    """The known callers and their requests under way; used in the server's event loop only."""

    settings: ReceiverOptions
    clock: Callable[[], datetime]
    at_work: Counter[str] = field(default_factory=Counter)

    @contextlib.asynccontextmanager
    async def admit(self, request: Request) -> AsyncIterator[Caller]:
        """Let a known caller in for one request; raises NotAdmitted."""
        settings, claim = self.settings, Claim.of(request.headers, self.settings.family)
        caller = authenticate(claim, settings=settings, now=self.clock())
        if isinstance(caller, Reply):
            raise NotAdmitted(caller)
        connection = request.scope.get(CONNECTION)
        if isinstance(connection, LimitedConnection):
            connection.known = True
        if self.at_work[caller.rid] >= settings.requests_per_caller:
            raise NotAdmitted(Reply(429, "同时请求过多，请稍后重试", retry_after=1))
        if self.at_work.total() >= settings.requests:
            raise NotAdmitted(Reply(503, "接收端繁忙，请稍后重试", retry_after=1))
        self.at_work[caller.rid] += 1
        try:
            yield caller
        finally:
            self.at_work[caller.rid] -= 1

    async def body(self, request: Request, caller: Caller, limit: int) -> bytes:
        """Read a body of up to ``limit`` bytes within its time; raises NotAdmitted."""
        try:
            async with asyncio.timeout(self.settings.body_seconds):
                body = await _read(request, limit)
        except TimeoutError:
            raise NotAdmitted(Reply(408, "请求体接收超时"), unread=False) from None
        except ClientDisconnect:
            raise NotAdmitted(Reply(400, "连接中断"), unread=False) from None
        signature = request.headers.get(BODY_SIGN_HEADER, "")
        if signature or caller.signs_body:
            claim = Claim.of(request.headers, self.settings.family)
            ours = body_sign(caller.secret, claim.sign, body)
            if not secrets.compare_digest(ours.encode(), signature.encode(errors="replace")):
                raise NotAdmitted(Reply(401, "请求体签名不正确"), unread=False)
        return body


def authenticate(claim: Claim, *, settings: ReceiverOptions, now: datetime) -> Caller | Reply:
    """Return a known caller, else why not.

    An unknown caller and a wrong signature are answered alike and cost the same work.
    """
    caller = settings.callers.get(claim.rid)
    holds = claim.holds(caller.secret if caller is not None else secrets.token_hex())
    if caller is None or not holds:
        return Reply(401, "请求者身份或签名不正确")
    if not claim.is_recent(now, settings.window):
        return Reply(401, "请求时间超出允许范围，请校准系统时间")
    if claim.sid != settings.sid:
        return Reply(403, "无权调用该服务")
    return caller


async def _read(request: Request, limit: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > limit:
            raise NotAdmitted(Reply(413, f"请求体超过 {limit} 字节"))
        pieces.append(piece)
    return b"".join(pieces)


async def drain(request: Request) -> None:
    """Read a little of what nobody wants, and drop it; the connection is closed afterwards."""
    if "expect" in request.headers:  # the caller has sent no body, and waits for leave to do so
        return
    size = 0
    with contextlib.suppress(TimeoutError, ClientDisconnect, RuntimeError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for piece in request.stream():
                size += len(piece)
                if size > _DRAIN:
                    return
