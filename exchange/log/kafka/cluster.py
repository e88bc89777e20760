"""One connection to the cluster for everything but membership and writing.

kafka-python's admin client with what it lacks: offsets that wait for open transactions
(``require_stable``), commits in the name of a member as it was, and a fetch that says where to
read on. All methods may be called by any thread; each is bounded by the request time limit.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from kafka import errors
from kafka.admin import KafkaAdminClient, MemberToRemove
from kafka.protocol.admin import DescribeGroupsRequest
from kafka.protocol.consumer import (
    FetchRequest,
    IsolationLevel,
    ListOffsetsRequest,
    OffsetCommitRequest,
    OffsetFetchRequest,
    OffsetSpec,
)
from kafka.protocol.metadata import CoordinatorType, FindCoordinatorRequest
from kafka.structs import TopicPartition

from exchange.log.kafka.client import IN_FLIGHT
from exchange.log.kafka.records import Slice, decode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
    from typing import TypeVar

    from kafka.structs import ConsumerGroupMetadata

    from exchange.log import Partition

    Found = TypeVar("Found")

OLDEST = (3, 0)
"""Offsets of groups are asked for as Apache Kafka 3.0 and newer answer (KIP-447, KIP-709)."""
FIRST, END = OffsetSpec.EARLIEST, OffsetSpec.LATEST
_RETRY_SECONDS = 0.02
_LEAVE_MS = 2_000
NEWS_SECONDS = 5.0
"""Longest time until every broker knows a topic that was just made."""
_STALE = (errors.InvalidMetadataError, errors.UnknownBrokerIdError)
_RETRIABLE = (errors.RetriableError, *_STALE)


class ClusterAdmin(KafkaAdminClient):  # type: ignore[misc]  # the library has no types
    """The cluster, as far as one client sees it."""

    def __init__(self, *, monotonic: Callable[[], float], **config: Any) -> None:
        self._monotonic = monotonic
        super().__init__(max_in_flight_requests_per_connection=IN_FLIGHT, **config)
        version = self._manager.broker_version
        if version < OLDEST:
            raise errors.UnsupportedVersionError(
                f"broker {'.'.join(map(str, version))} is older than {'.'.join(map(str, OLDEST))}"
            )
        self._manager.cluster.need_all_topic_metadata = True
        self._homes: dict[str, int] = {}

    def version(self) -> str:
        """Return Kafka's version as far as its interface tells, such as ``4.3``."""
        return ".".join(map(str, self._manager.broker_version))

    def offsets(
        self, partitions: Iterable[Partition], spec: OffsetSpec, *, committed: bool = True
    ) -> dict[Partition, int]:
        """Ask for the first or end offset of partitions.

        The end is the last stable offset: what lies below is decided. Without ``committed`` it
        is the high watermark: what lies below is on the replicas.
        """
        level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
        return self._patiently(lambda: self._offsets(set(partitions), spec, level))

    def fetch(self, partition: Partition, offset: int, max_bytes: int) -> Slice:
        """Read committed entries from ``offset`` on, at least one batch when there is one.

        Raises OffsetOutOfRangeError and CorruptRecordError.
        """
        found = self._patiently(lambda: self._fetch(partition, offset, max_bytes))
        aborted = [(one.first_offset, one.producer_id) for one in found.aborted_transactions or ()]
        return decode(partition, offset, found.records or b"", aborted)

    def committed(
        self, group: str, partitions: Collection[Partition] | None = None
    ) -> dict[Partition, int]:
        """Return a group's positions, of all partitions or of these; waits for open ones."""
        return self._patiently(lambda: self._committed(group, partitions), group)

    def commit(self, member: ConsumerGroupMetadata, offsets: Mapping[Partition, int]) -> None:
        """Set positions in the name of a member as it was when it read."""
        self._patiently(lambda: self._commit(member, offsets), member.group_id)

    def groups(self) -> list[str]:
        """List the consumer groups."""
        return [group["group_id"] for group in self.list_groups()]

    def drop(self, partition: Partition, before: int) -> None:
        """Drop the entries of a partition below an offset."""
        self.delete_records({TopicPartition(*partition): before})

    def expel(self, member: ConsumerGroupMetadata) -> None:
        """Take a static member out of its group, if it still is the one that bears its name."""
        one = MemberToRemove(member.member_id, member.group_instance_id)
        leaving = self._manager.call_soon(self._async_remove_group_members, member.group_id, [one])
        self._manager.run(self._manager.wait_for, leaving, _LEAVE_MS)

    def names(self, group: str) -> set[str]:
        """List the static members of a group by their names."""
        return self._patiently(lambda: self._static(group), group)

    def describe_configs(
        self,
        config_resources: Sequence[Any],
        include_synonyms: bool = False,  # noqa: FBT001, FBT002 - as in the library
        config_filter: str = "modified",
    ) -> Any:
        """Ask for settings; raises what the cluster refuses, which the library passes over."""
        return self._patiently(
            lambda: self._async_describe_configs(config_resources, include_synonyms, config_filter)
        )

    @classmethod
    def _describe_configs_process_responses(
        cls, responses: Sequence[Any], config_filter: str = "modified"
    ) -> Any:
        for response in responses:
            for result in response.results:
                _check(result.error_code, result.resource_name)
        return super()._describe_configs_process_responses(responses, config_filter)

    @staticmethod
    def _alter_configs_process_responses(responses: Sequence[Any]) -> Any:
        for response in responses:  # which the library turns into text
            _check(response.error_code, response.resource_name)
        return KafkaAdminClient._alter_configs_process_responses(responses)  # noqa: SLF001 - its

    def _patiently(self, attempt: Callable[[], Awaitable[Found]], group: str = "") -> Found:
        """Run ``attempt`` on the client's thread until it succeeds or time is up."""
        found: Found = self._manager.run(self._trying, attempt, group)
        return found

    async def _trying(self, attempt: Callable[[], Awaitable[Found]], group: str) -> Found:
        start = self._monotonic()
        while True:
            try:
                return await attempt()
            except _RETRIABLE as found:
                error = found
                if isinstance(found, _STALE) and not await self._refresh():
                    error = errors.KafkaConnectionError("no broker answers")
                gone = isinstance(error, errors.UnknownTopicOrPartitionError)
                patience = NEWS_SECONDS if gone else self.config["request_timeout_ms"] / 1000
                if self._monotonic() - start >= patience:
                    raise error from found
                self._homes.pop(group, None)
                await self._net.sleep(_RETRY_SECONDS)

    async def _refresh(self) -> bool:
        """Learn topics and leaders anew; False when nobody tells."""
        try:
            await self._manager.cluster.refresh_metadata()
        except _RETRIABLE:
            return False
        return True

    def _leader(self, partition: Partition) -> int:
        leader: int | None = self._manager.cluster.leader_for_partition(TopicPartition(*partition))
        if leader is None:
            raise errors.UnknownTopicOrPartitionError(f"{partition[0]}/{partition[1]}")
        if leader < 0:
            raise errors.LeaderNotAvailableError(f"{partition[0]}/{partition[1]}")
        return leader

    async def _offsets(
        self, partitions: set[Partition], spec: OffsetSpec, level: IsolationLevel
    ) -> dict[Partition, int]:
        by_leader: dict[int, list[Partition]] = defaultdict(list)
        for partition in partitions:
            by_leader[self._leader(partition)].append(partition)
        topic = ListOffsetsRequest.ListOffsetsTopic
        asked = [
            self._manager.send(
                ListOffsetsRequest(
                    isolation_level=level.value,
                    topics=[
                        topic(
                            name=name,
                            partitions=[
                                topic.ListOffsetsPartition(partition_index=number, timestamp=spec)
                                for number in numbers
                            ],
                        )
                        for name, numbers in _by_topic(theirs).items()
                    ],
                    min_version=ListOffsetsRequest.min_version_for_isolation_level(level),
                ),
                node_id=leader,
            )
            for leader, theirs in by_leader.items()
        ]
        found = {}
        for answer in asked:
            for part in (await answer).topics:
                for row in part.partitions:
                    _check(row.error_code, f"{part.name}/{row.partition_index}")
                    found[part.name, row.partition_index] = row.offset
        return found

    async def _fetch(self, partition: Partition, offset: int, max_bytes: int) -> Any:
        topic = FetchRequest.FetchTopic
        part = topic.FetchPartition(
            partition=partition[1], fetch_offset=offset, partition_max_bytes=max_bytes
        )
        request = FetchRequest(
            max_wait_ms=0,
            min_bytes=0,
            max_bytes=max_bytes,
            isolation_level=IsolationLevel.READ_COMMITTED,
            topics=[topic(topic=partition[0], partitions=[part])],
            min_version=4,
            max_version=12,  # topics by name
        )
        answer = await self._manager.send(request, node_id=self._leader(partition))
        found = answer.responses[0].partitions[0]
        _check(found.error_code, f"{partition[0]}/{partition[1]} at {offset}")
        return found

    async def _home(self, group: str) -> int:
        """Find the broker that coordinates a group."""
        if group not in self._homes:
            request = FindCoordinatorRequest(
                key_type=CoordinatorType.GROUP.value, coordinator_keys=[group], min_version=4
            )
            answer = (await self._manager.send(request)).coordinators[0]
            _check(answer.error_code, group)
            self._homes[group] = answer.node_id
        return self._homes[group]

    async def _static(self, group: str) -> set[str]:
        request = DescribeGroupsRequest(groups=[group], max_version=5)  # no group is no error
        answer = (await self._manager.send(request, node_id=await self._home(group))).groups[0]
        _check(answer.error_code, group)
        return {member.group_instance_id for member in answer.members} - {None}

    async def _committed(
        self, group: str, partitions: Collection[Partition] | None
    ) -> dict[Partition, int]:
        asked = OffsetFetchRequest.OffsetFetchRequestGroup
        topics = None
        if partitions is not None:
            topics = [
                asked.OffsetFetchRequestTopics(name=name, partition_indexes=numbers)
                for name, numbers in _by_topic(partitions).items()
            ]
        request = OffsetFetchRequest(
            groups=[asked(group_id=group, topics=topics)],
            require_stable=True,
            min_version=8,
            max_version=8,
        )
        answer = (await self._manager.send(request, node_id=await self._home(group))).groups[0]
        _check(answer.error_code, group)
        found = {}
        for topic in answer.topics:
            for row in topic.partitions:
                if row.error_code != errors.UnknownTopicOrPartitionError.errno:
                    _check(row.error_code, f"{group} on {topic.name}/{row.partition_index}")
                if row.committed_offset >= 0:
                    found[topic.name, row.partition_index] = row.committed_offset
        return found

    async def _commit(
        self, member: ConsumerGroupMetadata, offsets: Mapping[Partition, int]
    ) -> None:
        topic = OffsetCommitRequest.OffsetCommitRequestTopic
        request = OffsetCommitRequest(
            group_id=member.group_id,
            generation_id_or_member_epoch=member.generation_id,
            member_id=member.member_id,
            group_instance_id=member.group_instance_id,
            topics=[
                topic(
                    name=name,
                    partitions=[
                        topic.OffsetCommitRequestPartition(
                            partition_index=number,
                            committed_offset=offsets[name, number],
                            committed_metadata="",
                        )
                        for number in numbers
                    ],
                )
                for name, numbers in _by_topic(offsets).items()
            ],
            max_version=8,  # topics by name
        )
        home = await self._home(member.group_id)
        for part in (await self._manager.send(request, node_id=home)).topics:
            for row in part.partitions:
                _check(row.error_code, f"{member.group_id} on {part.name}/{row.partition_index}")


def _by_topic(partitions: Iterable[Partition]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for name, number in partitions:
        found[name].append(number)
    return found


def _check(code: int, where: str) -> None:
    if code:
        raise errors.for_code(code)(where)
