"""The province as a witness of its callers' evidence logs: it signs along what continues.

A checkpoint is signed along when its own signature leads to a certificate that the receiver
trusts, and when it continues the last one seen of that log. A log is its origin: neither another
caller nor another key begins it anew, so a new key of the node goes on where the old one was.
The row is durable before the line leaves: whoever shows another history later contradicts it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from exchange.cascade.witness import FORMAT
from exchange.errors import ExchangeError, Integrity
from exchange.evidence.checkpoint import CLOCK_SKEW, Checkpoint, SignedNote, Signers, cosign, holder
from exchange.receiver.callers import Caller, allows
from exchange.receiver.reception import BUSY, Reply
from exchange.seal.eseal.signature import Sealer
from exchange.store.database import Store
from exchange.store.receiver.checkpoints import WitnessedLogRow

_LOGGER = logging.getLogger(__name__)
_MAX_CERTIFICATES = 8
_MAX_PROOF = 64


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, read; raises ValueError for anything of another form."""

    note: SignedNote
    old: int
    proof: tuple[bytes, ...]
    certificates: tuple[bytes, ...]

    @classmethod
    def of(cls, body: bytes) -> Asked:
        """Read the request's body (:mod:`exchange.cascade.witness`)."""
        try:
            match json.loads(body):
                case {
                    "certificates": list(certificates),
                    "format": str(form),
                    "note": str(note),
                    "old": int(old),
                    "proof": list(proof),
                    **rest,
                } if form == FORMAT and not rest:
                    if len(certificates) > _MAX_CERTIFICATES or len(proof) > _MAX_PROOF or old < 0:
                        raise ValueError("too many")
                    return cls(
                        SignedNote.from_bytes(note.encode()),
                        old,
                        _binary(proof),
                        _binary(certificates),
                    )
        except (TypeError, RecursionError) as error:
            raise ValueError(str(error)) from error
        raise ValueError(f"not {FORMAT}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """Signs checkpoints along; safe to use from several threads and processes at once."""

    name: str
    """Name in the witness's lines: printable ASCII without spaces and plus signs."""
    store: Store
    sealer: Sealer
    clock: Callable[[], datetime]
    rise: Callable[[], None] = lambda: None
    """Raises the mark of the database (:mod:`exchange.receiver.mark`)."""

    def take(self, body: bytes, *, caller: Caller) -> Reply:
        """Answer one request; never raises for what the caller sent."""
        try:
            asked = Asked.of(body)
        except ValueError as error:
            return Reply(400, f"见证请求无法识别：原文：{error}"[:300])
        rid, origin = caller.rid, asked.note.checkpoint.head.origin
        try:
            if not allows(caller.scope.origins, origin):
                self.store.audit.append(rid, "witness.denied", origin, "not a log of this caller")
                return _not_yours(origin)
            return self._take(asked, caller)
        except Integrity as error:
            self.store.audit.append(rid, "witness.refused", origin, error.what.en)
            _LOGGER.warning("evidence log %s of %s: %s", origin, rid, error.what.en)
            return Reply(422, error.what.zh, {"history": origin})
        except ExchangeError as error:
            _LOGGER.error("cannot witness: %s", error)  # noqa: TRY400 (one line will do)
            return BUSY

    def _take(self, asked: Asked, caller: Caller) -> Reply:
        rid, note, now = caller.rid, asked.note, self.clock()
        signers = Signers(asked.certificates, trust=caller.trust, witnesses=caller.trust)
        failed = [one.name for one in signers.check_log(note) if not one.ok]
        if failed:
            return Reply(422, f"检查点未通过验证：{'、'.join(failed)}", {"failed": failed})
        checkpoint = note.checkpoint
        if checkpoint.time > now + CLOCK_SKEW:  # a clock that was wrong: time mends it
            return Reply(425, f"检查点的时间 {checkpoint.at} 超前，请校准系统时间")
        before = self.store.witnessed_checkpoints.get(checkpoint.head.origin)
        seen = 0 if before is None else before.size
        if asked.old != seen:
            return Reply(409, "上次见证的日志长度不同", {"size": seen})
        previous = None if before is None else Checkpoint.from_bytes(before.note)
        line = cosign(previous, checkpoint, asked.proof, sealer=self.sealer, name=self.name, at=now)
        head, signer = checkpoint.head, _signer(note, signers)
        row = WitnessedLogRow(head.origin, signer, head.size, checkpoint.to_bytes(), now, rid)
        self.store.witnessed_checkpoints.move(before, row, head.root)
        with suppress(OSError):  # a mark that stays behind is as true
            self.rise()
        if before is not None and before.signer not in {"", signer}:
            detail = f"{before.signer} to {signer} at {head.size} entries"
            self.store.audit.append(rid, "witness.key", head.origin, detail)
        chain = (self.sealer.signer.certificate, *self.sealer.chain)
        return Reply(
            200,
            "已见证",
            {
                "cosignature": line.decode(),
                "certificates": [b64encode(one).decode() for one in chain],
            },
        )

    def seen(self, origin: str, *, caller: Caller) -> Reply:
        """Answer what was seen of a log last, for its owner to compare."""
        if not allows(caller.scope.origins, origin):
            return _not_yours(origin)
        try:
            row = self.store.witnessed_checkpoints.get(origin)
        except ExchangeError as error:
            _LOGGER.error("cannot say what was witnessed: %s", error)  # noqa: TRY400
            return BUSY
        if row is None:
            return Reply(200, "尚未见证", {"checkpoint": None})
        return Reply(200, "已见证", {"checkpoint": row.note.decode()})


def _not_yours(origin: str) -> Reply:
    return Reply(403, f"调用方无权出示存证日志 {origin}", {"scope": "origin"})


def _signer(note: SignedNote, signers: Signers) -> str:
    """Name the key that signed a note whose signature was checked."""
    certificate = holder(note.signature, "log", note.checkpoint, signers.certificates)
    return "" if certificate is None else hashlib.sha256(certificate.public_key).hexdigest()


def _binary(values: Sequence[object]) -> tuple[bytes, ...]:
    return tuple(b64decode(str(one), validate=True) for one in values)
