"""What the stages work with: catalog, log, clock, entropy; topics, partitions and their states."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from exchange.catalog.model import Catalog, Resource
from exchange.errors import Integrity, Misconfigured, Transient
from exchange.log import CURSORS, Entry, Log, Topic, quarantine_topic, raw_topic, sealed_topic
from exchange.pipeline.messages import PullState, pull_key
from exchange.pipeline.partition import PartitionState, partition_key
from exchange.text import Text

if TYPE_CHECKING:
    from exchange.log.frames import Recent

CHUNK_ENTRIES = 8
"""Raw messages checked at once: columns want 20,000 rows and more (D1)."""
CHUNK_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class PipelineContext:
    """What the stages work with."""

    catalog: Catalog
    log: Log
    clock: Callable[[], datetime]
    entropy: Callable[[int], bytes]
    failpoint: Callable[[str], None] = lambda _name: None
    """Called before and after each stage with its name; a kill test strikes there."""
    partitions_of: Callable[[str], int] = lambda _resource: 1
    """How many partitions a resource is meant to have; its topics may have more, never fewer."""
    sleep: Callable[[float], None] = time.sleep

    @cached_property
    def recent(self) -> Recent:
        """Frames of the newest raw messages; made when asked: a status needs no columns."""
        from exchange.log.frames import Recent

        return Recent()

    def resource(self, name: str) -> Resource:
        """Return a resource of the catalog; raises Rejected naming the ones there are."""
        return self.catalog.resource(name)

    def ensure(self, resource: str) -> None:
        """Create the topics of a resource, or give them more partitions."""
        if self.partitions_of(resource) > 1 and self.resource(resource).unique:
            raise Misconfigured(
                Text(
                    f"资源 {resource} 除主键外另有唯一性规则，只能有一个分区",
                    f"{resource} has uniqueness rules beside its key: it can have one partition",
                ),
                hint=Text(
                    "各分区只按主键分流，看不到彼此的记录；请在 log.partitions 中改为 1",
                    "partitions share records out by the key and do not see each other's;"
                    " set it to 1 in log.partitions",
                ),
            )
        names = (raw_topic(resource), sealed_topic(resource), quarantine_topic(resource))
        known = {topic.name for topic in self.log.topics([*names, CURSORS])}
        gone = [name for name in names if name not in known]
        if gone and CURSORS in known and self.latest(partition_key(resource, 0)) is not None:
            raise Integrity(
                Text(f"主题 {gone[0]} 已被删除", f"the topic {gone[0]} was deleted"),
                hint=Text(
                    "恢复备份，或确认丢失后用 exchange catalog apply 重建该主题",
                    "restore a backup; or accept the loss and make it anew with"
                    " `exchange catalog apply`",
                ),
            )
        self.log.ensure([Topic(name, self.partitions_of(resource)) for name in names])

    def partitions(self, resource: str) -> int:
        """Count the partitions that a resource has in the log; its topics exist.

        Raises Transient while a broker has not heard yet of topics that another has just made.
        """
        raw = raw_topic(resource)
        counts = [topic.partitions for topic in self.log.topics([raw])]
        if not counts:
            raise Transient(
                Text(f"集群还不知道主题 {raw}", f"the log does not know topic {raw} yet"),
                hint=Text("稍后自动重试", "it is tried again"),
            )
        return max(counts)

    def latest(self, key: str) -> Entry | None:
        """Read the newest state with this key; None when there is none."""
        return self.log.latest(CURSORS, key)

    def pull_state(self, source: str) -> PullState | None:
        """Read how far a source's pull is; None before the first one."""
        return PullState.of(self.latest(pull_key(source)))

    def partition_state(self, resource: str, partition: int) -> PartitionState:
        """Read what a partition goes on from."""
        return PartitionState.of(self.latest(partition_key(resource, partition)))
