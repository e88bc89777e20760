"""The kafka connector against a real broker, with topics that kcat writes."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.connect import Denied, Misconfigured, Pulled, Rejected, Source
from exchange.connect.conformance import CHECKS, Case, Changes, reports_outages
from exchange.connect.topic_reader import TopicRecord
from exchange.connectors.kafka import kafka
from exchange.connectors.kafka.records import RecordReader
from exchange.connectors.kafka.types import Unclear, ValueType, avro_type, text_of
from exchange.connectors.kafka.values import read_json
from exchange.devtools.servers.kafka import Cluster
from tests.publish import registry as served
from tests.support.conformity import conform
from tests.support.servers import nobody
from tests.support.topics import Message, drop_before, make_topic, write, write_bytes

SECRET = "s3cret-of-the-test"
_numbers = count(1)


class TopicPlace:
    """A topic of its own on the broker, and sources that read it."""

    def __init__(self, broker: Cluster, partitions: int = 1) -> None:
        self.bootstrap = broker.bootstrap
        self.name = f"src{next(_numbers)}"
        make_topic(self.bootstrap, self.name, partitions)

    def write(self, *messages: Message, partition: int = 0) -> None:
        write(self.bootstrap, self.name, messages, partition)

    def source(self, **options: Any) -> Source:
        given = {"bootstrap": list(self.bootstrap), "topic": self.name, "seconds": 10, **options}
        return kafka.open(given, lambda _: SECRET)

    def pull(self, cursor: Any = None, **options: Any) -> list[Pulled]:
        return list(self.source(**options).pull(cursor))


@pytest.fixture
def topic(kafka_broker: Cluster) -> TopicPlace:
    return TopicPlace(kafka_broker)


def record(number: int, name: str) -> Message:
    return f"k{number}", json.dumps({"id": number, "name": name}, ensure_ascii=False)


def rows(pulls: list[Pulled], *columns: str) -> list[tuple[Any, ...]]:
    return [row for p in pulls if p.frame.height for row in p.frame.select(columns).rows()]


def defects(pulls: list[Pulled]) -> list[str]:
    """Return the first line of what is broken."""
    texts = [text for (text,) in rows(pulls, "_defect") if text is not None]
    return [text.partition("\n")[0] for text in texts]


def behind(pulls: list[Pulled]) -> Any:
    return json.loads(json.dumps(pulls[-1].cursor))


# --- what every connector must do -------------------------------------------------------------


def changes(topic: TopicPlace) -> Changes:
    def late() -> list[tuple[str, str]]:
        topic.write(record(99, "late"), partition=1)
        return [("99", "late")]

    def update() -> list[tuple[str, str]]:
        topic.write(record(0, "changed"))
        return [("0", "changed")]

    def delete() -> list[tuple[str, str]]:
        drop_before(topic.bootstrap, topic.name, 0, 3)
        return [(str(n), f"张{n}") for n in range(3)]

    return Changes(late=late, update=update, delete=delete)


# Outages need a broker to pause: test_kafka_outage.py.
@pytest.mark.parametrize(
    "check", [c for c in CHECKS if c is not reports_outages], ids=lambda check: check.__name__
)
def test_kafka_conforms(check: Callable[[Case], None], kafka_broker: Cluster) -> None:
    topic = TopicPlace(kafka_broker, partitions=2)
    for partition in range(2):
        numbers = range(partition * 5, partition * 5 + 5)
        topic.write(*(record(n, f"张{n}") for n in numbers), partition=partition)
    with nobody() as nowhere:
        conform(
            "kafka",
            check,
            Case(
                open=lambda: topic.source(batch_rows=3),
                rows=[(str(n), f"张{n}") for n in range(10)],
                identity=("id", "name"),
                news_only=True,
                changes=changes(topic),
                secret=SECRET,
                broken={
                    "server": lambda: topic.source(bootstrap=[nowhere], seconds=1),
                    "topic": lambda: topic.source(topic="nowhere"),
                },
            ),
        )


# --- offsets ----------------------------------------------------------------------------------


def test_what_was_dropped_unread_is_an_error(topic: TopicPlace) -> None:
    topic.write(*(record(n, "a") for n in range(6)))
    cursor = behind(topic.pull())
    topic.write(*(record(n, "b") for n in range(6)))
    drop_before(topic.bootstrap, topic.name, 0, 8)
    with pytest.raises(Rejected, match="from offset 6 on were dropped unread"):
        topic.pull(cursor)
    first = topic.pull()
    assert first[0].notes[0].text == f"{topic.name}/0 begins at 8: what was before is gone"
    assert rows(first, "id") == [("2",), ("3",), ("4",), ("5",)]


def test_a_topic_made_anew_is_an_error(topic: TopicPlace, kafka_broker: Cluster) -> None:
    from tests.support.clusters import delete_topic

    topic.write(record(1, "a"))
    cursor = behind(topic.pull())
    delete_topic(kafka_broker, topic.name)
    make_topic(topic.bootstrap, topic.name)
    topic.write(record(1, "a"), record(2, "b"))  # longer than before: its end tells nothing
    with pytest.raises(Rejected, match="was deleted and made anew"):
        topic.pull(cursor)
    assert rows(topic.pull(), "id") == [("1",), ("2",)]


def test_a_cursor_of_another_topic_is_refused(topic: TopicPlace, kafka_broker: Cluster) -> None:
    topic.write(record(1, "a"))
    other = TopicPlace(kafka_broker)
    other.write(record(1, "a"))
    with pytest.raises(Rejected, match="the cursor is one of the topic"):
        other.pull(behind(topic.pull()))


def test_a_rewind_goes_to_the_messages_of_a_time(topic: TopicPlace) -> None:
    topic.write(record(1, "a"), record(2, "b"))
    source = topic.source()
    cursor = source.rewind(None, "2026-01-01 08:00:00")
    assert rows(topic.pull(cursor), "id") == [("1",), ("2",)]
    assert topic.pull(source.rewind(cursor, "2099-01-01")) == []
    with pytest.raises(Misconfigured, match="is no time"):
        source.rewind(None, "17")


def test_discover_lists_topics_with_columns(topic: TopicPlace) -> None:
    topic.write(record(1, "a"))
    (entry,) = topic.source().discover()
    names = [column["name"] for column in entry["columns"]]
    assert (entry["name"], entry["rows"], names) == (topic.name, 1, ["id", "name"])
    entries = topic.source(topic="").discover()
    assert topic.name in {entry["name"] for entry in entries}
    assert {"topic": topic.name} in [entry["with"] for entry in entries]


def test_settings_that_are_not_safe_are_refused(topic: TopicPlace) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"bootstrap": ["kafka.example.gov.cn:9092"]}, "would be in the clear"),
        ({"user": "u"}, "user and password stand together"),
        ({"ca": "ca.pem"}, "certificates without tls"),
        ({"columns": {"_defect": "a"}}, "_defect is reserved"),
        ({"value": "avro"}, "value: avro needs registry"),
        ({"topic": ""}, "topic is missing"),
    ]
    for wrong, text in cases:
        with pytest.raises(Misconfigured, match=text):
            topic.pull(**wrong)


def test_a_wrong_password_is_denied(guarded: Any, topic: TopicPlace) -> None:
    options = {
        "bootstrap": list(guarded.cluster.bootstrap),
        "tls": True,
        "ca": str(guarded.folder / "ca.pem"),
        "user": "clerk",
        "password": "env:P",
        "seconds": 5,
    }
    with pytest.raises(Denied):
        topic.pull(**options)


# --- messages ---------------------------------------------------------------------------------


def test_a_message_that_cannot_be_read_is_a_defect_and_stops_nothing(topic: TopicPlace) -> None:
    topic.write(
        record(1, "a"),
        ("k", "not json"),
        ("k", "[1]"),
        ("k", '{"id": 2, "id": 3, "name": "twice"}'),
        ("k", '{"id": 4, "name": {"first": "x"}}'),
        record(5, "b"),
    )
    pulls = topic.pull()
    assert rows(pulls, "id") == [("1",), (None,), (None,), (None,), (None,), ("5",)]
    first, second, third, fourth = defects(pulls)
    assert "offset 1: the message is no JSON" in first
    assert second == "offset 2: it is no object"
    assert "'id' stands twice" in third
    assert fourth == "offset 4: name: an object or a list, not a value: write its path in columns"
    full = pulls[0].frame["_defect"][1]
    assert full.endswith("\nkey: k\nvalue: not json")


def test_messages_of_other_fields_come_in_frames_of_their_own(topic: TopicPlace) -> None:
    topic.write(record(1, "a"), ("k", '{"id": 2}'), ("k", '{"id": 3}'), record(4, "d"))
    pulls = topic.pull()
    assert [p.frame.columns[:-2] for p in pulls] == [["id", "name"], ["id"], ["id", "name"]]
    assert rows(pulls, "id") == [("1",), ("2",), ("3",), ("4",)]
    named = {"columns": {"编号": "id", "姓名": "name"}}
    assert defects(topic.pull(**named)) == ["offset 1: it has no name", "offset 2: it has no name"]
    (pulled,) = topic.pull(**named, absent="null")
    assert pulled.frame["姓名"].to_list() == ["a", None, None, "d"]


def test_null_deletes_what_its_key_names(topic: TopicPlace) -> None:
    topic.write(('{"id": 1}', '{"id": 1, "name": "a"}'), ('{"id": 1}', None), ("text", None))
    pulls = topic.pull(key=["id"])
    assert [p.next_pull for p in pulls] == [False, True]
    assert rows(pulls, "id", "cd_operation") == [("1", "I"), ("1", "D"), (None, "I")]
    assert "no JSON" in defects(pulls)[0]


# --- Debezium ---------------------------------------------------------------------------------

_COLUMNS = [
    {"field": "id", "type": "int32"},
    {"field": "name", "type": "string"},
    {"field": "born", "type": "int32", "name": "io.debezium.time.Date"},
    {"field": "at", "type": "int64", "name": "io.debezium.time.MicroTimestamp"},
    {
        "field": "paid",
        "type": "bytes",
        "name": "org.apache.kafka.connect.data.Decimal",
        "parameters": {"scale": "2"},
    },
    {"field": "zone", "type": "string", "name": "io.debezium.time.ZonedTimestamp"},
]
_ENVELOPE = {
    "type": "struct",
    "fields": [
        {"field": side, "type": "struct", "optional": True, "fields": _COLUMNS}
        for side in ("before", "after")
    ],
}


def row(number: int, name: str = "张三", paid: int = 123_456) -> dict[str, Any]:
    """A row as Debezium writes it: days, microseconds of the wall clock, unscaled bytes."""
    data = paid.to_bytes(8, "big", signed=True)
    return {
        "id": number,
        "name": name,
        "born": 20_393,
        "at": 1_793_491_200_000_001,
        "paid": base64.b64encode(data).decode(),
        "zone": "2026-11-01T00:00:00Z",
    }


def event(op: str, before: Any, after: Any) -> Message:
    key = (after or before or {}).get("id")
    payload = {"op": op, "before": before, "after": after, "source": {"table": "t"}, "ts_ms": 1}
    return f'{{"id":{key}}}', json.dumps({"schema": _ENVELOPE, "payload": payload})


def test_changes_of_debezium_are_inserts_updates_and_deletes(topic: TopicPlace) -> None:
    topic.write(
        event("r", None, row(1)),
        event("c", None, row(2)),
        event("u", row(1), row(1, "李四")),
        event("d", row(2), None),
        ('{"id":2}', None),  # the tombstone behind it
        event("c", None, row(3)),
    )
    pulls = topic.pull(envelope="debezium")
    assert rows(pulls, "id", "name", "cd_operation") == [
        ("1", "张三", "I"),
        ("2", "张三", "I"),
        ("1", "李四", "U"),
        ("2", "张三", "D"),
        ("3", "张三", "I"),
    ]
    # No version is passed over: where a record comes again, another pull begins.
    assert [p.next_pull for p in pulls] == [False, True]
    assert all(p.changes for p in pulls)
    assert rows(pulls, "born", "at", "paid", "zone")[0] == (
        "2025-11-01",
        "2026-11-01 00:00:00.000001",
        "1234.56",
        "2026-11-01T00:00:00Z",
    )
    (last,) = topic.pull(envelope="debezium", versions="last")
    assert rows([last], "id", "name", "cd_operation") == [
        ("1", "李四", "U"),
        ("2", "张三", "D"),
        ("3", "张三", "I"),
    ]
    assert "versions that a later one of the same frame replaced: 2" in last.notes[1].text


@pytest.mark.parametrize(
    ("message", "defect"),
    [
        (event("t", None, None), "the table was emptied"),
        (event("x", None, row(1)), "op 'x' is unknown"),
        (event("u", None, None), "after is no record"),
        (event("u", None, row(1, "__debezium_unavailable_value")), "name: the source did not send"),
        (("k", '{"id": 1}'), "it is no change event of Debezium"),
        (event("c", None, {**row(1), "born": 99_999_999}), "born: io.debezium.time.Date cannot be"),
    ],
)
def test_an_event_that_is_no_change_of_a_record_is_a_defect(message: Message, defect: str) -> None:
    key, value = message
    assert isinstance(value, str)
    reader = RecordReader(read_json, "debezium", {}, optional=False, key=())
    change = reader.read(TopicRecord(7, 0, (key or "").encode(), value.encode()))
    assert change is not None
    assert change.defect is not None
    assert change.defect.startswith(f"offset 7: {defect}")


# --- Avro -------------------------------------------------------------------------------------

DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 30, "scale": 2}
DAYS = {"type": "int", "connect.name": "io.debezium.time.Date"}
SCHEMA = {
    "type": "record",
    "name": "Licence",
    "namespace": "gov",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "name", "type": ["null", "string"]},
        {"name": "fee", "type": DECIMAL},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "born", "type": ["null", DAYS]},
        {"name": "share", "type": "float"},
        {"name": "raw", "type": "bytes"},
    ],
}  # fmt: skip


@pytest.fixture
def registry() -> Iterator[served.Running]:
    with served.running() as running:
        yield running


def number_of(registry: served.Running, schema: Any) -> int:
    import requests

    answer = requests.post(
        f"{registry.url}/subjects/licences-value/versions",
        json={"schema": json.dumps(schema)},
        timeout=10,
    )
    return int(answer.json()["id"])


def avro(number: int, schema: Any, content: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), content)
    return b"\x00" + number.to_bytes(4, "big") + out.getvalue()


def test_avro_is_read_by_the_schema_of_its_number(
    topic: TopicPlace, registry: served.Running
) -> None:
    number = number_of(registry, SCHEMA)
    content = {
        "id": 9_007_199_254_740_993,
        "name": "张三",
        "fee": Decimal("1234567890123456789012345678.90"),
        "at": datetime(2026, 11, 1, tzinfo=UTC),
        "born": 20_393,
        "share": 0.1,
        "raw": b"\x00\xff",
    }
    write_bytes(
        topic.bootstrap,
        topic.name,
        [
            (b"a", avro(number, SCHEMA, content)),
            (b"b", b"{}"),
            (b"c", avro(number, SCHEMA, content)[:-1]),
        ],
    )
    options = {"value": "avro", "registry": registry.url}
    (pulled,) = topic.pull(**options)
    assert pulled.frame.row(0)[:7] == (
        "9007199254740993",
        "张三",
        "1234567890123456789012345678.90",
        "2026-11-01T00:00:00Z",
        "2025-11-01",
        "0.1",
        r"\x00ff",
    )
    first, second = defects([pulled])
    assert first == "offset 1: it does not begin with the number of a schema: no Confluent Avro"
    assert second.startswith(f"offset 2: it is no Avro of schema {number}")


def test_an_unknown_schema_ends_the_pull(topic: TopicPlace, registry: served.Running) -> None:
    write_bytes(topic.bootstrap, topic.name, [(b"a", b"\x00\x00\x00\x00\x63abc")])
    with pytest.raises(Misconfigured, match="/schemas/ids/99 answers HTTP 404"):
        topic.pull(value="avro", registry=registry.url)


def test_a_type_is_found_by_its_name_too() -> None:
    """As in Debezium's envelope: ``before`` defines the record, ``after`` names it."""
    inner = {"type": "record", "name": "Value", "fields": SCHEMA["fields"]}
    envelope = {
        "type": "record",
        "name": "Envelope",
        "namespace": "gov",
        "fields": [
            {"name": "before", "type": ["null", inner]},
            {"name": "after", "type": ["null", "Value"]},
        ],
    }
    kind = avro_type(fastavro.parse_schema(envelope))
    assert kind.fields["after"] == kind.fields["before"]
    assert kind.fields["after"].fields["born"].name == "io.debezium.time.Date"


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6))
def test_a_decimal_of_bytes_is_exact(value: Decimal) -> None:
    unscaled = int(value.scaleb(6).to_integral_exact()) if value.adjusted() < 20 else 0
    data = unscaled.to_bytes(16, "big", signed=True)
    kind = ValueType("org.apache.kafka.connect.data.Decimal", "bytes", 6)
    for given_value in (data, base64.b64encode(data).decode()):
        text = text_of(given_value, kind, debezium=True)
        assert text is not None
        assert Decimal(text).as_tuple().exponent == -6
        assert int(text.replace(".", "")) == unscaled


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates()
    | st.datetimes() | st.times() | st.decimals(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=3,
), st.sampled_from([
    "", "io.debezium.time.Date", "io.debezium.time.Timestamp", "io.debezium.time.MicroTime",
    "org.apache.kafka.connect.data.Decimal", "io.debezium.data.VariableScaleDecimal",
    "io.debezium.time.ZonedTimestamp", "org.apache.kafka.connect.data.Timestamp",
]))  # fmt: skip
def test_any_value_of_any_type_is_a_text_or_unclear(value: Any, name: str) -> None:
    text = None
    with suppress(Unclear):
        text = text_of(value, ValueType(name, "", 2), debezium=False)
    assert text is None or isinstance(text, str)
