"""Kafka for connectors: reads the partitions of one topic, from an offset to an offset.

It joins no group and commits nothing: where a source stands is its cursor's business. Only
decided records are read. Errors of kafka-python are sorted by the error map.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from exchange.connect.secrets import Secret
from exchange.errors import Misconfigured, Rejected, Transient
from exchange.text import Text, suggest

if TYPE_CHECKING:
    import kafka

_POLL_MS = 250
_RECORDS = 2_000
"""Records of one poll."""
_FETCH_BYTES = 8_000_000
_NO_ID = UUID(int=0)


@dataclass(frozen=True, slots=True)
class KafkaAccess:
    """Where the brokers are, and who asks. Certificates are paths of PEM files."""

    bootstrap: Sequence[str]
    user: str = ""
    password: Secret | None = None
    mechanism: str = "SCRAM-SHA-512"
    tls: bool = False
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    insecure_plaintext: bool = False
    seconds: float = 30
    """Time limit of a request."""

    def check(self) -> None:
        """Raise Misconfigured for settings that contradict each other or are not safe."""
        from exchange.kafka_client import is_loopback

        far = [address for address in self.bootstrap if not is_loopback(address)]
        problems = [
            (
                bool(self.user) != (self.password is not None),
                Text("user 与 password 必须同时给出", "user and password stand together"),
            ),
            (
                (self.certificate is None) != (self.key is None),
                Text("certificate 与 key 必须同时给出", "certificate and its key stand together"),
            ),
            (
                not self.tls and any((self.ca, self.certificate, self.key)),
                Text("给出了证书但 tls 未开启", "there are certificates without tls"),
            ),
            (
                bool(far) and not self.tls and not self.insecure_plaintext,
                Text(
                    f"到 {', '.join(far)} 的连接没有加密：设置 tls: true，"
                    "确需明文时设置 insecure_plaintext: true",
                    f"the connection to {', '.join(far)} would be in the clear: set tls: true, "
                    "or insecure_plaintext: true when that is what you mean",
                ),
            ),
        ]
        wrong = [text for applies, text in problems if applies]
        if wrong:
            raise Misconfigured(
                Text("；".join(t.zh for t in wrong), "; ".join(t.en for t in wrong)),
                hint=Text("请修改该数据源的配置", "edit the settings of this source"),
            )

    def config(self) -> dict[str, Any]:
        """Return what kafka-python's consumer is configured with."""
        from exchange.kafka_client import PROXY, HiddenPassword, tls_context

        milliseconds = int(self.seconds * 1000)
        config: dict[str, Any] = {
            "bootstrap_servers": list(self.bootstrap),
            "proxy_url": PROXY,
            "client_id": "exchange-connector",
            "request_timeout_ms": milliseconds,
            "bootstrap_timeout_ms": milliseconds,
            "retry_backoff_ms": 50,
            "reconnect_backoff_max_ms": 1_000,
            "security_protocol": ("SASL_" if self.user else "")
            + ("SSL" if self.tls else "PLAINTEXT"),
            "group_id": None,
            "enable_auto_commit": False,
            "auto_offset_reset": "none",
            "isolation_level": "read_committed",
            "allow_auto_create_topics": False,
            "exclude_internal_topics": True,
            "metrics_enabled": False,
            "max_partition_fetch_bytes": _FETCH_BYTES,
            "fetch_max_wait_ms": _POLL_MS,
        }
        if self.tls:
            try:
                config["ssl_context"] = tls_context(self.ca, self.certificate, self.key)
            except OSError as error:  # a file is missing, or is no PEM
                raise Misconfigured(
                    Text("证书文件不可用", "the certificate files cannot be used"),
                    hint=Text(
                        "核对 ca、certificate、key 的路径：PEM，且互相匹配",
                        "check ca, certificate and key: PEM files that belong together",
                    ),
                ) from error
        if self.user and self.password is not None:
            config["sasl_mechanism"] = self.mechanism
            config["sasl_plain_username"] = self.user
            config["sasl_plain_password"] = HiddenPassword(self.password.reveal())
        return config


@dataclass(frozen=True, slots=True)
class TopicRecord:
    """A message of a topic; ``time`` is its own, in ms of the epoch."""

    offset: int
    time: int
    key: bytes | None = field(repr=False)
    value: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class TopicBounds:
    """What a topic holds now: its id, and of each partition the first offset and the end."""

    identity: str
    """Empty where brokers are older than Kafka 2.8."""
    first: Mapping[int, int]
    end: Mapping[int, int]


