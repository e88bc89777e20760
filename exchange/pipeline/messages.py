"""What the messages of the log say: header names, keys and members of states stand here only.

They are a file format: a log that a former version wrote goes on. Each class makes its message
(``to_message``) and reads an entry (``of``), which is None for an entry that no node of ours wrote.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Self

from exchange.errors import Misconfigured
from exchange.log import (
    CURSORS,
    RECEIPTS,
    Entry,
    Message,
    quarantine_topic,
    raw_topic,
    sealed_topic,
)
from exchange.seal.batch.statement import instant
from exchange.text import Text, counted

NOBODY: Final = "-"
"""Stands for the source and the pull of a message that no node of ours wrote."""
REPLAY: Final = "replay-"
"""What the pull of replayed records begins with."""
KEPT_BYTES: Final = 512 * 1024
"""Bytes that are kept of a message that cannot be read as records."""
STATE_VERSION: Final = 2
"""Version of the states; the former versions wrote none, which reads as 1."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where rows come from: the source, its pull, the place in the source, and the time."""

    source: str
    pull: str
    locator: str
    at: datetime

    def headers(self) -> dict[str, str]:
        """Return the headers that name it."""
        return {
            "source": self.source,
            "pull": self.pull,
            "locator": self.locator,
            "at": instant(self.at),
        }

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Self:
        """Read the headers; raises KeyError or ValueError for those of others."""
        at = datetime.fromisoformat(headers["at"])
        if at.tzinfo is None:
            raise ValueError("a time without a zone")
        return cls(headers["source"], headers["pull"], headers["locator"], at)


@dataclass(frozen=True, slots=True)
class RawBatch:
    """Rows of a pull in the raw topic, as the source gave them."""

    origin: Origin
    rows: int
    since: int
    """Offset of the partition's end when the pull began: its messages stand behind."""
    index: int
    """Position among the pull's messages in the partition, from 0."""
    data: bytes

    def to_message(self, resource: str, partition: int) -> Message:
        """Make the message."""
        counts = {"rows": str(self.rows), "since": str(self.since), "index": str(self.index)}
        return Message(
            raw_topic(resource),
            self.data,
            headers=self.origin.headers() | counts,
            partition=partition,
        )

    @classmethod
    def of(cls, entry: Entry) -> Self | None:
        """Read an entry of a raw topic."""
        headers = entry.headers
        try:
            rows, since, index = (int(headers[name]) for name in ("rows", "since", "index"))
            return cls(Origin.of(headers), rows, since, index, entry.value)
        except (KeyError, ValueError):
            return None


@dataclass(frozen=True, slots=True)
class SealedEntry:
    """A sealed batch; its seal is checked elsewhere."""

    batch_no: str
    rows: int
    statement: str
    """Digest of the statement."""
    root: str
    pull: str
    data: bytes
    raw: tuple[int, int] | None = None
    """Offset of the raw message, and how many of its records were sealed before this batch."""

    @property
    def replayed(self) -> bool:
        """Whether the records were sent through once more."""
        return self.pull.startswith(REPLAY)

    def to_message(self, resource: str, partition: int) -> Message:
        """Make the message."""
        headers = {
            "rows": str(self.rows),
            "statement": self.statement,
            "root": self.root,
            "pull": self.pull,
        }
        if self.raw is not None:
            headers["raw"] = "{}/{}".format(*self.raw)
        topic = sealed_topic(resource)
        return Message(topic, self.data, self.batch_no, headers, partition)

    @classmethod
    def of(cls, entry: Entry) -> Self | None:
        """Read an entry of a sealed topic."""
        headers = entry.headers
        try:
            statement, root, pull = (headers[name] for name in ("statement", "root", "pull"))
            rows = int(headers["rows"])
        except (KeyError, ValueError):
            return None
        offset, _, before = headers.get("raw", "").partition("/")
        raw = (int(offset), int(before)) if offset.isdecimal() and before.isdecimal() else None
        return cls(entry.key, rows, statement, root, pull, entry.value, raw) if entry.key else None


