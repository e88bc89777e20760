"""The rights that docs/kafka.md lists are enough for every room, and each of them is needed.

The stages are real, and so is the broker: StandardAuthorizer decides, the lines are read from the
page. Each kind of work that touches the cluster is there: rows and rows that are no records,
refused records, foreign messages, batches, receipts.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from itertools import count

import pytest

from exchange.errors import Denied, ExchangeError
from exchange.log import Message, Topic, sealed_topic
from exchange.log.kafka import KafkaLog
from exchange.node.node import Node
from exchange.node.topics import required_topics
from exchange.pipeline.replay import replay
from exchange.pipeline.seal import release
from exchange.run.runner import Runner
from exchange.run.status import StatusReader
from exchange.settings import load
from tests.pipeline.place import EAGER, Place, catalog, records, source, write_csv
from tests.support.security import ADMIN, SecuredBroker, documented, grant, revoke, secret

STAGES = ("pull", "seal", "cascade", "evidence")
OPERATOR = "operator"
LINES = documented()
_numbers = count(1, 1000)


@pytest.fixture(scope="module")
def broker(guarded: SecuredBroker) -> SecuredBroker:
    """The guarded broker, with the rights of the page."""
    with closing(guarded.admin()) as admin:
        for acls in LINES.values():
            grant(admin, acls)
    return guarded


@pytest.fixture(scope="module")
def place(broker: SecuredBroker) -> Iterator[Place]:
    """A node on the broker; the operator has made its topics."""
    place = Place.make(
        broker.folder / "node",
        catalog("cases"),
        source("files", "cases", "folder: drops, settle: 0"),
    )
    with place.receiver():
        point(place, broker, OPERATOR)
        with node(place, OPERATOR) as opened:
            assert opened.cluster.repair(required_topics(opened.settings)) == []
        yield place


def point(place: Place, broker: SecuredBroker, user: str) -> None:
    path = place.folder / "exchange.yaml"
    text = re.sub(r"(?ms)^log:.*?(?=^\w|\Z)", "", path.read_text("utf-8"))
    path.write_text(
        f"{text}\nlog:\n  driver: kafka\n  kafka:\n"
        f"    bootstrap: [{broker.cluster.bootstrap[0]}]\n"
        f"    tls: true\n    ca: {broker.folder / 'ca.pem'}\n"
        f"    user: {user}\n    password: env:KAFKA\n"
        "    replication: 1\n    min_insync: 1\n    request_seconds: 10\n"
        f"    retention: {{raw: {next(_numbers)}d}}\n",
        "utf-8",
    )


def node(place: Place, user: str) -> Node:
    return Node(load(place.folder / "exchange.yaml"), environ={"KAFKA": user[::-1]})


def add(place: Place) -> None:
    """Give the source a title, rows, and rows that will be refused."""
    first = next(_numbers)
    path = place.folder / "drops" / f"{first}.csv"
    write_csv(path, records(60, first=first))
    path.write_text("案件清单,,,\n" + path.read_text("utf-8"), "utf-8")


def strange(broker: SecuredBroker) -> None:
    """Put a message into the sealed topic that is none of ours."""
    with (
        closing(KafkaLog(broker.settings(ADMIN), secret=secret, base=broker.folder)) as log,
        log.transaction("stranger") as transaction,
    ):
        transaction.append(Message(sealed_topic("cases"), b"strange"))


def prepare(place: Place, broker: SecuredBroker, *stages: str) -> None:
    """Let somebody with every right do what comes before."""
    point(place, broker, ADMIN)
    add(place)
    with node(place, ADMIN) as opened:
        outcome = Runner(opened, policy=EAGER, stages=stages).once()
        assert outcome.pulled >= 60
        assert outcome.errors == {}


def work(place: Place, broker: SecuredBroker, user: str) -> None:
    """Do all that a user is there for; raises the first error."""
    before = STAGES[: STAGES.index(user)] if user in STAGES else STAGES[:2]
    if before:
        prepare(place, broker, *before)
    point(place, broker, user)
    with node(place, user) as opened, ExitStack() as stack:
        if user == OPERATOR:
            operate(opened)
            return
        if user == "pull":
            add(place)
            stack.enter_context(closing(opened.topics.source_assignment()))
        if user == "seal":  # what the store has lost is shown again from the log
            with closing(sqlite3.connect(place.folder / "data" / "store.db")) as store, store:
                for table in ("deliveries", "receipts"):
                    store.execute(f"DELETE FROM {table}")
        if user == "cascade":
            strange(broker)
        outcome = Runner(opened, policy=EAGER, stages=(user,)).once()
        if (error := outcome.error()) is not None:
            raise error


def operate(opened: Node) -> None:
    """Do what commands do that ask or change something by hand."""
    scratch = "exchange.raw.scratch"
    values = {topic.name: topic.partitions for topic in opened.cluster.topics()}
    new = Topic(f"{scratch}{next(_numbers)}")
    wider = Topic(scratch, values.get(scratch, 0) + 1)
    assert opened.cluster.repair([*required_topics(opened.settings), new, wider]) == []
    StatusReader(opened)()
    release(opened.context, "cases")
    resource = opened.context.resource("cases")
    assert replay(opened.context, opened.store, resource, by="me").rows


def test_every_room_and_the_operator_do_their_work_with_the_rights_listed(
    place: Place, broker: SecuredBroker
) -> None:
    for user in (*STAGES, OPERATOR):
        work(place, broker, user)


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.partition("--operation ")[2])
def test_each_right_is_needed(place: Place, broker: SecuredBroker, line: str) -> None:
    users = [acl.principal.removeprefix("User:") for acl in LINES[line]]
    errors: list[ExchangeError] = []
    with closing(broker.admin()) as admin:
        revoke(admin, LINES[line])
        try:
            for user in dict.fromkeys(users):
                try:
                    work(place, broker, user)
                except Denied as error:
                    errors.append(error)
        finally:
            grant(admin, LINES[line])
    assert errors, "nobody misses it"
    assert all(error.exit_code == 5 for error in errors)
