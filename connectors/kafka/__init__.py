"""kafka: any topic of a Kafka cluster: JSON, Avro with a schema registry, Debezium's changes.

Offsets of partitions are the cursor; no group is joined and nothing is committed there. A
message that cannot be read is the defect of its record. What was dropped before it was read,
and a topic that was made anew, are errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from exchange.connect import (
    Cursor,
    ExchangeError,
    Misconfigured,
    Pulled,
    Secret,
    Text,
    connector,
)
from exchange.connect.topic_reader import KafkaAccess, TopicReader, topic_reader
from exchange.connectors.kafka.pull import TopicPull, Versions
from exchange.connectors.kafka.records import Envelope, RecordReader
from exchange.connectors.kafka.values import RegistryAccess, decoder

_ZONE = timezone(timedelta(hours=8))
_DESCRIBED = 20
"""Topics whose first records are looked at when topics are listed."""
_SEEN = 20
"""Records looked at."""


class _Settings(Protocol):
    """The settings below, as all but the pull itself gets them."""

    bootstrap: tuple[str, ...]
    topic: str
    value: Literal["json", "avro"]
    envelope: Envelope
    columns: dict[str, str]
    absent: Literal["error", "null"]
    key: tuple[str, ...]
    user: str
    password: Secret | None
    mechanism: str
    tls: bool
    ca: Path | None
    certificate: Path | None
    client_key: Path | None
    insecure_plaintext: bool
    registry: str
    registry_user: str
    registry_password: Secret | None
    registry_ca: Path | None
    insecure_http: bool
    seconds: float


@connector("kafka")
def kafka(
    *,
    bootstrap: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[^\s/@:]+:\d{1,5}$")], ...],
        Text("代理的地址，host:port", "addresses of brokers, host:port"),
        Field(min_length=1),
    ],
    topic: Annotated[str, Text("主题", "the topic")] = "",
    value: Annotated[
        Literal["json", "avro"],
        Text("消息内容：“json”，或“avro”（需 registry）", "what messages are; avro needs registry"),
    ] = "json",
    envelope: Annotated[
        Envelope,
        Text("消息是 debezium 变更事件，或本身就是记录", "debezium's change events, or records"),
    ] = "none",
    columns: Annotated[
        dict[str, str],
        Text("列名: 值的路径；默认取全部字段", "column: path to its value; else all fields"),
    ] = {},  # noqa: B006 - a setting's default is copied, never changed
    absent: Annotated[
        Literal["error", "null"],
        Text("消息缺少字段时", "what a field means that a message lacks"),
    ] = "error",
    key: Annotated[
        tuple[str, ...],
        Text("区分记录的列；debezium 默认用消息键", "columns that tell records apart"),
    ] = (),
    versions: Annotated[
        Versions,
        Text(
            "同一记录的多个版本：全部，或每帧只取最后一个",
            "versions of a record: all of them, or the last of each frame",
        ),
    ] = "all",
    user: Annotated[str, Text("用户名（SASL）", "the user (SASL)")] = "",
    password: Annotated[Secret | None, Text("密码", "the password")] = None,
    mechanism: Annotated[
        Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"],
        Text("SASL 机制", "mechanism of SASL"),
    ] = "SCRAM-SHA-512",
    tls: Annotated[bool, Text("使用 TLS", "use TLS")] = False,
    ca: Annotated[Path | None, Text("信任的根证书文件", "file of the authorities to trust")] = None,
    certificate: Annotated[Path | None, Text("本方证书（PEM）", "our certificate, PEM")] = None,
    client_key: Annotated[Path | None, Text("本方证书的私钥（PEM）", "its key, PEM")] = None,
    insecure_plaintext: Annotated[
        bool, Text("允许明文连接其他机器", "allow a connection in the clear to another machine")
    ] = False,
    registry: Annotated[
        str, Text("模式注册中心地址，https", "address of the schema registry, https")
    ] = "",
    registry_user: Annotated[str, Text("模式注册中心的用户名", "user of the registry")] = "",
    registry_password: Annotated[
        Secret | None, Text("模式注册中心的密码", "password of the registry")
    ] = None,
    registry_ca: Annotated[
        Path | None, Text("模式注册中心的根证书文件", "authorities to trust for the registry")
    ] = None,
    insecure_http: Annotated[
        bool, Text("允许明文 http 到其他机器的注册中心", "allow plain http to a far registry")
    ] = False,
    batch_rows: Annotated[
        int, Text("每帧最多记录数", "most records of a frame"), Field(ge=1, le=100_000)
    ] = 8_192,
    seconds: Annotated[
        float, Text("请求时限，秒", "time limit of a request, s"), Field(ge=1, le=300)
    ] = 30,
    cursor: Cursor | None,
    now: Callable[[], datetime],
    sleep: Callable[[float], None],
    base: Path,
) -> Iterator[Pulled]:
    """Pull the records of a topic; offsets are the cursor."""
    if not topic:
        raise _no_topic()
    access = KafkaAccess(
        bootstrap,
        user,
        password,
        mechanism,
        tls,
        _path(base, ca),
        _path(base, certificate),
        _path(base, client_key),
        insecure_plaintext,
        seconds,
    )
    asked = RegistryAccess(
        registry,
        registry_user,
        registry_password,
        _path(base, registry_ca),
        insecure_http,
        seconds,
    )
    with decoder(value, asked, now, sleep) as decode, topic_reader(access) as reader:
        records = RecordReader(decode, envelope, columns, absent == "null", key)
        yield from TopicPull(reader, records, topic, versions, batch_rows, cursor, now).frames()


@kafka.check
def check(settings: _Settings, base: Path) -> Text:
    """Look at the topic and count what it holds."""
    topic = _topic(settings)
    with _reader(settings, base) as reader:
        bounds = reader.bounds(topic)
    held = sum(bounds.end.values()) - sum(bounds.first.values())
    partitions = len(bounds.first)
    return Text(
        f"主题 {topic} 有 {partitions} 个分区，约 {held} 条消息",
        f"the topic {topic} has {partitions} partitions and about {held} messages",
    )


@kafka.discover
def discover(
    settings: _Settings,
    now: Callable[[], datetime],
    sleep: Callable[[float], None],
    base: Path,
) -> list[dict[str, Any]]:
    """List the topics, or the one of the settings; with the columns of their first records."""
    with _records(settings, now, sleep, base) as records, _reader(settings, base) as reader:
        names = [settings.topic] if settings.topic else reader.names()
        entries = [_described(name, reader, records, now) for name in names[:_DESCRIBED]]
    return entries + [
        {"name": name, "kind": "topic", "with": {"topic": name}} for name in names[_DESCRIBED:]
    ]


@kafka.rewind
def rewind(settings: _Settings, base: Path, to: str) -> Cursor:
    """Return the cursor that starts with the messages of a time, inclusive."""
    topic = _topic(settings)
    try:
        moment = datetime.fromisoformat(to)
    except ValueError as error:
        raise Misconfigured(
            Text(f"{to!r} 不是时间", f"{to!r} is no time"),
            hint=Text(
                "写成 2026-11-01 08:00:00（+08:00），按消息时间定位",
                "write 2026-11-01 08:00:00 (+08:00): it is looked up by the messages' time",
            ),
        ) from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=_ZONE)
    with _reader(settings, base) as reader:
        bounds = reader.bounds(topic)
        at = reader.offsets_at(topic, sorted(bounds.end), int(moment.timestamp() * 1000))
    ends = bounds.end.items()
    places = {n: end if (place := at.get(n)) is None else place for n, end in ends}
    return {
        "topic": topic,
        "id": bounds.identity,
        "next": {str(number): offset for number, offset in sorted(places.items())},
    }


@kafka.concerns
def concerns(bootstrap: tuple[str, ...], tls: bool, insecure_plaintext: bool) -> tuple[Text, ...]:  # noqa: FBT001 - settings
    """Say what a person should look into."""
    if insecure_plaintext and not tls:
        far = ", ".join(bootstrap)
        return (
            Text(
                f"到 {far} 的连接没有加密：内容和密码可被窃听、篡改",
                f"the connection to {far} is in the clear: others can read and change it",
            ),
        )
    return ()


def _described(
    name: str, reader: TopicReader, records: RecordReader, now: Callable[[], datetime]
) -> dict[str, Any]:
    """Describe a topic by its first records."""
    bounds = reader.bounds(name)
    entry: dict[str, Any] = {"name": name, "kind": "topic", "with": {"topic": name}}
    entry |= {"rows": sum(bounds.end.values()) - sum(bounds.first.values()), "about": True}
    names: dict[str, None] = {}
    why = ""
    for partition, first in sorted(bounds.first.items()):
        if names or why:
            break
        end = min(bounds.end[partition], first + _SEEN)
        for record in reader.read(name, partition, first, end, now):
            try:
                change = records.read(record)
            except ExchangeError as error:
                why = error.what.en
                break
            if change is not None and change.defect is not None:
                why = change.defect.partition("\n")[0]
            elif change is not None:
                names |= dict.fromkeys(change.values)
    if names:
        entry["columns"] = [{"name": column, "type": "String"} for column in names]
    elif why:
        entry["why"] = {"zh": f"首批消息无法读取：{why}", "en": f"its first messages: {why}"}
    return entry


def _topic(settings: _Settings) -> str:
    if not settings.topic:
        raise _no_topic()
    return settings.topic


def _no_topic() -> Misconfigured:
    return Misconfigured(
        Text("缺少 topic", "topic is missing"),
        hint=Text("exchange connector discover 列出主题", "see `exchange connector discover`"),
    )


def _path(base: Path, file: Path | None) -> Path | None:
    return base / file if file else None


def _reader(settings: _Settings, base: Path) -> AbstractContextManager[TopicReader]:
    return topic_reader(
        KafkaAccess(
            settings.bootstrap,
            settings.user,
            settings.password,
            settings.mechanism,
            settings.tls,
            _path(base, settings.ca),
            _path(base, settings.certificate),
            _path(base, settings.client_key),
            settings.insecure_plaintext,
            settings.seconds,
        )
    )


@contextmanager
def _records(
    settings: _Settings, now: Callable[[], datetime], sleep: Callable[[float], None], base: Path
) -> Iterator[RecordReader]:
    asked = RegistryAccess(
        settings.registry,
        settings.registry_user,
        settings.registry_password,
        _path(base, settings.registry_ca),
        settings.insecure_http,
        settings.seconds,
    )
    optional = settings.absent == "null"
    with decoder(settings.value, asked, now, sleep) as decode:
        yield RecordReader(decode, settings.envelope, settings.columns, optional, settings.key)
