"""Publishing on a real broker: what the topic holds, and what happens when something fails."""

from __future__ import annotations

import io
import json
import time
from datetime import date
from typing import Any

import fastavro
import pytest
from kafka.partitioner.default import murmur2

from exchange.devtools.bench.publishing import publish_rate
from exchange.errors import Integrity, Misconfigured, Rejected, Transient
from exchange.log import Message, publish_group, sealed_topic
from exchange.publish.publisher import Publisher
from exchange.publish.registry import FRESH_SECONDS
from exchange.publish.stage import PublishStage, check_readable
from exchange.run.outcome import Where
from exchange.seal.batch.build import open_batch
from tests.publish.conftest import Setup, client, kafka_log
from tests.publish.place import Change, append, by_key, catalog, changes, drain, expected, sealed


def position(setup: Setup, partition: int = 0) -> int:
    return setup.log.position(publish_group(setup.name), sealed_topic(setup.name), partition)


def test_every_accepted_record_stands_on_the_topic_once_and_in_order(setup: Setup) -> None:
    result = changes(400, keys=30)
    setup.seal(*(result[start : start + 50] for start in range(0, 400, 50)))
    assert drain(setup.stage()) == 400
    items = setup.read()
    assert by_key(items, setup.decode) == expected(result)
    assert drain(setup.stage()) == 0
    more = [Change("U", "n1", "后来")]
    setup.seal(more)
    assert drain(setup.stage()) == 1
    assert by_key(setup.read(), setup.decode) == expected(result + more)


def test_the_value_is_the_sealed_record_byte_by_byte(setup: Setup) -> None:
    setup.seal([Change("I", "a", "甲"), Change("D", "b", ""), Change("U", "c", "丙")])
    drain(setup.stage())
    (entry,) = setup.log.read(sealed_topic(setup.name), 0, 0, max_entries=9)
    batch = open_batch(entry.value)
    values = [item.value for item in setup.read()]
    assert [value[5:] if value else value for value in values] == [
        batch.record(0),
        None,
        batch.record(2),
    ]
    first = values[0]
    assert first is not None
    assert setup.server.schema(int.from_bytes(first[1:5], "big")) == json.loads(batch.schema.text)


def test_the_topic_is_a_table_that_spreads_keys_as_java_does(setup: Setup) -> None:
    setup.partitions = 4
    result = changes(200, keys=40)
    setup.seal(result)
    drain(setup.stage())
    items = setup.read()
    assert {item.partition for item in items} == {0, 1, 2, 3}
    assert all(entry.partition == (murmur2(entry.key) & 0x7FFFFFFF) % 4 for entry in items)
    (topic,) = [topic for topic in setup.log.topics() if topic.name == setup.topic]
    assert topic.partitions == 4
    assert setup.log.drift([topic]) == []
    policy, retention = policies(setup)
    assert set(policy.split(",")) == {"compact", "delete"}
    assert retention == "-1"


def policies(setup: Setup) -> tuple[str, str]:
    """Ask the broker, by the library alone, how the topic is cleaned."""
    from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient

    admin = KafkaAdminClient(bootstrap_servers=list(setup.bootstrap))
    try:
        result = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, setup.topic)])
        rows = result["topic"][setup.topic]
        return rows["cleanup.policy"]["value"], rows["retention.ms"]["value"]
    finally:
        admin.close()


def test_a_key_of_several_fields_of_other_types(setup: Setup) -> None:
    setup.catalog = catalog(setup.name, key="place, day, no", more=", day: 日期 date!")
    setup.context().ensure(setup.name)
    row = Change("I", "a", "甲").row | {"day": date(2026, 11, 23)}
    append(setup.log, [sealed(setup.resource, [row], 1)])
    drain(setup.stage())
    (seen,) = setup.read()
    assert setup.decode(seen.key) == {"place": "a号", "day": date(2026, 11, 23), "no": "a"}


def test_a_batch_of_an_older_catalog_keeps_its_schema(setup: Setup) -> None:
    setup.seal([Change("I", "a", "旧")])
    old, setup.catalog = (
        setup.catalog,
        catalog(setup.name, more=", note: 备注 text(9)", version="2"),
    )
    setup.seal([Change("U", "a", "新"), Change("I", "b", "新")])
    drain(setup.stage())
    items = setup.read()
    read = [setup.decode(item.value) for item in items if item.value is not None]
    assert ["note" in row for row in read] == [False, True, True]
    assert {entry.key[:5] for entry in items} == {items[0].key[:5]}  # the key's schema is the same
    assert old.resources[setup.name].key == setup.resource.key


def test_an_incompatible_catalog_stops_its_partition_and_nothing_else(setup: Setup) -> None:
    setup.partitions = 2
    setup.seal([Change("I", "a", "旧")])
    old, setup.catalog = (
        setup.catalog,
        catalog(setup.name, more=", size: 大小 integer!", version="2"),
    )
    row = Change("I", "b", "新").row | {"size": 1}
    append(setup.log, [sealed(setup.resource, [row], 2)])
    setup.catalog = old
    setup.seal([Change("I", "c", "旧")], partition=1)
    stage = setup.stage()
    outcome = Publisher({setup.name: stage}).once()
    assert type(outcome.errors.get(Where("publish", setup.name))) is Rejected
    en = outcome.errors[Where("publish", setup.name)].what.en
    assert f"{setup.topic}-value" in en
    assert "size" in en
    drain(stage)
    assert set(by_key(setup.read(), setup.decode)) == {
        "a",
        "c",
    }  # what stood before, the other partition
    setup.server.relax(f"{setup.topic}-value", "NONE")
    assert stage.step() is None
    stage.retry()
    assert drain(stage) == 1
    assert set(by_key(setup.read(), setup.decode)) == {"a", "b", "c"}


