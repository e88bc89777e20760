"""Membership in a consumer group: a thread of its own that only keeps the place.

The member joins, answers heartbeats and takes part in rebalances, and fetches nothing; so a stage
that works on a batch for minutes delays nobody. It subscribes to all topics of the kinds that it
was asked for, so that a new resource moves nothing but itself.

A partition (分区) is *held* while the group gives it to this member. A :class:`Hold` dies with the
generation of the group in which it was given: whoever read under it may not commit any more, and
the broker refuses it as well.
"""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kafka import KafkaConsumer, errors
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.structs import MemberState, TopicPartition

from exchange.errors import ExchangeError, Misconfigured, Transient
from exchange.kafka_client import opened
from exchange.log.kafka.kafka_errors import translate
from exchange.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from kafka.structs import ConsumerGroupMetadata

    from exchange.log import Partition

_TICK_SECONDS = 0.1
"""How often the thread looks whether anything is asked of it."""
_STEP_MS = 1_000
"""How long a step of joining may take before the thread looks whether it should end."""
_BEAT_MS = 500
"""Heartbeats carry the news of a rebalance: the pace of all moves."""
_REBALANCE_MS = 10_000
"""How long the group waits for its members to come back to a rebalance."""
_LEAVE_MS = 2_000
_GRACE_SECONDS = 1.0
"""How much later than its session a place is surely free."""


@dataclass(eq=False, slots=True)
class Hold:
    """A partition given to this member in one generation of the group."""

    member: ConsumerGroupMetadata
    moves: int = 0
    """Commits tried under it: a second reader in this process that did not see them is stale."""


class _Assignor(CooperativeStickyAssignor):  # type: ignore[misc]  # the library has no types
    """Claims what this member holds at the moment of joining, and never says the same twice.

    kafka-python's own claims what it was given last, also after the group has thrown it out and
    its partitions are lost. The leader then waits for it to give some of them back, which it does
    not do, having none: nobody gets them until something else moves the group. And a broker that is
    told what it knows moves nothing.
    """

    held: Callable[[], Collection[TopicPartition]]
    joins = 0

    def metadata(self, topics: Collection[str]) -> Any:
        """Say what is subscribed to, and what is held of it."""
        self.member_assignment = sorted(self.held())
        self.joins += 1
        told = super().metadata(topics)
        told.user_data = str(self.joins).encode()
        return told


class _Membership(KafkaConsumer):  # type: ignore[misc]  # the library has no types
    """kafka-python's consumer, of which only the coordinator is used."""

    pattern = ""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self._new = config["group_instance_id"] is not None
        for assignor in self._coordinator._assignors.values():  # noqa: SLF001 - it made them
            assignor.held = self._subscription.assigned_partitions

    def keep(self, milliseconds: float) -> None:
        """Take part in the group for a moment; joins when that is due."""
        if self.settled():
            self._coordinator.poll_heartbeat()
        else:
            # A join that a changed subscription began is forgotten where it outlasts a step: to
            # the library the new subscription is the joined one from then on. Asked for, it stays.
            self._coordinator.request_rejoin()
            self._coordinator.poll(timeout_ms=milliseconds)
        if self._new and self._coordinator.stable():
            # It may have come back under its name to a generation that its killed predecessor had
            # still to complete: partitions given back, and to be given out with the next one.
            self._new = False
            self._coordinator.request_rejoin()
        beating = self._coordinator._heartbeat_enabled  # noqa: SLF001 - its only sign of fencing
        if self._coordinator.stable() and not beating:
            raise errors.FencedInstanceIdError

    def look(self, milliseconds: float) -> bool:
        """Learn of new topics and partitions now; False when nobody answered in time."""
        news = self._cluster.request_update()
        try:
            self._net.run(self._manager.wait_for, news, milliseconds)
        except errors.KafkaTimeoutError:
            return False
        return True

    def settled(self) -> bool:
        """Tell whether the assignment is that of the newest generation and subscription."""
        return self._coordinator.stable() and not self._coordinator.need_rejoin()


