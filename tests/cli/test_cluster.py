"""Doctor, plan and apply on a cluster: what is there, what should be; looking makes nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from exchange.devtools.servers.kafka import Cluster
from exchange.log import Topic
from tests.cli.conftest import Answer, Run, grades, open_node
from tests.support.clusters import delete_topic
from tests.support.servers import nobody

LOG = """
log:
  driver: kafka
  kafka: {bootstrap: [BROKERS], replication: 1, min_insync: 1, retention: {raw: 1d}}
  partitions: {companies: 2}
"""


@pytest.fixture
def cluster(folder: Path, empty_broker: Cluster) -> Cluster:
    use(folder, empty_broker)
    return empty_broker


def use(folder: Path, cluster: Cluster, **changes: str) -> None:
    """Point the node at a cluster."""
    path = folder / "exchange.yaml"
    text = re.sub(r"(?ms)^log:.*?(?=^\w|\Z)", "", path.read_text("utf-8"))
    log = LOG.replace("BROKERS", ", ".join(cluster.bootstrap))
    for old, new in changes.items():
        log = log.replace(old, new)
    path.write_text(text + log, "utf-8")


def text(answer: Answer, name: str) -> str:
    (result,) = [check["text"]["en"] for check in answer.json["checks"] if check["name"] == name]
    return str(result)


def test_topics_are_planned_made_and_mended(folder: Path, cluster: Cluster, run: Run) -> None:
    first = run("doctor", "--json")
    result = grades(first)
    assert [result[name] for name in ("log", "replicas", "topics", "rights", "positions")] == [
        *("ok", "ok", "warn", "ok", "ok")
    ]
    assert text(first, "log") == "Kafka 4.3, 1 brokers"
    assert "topic to be created: exchange.cursors, " in text(first, "topics")
    assert text(first, "rights") == "enough for pull, seal, cascade, evidence"
    planned = run("catalog", "plan")
    assert planned.code == 2
    assert "~ exchange.sealed.companies: topic to be created" in planned.out
    assert "~ exchange.sources: 新建主题" in run("catalog", "plan", lang="zh").out
    with open_node() as node:
        assert node.cluster.topics() == [], "looking makes nothing"

    applied = run("catalog", "apply", "--json")
    assert applied.code == 0
    assert {topic["topic"] for topic in applied.json["topics"]} == {
        *(f"exchange.{name}" for name in ("cursors", "evidence", "receipts", "seals", "sources")),
        *(f"exchange.{kind}.companies" for kind in ("raw", "sealed", "quarantine")),
    }
    with open_node() as node:
        assert Topic("exchange.raw.companies", 2) in node.cluster.topics()
        assert Topic("exchange.sources", 64) in node.cluster.topics()
        assert Topic("exchange.cursors", compacted=True) in node.cluster.topics()
        (entry,) = node.store.audit.find()
        assert "exchange.raw.companies" in entry.detail
    assert (run("catalog", "plan").code, run("catalog", "apply").code) == (0, 0)
    assert text(run("doctor", "--json"), "topics") == "as they should be"

    use(folder, cluster, **{"companies: 2": "companies: 4", "raw: 1d": "raw: 2d"})
    planned = run("catalog", "plan")
    assert planned.code == 2
    assert set(planned.out.splitlines()) == {
        "~ exchange.raw.companies: retention.ms: 86400000 → 172800000",
        *(
            f"~ exchange.{kind}.companies: partitions: 2 → 4; keys move to other partitions: "
            "do it while the resource is drained"
            for kind in ("raw", "sealed", "quarantine")
        ),
    }
    assert run("catalog", "apply").code == 0
    assert run("catalog", "plan").out == "no changes\n"


def test_a_topic_that_was_deleted_comes_back_by_apply_alone(
    folder: Path, cluster: Cluster, run: Run
) -> None:
    use(folder, cluster, **{"companies: 2": "companies: 1"})
    topic, stages = "exchange.raw.companies", ("--only", "pull", "--only", "seal")
    assert run("catalog", "apply").code == 0
    assert run("run", "--once", *stages).code == 0
    delete_topic(cluster, topic)
    for _ in range(2):
        gone = run("run", "--once", *stages)
        assert gone.code == 6
        assert f"{topic} was deleted" in gone.err
    with open_node() as node:
        assert topic not in {each.name for each in node.cluster.topics()}
    planned = run("catalog", "plan")
    assert (planned.code, f"~ {topic}: topic to be created" in planned.out) == (2, True)
    assert run("catalog", "apply").code == 0
    with open_node() as node:
        assert Topic(topic) in node.cluster.topics()


def test_what_cannot_be_altered_stays_and_is_told(folder: Path, cluster: Cluster, run: Run) -> None:
    assert run("catalog", "apply").code == 0
    use(folder, cluster, **{"replication: 1": "replication: 3"})
    result = run("doctor", "--json")
    assert "kafka-reassign-partitions.sh" in text(result, "topics")
    answer = run("catalog", "apply")
    assert answer.code == 2
    assert "! exchange.sources: replication: 1 → 3" in answer.err


def test_partitions_without_enough_copies_fail(folder: Path, cluster: Cluster, run: Run) -> None:
    assert run("catalog", "apply").code == 0
    use(folder, cluster, **{"replication: 1, min_insync: 1": "replication: 2, min_insync: 2"})
    result = run("doctor", "--json")
    assert result.code == 4
    assert grades(result)["replicas"] == "fail"
    assert text(result, "replicas").startswith(
        "these partitions take no writes: exchange.cursors/0, "
    )


def test_a_cluster_that_is_away(folder: Path, run: Run) -> None:
    with nobody() as address:
        use(folder, Cluster((address,)))
        result = run("doctor", "--json")
        assert result.code == 4
        assert grades(result)["log"] == "fail"
        assert address in text(result, "log")
        assert "topics" not in grades(result)
        assert run("catalog", "plan").code == 4


def test_a_cluster_that_forgets_positions_is_called_out(
    folder: Path, run: Run, mortal_broker: Cluster
) -> None:
    use(folder, mortal_broker)
    result = run("doctor", "--json")
    assert grades(result)["positions"] == "warn"
    assert text(result, "positions").startswith("after 7 days at rest the cluster forgets")
