"""Asking the province to sign a checkpoint of our evidence log along: a witness (见证).

Pure but for ``post``. The request, canonical JSON, posted to the province's witness service::

    {"certificates": [base64 DER, …], "format": "exchange-witness-1", "note": "…",
     "old": 12, "proof": [base64 hash, …]}

``note`` is the signed checkpoint, ``proof`` leads to it from the ``old`` entries that the
province saw last. The answer's ``data`` holds ``cosignature`` (the line) and ``certificates``;
an answer 409 holds the ``size`` that the province has seen, where that is another; 422 with
``history`` says that the log does not continue what it has seen.

``GET …?origin=NAME`` asks what was seen of a log: ``data`` holds ``checkpoint``, its four lines,
or null.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from exchange.cascade.profiles import Target
from exchange.cascade.signing import signed_headers
from exchange.errors import (
    Denied,
    ExchangeError,
    Integrity,
    Misconfigured,
    Rejected,
    Transient,
)
from exchange.http.message import Request, Response
from exchange.text import Text

FORMAT = "exchange-witness-1"
_BUSY = frozenset({408, 409, 425, 429})
MAX_BODY = 256 * 1024
"""Bytes of a request or an answer."""


@dataclass(frozen=True, slots=True)
class Cosignature:
    """The witness's line, and its certificates (DER) but the root."""

    line: bytes
    certificates: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class WitnessedSize:
    """The province has seen another size than we thought."""

    size: int


def ask(
    note: bytes,
    *,
    old: int,
    proof: Sequence[bytes],
    certificates: Sequence[bytes],
    target: Target,
    post: Callable[[Request], Response],
    now: Callable[[], datetime],
) -> Cosignature | WitnessedSize:
    """Ask once.

    Raises Integrity when the province says that our log does not continue what it has seen,
    Denied and Misconfigured for what a person has to mend, Transient otherwise.
    """
    body = json.dumps(
        {
            "certificates": _base64(certificates),
            "format": FORMAT,
            "note": note.decode(),
            "old": old,
            "proof": _base64(proof),
        },
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
    ).encode()
    answer = post(
        Request(
            url=f"{target.endpoint.rstrip('/')}/sysapi/{target.path}",
            headers={
                **signed_headers(target.credentials, now(), body if target.sign_body else None),
                "content-type": "application/json",
            },
            body=body,
        )
    )
    return _outcome(answer)


def ask_seen(
    origin: str,
    *,
    target: Target,
    get: Callable[[Request], Response],
    now: Callable[[], datetime],
) -> bytes | None:
    """Ask what the province has seen of a log last: a checkpoint's text; None: nothing.

    Raises as :func:`ask` does.
    """
    url = f"{target.endpoint.rstrip('/')}/sysapi/{target.path}?origin={quote(origin, safe='')}"
    answer = get(Request(url, signed_headers(target.credentials, now())))
    _, data = _envelope(answer)
    match answer.status, data:
        case 200, {"checkpoint": str(text)}:
            return text.encode()
        case 200, {"checkpoint": None}:
            return None
    raise _trouble(answer)


def _outcome(answer: Response) -> Cosignature | WitnessedSize:
    _, data = _envelope(answer)
    try:
        if answer.status == 200:  # noqa: PLR2004 (RFC 9110 §15.3.1)
            chain = tuple(b64decode(text, validate=True) for text in data["certificates"])
            return Cosignature(data["cosignature"].encode(), chain)
        if answer.status == 409 and isinstance(data.get("size"), int):  # noqa: PLR2004
            return WitnessedSize(data["size"])
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    raise _trouble(answer)


def _envelope(answer: Response) -> tuple[str, dict[str, Any]]:
    """Return message and data of an answer; empty where it has no envelope."""
    try:
        envelope = json.loads(answer.body)
        return str(envelope["message"])[:300], dict(envelope["data"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return "", {}


def _trouble(answer: Response) -> ExchangeError:
    """Say why there is no cosignature."""
    message, data = _envelope(answer)
    what = Text(
        f"上级平台未见证存证日志：{answer.status} {message}",
        f"the province did not witness the evidence log: {answer.status} {message}",
    )
    if answer.status == 422 and "history" in data:  # noqa: PLR2004
        return Integrity(
            what,
            hint=Text(
                "本节点的存证日志与上级见过的不一致：请恢复 evidence 目录的备份并与上级核对；"
                "若已无备份，另定 evidence.origin 重新开始",
                "our log does not continue what the province has seen: restore the evidence folder"
                " from its backup and settle it with the province; without a backup begin a new"
                " one, under another evidence.origin",
            ),
        )
    if answer.status in {401, 403}:
        return Denied(what, hint=Text("请检查 upstream 的 rid、sid、secret", "check upstream"))
    if answer.status in {404, 405}:
        return Misconfigured(
            what,
            hint=Text(
                "上级没有见证服务时，请将 upstream.witness 留空",
                "where the province has no such service, leave upstream.witness empty",
            ),
        )
    if 400 <= answer.status < 500 and answer.status not in _BUSY:  # noqa: PLR2004
        return Rejected(what, hint=Text("请与省级平台核对", "settle it with the province"))
    return Transient(what, hint=Text("稍后自动重试", "it is asked again by itself"))


def _base64(values: Sequence[bytes]) -> list[str]:
    return [b64encode(value).decode() for value in values]