@dataclass(frozen=True, slots=True)
class Original:
    """A message that cannot be read as records: where it stands, and what it is."""

    topic: str
    partition: int
    offset: int
    size: int
    """Bytes of its value."""
    digest: str
    """SHA-256 of its value, hex."""
    rows: int | None = None
    """Records that it says it holds; None: unknown, no node of ours wrote it."""

    def headers(self) -> dict[str, str]:
        """Return the header that names it."""
        return {"original": json.dumps(asdict(self))}

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Self | None:
        """Read the header; raises ValueError or TypeError for that of others."""
        return cls(**json.loads(headers["original"])) if "original" in headers else None

    def describe(self) -> Text:
        """Tell where the message stands and what it is."""
        place = f"{self.topic}/{self.partition}/{self.offset}"
        zh = f"{place}，{self.size} 字节，SHA-256 {self.digest}"
        en = f"{place}, {self.size} bytes, SHA-256 {self.digest}"
        if self.rows is None:
            return Text(
                f"该消息不是本系统写入，原样保留：{zh}，记录数不明",
                f"no node of ours wrote this message; it is kept as it is: {en}, records unknown",
            )
        return Text(
            f"该消息不能读作记录，原样保留：{zh}，自称 {self.rows} 条记录",
            f"this message cannot be read as records; it is kept as it is: {en},"
            f" {counted(self.rows, 'record')} by its own account",
        )


@dataclass(frozen=True, slots=True)
class RefusedEntry:
    """Refused records in a quarantine topic, or a message that cannot be read as records."""

    origin: Origin
    """``at`` is the time of the refusal."""
    rows: int
    reasons: Mapping[str, int]
    """How many records each reason has, by ``rule:field``."""
    catalog: str
    """Version of the catalog that refused them."""
    data: bytes
    raw: str = ""
    """Where the raw message stands: ``partition/offset``."""
    readable: bool = True
    """Whether ``data`` is a frame of records; else it is the message as it came, cut to
    :data:`KEPT_BYTES`."""
    original: Original | None = None
    """The message that is not ``readable``; None in what a former build wrote."""

    def to_message(self, resource: str, partition: int) -> Message:
        """Make the message."""
        headers = {"kind": "records" if self.readable else "unreadable"} | self.origin.headers()
        headers |= {
            "rows": str(self.rows),
            "reasons": json.dumps(dict(self.reasons)),
            "catalog": self.catalog,
            "raw": self.raw,
        }
        if self.original is not None:
            headers |= self.original.headers()
        topic = quarantine_topic(resource)
        return Message(topic, self.data, headers=headers, partition=partition)

    @classmethod
    def unreadable(cls, entry: Entry, at: datetime, catalog: str) -> Self:
        """Keep an entry as it came: its bytes, where it stood, and what is known of its origin.

        It counts as one record, whatever it says.
        """
        from exchange.validate.refused_records import UNREADABLE

        place = f"{entry.topic}/{entry.partition}/{entry.offset}"
        batch = RawBatch.of(entry)
        known = batch.origin if batch is not None else Origin(NOBODY, NOBODY, place, at)
        return cls(
            Origin(known.source, known.pull, known.locator, at),
            1,
            {UNREADABLE: 1},
            catalog,
            entry.value[:KEPT_BYTES],
            f"{entry.partition}/{entry.offset}",
            readable=False,
            original=Original(
                entry.topic,
                entry.partition,
                entry.offset,
                len(entry.value),
                hashlib.sha256(entry.value).hexdigest(),
                None if batch is None else batch.rows,
            ),
        )

    @classmethod
    def of(cls, entry: Entry) -> Self:
        """Read an entry of a quarantine topic; one of others is not ``readable``."""
        headers = entry.headers
        try:
            return cls(
                Origin.of(headers),
                int(headers["rows"]),
                {str(name): int(count) for name, count in json.loads(headers["reasons"]).items()},
                headers["catalog"],
                entry.value,
                headers.get("raw", ""),
                readable=headers["kind"] == "records",
                original=Original.of(headers),
            )
        except (KeyError, ValueError, TypeError, AttributeError):
            return cls.unreadable(entry, datetime.fromtimestamp(entry.time / 1000, UTC), NOBODY)


