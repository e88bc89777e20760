"""Three brokers: one after the other goes, and whoever writes notices nothing but a wait."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from exchange.devtools.servers.kafka import Cluster
from exchange.log import Message, Topic
from exchange.log.kafka import KafkaLog
from exchange.settings import KafkaSettings
from tests.log.contract import fresh
from tests.support.security import wait_for

PARTITIONS = 6
"""With three brokers each leads some partitions and coordinates some of the transactional ids."""


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_every_partition_is_written_on_while_brokers_go_and_come(
    end: str, three_brokers: Cluster
) -> None:
    cluster, topic = three_brokers, Topic(fresh("raw"), PARTITIONS)
    settings = KafkaSettings(bootstrap=cluster.bootstrap, transaction_seconds=30)
    with closing(KafkaLog(settings, secret=str, base=Path())) as log:
        log.ensure([topic])
        items: list[bytes] = []
        for number in range(3):
            write(log, topic, b"before", items)
            getattr(cluster, end)(number)
            write(log, topic, b"without", items)
            wait_for(lambda: seen(log, topic) == (2, PARTITIONS, 0))
            cluster.start(number)
            wait_for(lambda: seen(log, topic) == (3, 0, 0))
        for partition in range(PARTITIONS):
            entries = log.read(topic.name, partition, 0, max_entries=100)
            assert [entry.value for entry in entries] == items


def seen(log: KafkaLog, topic: Topic) -> tuple[int, int, int]:
    """Count brokers, partitions with copies behind, and partitions that wait."""
    health = log.health([topic])
    return health.brokers, len(health.behind), len(health.stuck)


def write(log: KafkaLog, topic: Topic, value: bytes, written: list[bytes]) -> None:
    for partition in range(PARTITIONS):
        with log.transaction(f"partition/{partition}") as transaction:
            transaction.append(Message(topic.name, value, partition=partition))
    written.append(value)
