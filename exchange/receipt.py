"""The receipt itself: its fields, its sealed envelope, and the checks that make it count.

Envelope, canonical JSON (:mod:`exchange.seal.batch.jcs`)::

    {"chain": [base64 DER certificate, …], "format": "exchange-receipt-envelope-1",
     "receipt": {…}, "seal": base64 DER SES_Signature (GB/T 38540) over the receipt's bytes}
"""

from __future__ import annotations

import base64
import re
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import Self

from exchange.errors import Integrity, Misconfigured
from exchange.foreign import original
from exchange.seal.batch import jcs
from exchange.seal.batch.statement import Statement, instant, moment
from exchange.seal.checks import Check, Verification, equal
from exchange.seal.crypto.suites import SUITES, suite
from exchange.seal.eseal.signature import Sealer, check_signature
from exchange.seal.pki.trust import Trust
from exchange.text import Text

FORMAT = "exchange-receipt-1"
ENVELOPE = "exchange-receipt-envelope-1"
ACCEPTED = "200"
"""Code of success on the national platforms."""
CLOCK_SKEW = timedelta(minutes=10)
"""How far the province's clock may be behind ours."""
MAX_BYTES = 256 * 1024
"""Longest envelope that is read."""

_MAX_CHAIN = 8
_MAX_TEXT = 1024
_HASH = re.compile(r"[0-9a-f]{64}")
_PATTERNS = {
    "format": re.compile(re.escape(FORMAT)),
    "suite": re.compile("|".join(map(re.escape, SUITES))),
    "receipt_no": re.compile(r"[0-9A-Za-z-]{1,64}"),
    "batch_no": re.compile(r"\d{13}", re.ASCII),
    "resource": re.compile(r"[a-z][a-z0-9_]{0,127}"),
    "statement": _HASH,
    "root": _HASH,
    "log": re.compile(r"[!-*,-~]{1,128} (0|[1-9]\d{0,15}) [0-9a-f]{64}", re.ASCII),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What the province says about one batch (回执); every value is text or an integer.

    Raises ValueError for a value that is not of the documented form.
    """

    format: str = FORMAT
    suite: str = "sm2-sm3"
    """Cipher suite of the province's seal."""
    receipt_no: str
    """回执编号, chosen by the province: 1 to 64 ASCII letters, digits and hyphens."""
    batch_no: str
    """批次号 as sent."""
    resource: str
    resource_code: str
    statement: str
    """Hash of the batch's statement, by the batch's suite (hex)."""
    root: str
    """Merkle root of the batch's records (hex)."""
    rows_sent: int
    rows_accepted: int
    rows_rejected: int
    code: str = ACCEPTED
    message: str = ""
    received_at: str
    """When the batch was durable at the province."""
    province: str
    """Who received it: code or name of the province."""
    log: str = ""
    """Newest checkpoint of the sender's evidence log that the province had signed along by then:
    origin, size and root (hex), with a space between. Left out where there is none."""

    def __post_init__(self) -> None:
        """Refuse values that are not of the documented form."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "int":
                if type(value) is not int or not 0 <= value <= jcs.MAX_INTEGER:
                    raise ValueError(f"{field.name} is not a natural number: {str(value)[:80]!r}")
            elif type(value) is not str or len(value) > _MAX_TEXT:
                raise ValueError(f"{field.name} is not a text of up to {_MAX_TEXT} characters")
            elif field.name == "log" and not value:
                continue
            elif field.name in _PATTERNS and not _PATTERNS[field.name].fullmatch(value):
                raise ValueError(f"{field.name} is not of its form: {value[:80]!r}")
        moment(self.received_at)

    def to_bytes(self) -> bytes:
        """Return the canonical bytes, those that the seal covers."""
        return jcs.encode(self.value())

    def value(self) -> dict[str, jcs.Value]:
        """Return the JSON object."""
        return {name: value for name, value in asdict(self).items() if value or name != "log"}

    @classmethod
    def of(cls, value: object) -> Self:
        """Take a receipt from its JSON object; raises ValueError for any other value."""
        if not isinstance(value, dict):
            raise ValueError("the receipt is not an object")  # noqa: TRY004
        names = {field.name for field in fields(cls)} - (set() if value.get("log") else {"log"})
        if value.keys() != names:
            raise ValueError(f"missing or unknown: {', '.join(sorted(value.keys() ^ names))[:200]}")
        return cls(**value)

    @property
    def property_info(self) -> str:
        """The seal's name for the sealed document (GB/T 38540: propertyInfo)."""
        return f"urn:gds:receipt:{self.receipt_no};canon=jcs"


@dataclass(frozen=True, slots=True, kw_only=True)
class SentBatch:
    """What was sent, as its receipt has to repeat it."""

    batch_no: str
    resource: str
    resource_code: str
    statement: str
    root: str
    rows: int
    sealed_at: str

    @classmethod
    def of(cls, statement: Statement) -> Self:
        """Take the facts from the batch's statement."""
        return cls(
            batch_no=statement.batch_no,
            resource=statement.resource,
            resource_code=statement.resource_code,
            statement=statement.digest,
            root=statement.root,
            rows=statement.rows,
            sealed_at=statement.sealed_at,
        )


def issue(receipt: Receipt, sealer: Sealer, at: datetime) -> bytes:
    """Seal a receipt and return its envelope.

    Raises Misconfigured when the seal is of another suite than the receipt says.
    """
    if receipt.suite != sealer.signer.suite.id:
        raise Misconfigured(
            Text(
                f"回执写明套件 {receipt.suite}，而印章使用 {sealer.signer.suite.id}",
                f"the receipt says suite {receipt.suite}, the seal is {sealer.signer.suite.id}",
            ),
            hint=Text("请为接收端配置该套件的印章", "give the receiver a seal of that suite"),
        )
    seal = sealer.seal(receipt.to_bytes(), property_info=receipt.property_info, at=at)
    return jcs.encode(
        {
            "format": ENVELOPE,
            "receipt": receipt.value(),
            "seal": base64.b64encode(seal).decode(),
            "chain": [base64.b64encode(certificate).decode() for certificate in sealer.chain],
        }
    )


def read(data: bytes) -> Receipt:
    """Read the receipt in an envelope, unchecked; raises Integrity when it cannot be read."""
    try:
        return _open(data).receipt
    except ValueError as error:
        raise Integrity(
            Text(
                f"回执无法识别：{original(error).zh}",
                f"cannot read the receipt: {original(error).en}",
            ),
            hint=Text(
                "请保留原始文件并联系省级平台；不要手工修改回执",
                "keep the file as it is and contact the province; never edit a receipt",
            ),
        ) from error


def check(
    data: bytes,
    *,
    trust: Trust,
    batch: SentBatch,
) -> Verification:
    """Check a receipt against what was sent; ``trust`` is that in the province.

    1. format: the envelope is canonical, every field present and well formed
    2. code: the province accepted the batch
    3. batch: resource, its code and the batch number are ours
    4. statement: the digest is that of our statement
    5. root: the record tree is ours
    6. counts: rows sent are ours, and accepted + rejected = sent
    7. time: not received before it was sealed, less ``CLOCK_SKEW``
    8. and on: the checks of the seal (GB/T 38540) under the province's anchors

    Arbitrary bytes give a failed check, never an exception.
    """
    try:
        envelope = _open(data)
    except ValueError as error:
        broken = Check("format", ok=False, text=_FORMAT, expected=ENVELOPE, found=str(error)[:200])
        return Verification((broken,))
    receipt = envelope.receipt
    content = receipt.to_bytes()
    return Verification(
        (
            Check("format", ok=True, text=_FORMAT, expected=ENVELOPE, found=ENVELOPE),
            *_same_batch(receipt, batch),
            *check_signature(
                envelope.seal,
                content,
                suite=suite(receipt.suite),
                property_info=receipt.property_info,
                chain=envelope.chain,
                trust=trust,
            ),
        ),
        rows=receipt.rows_accepted,
        facts=asdict(receipt),
    )


_FORMAT = Text("回执格式规范，字段齐全", "the receipt is canonical and complete")


def _same_batch(receipt: Receipt, batch: SentBatch) -> list[Check]:
    """Make checks 2 to 7: the receipt speaks of what was sent."""
    total = receipt.rows_accepted + receipt.rows_rejected
    earliest = instant(moment(batch.sealed_at) - CLOCK_SKEW)
    return [
        equal(
            "code",
            Text("省级平台已接收该批次", "the province accepted the batch"),
            expected=ACCEPTED,
            found=receipt.code,
        ),
        equal(
            "batch",
            Text("资源与批次号一致", "resource and batch number are those sent"),
            expected=f"{batch.resource} {batch.resource_code} {batch.batch_no}",
            found=f"{receipt.resource} {receipt.resource_code} {receipt.batch_no}",
        ),
        equal(
            "statement",
            Text("批次声明摘要一致", "the digest is that of the statement sent"),
            expected=batch.statement,
            found=receipt.statement,
        ),
        equal(
            "root",
            Text("记录树根一致", "the root is that of the records sent"),
            expected=batch.root,
            found=receipt.root,
        ),
        equal(
            "counts",
            Text("行数一致：接收 + 拒收 = 发送", "accepted + rejected = sent, as many as we sent"),
            expected=f"{batch.rows} = {batch.rows}",
            found=f"{total} = {receipt.rows_sent}",
        ),
        Check(
            "time",
            # Both are UTC text of one form: the order of the texts is the order of the times.
            ok=receipt.received_at >= earliest,
            text=Text("接收时间不早于封签时间", "received no earlier than it was sealed"),
            expected=f">= {earliest}",
            found=receipt.received_at,
        ),
    ]


@dataclass(frozen=True, slots=True)
class _ReceiptEnvelope:
    receipt: Receipt
    seal: bytes
    chain: tuple[bytes, ...]


def _open(data: bytes) -> _ReceiptEnvelope:
    """Read an envelope; raises ValueError saying what is wrong with it."""
    if len(data) > MAX_BYTES:
        raise ValueError(f"longer than {MAX_BYTES} bytes")
    match jcs.decode(data):
        case {"format": form, "receipt": body, "seal": seal, "chain": list(chain), **rest}:
            if form != ENVELOPE or rest or len(chain) > _MAX_CHAIN:
                raise ValueError(f"not an envelope of format {ENVELOPE}")
            return _ReceiptEnvelope(Receipt.of(body), _binary(seal), tuple(map(_binary, chain)))
    raise ValueError(f"not an envelope of format {ENVELOPE}")


def _binary(text: object) -> bytes:
    if isinstance(text, str):
        data = base64.b64decode(text, validate=True)
        # Base64 has several spellings of the same bytes (RFC 4648 §3.5); only one is ours.
        if base64.b64encode(data).decode() == text:
            return data
    raise ValueError("seal and chain are plain base64")
