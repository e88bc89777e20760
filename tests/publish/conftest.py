from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from exchange.catalog.model import Catalog, Resource
from exchange.devtools.servers.kafka import Cluster
from exchange.log import CURSORS, Topic, records_topic
from exchange.log.kafka import KafkaLog
from exchange.pipeline.context import PipelineContext
from exchange.publish.registry import Registry, connect
from exchange.publish.stage import PublishStage
from exchange.settings import KafkaSettings, NodeIdentity, RegistrySettings, Settings
from tests.publish import place
from tests.publish import registry as served


@pytest.fixture
def server() -> Iterator[served.Running]:
    with served.running() as running:
        yield running


@contextlib.contextmanager
def kafka_log(bootstrap: tuple[str, ...], worker: str = "") -> Iterator[KafkaLog]:
    settings = KafkaSettings(
        bootstrap=bootstrap, replication=1, min_insync=1, transaction_seconds=4
    )
    log = KafkaLog(settings, secret=str, base=Path(), worker=worker)
    with contextlib.closing(log):
        log.ensure([Topic(CURSORS, compacted=True)])
        yield log


@contextlib.contextmanager
def client(url: str, monotonic: Callable[[], float]) -> Iterator[Registry]:
    settings = Settings(node=NodeIdentity(code="232700", name="大兴安岭地区"))
    section = RegistrySettings(url=url)
    with connect(settings, section, environ={}, monotonic=monotonic) as registry:
        yield registry


@dataclass
class Setup:
    """A resource of its own on the broker, and a registry."""

    name: str
    bootstrap: tuple[str, ...]
    server: served.Running
    log: KafkaLog
    partitions: int = 1
    now: float = 0.0
    """What the registry's client takes for the time."""

    def __post_init__(self) -> None:
        self.opened = ExitStack()
        self.catalog: Catalog = place.catalog(self.name)
        self._number = 0

    @property
    def resource(self) -> Resource:
        return self.catalog.resources[self.name]

    @property
    def topic(self) -> str:
        return records_topic(self.name)

    def context(self, log: KafkaLog | None = None) -> PipelineContext:
        context = place.context(self.catalog, log or self.log)
        return PipelineContext(
            context.catalog,
            context.log,
            context.clock,
            context.entropy,
            partitions_of=lambda _: self.partitions,
        )

    def seal(self, *batches: list[place.Change], partition: int = 0) -> None:
        """Seal changes, a batch for each list."""
        self.context().ensure(self.name)
        messages = []
        for rows in batches:
            self._number += 1
            messages.append(
                place.sealed(self.resource, [row.row for row in rows], self._number, partition)
            )
        place.append(self.log, messages)

    def stage(self, log: KafkaLog | None = None) -> PublishStage:
        registry = self.opened.enter_context(client(self.server.url, lambda: self.now))
        stage = PublishStage(self.context(log), self.resource, registry)
        self.opened.callback(stage.close)
        return stage

    def read(self) -> list[place.ConsumedMessage]:
        return place.read(self.bootstrap, self.topic)

    @property
    def decode(self) -> place.Decoder:
        return place.Decoder(self.server.schema)


@pytest.fixture
def setup(kafka_broker: Cluster, server: served.Running) -> Iterator[Setup]:
    with kafka_log(kafka_broker.bootstrap) as log:
        result = Setup(f"t{uuid.uuid4().hex[:12]}", kafka_broker.bootstrap, server, log)
        with result.opened:
            yield result