@dataclass(frozen=True, slots=True)
class NotesEntry:
    """Rows of a source that are no records, in a quarantine topic: titles, group rows."""

    origin: Origin
    notes: Sequence[Mapping[str, Any]]
    """Members as in :class:`exchange.connect.Note`."""

    def to_message(self, resource: str) -> Message:
        """Make the message."""
        headers = self.origin.headers() | {"kind": "notes"}
        value = json.dumps(list(self.notes), ensure_ascii=False).encode()
        return Message(quarantine_topic(resource), value, headers=headers)

    @classmethod
    def of(cls, entry: Entry) -> Self | None:
        """Read an entry of a quarantine topic."""
        if entry.headers.get("kind") != "notes":
            return None
        try:
            return cls(Origin.of(entry.headers), json.loads(entry.value))
        except (KeyError, ValueError):
            return None


@dataclass(frozen=True, slots=True)
class ReceiptEntry:
    """A receipt of the province; one that does not verify is kept for the person who decides."""

    resource: str
    batch_no: str
    partition: int
    content: bytes
    verified: bool = True

    def to_message(self) -> Message:
        """Make the message."""
        headers = {"kind": "receipt", "lane": str(self.partition)}
        if not self.verified:
            headers = {"kind": "wrong"}
        return Message(RECEIPTS, self.content, f"{self.resource}/{self.batch_no}", headers)

    @classmethod
    def of(cls, entry: Entry) -> Self | None:
        """Read an entry of the topic of receipts."""
        resource, _, batch_no = entry.key.partition("/")
        kind, number = entry.headers.get("kind"), entry.headers.get("lane", "0")
        if kind not in {"receipt", "wrong"} or not number.isdecimal():
            return None
        return cls(resource, batch_no, int(number), entry.value, verified=kind == "receipt")


# --- states on the compacted topic: each the newest message of its key ---------------------------


def state_message(key: str, state: Mapping[str, Any]) -> Message:
    """Make the message that replaces the state with this key."""
    return Message(CURSORS, json.dumps(dict(state), ensure_ascii=False).encode(), key)


def state_of(entry: Entry | None) -> dict[str, Any]:
    """Read a state; empty when there is none.

    Raises Misconfigured for one that a newer version of the program wrote.
    """
    state: dict[str, Any] = json.loads(entry.value) if entry is not None else {}
    version = state.pop("version", 1)
    if entry is not None and version > STATE_VERSION:
        raise Misconfigured(
            Text(
                f"日志中的状态 {entry.key} 由更新的程序版本写入",
                f"a newer version of the program wrote the state {entry.key}",
            ),
            hint=Text("请使用更新的程序版本", "run the newer version"),
        )
    return state


def pull_key(source: str) -> str:
    """Name the state of a source's pull; it is the owner of its transactions, too."""
    return f"pull/{source}"


@dataclass(frozen=True, slots=True)
class PullState:
    """How far a source's pull (拉取) is."""

    pull: str
    began: datetime
    cursor: Mapping[str, Any] | None = None
    """Where the source goes on; None at its beginning."""
    rows: int = 0
    messages: tuple[int, ...] = ()
    """By partition: raw messages so far."""
    since: tuple[int, ...] = ()
    """By partition: offset of the end when the pull began."""
    done: bool = False
    changes: bool = False
    """Whether it brought changes, of which one may be newer than a record before it."""
    absent: tuple[str, ...] = ()
    """Columns of optional fields that the source lacks."""
    noted: tuple[str, ...] = ()
    """Those that the pull before has noted already."""
    columns: tuple[str, ...] = ()
    """Columns of the source as they are known; what comes beside them has appeared."""
    appeared: tuple[str, ...] = ()
    """Columns that appeared since, and that the catalog does not name."""
    learns: bool = True
    """Whether the columns of this pull are the ones to know."""

    def rewind(self, cursor: Mapping[str, Any] | None) -> Self:
        """Return the state from which a new pull starts at another cursor."""
        return replace(self, cursor=cursor, done=True, since=(), messages=())

    def to_message(self, source: str) -> Message:
        """Make the message."""
        state = asdict(self) | {"version": STATE_VERSION, "began": instant(self.began)}
        if not self.columns:  # as it was written before they were known
            for name in ("columns", "appeared", "learns"):
                del state[name]
        return state_message(pull_key(source), state)

    @classmethod
    def of(cls, entry: Entry | None) -> Self | None:
        """Read the newest state; None before the first pull."""
        state = state_of(entry)
        if not state:
            return None
        state["began"] = datetime.fromisoformat(state["began"])
        lists = {name: tuple(value) for name, value in state.items() if isinstance(value, list)}
        return cls(**state | lists)


