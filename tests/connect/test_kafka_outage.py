"""The kafka connector while its broker stands still: an error, and nothing is lost afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from exchange.connect.conformance import Case, Changes, reports_outages
from exchange.devtools.servers.kafka import Cluster
from tests.connect.test_kafka import TopicPlace, record
from tests.support.conformity import conform


def test_kafka_conforms_in_an_outage(mortal_broker: Cluster) -> None:
    topic = TopicPlace(mortal_broker, partitions=2)
    for partition in range(2):
        numbers = range(partition * 5, partition * 5 + 5)
        topic.write(*(record(n, "a") for n in numbers), partition=partition)

    @contextmanager
    def outage() -> Iterator[None]:
        mortal_broker.pause(0)
        yield
        mortal_broker.resume(0)

    conform(
        "kafka",
        reports_outages,
        Case(
            open=lambda: topic.source(batch_rows=3, seconds=1),
            rows=[(str(n), "a") for n in range(10)],
            identity=("id", "name"),
            news_only=True,
            changes=Changes(outage=outage),
        ),
    )
