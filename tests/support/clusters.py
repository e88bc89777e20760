"""What tests do to brokers that they share."""

from __future__ import annotations

import contextlib

from kafka.admin import KafkaAdminClient

from exchange.devtools.servers.kafka import Cluster
from tests.support.processes import wait_for


def empty(cluster: Cluster) -> None:
    """Delete all topics but Kafka's own, and all groups, once their members are gone."""
    with contextlib.closing(KafkaAdminClient(bootstrap_servers=list(cluster.bootstrap))) as admin:

        def topics() -> list[str]:
            return [name for name in admin.list_topics() if not name.startswith("__")]

        def groups() -> list[str]:
            return [group["group_id"] for group in admin.list_groups()]

        if names := topics():
            admin.delete_topics(names)
        wait_for(lambda: not topics())

        def ungrouped() -> bool:
            if left := groups():
                admin.delete_groups(left)
            return not groups()

        wait_for(ungrouped)


def delete_topic(cluster: Cluster, name: str) -> None:
    """Delete a topic, as somebody with an administrator's tools does."""
    with contextlib.closing(KafkaAdminClient(bootstrap_servers=list(cluster.bootstrap))) as admin:
        admin.delete_topics([name])
        wait_for(lambda: name not in admin.list_topics())
