"""The bytes of a message as a document with its type: JSON, or Avro with a schema registry."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from exchange.connect import (
    ExchangeError,
    HttpClient,
    HttpLimits,
    Misconfigured,
    Rejected,
    Request,
    Response,
    Secret,
    Text,
)
from exchange.connectors.kafka.types import PLAIN, Unclear, ValueType, avro_type, connect_type
from exchange.connectors.rest.document import read_document

_HEAD = 5
"""Bytes before an Avro value: 0x00, and the number of its schema."""
_MAX_SCHEMAS = 1_000
_PLACE = Text("消息", "the message")


@dataclass(frozen=True, slots=True)
class Document:
    """A message's content and its type."""

    content: Any = field(repr=False)
    kind: ValueType = PLAIN


class Decoder(Protocol):
    """Reads the bytes of keys and values."""

    def __call__(self, data: bytes) -> Document:
        """Return the document; raises Unclear for bytes that are none, our errors for others."""


def read_json(data: bytes) -> Document:
    """Read JSON, numbers as they are written; with Connect's schema beside it, its type."""
    try:
        content = read_document(Response(200, {}, data), _PLACE)
    except ExchangeError as error:
        raise Unclear(error.what.en) from error
    if isinstance(content, dict) and content.keys() == {"schema", "payload"}:
        return Document(content["payload"], connect_type(content["schema"]))
    return Document(content)


@dataclass
class AvroReader:
    """Reads Confluent's wire format; asks the registry once for each schema."""

    registry: RegistryAccess
    client: HttpClient
    _schemas: dict[int, tuple[Any, ValueType]] = field(default_factory=dict)

    def __call__(self, data: bytes) -> Document:
        """Return the document; raises Unclear for bytes that are no Avro of that schema."""
        import fastavro

        if len(data) < _HEAD or data[0] != 0:
            raise Unclear("it does not begin with the number of a schema: no Confluent Avro")
        number = int.from_bytes(data[1:_HEAD], "big")
        schema, kind = self._schema(number)
        stream = io.BytesIO(data[_HEAD:])
        try:
            content = fastavro.schemaless_reader(stream, schema, None)
        except (ValueError, TypeError, EOFError, IndexError, KeyError, OverflowError) as error:
            raise Unclear(f"it is no Avro of schema {number}: {error}") from error
        if stream.read(1):
            raise Unclear(f"bytes are left over behind schema {number}")
        return Document(content, kind)

    def _schema(self, number: int) -> tuple[Any, ValueType]:
        if number not in self._schemas:
            if len(self._schemas) >= _MAX_SCHEMAS:
                self._schemas.clear()
            self._schemas[number] = self._ask(number)
        return self._schemas[number]

    def _ask(self, number: int) -> tuple[Any, ValueType]:
        import fastavro
        from fastavro.schema import SchemaParseException, UnknownType

        url = f"{self.registry.url.rstrip('/')}/schemas/ids/{number}"
        accept = "application/vnd.schemaregistry.v1+json, application/json"
        answer = self.client.fetch(
            lambda: Request(url, {"accept": accept, **self.registry.headers()})
        )
        try:
            content = json.loads(answer.body)
            text, kind = content["schema"], content.get("schemaType", "AVRO")
            schema = json.loads(text)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise _no_registry(url) from error
        if kind != "AVRO" or content.get("references"):
            raise _unread_schema(number, kind)
        try:
            parsed = fastavro.parse_schema(schema)
            _check(schema)
            return parsed, avro_type(parsed)
        except (SchemaParseException, UnknownType, ValueError, KeyError, TypeError) as error:
            raise _no_registry(url) from error


@dataclass(frozen=True, slots=True)
class RegistryAccess:
    """Where the schema registry is, and who asks."""

    url: str
    user: str
    password: Secret | None
    ca: Path | None
    insecure_http: bool
    seconds: float

    def headers(self) -> dict[str, str]:
        """Return what a request says about who asks."""
        if self.password is None:
            return {}
        pair = f"{self.user}:{self.password.reveal()}".encode()
        return {"authorization": f"Basic {base64.b64encode(pair).decode()}"}


@contextmanager
def decoder(
    value: Literal["json", "avro"],
    registry: RegistryAccess,
    now: Callable[[], datetime],
    sleep: Callable[[float], None],
) -> Iterator[Decoder]:
    """Open what reads keys and values; that of Avro holds a client of the registry."""
    if value == "json":
        yield read_json
        return
    if not registry.url:
        raise Misconfigured(
            Text("value: “avro” 需要 registry", "value: avro needs registry"),
            hint=Text("请修改该数据源的配置", "edit the settings of this source"),
        )
    connect = min(10, registry.seconds)
    client = HttpClient(
        registry.url,
        now=now,
        sleep=sleep,
        limits=HttpLimits(connect_seconds=connect, read_seconds=registry.seconds),
        ca=registry.ca,
        insecure_http=registry.insecure_http,
        hide=registry.password.hide if registry.password else str,
    )
    try:
        yield AvroReader(registry, client)
    finally:
        client.close()


def _check(schema: Any) -> None:
    """Refuse lists of nothing: a few bytes could name billions of items."""
    if isinstance(schema, list):
        for part in schema:
            _check(part)
    elif isinstance(schema, Mapping):
        if "null" in (schema.get("items"), schema.get("values")):
            raise ValueError("a list of nulls")
        for part in schema.get("fields", ()):
            _check(part["type"])
        for name in ("type", "items", "values"):
            _check(schema.get(name))


def _no_registry(url: str) -> Rejected:
    return Rejected(
        Text(
            f"{url} 的应答不是模式注册中心的 Avro 模式",
            f"what {url} answers is no Avro schema of a registry",
        ),
        hint=Text("请检查 registry 的地址", "check the address in registry"),
    )


def _unread_schema(number: int, kind: Any) -> Misconfigured:
    return Misconfigured(
        Text(
            f"模式 {number} 的类型是 {str(kind)[:40]}，或引用了其他模式",
            f"schema {number} is of the type {str(kind)[:40]}, or refers to other schemas",
        ),
        hint=Text(
            "只读取不引用其他模式的 Avro：请让写入方登记完整的模式",
            "Avro without references is read: have the writer register whole schemas",
        ),
    )
