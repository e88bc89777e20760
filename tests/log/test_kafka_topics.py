"""Topics on the cluster: made as they should be, compared, put right."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from kafka.admin import ConfigResource, ConfigResourceType

from exchange.log import MAX_VALUE_BYTES, Message, Topic
from exchange.log.kafka import Drift, KafkaLog
from exchange.log.kafka.topics import TopicAdmin
from exchange.settings import KafkaSettings
from tests.log.contract import fresh


@pytest.fixture
def log(settings: KafkaSettings) -> Iterator[KafkaLog]:
    log = KafkaLog(settings, secret=str, base=Path())
    yield log
    log.close()


def test_what_is_made_is_as_it_should_be(log: KafkaLog) -> None:
    topics = [Topic(fresh("raw"), partitions=3), Topic(fresh("cursors"), compacted=True)]
    assert log.drift(topics) == [
        Drift(topic.name, "topic", "exists", "missing") for topic in topics
    ]
    log.ensure(topics)
    assert log.drift(topics) == []
    assert set(topics) <= set(log.topics())


def test_others_changes_show_and_are_put_right(log: KafkaLog, settings: KafkaSettings) -> None:
    name, missing = fresh("raw"), fresh("sealed")
    log.ensure([Topic(name)])
    changed = {"retention.ms": "1000", "max.message.bytes": "2000"}
    log._cluster().alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, changed)])
    items = [Topic(name, partitions=2), Topic(missing)]
    more = KafkaLog(settings.model_copy(update={"replication": 2}), secret=str, base=Path())
    few = Drift(name, "replication", "2", "1")
    assert set(more.drift(items)) == {
        Drift(name, "partitions", "2", "1"),
        Drift(name, "retention.ms", "-1", "1000"),
        Drift(name, "max.message.bytes", "1065536", "2000"),
        Drift(missing, "topic", "exists", "missing"),
        few,
    }
    more.close()
    assert log.repair(items) == []
    assert log.drift(items) == []


def test_more_partitions_than_asked_for_are_nobodys_business(log: KafkaLog) -> None:
    name = fresh("raw")
    log.ensure([Topic(name, partitions=2)])
    log.ensure([Topic(name)])
    assert log.drift([Topic(name)]) == []
    assert Topic(name, partitions=2) in log.topics()


def test_retention_by_kind(settings: KafkaSettings) -> None:
    kept = settings.model_copy(update={"retention": {"raw": timedelta(days=7)}})
    topics = TopicAdmin(kept)
    assert topics.configs(Topic("exchange.raw.a"))["retention.ms"] == str(7 * 24 * 3600 * 1000)
    for name in ("exchange.sealed.a", "exchange.receipts", "elsewhere"):
        assert topics.configs(Topic(name))["retention.ms"] == "-1"
    assert "retention.ms" not in topics.configs(Topic("exchange.cursors", compacted=True))


def test_a_largest_message_has_room_for_its_envelope(log: KafkaLog) -> None:
    name = fresh("raw")
    log.ensure([Topic(name)])
    message = Message(name, bytes(MAX_VALUE_BYTES), "k" * 1000, {"h" * 100: "v" * 1000})
    with log.transaction("writer") as transaction:
        transaction.append(message)
    assert log.bounds(name, 0) == (0, 1)


def test_topics_of_others_are_not_ours(log: KafkaLog) -> None:
    foreign = fresh("raw").replace("exchange.", "elsewhere.")
    log.ensure([Topic(foreign)])
    assert foreign not in {topic.name for topic in log.topics()}
