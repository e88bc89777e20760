"""What a cluster does to us, each caused on brokers that may be killed."""

from __future__ import annotations

import socket
import socketserver
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kafka import KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType

from exchange.devtools.servers.kafka import Cluster
from exchange.errors import Integrity, Misconfigured, Rejected, Transient
from exchange.log import CURSORS, Fenced, Message, Topic
from exchange.log.kafka import KafkaLog
from exchange.log.kafka.producers import Record
from exchange.node.node import Node
from exchange.settings import KafkaSettings, load
from tests.log.contract import fresh, put, take, values
from tests.support.security import wait_for
from tests.support.sockets import listening

Opening = Callable[..., KafkaLog]


@pytest.fixture
def opening(mortal_broker: Cluster) -> Iterator[Opening]:
    opened: list[KafkaLog] = []
    settings = KafkaSettings(
        bootstrap=mortal_broker.bootstrap,
        replication=1,
        min_insync=1,
        request_seconds=10,
        transaction_seconds=10,
    )

    def open_one(**changes: object) -> KafkaLog:
        opened.append(KafkaLog(settings.model_copy(update=changes), secret=str, base=Path()))
        return opened[-1]

    yield open_one
    for log in opened:
        log.close()


@pytest.fixture
def topic(opening: Opening) -> str:
    name = fresh("raw")
    opening().ensure([Topic(name)])
    return name


# the broker is not there


def test_nobody_answers_at_start() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = "127.0.0.1:{1}".format(*unused.getsockname())
        settings = KafkaSettings(bootstrap=(address,), request_seconds=1)
        log = KafkaLog(settings, secret=str, base=Path())
        before = set(threading.enumerate())
        for attempt in (log.topics, lambda: log.claim("owner"), lambda: log.latest(CURSORS, "a")):
            with pytest.raises(Transient, match=address):
                attempt()
        assert set(threading.enumerate()) == before
        log.close()


@pytest.mark.parametrize("tls", [False, True])
def test_a_listener_that_closes_at_once_is_away(tls: bool) -> None:  # noqa: FBT001
    """Such as a load balancer with no broker behind it."""
    with listening(lambda _: None) as url:
        address = url.removeprefix("http://")
        settings = KafkaSettings(bootstrap=(address,), request_seconds=2, tls=tls)
        log = KafkaLog(settings, secret=str, base=Path())
        with pytest.raises(Transient, match=address):
            log.topics()
        log.close()


def test_a_silent_broker_is_transient_and_work_goes_on_after_it(
    mortal_broker: Cluster, opening: Opening, topic: str
) -> None:
    log = opening()
    hasty = opening(request_seconds=2, transaction_seconds=2)
    put(hasty, topic, b"before")
    consumer = log.consumer("group", [topic])
    take(consumer, 1)
    mortal_broker.pause(0)
    try:
        with pytest.raises(Transient) as caught:
            put(hasty, topic, b"lost")
        assert not isinstance(caught.value, Fenced)
        with pytest.raises(Transient):
            hasty.bounds(topic, 0)
    finally:
        mortal_broker.resume(0)
    put(log, topic, b"after")
    assert values(log.read(topic, 0, 0, max_entries=9)) == [b"before", b"after"]
    consumer.rewind()
    while True:
        try:
            assert values(take(consumer, 2)) == [b"before", b"after"]
        except Transient:  # its session ended meanwhile: it comes back
            time.sleep(0.1)
        else:
            break


def test_work_goes_on_after_a_broker_was_killed_and_started(
    mortal_broker: Cluster, opening: Opening, topic: str
) -> None:
    log = opening(request_seconds=20, transaction_seconds=20)
    put(log, topic, b"1")
    consumer = log.consumer("group", [topic])
    (entry,) = take(consumer, 1)
    mortal_broker.kill(0)
    mortal_broker.start(0)
    try:
        with log.transaction("worker") as transaction:
            transaction.append(Message(topic, b"2"))
            transaction.commit(consumer, topic, 0, entry.offset + 1)
    except Transient:  # also when the group began anew
        consumer.rewind()
        put(log, topic, b"2")
    left = {b"1", b"2"} if log.position("group", topic, 0) == entry.offset else {b"2"}
    consumer.rewind()
    assert set(values(take(consumer, len(left)))) == left


