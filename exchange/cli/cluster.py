"""The Kafka cluster, for doctor and ``catalog plan``: how it stands, what should change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from exchange.cli.diagnostics import Diagnostic, Grade, probe
from exchange.errors import Denied, Transient
from exchange.log import CURSORS, EVIDENCE, RECEIPTS, SEALS, SOURCES
from exchange.node.topics import required_topics
from exchange.text import Text

if TYPE_CHECKING:
    from exchange.log.kafka import Drift, Health
    from exchange.node.node import Node

_NEEDS: Mapping[str, Mapping[str, frozenset[str]]] = {
    "pull": {
        SOURCES: frozenset({"READ"}),
        CURSORS: frozenset({"READ", "WRITE"}),
        "exchange.raw.": frozenset({"WRITE"}),
        "exchange.quarantine.": frozenset({"WRITE"}),
    },
    "seal": {
        CURSORS: frozenset({"READ", "WRITE"}),
        RECEIPTS: frozenset({"READ"}),
        SEALS: frozenset({"READ"}),
        "exchange.raw.": frozenset({"READ"}),
        "exchange.sealed.": frozenset({"READ", "WRITE"}),
        "exchange.quarantine.": frozenset({"READ", "WRITE"}),
    },
    "cascade": {
        CURSORS: frozenset({"READ", "WRITE"}),
        RECEIPTS: frozenset({"WRITE"}),
        "exchange.sealed.": frozenset({"READ"}),
        "exchange.quarantine.": frozenset({"WRITE"}),
    },
    "evidence": {
        CURSORS: frozenset({"READ", "WRITE"}),
        RECEIPTS: frozenset({"READ"}),
        SEALS: frozenset({"READ"}),
        EVIDENCE: frozenset({"READ", "WRITE"}),
        "exchange.sealed.": frozenset({"READ"}),
        "exchange.quarantine.": frozenset({"READ"}),
    },
}
"""What each stage does with topics, by how their names begin; the ACLs are in docs/kafka.md."""
_MANY = 5
_LONG = timedelta(days=365)


def drift(node: Node) -> list[Drift]:
    """Compare the cluster's topics with what the node needs; nothing with another driver."""
    if node.settings.log.driver != "kafka":
        return []
    return node.cluster.drift(required_topics(node.settings))


def drift_text(drift: Drift) -> Text:
    """Describe what a change of the cluster would do."""
    if drift.setting == "topic":
        return Text("新建主题", "topic to be created")
    change = f"{drift.setting}: {drift.found or '-'} → {drift.expected}"
    if drift.setting == "replication":
        return Text(
            f"{change}，须用 kafka-reassign-partitions.sh 调整",
            f"{change}, by kafka-reassign-partitions.sh only",
        )
    if drift.setting == "partitions":
        return Text(
            f"{change}，键会换到其他分区：请在该资源处理完后进行",
            f"{change}; keys move to other partitions: do it while the resource is drained",
        )
    return Text(change, change)


def examine(node: Node) -> Iterator[Diagnostic]:
    """Look at the cluster, the node's topics on it, and what this user may do."""
    answers: list[Health] = []

    def ask() -> Text:
        health = node.cluster.health(required_topics(node.settings))
        answers.append(health)
        return Text(
            f"Kafka {health.version}，{health.brokers} 个代理",
            f"Kafka {health.version}, {health.brokers} brokers",
        )

    yield probe("log", ask)
    for health in answers:
        yield _copies(health)
        yield probe("topics", lambda: _topics(drift(node)))
        yield _rights(health)
        if health.memory is not None:
            yield _positions(health.memory)


def _copies(health: Health) -> Diagnostic:
    """Judge whether enough copies of everything are alive."""
    hint = Text("恢复停止的代理，核对其磁盘", "bring the stopped brokers back; look at their disks")
    if health.stuck:
        names = _first_names(health.stuck)
        text = Text(f"这些分区不接受写入：{names}", f"these partitions take no writes: {names}")
        return Diagnostic("replicas", Grade.FAIL, text, hint, Transient.exit_code)
    if health.behind:
        names = _first_names(health.behind)
        text = Text(
            f"这些分区缺少同步副本：{names}", f"copies of these partitions are behind: {names}"
        )
        return Diagnostic("replicas", Grade.WARN, text, hint)
    return Diagnostic("replicas", Grade.OK, Text("全部同步", "all in sync"))


def _topics(drifts: Sequence[Drift]) -> Diagnostic:
    """Judge whether the topics are as they should be."""
    if not drifts:
        return Diagnostic("topics", Grade.OK, Text("与配置一致", "as they should be"))
    kinds: dict[Text, list[str]] = {}
    for item in drifts:
        kinds.setdefault(drift_text(item), []).append(item.topic)
    texts = [(what, _first_names((name, None) for name in names)) for what, names in kinds.items()]
    return Diagnostic(
        "topics",
        Grade.WARN,
        Text(
            "；".join(f"{what.zh}：{names}" for what, names in texts),
            "; ".join(f"{what.en}: {names}" for what, names in texts),
        ),
        Text(
            "exchange catalog plan，再 exchange catalog apply",
            "`exchange catalog plan`, then `apply`",
        ),
    )


def _rights(health: Health) -> Diagnostic:
    """Tell which stages this user's rights on topics are enough for."""
    lacking = {stage: sorted(_lacking(health, needs)) for stage, needs in _NEEDS.items()}
    able = [stage for stage in lacking if not lacking[stage]]
    names = ", ".join(able) or "-"
    missing = "; ".join(
        f"{stage}: {', '.join(lacks[:_MANY])}{' …' if len(lacks) > _MANY else ''}"
        for stage, lacks in lacking.items()
        if lacks
    )
    if not missing:
        return Diagnostic("rights", Grade.OK, Text(f"可运行 {names}", f"enough for {names}"))
    text = Text(
        f"可运行 {names}；不足以运行 {missing}", f"enough for {names}; lacking for {missing}"
    )
    hint = Text("按 docs/kafka.md 授予 ACL", "grant the ACLs of docs/kafka.md")
    if not able:
        return Diagnostic("rights", Grade.FAIL, text, hint, Denied.exit_code)
    return Diagnostic("rights", Grade.OK, text)


def _positions(memory: timedelta) -> Diagnostic:
    """Judge how long the cluster remembers what was read: after that, all is read again."""
    if memory >= _LONG:
        return Diagnostic("positions", Grade.OK, Text("长期保留", "kept"))
    return Diagnostic(
        "positions",
        Grade.WARN,
        Text(
            f"停止 {memory.days} 天后集群会忘记已处理到的位置，之后会重复封签",
            f"after {memory.days} days at rest the cluster forgets what was read: "
            "all that is kept would be sealed again",
        ),
        Text(
            "在代理配置中设 offsets.retention.minutes=2147483647",
            "set offsets.retention.minutes=2147483647 on the brokers",
        ),
    )


def _lacking(health: Health, needs: Mapping[str, frozenset[str]]) -> Iterator[str]:
    for topic, rights in health.rights.items():
        for head, operations in needs.items():
            if topic == head or (head.endswith(".") and topic.startswith(head)):
                yield from (f"{name} {topic}" for name in operations - rights)


def _first_names(partitions: Iterable[tuple[str, int | None]]) -> str:
    """Name a few of them."""
    names = [name if number is None else f"{name}/{number}" for name, number in partitions]
    more = f" … ({len(names)})" if len(names) > _MANY else ""
    return ", ".join(names[:_MANY]) + more
