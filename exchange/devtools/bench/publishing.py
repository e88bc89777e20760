"""What publishing costs: the records of a resource from sealed batches onto their topic."""

from __future__ import annotations

from dataclasses import dataclass

from exchange.devtools.bench.measure import Stopwatch, Usage
from exchange.pipeline.context import PipelineContext
from exchange.publish.stage import PublishStage


@dataclass(frozen=True, slots=True)
class PublishingCost:
    """How many records, and what they cost this process."""

    records: int
    usage: Usage

    @property
    def per_second(self) -> float:
        """Records per second."""
        return self.records / self.usage.wall

    @property
    def cpu_per_million(self) -> float:
        """CPU seconds of this process per million records."""
        return self.usage.cpu * 1e6 / self.records


class FixedRegistry:
    """Numbers schemas itself: a registry is asked once a minute, which is nothing to measure."""

    def __init__(self) -> None:
        """Begin with 1."""
        self._numbers: dict[str, int] = {}

    def number(self, _subject: str, schema: str) -> int:
        """Return the number of a schema."""
        return self._numbers.setdefault(schema, len(self._numbers) + 1)


def publish_rate(context: PipelineContext, resource: str) -> PublishingCost:
    """Publish everything that is sealed of a resource and not published yet.

    ``context`` is one on Kafka; joining the group is not counted.
    """
    stage = PublishStage(context, context.resource(resource), FixedRegistry())
    try:
        watch, records = Stopwatch(), 0
        while (count := stage.step()) is not None:
            records += count
        return PublishingCost(records, watch.usage())
    finally:
        stage.close()