def test_a_key_that_changed_is_told(setup: Setup) -> None:
    setup.seal([Change("I", "a", "旧")])
    setup.catalog = catalog(
        setup.name, key="no, serial", more=", serial: 序号 text(9)!", version="2"
    )
    with pytest.raises(Rejected) as caught:
        drain(setup.stage())
    assert "serial" in caught.value.what.en


def test_a_message_of_others_is_passed_over_and_counted(setup: Setup) -> None:
    setup.seal([Change("I", "a", "甲")])
    append(setup.log, [Message(sealed_topic(setup.name), b"not ours")])
    setup.seal([Change("I", "b", "乙")])
    stage = setup.stage()
    assert drain(stage) == 2
    assert stage.foreign == 1
    assert set(by_key(setup.read(), setup.decode)) == {"a", "b"}


def test_a_damaged_batch_stops_its_partition_behind_what_is_whole(setup: Setup) -> None:
    setup.partitions = 2
    setup.seal([Change("I", "a", "甲")])
    whole = sealed(setup.resource, [Change("I", "x", "坏").row], 50)
    other = sealed(catalog("other").resources["other"], [Change("I", "x", "坏").row], 51)
    wrong = [
        Message(whole.topic, whole.value[:-9], whole.key, whole.headers, 0),
        Message(whole.topic, other.value, other.key, other.headers, 1),
    ]
    append(setup.log, wrong)
    setup.seal([Change("I", "b", "乙")])
    stage = setup.stage()
    for partition in (0, 1):
        with pytest.raises(Integrity) as caught:
            drain(stage)
        assert f"{sealed_topic(setup.name)}/" in caught.value.what.en
        del partition
    assert stage.step() is None
    assert set(by_key(setup.read(), setup.decode)) == {"a"}
    assert position(setup) == 1


def test_nothing_is_published_while_the_registry_is_away(setup: Setup) -> None:
    setup.seal([Change("I", "a", "甲")])
    with client("http://127.0.0.1:1", lambda: 0.0) as registry:
        stage = PublishStage(setup.context(), setup.resource, registry)
        with pytest.raises(Transient):
            stage.step()
        with pytest.raises(Transient):
            stage.step()
        stage.close()
    assert setup.read() == []
    assert position(setup) == 0
    assert drain(setup.stage()) == 1


def test_a_registry_that_was_made_anew_is_used_within_a_minute(setup: Setup) -> None:
    stage = setup.stage()
    setup.seal([Change("I", "a", "甲")])
    drain(stage)
    setup.server.ours.wipe()
    setup.now += FRESH_SECONDS
    setup.seal([Change("I", "b", "乙")])
    drain(stage)
    newest = setup.read()[-1]
    assert setup.decode(newest.key) == {"no": "b"}  # by the registry as it is now


def test_a_worker_takes_over_what_another_leaves(setup: Setup) -> None:
    setup.partitions = 4
    result = changes(80, keys=8)
    for partition in range(4):
        part = [item for item in result if int(item.no[1:]) % 4 == partition]
        setup.seal(part[:10], part[10:], partition=partition)
    with kafka_log(setup.bootstrap) as other:
        stages = [setup.stage(), setup.stage(other)]
        count, end = 0, time.monotonic() + 300
        while count < 80:
            for stage in stages:
                count += stage.step() or 0
            if count >= 20 and len(stages) > 1:
                stages.pop(0).close()
            time.sleep(0.05)
            assert time.monotonic() < end
        stages[0].close()
    assert count == 80
    assert by_key(setup.read(), setup.decode) == expected(result)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"share": 2, "sensitivity": "S1"}, "unconditionally"),
        ({"share": 1, "sensitivity": "S3"}, "personal"),
        ({"share": 3, "sensitivity": "S4"}, "unconditionally"),
    ],
)
def test_what_not_everybody_may_read_is_published_by_name_only(
    more: dict[str, object], why: str
) -> None:
    resource = catalog("orders", **more).resources["orders"]  # type: ignore[arg-type]
    with pytest.raises(Misconfigured) as caught:
        check_readable(resource, ["others"])
    assert why in caught.value.what.en
    assert "registry.readable" in caught.value.hint.en
    check_readable(resource, ["orders"])


def test_what_everybody_may_read_is_published() -> None:
    for sensitivity in ("S1", "S2"):
        check_readable(catalog("orders", sensitivity=sensitivity).resources["orders"], [])


def test_the_bench_measures_what_it_publishes(setup: Setup) -> None:
    result = changes(3000, keys=100)
    setup.seal(result[:1500], result[1500:])
    answer = publish_rate(setup.context(), setup.name)
    assert answer.records == 3000
    assert answer.per_second > 0
    assert answer.cpu_per_million > 0
    assert len(setup.read()) == 3000


def test_a_program_with_a_newer_schema_reads_older_records(setup: Setup) -> None:
    setup.seal([Change("I", "a", "旧")])
    drain(setup.stage())
    (seen,) = setup.read()
    assert seen.value is not None
    writer = setup.server.schema(int.from_bytes(seen.value[1:5], "big"))
    reader = json.loads(json.dumps(writer))
    reader["fields"].append({"name": "note", "type": ["null", "string"], "default": None})
    row: Any = fastavro.schemaless_reader(io.BytesIO(seen.value[5:]), writer, reader)
    assert row["note"] is None
    assert row["title"] == "旧"