def test_too_few_replicas_wait_and_say_so(three_brokers: Cluster) -> None:
    settings = KafkaSettings(bootstrap=three_brokers.bootstrap, transaction_seconds=8)
    log = KafkaLog(settings, secret=str, base=Path())
    strict = KafkaLog(settings.model_copy(update={"min_insync": 3}), secret=str, base=Path())
    two, all_three = Topic(fresh("raw"), partitions=3), Topic(fresh("raw"))
    log.ensure([two])
    strict.ensure([all_three])
    put(strict, all_three.name, b"1", owner="strict")
    three_brokers.kill(0)
    wait_for(lambda: log.health([all_three]).behind)
    with pytest.raises(Transient, match=f"NotEnoughReplicasError.*{all_three.name}/0"):
        put(strict, all_three.name, b"2", owner="strict")
    for partition in range(3):  # one of them was led by the broker that is gone
        put(log, two.name, b"goes on", partition=partition)
    three_brokers.start(0)

    def written() -> bool:
        put(strict, all_three.name, b"2", owner="strict")
        return True

    wait_for(written)
    assert values(log.read(all_three.name, 0, 0, max_entries=9)) == [b"1", b"2"]
    log.close()
    strict.close()


# transactions


class Slow(list[Record]):
    """Records that take their time to be sent."""

    def __iter__(self) -> Iterator[Record]:
        for record in super().__iter__():
            yield record
            time.sleep(1.5)


def test_a_transaction_beyond_its_time_limit_is_void(opening: Opening, topic: str) -> None:
    log = opening(transaction_seconds=1)

    def slow() -> None:
        with log.transaction("slow") as transaction:
            transaction.append(Message(topic, b"late"))
            transaction.append(Message(topic, b"later"))
            transaction.records = Slow(transaction.records)

    with pytest.raises(Transient):
        slow()
    assert log.claim("slow")
    put(log, topic, b"in time", owner="slow")
    assert values(log.read(topic, 0, 0, max_entries=9)) == [b"in time"]


def test_a_message_that_the_topic_refuses(opening: Opening, topic: str) -> None:
    log = opening()
    small = ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": "1000"})
    log._cluster().alter_configs([small])
    put(log, topic, b"read")
    consumer = log.consumer("group", [topic])
    take(consumer, 1)

    def write() -> None:
        with log.transaction("writer") as transaction:
            transaction.append(Message(topic, b"fits"))
            transaction.append(Message(topic, bytes(5000)))
            transaction.commit(consumer, topic, 0, 1)

    with pytest.raises(Rejected):
        write()
    assert log.position("group", topic, 0) == 0
    put(log, topic, b"goes on")
    assert values(log.read(topic, 0, 0, max_entries=9)) == [b"read", b"goes on"]


def test_the_least_recently_used_owners_are_closed(opening: Opening, topic: str) -> None:
    log = opening()
    log._producers._cap = 2
    assert log.claim("a")
    assert log.claim("b")
    assert not log.claim("a")
    assert log.claim("c")  # takes the place of b
    assert not log.claim("a")
    assert log.claim("b")
    assert len([t for t in threading.enumerate() if "network-thread" in t.name]) == 2
    with log.transaction("a") as transaction:
        log.claim("d")
        log.claim("e")
        transaction.append(Message(topic, b"kept open while it is used"))
    assert values(log.read(topic, 0, 0, max_entries=9)) == [b"kept open while it is used"]


# what others write into our topics


def test_foreign_messages_come_through(
    mortal_broker: Cluster, opening: Opening, topic: str
) -> None:
    foreign = KafkaProducer(
        bootstrap_servers=list(mortal_broker.bootstrap), compression_type="gzip"
    )
    foreign.send(topic, b"value", None, [("h", b"\xff\xfe"), ("i", b"")])
    foreign.send(topic, None, b"\xff key")
    foreign.send(topic, b"plain", b"k")
    foreign.close()
    entries = take(opening().consumer("group", [topic]), 3)
    assert [(entry.key, entry.value) for entry in entries] == [
        ("", b"value"),
        ("\N{REPLACEMENT CHARACTER} key", b""),
        ("k", b"plain"),
    ]
    assert dict(entries[0].headers) == {"h": "\N{REPLACEMENT CHARACTER}" * 2, "i": ""}


