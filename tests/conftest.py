"""Servers that several rooms test against, started once per run when first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from exchange.bench.broker import brokers
from tests import servers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exchange.bench.broker import Cluster

# How long an example takes depends on what else the machine does.
settings.register_profile("here", deadline=None)
settings.load_profile("here")


@pytest.fixture(scope="session")
def postgres() -> Iterator[servers.Server]:
    with servers.postgres() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[servers.Server]:
    with servers.mariadb() as server:
        yield server


@pytest.fixture(scope="session")
def kafka_broker() -> Iterator[Cluster]:
    with brokers() as cluster:
        yield cluster