class TopicReader:
    """An open connection; used by one thread."""

    def __init__(self, consumer: kafka.KafkaConsumer, seconds: float) -> None:
        self._consumer = consumer
        self._seconds = seconds

    def names(self) -> list[str]:
        """List the topics that the user may see, but Kafka's own."""
        return sorted(str(name) for name in self._consumer.topics() if not name.startswith("__"))

    def bounds(self, topic: str) -> TopicBounds:
        """Return what a topic holds; raises Misconfigured where there is no such topic."""
        from kafka import TopicPartition

        names = self.names()
        if topic not in names:
            near = suggest(topic, names)
            raise Misconfigured(
                Text(
                    f"没有主题 {topic}，或该用户看不到它（{near.zh}）",
                    f"there is no topic {topic}, or the user may not see it ({near.en})",
                ),
                hint=Text(
                    "请检查 topic，以及该用户的“Describe”和“Read”权限",
                    "check topic, and the user's rights to Describe and Read it",
                ),
            )
        partitions = [TopicPartition(topic, n) for n in self._consumer.partitions_for_topic(topic)]
        limit = int(self._seconds * 1000)
        first = self._consumer.beginning_offsets(partitions, timeout_ms=limit)
        end = self._consumer.end_offsets(partitions, timeout_ms=limit)
        # The consumer's public methods do not tell a topic's id, its table of the cluster does.
        identity = self._consumer._cluster.topic_id(topic)  # noqa: SLF001
        return TopicBounds(
            "" if identity in (None, _NO_ID) else identity.hex,
            {partition.partition: offset for partition, offset in first.items()},
            {partition.partition: offset for partition, offset in end.items()},
        )

    def offsets_at(self, topic: str, partitions: Sequence[int], time: int) -> dict[int, int | None]:
        """Return the first offset of each partition at or after ``time``, ms; None: none."""
        from kafka import TopicPartition

        asked = {TopicPartition(topic, number): time for number in partitions}
        answer = self._consumer.offsets_for_times(asked, timeout_ms=int(self._seconds * 1000))
        return {
            partition.partition: None if place is None else place.offset
            for partition, place in answer.items()
        }

    def read(
        self, topic: str, partition: int, start: int, end: int, now: Callable[[], datetime]
    ) -> Iterator[TopicRecord]:
        """Yield what lies in [start, end) of a partition.

        Raises Transient when nothing comes for the time limit, Rejected for a gap: what ``start``
        names has been dropped, or the partition ends before it.
        """
        from kafka import TopicPartition, errors

        place = TopicPartition(topic, partition)
        self._consumer.assign([place])
        self._consumer.seek(place, start)
        position, patience = start, timedelta(seconds=self._seconds)
        since = now()
        while position < end:
            try:
                batches = self._consumer.poll(timeout_ms=_POLL_MS, max_records=_RECORDS)
            except errors.OffsetOutOfRangeError as error:
                raise dropped(topic, partition, position) from error
            for record in batches.get(place, ()):
                if record.offset >= end:
                    return
                yield TopicRecord(record.offset, record.timestamp, record.key, record.value)
            reached = self._consumer.position(place, timeout_ms=int(self._seconds * 1000))
            if reached is not None and reached > position:
                position, since = reached, now()
            elif now() - since > patience:
                raise Transient(
                    Text(
                        f"{topic}/{partition} 在 {self._seconds:g} 秒内没有应答",
                        f"{topic}/{partition} gave nothing for {self._seconds:g} s",
                    ),
                    hint=Text(
                        "请检查代理是否在运行；下次拉取会继续",
                        "check that its brokers run; the next pull goes on",
                    ),
                )


@contextmanager
def topic_reader(access: KafkaAccess) -> Iterator[TopicReader]:
    """Connect; raises Misconfigured for settings that are not safe, Denied, Transient."""
    try:
        import kafka
    except ModuleNotFoundError as error:
        raise Misconfigured(
            Text("缺少 kafka-python", "kafka-python is not installed"),
            hint=Text("pip install 'gov-exchange[kafka]'", "pip install 'gov-exchange[kafka]'"),
        ) from error
    from exchange.kafka_client import opened, probe

    logging.getLogger("kafka").addHandler(logging.NullHandler())  # our errors tell it all
    access.check()
    config = access.config()
    probe.check(access.bootstrap, config, access.seconds, section="with")
    consumer = opened(kafka.KafkaConsumer, **config)
    try:
        yield TopicReader(consumer, access.seconds)
    finally:
        consumer.close()


def dropped(topic: str, partition: int, offset: int) -> Rejected:
    """Return the error for records that are gone before they were read."""
    return Rejected(
        Text(
            f"{topic}/{partition} 从偏移量 {offset} 起的消息已被删除，尚未读取",
            f"messages of {topic}/{partition} from offset {offset} on were dropped unread",
        ),
        hint=Text(
            "请对方恢复或重新全量写入，然后用 exchange source rewind 指定新的起点；"
            "拉取间隔须短于主题的保留时间",
            "have them written again, then name a new start with `exchange source rewind`; "
            "pull more often than the topic's retention",
        ),
    )
