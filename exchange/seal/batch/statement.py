"""The statement (声明) of a sealed batch: the small document that the seal is put on.

It names where the records come from, how many they are, under which catalog and schema they
were accepted, and binds them by their Merkle root. Its bytes are canonical JSON (``jcs``), so
equal statements are equal bytes.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Self

from exchange.seal.batch import jcs
from exchange.seal.crypto.suites import suite

FORMAT = "exchange-statement-1"

_HASH = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)
_TIMES = ("pulled_at", "sealed_at")
_PATTERNS = {
    "format": re.compile(re.escape(FORMAT)),
    "suite": re.compile(r"[a-z0-9-]{1,40}"),
    "department": re.compile(r"[0-9A-Z]{18}"),
    "resource": re.compile(r"[a-z][a-z0-9_]{0,127}"),
    "schema": re.compile(r"sm3:[0-9a-f]{64}"),
    "batch_no": re.compile(r"\d{13}", re.ASCII),
    "root": _HASH,
    "payload": _HASH,
    "previous": re.compile(r"([0-9a-f]{64})?"),
}
_MAX_TEXT = 1024
_MAX_LANE = 9_999_999_999
_EPOCH = 1970


def instant(at: datetime) -> str:
    """Write an aware time as ISO 8601 UTC with milliseconds: ``2026-11-23T01:02:03.004Z``."""
    if at.tzinfo is None:
        raise ValueError("a time without a zone")
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(text: str) -> datetime:
    """Read what :func:`instant` writes; raises ValueError for anything else, or before 1970."""
    if not _TIME.fullmatch(text) or (at := datetime.fromisoformat(text)).year < _EPOCH:
        raise ValueError(f"not a time: {text[:80]!r}")
    return at


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """The facts of one batch; every value is text or an integer.

    Raises ValueError for a value that is not of the documented form.
    """

    format: str = FORMAT
    suite: str
    """Cipher suite of root, payload digest and seal: ``sm2-sm3`` …"""
    department: str
    """统一社会信用代码 of the department (18 characters)."""
    resource: str
    resource_code: str
    """政务数据资源代码 as in the catalog."""
    catalog_version: str
    catalog_digest: str
    schema: str
    """SM3 of the Avro schema text: ``sm3:<hex>``, whatever the suite."""
    batch_no: str
    """Date and five digits, per resource: ``2026112300001``."""
    lane: int
    """Partition of the resource; ``previous`` chains the statements of one lane."""
    rows: int
    inserts: int
    updates: int
    deletes: int
    root: str
    """Merkle root of the salted records (hex)."""
    payload: str
    """Hash of the compressed Avro block (hex)."""
    previous: str
    """Hash of the lane's previous statement (hex), empty for the first."""
    pulled_at: str
    sealed_at: str
    source: str
    pull: str
    """Identifier of the pull that the records came in with."""
    accepted: int
    """Records of that pull accepted so far, this batch included."""
    rejected: int
    """Records of that pull put into quarantine so far."""

    def __post_init__(self) -> None:
        """Refuse values that are not of the documented form."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "int":
                if type(value) is not int or not 0 <= value <= jcs.MAX_INTEGER:
                    raise ValueError(f"{field.name} is not a natural number: {str(value)[:80]!r}")
            elif type(value) is not str or len(value) > _MAX_TEXT:
                raise ValueError(f"{field.name} is not a text of up to {_MAX_TEXT} characters")
            elif field.name in _PATTERNS and not _PATTERNS[field.name].fullmatch(value):
                raise ValueError(f"{field.name} is not of its form: {value[:80]!r}")
            elif field.name in _TIMES:
                moment(value)
        if self.lane > _MAX_LANE:
            raise ValueError(f"lane has more than ten digits: {self.lane}")

    def to_bytes(self) -> bytes:
        """Return the canonical bytes, those that the seal covers."""
        return jcs.encode(asdict(self))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a statement; raises ValueError unless ``data`` is its one canonical form."""
        value = jcs.decode(data)
        if not isinstance(value, dict):
            raise ValueError("not an object")  # noqa: TRY004
        names = {field.name for field in fields(cls)}
        if value.keys() != names:
            raise ValueError(f"missing or unknown: {', '.join(sorted(value.keys() ^ names))[:200]}")
        return cls(**value)

    @property
    def digest(self) -> str:
        """Hash of the canonical bytes in the statement's suite (hex); raises Rejected."""
        return suite(self.suite).digest(self.to_bytes()).hex()

    @property
    def property_info(self) -> str:
        """The seal's name for the sealed document (GB/T 38540: propertyInfo)."""
        return f"urn:gds:batch:{self.resource}/{self.batch_no};canon=jcs"
