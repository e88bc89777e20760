"""One broker for all tests of the log that need one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from exchange.bench.broker import brokers
from exchange.settings import KafkaSettings


@pytest.fixture(scope="session")
def bootstrap() -> Iterator[tuple[str, ...]]:
    with brokers() as cluster:
        yield cluster.bootstrap


@pytest.fixture
def settings(bootstrap: tuple[str, ...]) -> KafkaSettings:
    return KafkaSettings(
        bootstrap=bootstrap, replication=1, min_insync=1, request_seconds=10, transaction_seconds=10
    )
