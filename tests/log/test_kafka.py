"""The contract on a real broker."""

from __future__ import annotations

from pathlib import Path

import pytest

from exchange.log import Consumer
from exchange.log.kafka import KafkaLog
from exchange.log.kafka.reader import KafkaConsumer
from exchange.settings import KafkaSettings
from tests.log.contract import LogContract, Opener


class TestKafka(LogContract):
    @pytest.fixture
    def opener(self, settings: KafkaSettings) -> Opener:
        return lambda: KafkaLog(settings, secret=str, base=Path())

    def hand_over(self, consumer: Consumer) -> None:
        """Take its membership away behind its back: from now on it is a zombie."""
        assert isinstance(consumer, KafkaConsumer)
        consumer.member.close()
