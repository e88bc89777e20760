"""kill -9 of the publishing process at each of its failpoints: nothing twice, nothing lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from exchange.log.kafka.producers import _Producer
from exchange.pipeline.context import PipelineContext
from exchange.publish.stage import PublishStage
from tests.pipeline.place import Striker, finish, start
from tests.publish import place
from tests.publish.conftest import Setup, client, kafka_log

BATCHES, ROWS = 30, 40
MADE = place.changes(BATCHES * ROWS, keys=60)


def publish(
    name: str, bootstrap: tuple[str, ...], registry: str, told: Path, strikes: tuple[str, int]
) -> None:
    """Publish in a process of its own, to be killed at a failpoint or in the midst of a commit."""
    strike = Striker(*strikes)
    catalog = place.catalog(name)
    await_ = _Producer._await

    def awaiting(self: _Producer, result: Any, deadline: float) -> None:
        strike("committing")
        await_(self, result, deadline)

    _Producer._await = awaiting  # type: ignore[method-assign]
    with kafka_log(bootstrap, "w") as log, client(registry, lambda: 0.0) as schemas:
        plain = place.context(catalog, log, strike)
        context = PipelineContext(
            plain.catalog, plain.log, plain.clock, plain.entropy, strike, partitions_of=two
        )
        opened = PublishStage(context, catalog.resources[name], schemas)
        count = sum(iter(opened.step, None))
        opened.close()
    told.write_text(json.dumps({"count": count, "failpoints": strike.names}))


def two(_resource: str) -> int:
    return 2


@pytest.mark.parametrize(
    ("failpoint", "number"),
    [
        ("publish:before", 1),
        ("committing", 1),  # the records stand on the topic, the position is not sent
        ("committing", 2),  # the commit is on its way
        ("committing", 5),
        ("committing", 6),
        ("publish:after", 3),
    ],
)
def test_killed_and_started_again(
    setup: Setup, tmp_path: Path, failpoint: str, number: int
) -> None:
    setup.partitions = 2
    parts = [[item for item in MADE if int(item.no[1:]) % 2 == partition] for partition in range(2)]
    for partition, part in enumerate(parts):
        setup.seal(*(part[at : at + ROWS] for at in range(0, len(part), ROWS)), partition=partition)
    told = tmp_path / "told.json"
    given = (setup.name, setup.bootstrap, setup.server.url, told)
    assert finish(start(publish, *given, (failpoint, number))) == -9
    assert finish(start(publish, *given, ("", 0))) == 0
    rest = json.loads(told.read_text())
    assert 0 < rest["count"] <= len(MADE)
    assert place.by_key(setup.read(), setup.decode) == place.expected(MADE)
