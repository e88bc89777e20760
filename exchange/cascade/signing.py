"""Request signing of the national platforms: one algorithm, two header families.

``sign = Base64(HMAC-SHA256(secret as UTF-8, sid + rid + rtime))``: the prose of the
specifications lists rid first, the deployed code joins sid first, and so do we.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from exchange.http.signing import rtime, sign

__all__ = [
    "BODY_SIGN_HEADER",
    "Claim",
    "Credentials",
    "Family",
    "body_sign",
    "rtime",
    "sign",
    "signed_headers",
]

Family = Literal["gjzwfwpt", "gjgxjhpt"]
"""Prefix of the four headers: 国家政务服务平台 or 国家数据共享交换平台."""

BODY_SIGN_HEADER = "exchange-body-sign"
"""Base64(HMAC-SHA256(secret, sign LF hex SHA-256 of the body)): ours, where both sides have it."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the province issues to a caller; the secret never shows in a repr."""

    rid: str
    """请求者身份标识: who calls."""
    sid: str
    """服务标识: which interface is called."""
    secret: str = field(repr=False)
    family: Family = "gjzwfwpt"


def body_sign(secret: str, signature: str, body: bytes) -> str:
    """Sign a body together with the request's own signature.

    The national scheme covers neither body nor use: whoever reads a request can send another
    body under its headers for as long as they are recent.
    """
    message = f"{signature}\n{hashlib.sha256(body).hexdigest()}".encode()
    return base64.b64encode(hmac.new(secret.encode(), message, hashlib.sha256).digest()).decode()


def signed_headers(
    credentials: Credentials, now: datetime, body: bytes | None = None
) -> dict[str, str]:
    """Make the four headers of one request; with ``body`` a fifth that signs it too."""
    prefix, moment = credentials.family, rtime(now)
    signature = sign(credentials.secret, sid=credentials.sid, rid=credentials.rid, rtime=moment)
    headers = {
        f"{prefix}_rid": credentials.rid,
        f"{prefix}_sid": credentials.sid,
        f"{prefix}_rtime": moment,
        f"{prefix}_sign": signature,
    }
    if body is not None:
        headers[BODY_SIGN_HEADER] = body_sign(credentials.secret, signature, body)
    return headers


@dataclass(frozen=True, slots=True)
class Claim:
    """The four values as a request carries them, not yet believed."""

    rid: str
    sid: str
    rtime: str
    sign: str

    @classmethod
    def of(cls, headers: Mapping[str, str], family: Family) -> Claim:
        """Take the four headers; a missing one is empty text."""
        return cls(*(headers.get(f"{family}_{name}", "") for name in cls.__slots__))

    def holds(self, secret: str) -> bool:
        """Compare the signature with ours, in constant time."""
        expected = sign(secret, sid=self.sid, rid=self.rid, rtime=self.rtime)
        # Bytes, since compare_digest refuses text that is not ASCII.
        return hmac.compare_digest(expected.encode(), self.sign.encode(errors="replace"))

    def is_recent(self, now: datetime, window: timedelta) -> bool:
        """Tell whether the request was made within ``window`` of ``now``, before or after."""
        if not (self.rtime.isascii() and self.rtime.isdigit() and len(self.rtime) <= 15):  # noqa: PLR2004 (a millisecond count of this era has 13 digits)
            return False
        return abs(int(self.rtime) - int(rtime(now))) <= window / timedelta(milliseconds=1)
