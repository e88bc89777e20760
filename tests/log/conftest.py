"""What all tests of the log that need a broker share."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

from exchange.settings import KafkaSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from exchange.devtools.servers.kafka import Cluster


def pytest_itemcollected(item: pytest.Item) -> None:
    if item.path.name.startswith("test_kafka"):
        # kafka-python leaves the sockets of connections that were reset to the garbage collector.
        item.add_marker(
            pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
        )


@pytest.fixture(scope="module", autouse=True)
def _collected(request: pytest.FixtureRequest) -> Iterator[None]:
    """Collects them before tests begin that do not forgive it."""
    yield
    path: Path = request.path
    if path.name.startswith("test_kafka"):
        gc.collect()


@pytest.fixture
def settings(kafka_broker: Cluster) -> KafkaSettings:
    return KafkaSettings(
        bootstrap=kafka_broker.bootstrap,
        replication=1,
        min_insync=1,
        request_seconds=10,
        transaction_seconds=10,
    )