def put_back_key(resource: str, partition: int) -> str:
    """Name the note of a batch that was put back and is under way."""
    return f"again/{resource}/{partition}"


def put_back_message(resource: str, partition: int, offset: int | None) -> Message:
    """Note which batch that was put back is under way; None: none is."""
    state = {} if offset is None else {"offset": offset}
    return state_message(put_back_key(resource, partition), state)


def put_back_offset(entry: Entry | None) -> int | None:
    """Return the offset of the batch that was put back and is under way."""
    offset: int | None = state_of(entry).get("offset")
    return offset


def replayed_key(resource: str, partition: int, offset: int) -> str:
    """Name the note of the records of a quarantine message that were replayed."""
    return f"replayed/{resource}/{partition}/{offset}"


def replayed_message(key: str, pull: str, rows: Sequence[int]) -> Message:
    """Note which records of a quarantine message were replayed so far, and with which pull."""
    return state_message(key, {"pull": pull, "rows": list(rows)})


def replayed_rows(entry: Entry | None) -> frozenset[int]:
    """Return the records of a quarantine message that were replayed."""
    return frozenset(state_of(entry).get("rows", ()))


EVIDENCE_KEY: Final = "evidence"


def leaf_key(source: str) -> str:
    """Name the state of what the evidence log has last of a source's pulls."""
    return f"leaf/{source}"


def leaf_message(source: str, digest: str) -> Message:
    """Note the digest of the cursor of a source's newest leaf."""
    return state_message(leaf_key(source), {"digest": digest})


def leaf_digest(entry: Entry | None) -> str:
    """Return that digest; empty where the source has no leaf."""
    return str(state_of(entry).get("digest", ""))


IDENTITY_KEY: Final = "identity"
"""Key of the state that tells this log from every other."""


def identity_message(identity: str) -> Message:
    """Name the log: 32 hex digits, drawn once."""
    return state_message(IDENTITY_KEY, {"log": identity})


def identity_of(entry: Entry | None) -> str:
    """Return the name of the log; empty before it has one."""
    return str(state_of(entry).get("log", ""))


STORE_KEY: Final = "part/store"
"""Key of the state that says which store is the node's, and how far it was."""


@dataclass(frozen=True, slots=True)
class StoreMark:
    """What the log remembers of the store: its identity, and its mark, which only rises."""

    identity: str = ""
    mark: int = 0

    def to_message(self) -> Message:
        """Make the message."""
        return state_message(STORE_KEY, asdict(self))

    @classmethod
    def of(cls, entry: Entry | None) -> Self:
        """Read the newest state; empty while no store is remembered."""
        return cls(**state_of(entry))


@dataclass(frozen=True, slots=True)
class EvidenceState:
    """Up to where topic and folder of the evidence log are known to agree."""

    offset: int = 0
    """Next offset of the topic."""
    size: int = 0
    """Entries of the folder before it."""
    root: str = ""
    """Root of the tree of so many entries, hex."""

    def to_message(self) -> Message:
        """Make the message."""
        state = {"offset": self.offset, "size": self.size, "root": self.root}
        return state_message(EVIDENCE_KEY, state)

    @classmethod
    def of(cls, entry: Entry | None) -> Self:
        """Read the newest state."""
        return cls(**state_of(entry))
