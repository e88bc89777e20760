"""The signature of the national platforms' requests, and the older two-step secret.

``sign = Base64(HMAC-SHA256(secret as UTF-8, sid + rid + rtime))``: the prose of the
specifications lists rid first, the deployed code joins sid first, and so do we.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta

from exchange.errors import Denied
from exchange.text import Text

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BLOCK_BITS = 128


def sign(secret: str, *, sid: str, rid: str, rtime: str) -> str:
    """Return the signature of one request; ``rtime`` is milliseconds since 1970 as text."""
    digest = hmac.new(secret.encode(), f"{sid}{rid}{rtime}".encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def rtime(now: datetime) -> str:
    """Return a moment as the platforms write it: milliseconds since 1970 UTC, as text."""
    return str((now - _EPOCH) // timedelta(milliseconds=1))


def unwrap_secret(appkey: str, wrapped: str) -> str:
    """Open the session secret of a two-step gateway (older, still deployed).

    The reference client is Java: AES-128-ECB with PKCS#5 padding, the key drawn from
    ``SecureRandom("SHA1PRNG")`` seeded with the appkey, which comes to
    ``sha1(sha1(appkey))[:16]``. The weak parts are theirs; we only speak the protocol.
    Raises Denied when the secret does not open with this appkey.
    """
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.padding import PKCS7

    seed = hashlib.sha1(appkey.encode(), usedforsecurity=False).digest()
    key = hashlib.sha1(seed, usedforsecurity=False).digest()[:16]
    decryptor = Cipher(algorithms.AES(key), modes.ECB()).decryptor()  # noqa: S305 (theirs)
    unpadder = PKCS7(_BLOCK_BITS).unpadder()
    try:
        padded = decryptor.update(base64.b64decode(wrapped, validate=True)) + decryptor.finalize()
        return (unpadder.update(padded) + unpadder.finalize()).decode()
    except ValueError as error:
        raise Denied(
            Text(
                "平台下发的会话密钥无法用本地 appkey 解开",
                "the session secret of the platform does not open with our appkey",
            ),
            hint=Text(
                "请核对 appkey 是否与平台登记的一致",
                "compare the appkey with the one registered at the platform",
            ),
        ) from error
