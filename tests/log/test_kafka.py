"""The contract on a real broker, and what only a cluster has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from exchange.bench.broker import brokers
from exchange.log import Consumer
from exchange.log.kafka import KafkaLog
from exchange.log.kafka.reader import KafkaConsumer
from exchange.settings import KafkaSettings
from tests.log.contract import LogContract, Opener


def no_secret(reference: str) -> str:
    raise AssertionError(reference)


@pytest.fixture(scope="session")
def bootstrap() -> Iterator[tuple[str, ...]]:
    with brokers() as cluster:
        yield cluster.bootstrap


@pytest.fixture
def settings(bootstrap: tuple[str, ...]) -> KafkaSettings:
    return KafkaSettings(
        bootstrap=bootstrap, replication=1, min_insync=1, request_seconds=10, transaction_seconds=10
    )


class TestKafka(LogContract):
    @pytest.fixture
    def opener(self, settings: KafkaSettings) -> Opener:
        return lambda: KafkaLog(settings, secret=no_secret, base=Path())

    def hand_over(self, consumer: Consumer) -> None:
        """Take its membership away behind its back: from now on it is a zombie."""
        assert isinstance(consumer, KafkaConsumer)
        consumer.member.close()
