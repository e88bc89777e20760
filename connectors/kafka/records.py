"""A message of a topic as a record: its operation, its values as text, or what is broken.

A message that cannot be read never stops a topic: it becomes a record with a defect, which the
catalog's check sends to quarantine with its original.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from exchange.connect import Misconfigured, Text
from exchange.connect.topic_reader import TopicRecord
from exchange.connectors.kafka.types import PLAIN, Unclear, ValueType, text_of
from exchange.connectors.kafka.values import Decoder, Document
from exchange.connectors.rest.json_path import MISSING, Path, parse_path, walk

Envelope = Literal["none", "debezium"]
RESERVED = ("_row", "_defect", "cd_operation")
_OPERATIONS = {"c": "I", "r": "I", "u": "U", "d": "D"}
_SHOWN = 64 * 1024
"""Bytes of an original that are kept with its defect."""
Values = dict[str, str | None]


@dataclass(frozen=True, slots=True)
class TopicChange:
    """A record: what happened to it, and its values; ``defect`` says what is broken."""

    operation: str
    values: Values
    defect: str | None = None
    identity: bytes | None = field(default=None, repr=False)
    """What two versions of a record have in common; None: not known."""


@dataclass
class RecordReader:
    """Reads messages as records.

    ``columns``: column → path; empty: all fields. ``optional``: a field that a message lacks is
    null. ``key``: columns that tell records apart; empty: the message's key with Debezium.
    """

    decode: Decoder
    envelope: Envelope
    columns: Mapping[str, str]
    optional: bool
    key: Sequence[str]

    def __post_init__(self) -> None:
        """Read the paths; raises Misconfigured."""
        self._paths: dict[str, Path] = {n: parse_path(path) for n, path in self.columns.items()}
        wrong = [name for name in self._paths if name in RESERVED]
        if wrong:
            raise Misconfigured(
                Text(f"列名 {', '.join(wrong)} 是保留名", f"{', '.join(wrong)} is reserved"),
                hint=Text("请在 columns 另取名称", "give it another name in columns"),
            )

    def read(self, record: TopicRecord) -> TopicChange | None:
        """Return the record; None for what is none: the tombstone behind Debezium's delete.

        Raises our errors where the registry does not answer.
        """
        if record.value is None and self.envelope == "debezium":
            return None
        try:
            change = self._read(record)
        except Unclear as error:
            return TopicChange("I", {}, f"offset {record.offset}: {error}{_original(record)}")
        if change is None or change.defect is not None:
            return change
        identity = self._identity(record, change.values)
        return TopicChange(change.operation, change.values, None, identity)

    def _read(self, record: TopicRecord) -> TopicChange | None:
        if record.value is None:
            return TopicChange("D", self._of_key(record))
        document = self.decode(record.value)
        if self.envelope == "none":
            return TopicChange("I", self._values(document))
        return self._event(record, document)

    def _event(self, record: TopicRecord, document: Document) -> TopicChange | None:
        """Read Debezium's envelope: before, after, op."""
        content = document.content
        if not isinstance(content, dict) or "op" not in content:
            raise Unclear("it is no change event of Debezium: op is missing")
        code = content["op"]
        if code == "m":
            return None  # a message of the source's own, no row of a table
        operation = _OPERATIONS.get(code) if isinstance(code, str) else None
        if code == "t":
            raise Unclear(
                "the table was emptied (TRUNCATE): its records are not deleted here; "
                "have the source's records compared"
            )
        if operation is None:
            raise Unclear(f"op {str(code)[:20]!r} is unknown")
        side = "before" if operation == "D" else "after"
        row = content.get(side)
        if row is None and operation == "D":
            return TopicChange("D", self._of_key(record))
        if not isinstance(row, dict):
            raise Unclear(f"{side} is no record")
        part = Document(row, document.kind.fields.get(side, PLAIN))
        return TopicChange(operation, self._values(part, keys=operation == "D"))

    def _of_key(self, record: TopicRecord) -> Values:
        """Return the values of a deleted record: those of the message's key."""
        if record.key is None:
            raise Unclear("a deletion without a key: which record it means is not known")
        document = self.decode(record.key)
        if not isinstance(document.content, dict):
            raise Unclear("a deletion whose key is no record: no column is named")
        return self._values(document, keys=True)

    def _values(self, document: Document, *, keys: bool = False) -> Values:
        """Return the values; ``keys``: of a deleted record, where only its key has to be there."""
        if not isinstance(document.content, dict):
            raise Unclear("it is no object")
        paths = self._paths or {str(name): (name,) for name in document.content}
        wrong = [name for name in paths if name in RESERVED]
        if wrong:
            raise Unclear(f"the name {wrong[0]} is reserved: give it another name in columns")
        values: Values = {}
        for name, path in paths.items():
            value = walk(document.content, path)
            if value is MISSING:
                if not (self.optional or keys):
                    raise Unclear(f"it has no {self.columns.get(name, name)}")
                value = None
            values[name] = self._text(name, value, _kind(document.kind, path), keys=keys)
        return values

    def _text(self, name: str, value: Any, kind: ValueType, *, keys: bool) -> str | None:
        try:
            text = text_of(value, kind, debezium=self.envelope == "debezium")
        except Unclear as error:
            if keys and name not in self.key:
                return None  # of a deleted record its key counts
            raise Unclear(f"{name}: {error}") from error
        if text is not None and not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise Unclear(f"{name}: half of a surrogate pair, no character") from error
        return text

    def _identity(self, record: TopicRecord, values: Values) -> bytes | None:
        if self.key:
            return repr([values.get(name) for name in self.key]).encode()
        return record.key if self.envelope == "debezium" else None


def _kind(kind: ValueType, path: Path) -> ValueType:
    for step in path:
        kind = kind.fields.get(step, PLAIN) if isinstance(step, str) else PLAIN
    return kind


def _original(record: TopicRecord) -> str:
    parts = [("key", record.key), ("value", record.value)]
    return "".join(f"\n{name}: {_shown(data)}" for name, data in parts if data is not None)


def _shown(data: bytes) -> str:
    head = data[:_SHOWN]
    try:
        text = head.decode()
    except UnicodeDecodeError:
        return head.hex()
    return text if text.isprintable() else head.hex()