class Member:
    """This process in one group."""

    def __init__(
        self,
        group: str,
        config: Mapping[str, Any],
        *,
        worker: str,
        session_seconds: float,
        request_seconds: float,
        changed: Callable[[], None],
        leave: Callable[[ConsumerGroupMetadata], None],
        names: Callable[[str], Collection[str]],
    ) -> None:
        """Start nothing yet.

        ``changed`` is called after each change of what is held; ``leave`` takes a static member
        out of the group, ``names`` lists those that are in it.
        """
        self.group = group
        self._what = Text(f"加入消费组 {group}", f"being a member of group {group}")
        self._worker = worker
        self._milliseconds = request_seconds * 1000
        self._config = dict(config) | {
            "group_id": group,
            "group_instance_id": worker or None,
            "bootstrap_timeout_ms": _LEAVE_MS,
            "session_timeout_ms": int(session_seconds * 1000),
            "heartbeat_interval_ms": _BEAT_MS,
            "max_poll_interval_ms": _REBALANCE_MS,
            "partition_assignment_strategy": (_Assignor,),
            "enable_auto_commit": False,
            "auto_offset_reset": "none",
            "isolation_level": "read_committed",
            "metrics_enabled": False,
        }
        self._changed = changed
        self._leave = leave
        self._names = names
        self._patience = session_seconds + _GRACE_SECONDS
        self._fenced: tuple[float, ExchangeError] | None = None
        """Since when another member bears our name (monotonic), and how that is told."""
        self._state = threading.Condition()
        self._topics: set[str] = set()
        self._asked = 0
        self._answered = 0
        self._holds: dict[Partition, Hold] = {}
        self._failure: ExchangeError | None = None
        self._closing = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"{group} member", daemon=True)

    def join(self, topics: Collection[str]) -> None:
        """Subscribe to the kinds of ``topics``, and wait until the group has settled with them.

        Raises what keeps this process out of the group, or Transient when it takes too long.
        """
        with self._state:
            self._topics |= set(topics)
            if not self._thread.ident:
                self._thread.start()
            self._asked += 1
            mine = self._asked
            self._failure = None
            self._wake.set()
            self._state.wait_for(
                lambda: self._answered >= mine or self._failure is not None,
                self._milliseconds / 1000,
            )
            self._check()
            if self._answered < mine:
                raise Transient(
                    Text(f"消费组 {self.group} 未能及时就绪", f"group {self.group} did not settle"),
                    hint=Text("稍后重试", "try again"),
                )

    def look(self) -> None:
        """Look for new topics and partitions soon."""
        with self._state:
            self._asked += 1
            self._wake.set()

    def holds(self, topics: Collection[str]) -> dict[Partition, Hold]:
        """Return what is held now of some topics; raises what keeps us out of the group."""
        with self._state:
            self._check()
            return {
                partition: hold for partition, hold in self._holds.items() if partition[0] in topics
            }

    def moving(self, steps: Mapping[Partition, tuple[Hold, int]]) -> bool:
        """Take note that positions move, if all are still held and as their reader knows them."""
        with self._state:
            if any(
                self._holds.get(partition) is not hold or hold.moves != moves
                for partition, (hold, moves) in steps.items()
            ):
                return False
            for hold, _ in steps.values():
                hold.moves += 1
            return True

    def close(self) -> None:
        """Leave the group, so that its partitions move on at once."""
        with self._state:
            self._closing = True
            self._wake.set()
        if self._thread.ident:
            self._thread.join()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        """Keep the place until closed."""
        consumer: _Membership | None = None
        while not self._closing:
            with self._state:
                asked, pattern = self._asked, kinds(self._topics)
            try:
                if consumer is None:
                    consumer = opened(_Membership, **self._config)
                self._step(consumer, asked, pattern)
                self._fenced = None
            except errors.FencedInstanceIdError as error:
                consumer = self._outlive(consumer, error)
            except errors.KafkaError as error:
                self._fail(translate(error, self._what))
            except Exception as error:  # noqa: BLE001 - a silent member would hold partitions for ever
                self._fail(translate(error, self._what))
                if consumer is not None:
                    consumer.close(timeout_ms=_LEAVE_MS)
                    consumer = None
            if asked <= self._answered:
                self._wake.wait(_TICK_SECONDS)
                self._wake.clear()
        if consumer is not None:
            self._depart(consumer)

    def _step(self, consumer: _Membership, asked: int, pattern: str) -> None:
        """Take part in the group, and make known how that stands."""
        if pattern != consumer.pattern:
            consumer.pattern = pattern
            consumer.subscribe(pattern=pattern)
        seen = asked <= self._answered or consumer.look(_STEP_MS)
        consumer.keep(_STEP_MS)
        self._publish(consumer, asked if seen and consumer.settled() else self._answered)

    def _publish(self, consumer: _Membership, answered: int) -> None:
        """Make known what is held: all of it anew with each generation, nothing when lost."""
        member = consumer.group_metadata()
        with self._state:
            before = self._holds
            if member.state == MemberState.STABLE:
                partitions = {(part.topic, part.partition) for part in consumer.assignment()}
                kept = {
                    partition: hold for partition, hold in before.items() if hold.member == member
                }
                self._holds = {
                    partition: kept.get(partition) or Hold(member) for partition in partitions
                }
            elif member.state == MemberState.UNJOINED:
                self._holds = {}
            self._failure = None
            self._answered = answered
            self._state.notify_all()
        if self._holds != before:
            self._changed()

    def _outlive(self, consumer: _Membership | None, error: Exception) -> _Membership | None:
        """Wait whether the other member of our name lives; come back in its place when not.

        It may be our own shadow: a broker died before the answer to our joining had arrived, and
        we joined again. Nobody keeps that place, and it ends with its session.
        """
        now = time.monotonic()
        if self._fenced is None:
            self._fenced = now, translate(error, self._what)
        since, failure = self._fenced
        if now - since >= self._patience:
            try:
                if self._worker not in self._names(self.group):
                    self._fenced = None
                    if consumer is not None:
                        consumer.close(timeout_ms=_LEAVE_MS)
                    return None
                failure = _same_name(self._worker, self.group)
            except errors.KafkaError as unknown:
                failure = translate(unknown, self._what)
            self._fenced = now, failure
        self._fail(failure)
        return consumer

    def _fail(self, failure: ExchangeError) -> None:
        with self._state:
            self._failure = failure
            self._state.notify_all()
        self._wake.wait(_TICK_SECONDS)

    def _depart(self, consumer: _Membership) -> None:
        member = consumer.group_metadata()
        try:
            if self._worker and member.member_id:  # the library leaves for dynamic members only
                self._leave(member)
        except errors.KafkaError:
            pass  # the session ends by itself
        consumer.close(timeout_ms=_LEAVE_MS)


def _same_name(worker: str, group: str) -> Misconfigured:
    return Misconfigured(
        Text(
            f"另一进程以工作者 {worker} 之名加入了 {group}",
            f"another process joined {group} as worker {worker}",
        ),
        hint=Text(
            "停止本进程;每个工作者名称只能有一个进程",
            "stop this process: one process per worker name",
        ),
    )


def kinds(topics: Collection[str]) -> str:
    """Return the pattern of all topics of the kinds of ``topics``: the name up to the last dot."""
    found = set()
    for topic in topics:
        kind, _, _ = topic.rpartition(".")
        found.add(re.escape(kind) + r"\.[^.]+" if "." in kind else re.escape(topic))
    return f"({'|'.join(sorted(found))})$"
