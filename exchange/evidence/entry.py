"""What a leaf is: one line of canonical JSON for one thing that must not change afterwards.

::

    {"batch_no":"2026112300001","digest":"sm3:<64 hex>","lane":0,"resource":"permits",
     "type":"statement"}

(without the line break). ``digest`` is SM3 of the statement's canonical bytes, of the
receipt's envelope, or of the message that keeps a refusal, whatever suite they are sealed with.
An entry follows from what it stands for, so equal things are equal entries, and whoever has a
statement can look for its leaf.

Entries of version 2 stand for what is not sealed: messages of the log (:class:`MessagesEntry`),
states of pulls (:class:`PullEntry`), the audit trail (:class:`TrailEntry`), and messages that a
person removed (:class:`RetentionEntry`). They hold digests and counts, and nothing of a record.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import ClassVar, Final, Literal, Self, get_args

from exchange.seal.batch import jcs
from exchange.seal.batch.statement import Statement
from exchange.seal.crypto.suites import SM2_SM3

EntryType = Literal["statement", "receipt", "refusal"]

_FORM = re.compile(
    rb'\{"batch_no":"([0-9]{13})","digest":"(sm3:[0-9a-f]{64})","lane":(0|[1-9][0-9]{0,9}),'
    rb'"resource":"([a-z][a-z0-9_]{0,127})","type":"(statement|receipt|refusal)"\}'
)
"""Canonical JSON of five fixed keys is a regular language: no JSON reader is needed."""
VERSION: Final = 2
"""Version of the entries that are neither a statement's nor a receipt's."""
_NUMBER: Final = rb"(0|[1-9][0-9]{0,15})"
_IDENTITY: Final = rb'"([0-9a-f]{32})"'
_SM3: Final = rb'"(sm3:[0-9a-f]{64})"'
_TRAIL: Final = rb'"([a-z0-9]{2,16}:[0-9a-f]{40,128})"'


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceEntry:
    """One leaf of the log; raises ValueError for a value that is not of its form."""

    type: EntryType
    resource: str
    lane: int
    batch_no: str
    digest: str
    """``sm3:`` and the hash of the statement or of the receipt's envelope (hex)."""

    def __post_init__(self) -> None:
        """Refuse values that are not of the documented form."""
        if self.type not in get_args(EntryType) or _FORM.fullmatch(self.to_bytes()) is None:
            raise ValueError(f"not an entry of the evidence log: {str(asdict(self))[:200]}")

    @classmethod
    def of_statement(cls, statement: Statement) -> Self:
        """Return the entry of a batch's statement."""
        return cls._of("statement", statement, statement.to_bytes())

    @classmethod
    def of_receipt(cls, envelope: bytes, statement: Statement) -> Self:
        """Return the entry of the receipt (its whole file) of the batch of ``statement``."""
        return cls._of("receipt", statement, envelope)

    @classmethod
    def _of(cls, kind: EntryType, statement: Statement, data: bytes) -> Self:
        return cls(
            type=kind,
            resource=statement.resource,
            lane=statement.lane,
            batch_no=statement.batch_no,
            digest=f"sm3:{SM2_SM3.digest(data).hex()}",
        )

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return jcs.encode(asdict(self))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read an entry; raises ValueError for anything but its canonical form."""
        found = _FORM.fullmatch(data)
        if found is None:
            raise ValueError(f"not an entry of the evidence log: {data[:200]!r}")
        batch_no, digest, lane, resource, kind = (part.decode() for part in found.groups())
        (known,) = (name for name in get_args(EntryType) if name == kind)
        return cls(
            type=known,
            resource=resource,
            lane=int(lane),
            batch_no=batch_no,
            digest=digest,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Leaf:
    """An entry of version 2: its fields, ``type`` and ``version``, in canonical JSON."""

    TYPE: ClassVar[str]
    FORM: ClassVar[re.Pattern[bytes]]
    """Its groups are the fields in the order of their names."""

    def __post_init__(self) -> None:
        """Refuse values that are not of the documented form."""
        if self.FORM.fullmatch(self.to_bytes()) is None:
            raise ValueError(f"not an entry of the evidence log: {str(asdict(self))[:200]}")

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return jcs.encode(asdict(self) | {"type": self.TYPE, "version": VERSION})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read an entry; raises ValueError for anything but its canonical form."""
        match = cls.FORM.fullmatch(data)
        if match is None:
            raise ValueError(f"not an entry of the evidence log: {data[:200]!r}")
        numbers = {field.name for field in fields(cls) if field.type == "int"}
        values = zip(sorted(field.name for field in fields(cls)), match.groups(), strict=True)
        return cls(**{name: int(it) if name in numbers else it.decode() for name, it in values})


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagesEntry(_Leaf):
    """The messages of a partition of the log from offset ``first`` up to, not with, ``next``."""

    TYPE: ClassVar[str] = "messages"
    FORM: ClassVar[re.Pattern[bytes]] = re.compile(
        rb'\{"count":' + _NUMBER + rb',"digest":' + _SM3 + rb',"first":' + _NUMBER
        + rb',"lane":(0|[1-9][0-9]{0,9}),"log":' + _IDENTITY + rb',"next":' + _NUMBER
        + rb',"topic":"([A-Za-z0-9._-]{1,249})","type":"messages","version":2\}'
    )  # fmt: skip

    log: str
    """Identity of the node's log, 32 hex digits: a log that was made anew has another."""
    topic: str
    lane: int
    first: int
    next: int
    count: int
    digest: str
    """:func:`messages_digest` of the messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PullEntry(_Leaf):
    """A state of a source's pull: how many rows it had brought, and where the source goes on."""

    TYPE: ClassVar[str] = "pull"
    FORM: ClassVar[re.Pattern[bytes]] = re.compile(
        rb'\{"digest":' + _SM3 + rb',"done":([01]),"log":' + _IDENTITY + rb',"offset":' + _NUMBER
        + rb',"pull":"([0-9A-Za-z.-]{0,64})","rows":' + _NUMBER
        + rb',"source":"([a-z][a-z0-9_]{0,47})","type":"pull","version":2\}'
    )  # fmt: skip

    log: str
    source: str
    pull: str
    rows: int
    done: int
    """1 for the state that ended the pull, else 0."""
    offset: int
    """Where the state stands in the topic of states."""
    digest: str
    """``sm3:`` and the hash of the cursor: JSON in ASCII, keys sorted, no blanks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailEntry(_Leaf):
    """A line of the audit trail; its digest covers all lines before it."""

    TYPE: ClassVar[str] = "audit"
    FORM: ClassVar[re.Pattern[bytes]] = re.compile(
        rb'\{"digest":' + _TRAIL + rb',"number":' + _NUMBER + rb',"trail":' + _TRAIL
        + rb',"type":"audit","version":2\}'
    )  # fmt: skip

    trail: str
    """Digest of the first line: it tells one trail from another."""
    number: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionEntry(_Leaf):
    """Messages of one pull that a person removed: ``first`` up to, not with, ``next``."""

    TYPE: ClassVar[str] = "retention"
    FORM: ClassVar[re.Pattern[bytes]] = re.compile(
        rb'\{"count":' + _NUMBER + rb',"digest":' + _SM3 + rb',"first":' + _NUMBER
        + rb',"lane":(0|[1-9][0-9]{0,9}),"log":' + _IDENTITY + rb',"next":' + _NUMBER
        + rb',"pull":"([0-9A-Za-z.-]{0,64})","rows":' + _NUMBER
        + rb',"topic":"([A-Za-z0-9._-]{1,249})","type":"retention","version":2\}'
    )  # fmt: skip

    log: str
    topic: str
    lane: int
    first: int
    next: int
    pull: str
    """Empty for messages of no pull: those that others wrote."""
    count: int
    rows: int
    """Records in them; 0 for notes, which are no records."""
    digest: str
    """:func:`messages_digest` of the messages."""


AnyEntry = EvidenceEntry | MessagesEntry | PullEntry | TrailEntry | RetentionEntry
_LEAVES: Final[tuple[type[MessagesEntry | PullEntry | TrailEntry | RetentionEntry], ...]] = (
    MessagesEntry,
    PullEntry,
    TrailEntry,
    RetentionEntry,
)


def well_formed(data: bytes) -> bool:
    """Whether ``data`` is an entry, to the byte."""
    forms = (_FORM, *(kind.FORM for kind in _LEAVES))
    return any(form.fullmatch(data) is not None for form in forms)


def read_entry(data: bytes) -> AnyEntry:
    """Read an entry of any kind; raises ValueError for what is none."""
    for kind in _LEAVES:
        if kind.FORM.fullmatch(data) is not None:
            return kind.from_bytes(data)
    return EvidenceEntry.from_bytes(data)


def messages_digest(messages: Iterable[tuple[int, str, Mapping[str, str], bytes]]) -> str:
    """Return the digest of messages: offset, key, headers and value of each, in their order.

    It is ``sm3:`` and SM3 of the SM3 hashes, end to end, of each message's head and of its value.
    The head is JSON in ASCII, keys sorted, no blanks: ``{"headers":{…},"key":"…","offset":0}``.
    """
    return bytes_digest(b"".join(message_hashes(*message) for message in messages))


def message_hashes(offset: int, key: str, headers: Mapping[str, str], value: bytes) -> bytes:
    """Return the two hashes of a message that :func:`messages_digest` puts end to end."""
    head = {"headers": dict(headers), "key": key, "offset": offset}
    text = json.dumps(head, sort_keys=True, separators=(",", ":"))  # ASCII: others write too
    return SM2_SM3.digest(text.encode()) + SM2_SM3.digest(value)


def bytes_digest(data: bytes) -> str:
    """Return ``sm3:`` and the hash of ``data``."""
    return f"sm3:{SM2_SM3.digest(data).hex()}"