def test_a_flipped_bit_on_the_brokers_disk(
    mortal_broker: Cluster, opening: Opening, topic: str
) -> None:
    log = opening()
    put(log, topic, b"the bytes that were sealed")
    put(log, topic, b"others")
    (segment,) = (mortal_broker.folder(0) / f"{topic}-0").glob("*.log")
    data = bytearray(segment.read_bytes())
    data[data.index(b"sealed")] ^= 1
    with segment.open("r+b") as file:
        file.write(data)
    with pytest.raises(Integrity, match=f"{topic}/0"):
        log.read(topic, 0, 0, max_entries=1)
    with pytest.raises(Integrity):
        log.consumer("group", [topic]).poll(max_entries=1, max_bytes=1)


# programs that do not fit


class OldBroker(socketserver.StreamRequestHandler):
    """Says what Apache Kafka 2.0 says: which requests it knows, and that it is alone."""

    KNOWN = ((0, 6), (1, 8), (2, 4), (3, 5), (18, 2))
    """Number and newest version of a request."""

    def handle(self) -> None:
        while head := self.rfile.read(12):
            size, kind, _, number = struct.unpack(">ihhi", head)
            self.rfile.read(size - 8)
            answer = {18: self.versions, 17: self.no_password}.get(kind, self.metadata)()
            self.wfile.write(struct.pack(">ii", 4 + len(answer), number) + answer)

    def versions(self) -> bytes:
        rows = b"".join(struct.pack(">hhhx", kind, 0, newest) for kind, newest in self.KNOWN)
        return struct.pack(">hB", 0, len(self.KNOWN) + 1) + rows + struct.pack(">ix", 0)

    def no_password(self) -> bytes:
        return struct.pack(">hi", 34, 0)

    def metadata(self) -> bytes:
        assert isinstance(self.server, socketserver.TCPServer)
        host, port = str(self.server.server_address[0]).encode(), self.server.server_address[1]
        result = struct.pack(f">ih{len(host)}sih", 1, len(host), host, port, -1)
        return struct.pack(">ii", 0, 1) + result + struct.pack(">hii", -1, 1, 0)


def test_a_broker_that_is_too_old() -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), OldBroker) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_address[1]}"
        settings = KafkaSettings(bootstrap=(address,), request_seconds=5)
        log = KafkaLog(settings, secret=str, base=Path())
        with pytest.raises(Misconfigured, match=r"2\.0 is older than 3\.0"):
            log.topics()
        log.close()
        server.shutdown()


def test_a_client_that_is_not_installed(tmp_path: Path) -> None:
    file = tmp_path / "exchange.yaml"
    file.write_text(
        "node: {code: '230600', name: a}\n"
        "log: {driver: kafka, kafka: {bootstrap: ['127.0.0.1:1']}}\n"
    )
    code = (
        "import sys; sys.modules['kafka'] = None\n"
        "from pathlib import Path\n"
        "from exchange.errors import Misconfigured\n"
        "from exchange.node.node import Node\n"
        "from exchange.settings import load\n"
        f"with Node(load(Path({str(file)!r}))) as node:\n"
        "    try:\n"
        "        node.log\n"
        "    except Misconfigured as error:\n"
        "        print(error.hint.en)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "[node,kafka]" in result.stdout


def test_a_node_opens_its_cluster(mortal_broker: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "exchange.yaml"
    file.write_text(
        "node: {code: '230600', name: a}\n"
        "log:\n  driver: kafka\n"
        f"  kafka: {{bootstrap: ['{mortal_broker.bootstrap[0]}'], replication: 1, min_insync: 1}}\n"
    )
    with Node(load(file), worker="w:1") as node:
        assert isinstance(node.log, KafkaLog)
        assert Topic(CURSORS, compacted=True) in node.log.topics()
