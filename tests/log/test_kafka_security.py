"""TLS, mutual TLS, SCRAM and ACLs of a real broker, as our driver meets them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourceType,
)

from exchange.devtools.servers.kafka import Cluster
from exchange.errors import Denied, ExchangeError, Misconfigured
from exchange.log import Message, Topic
from exchange.log.kafka import KafkaLog
from exchange.settings import KafkaSettings
from tests.log.contract import fresh, put, take, values
from tests.support.security import ADMIN, USER, SecuredBroker, grant, secret


def works(settings: KafkaSettings, base: Path) -> None:
    """Do everything once that a driver does."""
    raw, cursors = fresh("ours"), fresh("cursors")
    with closing(KafkaLog(settings, secret=secret, base=base)) as log:
        log.ensure([Topic(raw), Topic(cursors, compacted=True)])
        with log.transaction("writer") as transaction:
            transaction.append(Message(raw, b"value"))
            transaction.append(Message(cursors, b"state", key="key"))
        consumer = log.consumer("group", [raw])
        (entry,) = take(consumer, 1)
        assert entry.value == b"value"
        with log.transaction("reader") as transaction:
            transaction.commit(consumer, raw, 0, entry.offset + 1)
        newest = log.latest(cursors, "key")
        assert newest is not None
        assert newest.value == b"state"


def refused(settings: KafkaSettings, base: Path) -> ExchangeError:
    """Return why a cluster is not to be had."""
    with (
        closing(KafkaLog(settings, secret=secret, base=base)) as log,
        pytest.raises(ExchangeError) as caught,
    ):
        log.topics()
    return caught.value


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "SCRAM-SHA-256"])
def test_the_right_password_over_tls_does_everything(
    guarded: SecuredBroker, mechanism: str
) -> None:
    works(guarded.settings(ADMIN, mechanism=mechanism), guarded.folder)


@pytest.mark.parametrize(
    ("changes", "kind", "said", "hint"),
    [
        ({"password": "env:wrong"}, Denied, "refuses user admin", "user, password"),
        ({"user": "nobody"}, Denied, "refuses user nobody", "user, password"),
        ({"user": None, "password": None}, Misconfigured, "asks for user and password", "user"),
        ({"ca": Path("other.pem")}, Misconfigured, "is not trusted", "log.kafka.ca"),
        ({"tls": False, "ca": None}, Misconfigured, "speaks TLS only", "log.kafka.tls"),
        (
            {"tls": False, "ca": None, "user": None, "password": None},
            Misconfigured,
            "speaks TLS only",
            "log.kafka.tls",
        ),
    ],
)
def test_wrong_credentials_say_what_is_wrong(
    guarded: SecuredBroker, changes: dict[str, Any], kind: type, said: str, hint: str
) -> None:
    error = refused(guarded.settings(ADMIN, **changes), guarded.folder)
    assert type(error) is kind
    assert error.exit_code == kind.exit_code
    assert said in error.what.en
    assert hint in error.hint.en
    assert "wrong" not in str(error), "no password is told"


def test_a_broker_under_another_name_is_not_talked_to(guarded: SecuredBroker) -> None:
    error = refused(guarded.settings(bootstrap=guarded.misnamed), guarded.folder)
    assert isinstance(error, Misconfigured)
    assert "the certificate is of another address" in error.what.en


def test_settings_that_are_too_strong_for_a_plain_broker(
    kafka_broker: Cluster, guarded: SecuredBroker
) -> None:
    plain = SecuredBroker(kafka_broker, guarded.folder)
    error = refused(plain.settings(), plain.folder)
    assert isinstance(error, Misconfigured)
    assert "does not speak TLS" in error.what.en
    error = refused(plain.settings(ADMIN, tls=False, ca=None), plain.folder)
    assert isinstance(error, Misconfigured)
    assert "does not ask for user and password" in error.what.en


def by_certificate(guarded: SecuredBroker, name: str | None) -> KafkaSettings:
    mine = {"certificate": f"{name}.crt", "key": f"{name}.key"} if name else {}
    return guarded.settings(bootstrap=guarded.certified, **mine)


def test_a_certificate_is_as_good_as_a_password(guarded: SecuredBroker) -> None:
    works(by_certificate(guarded, ADMIN), guarded.folder)


@pytest.mark.parametrize("name", ["stranger", None])
def test_a_certificate_of_a_stranger_or_none_is_refused(
    guarded: SecuredBroker, name: str | None
) -> None:
    error = refused(by_certificate(guarded, name), guarded.folder)
    assert type(error) is Denied
    assert "refuses our certificate" in error.what.en
    assert "certificate and key under log.kafka" in error.hint.en


# --- rights ---------------------------------------------------------------------------------


def acl(kind: ResourceType, name: str, *operations: ACLOperation) -> list[ACL]:
    """Allow our user something with one topic, group or transactional id."""
    pattern = ResourcePattern(kind, name, ACLResourcePatternType.LITERAL)
    return [
        ACL(f"User:{USER}", "*", operation, ACLPermissionType.ALLOW, pattern)
        for operation in operations
    ]


@pytest.fixture
def topic(guarded: SecuredBroker) -> str:
    name = fresh("ours")
    with closing(KafkaLog(guarded.settings(ADMIN), secret=secret, base=guarded.folder)) as log:
        log.ensure([Topic(name)])
        put(log, name, b"there")
    return name


def poll(log: KafkaLog, topic: str) -> None:
    assert values(take(log.consumer("denied", [topic]), 1)) == [b"there"]


@pytest.mark.parametrize(
    ("does", "given", "named"),
    [
        (lambda log, topic: log.ensure([Topic(topic)]), {}, "{topic}"),
        (lambda log, topic: log.bounds(topic, 0), {}, "{topic}"),
        (lambda log, topic: put(log, topic, b"x", owner="denied"), {"topic": "read"}, "denied"),
        (
            lambda log, topic: put(log, topic, b"x", owner="denied"),
            {"topic": "read", "id": "write"},
            "{topic}",
        ),
        (poll, {"topic": "read"}, "exchange.denied"),
        (poll, {"topic": "describe", "group": "read"}, "{topic}"),
    ],
    ids=["ensure", "bounds", "transactional id", "write", "group", "read"],
)
def test_a_missing_right_is_denied_and_named(
    guarded: SecuredBroker,
    topic: str,
    does: Callable[[KafkaLog, str], object],
    given: dict[str, str],
    named: str,
) -> None:
    kinds = {
        "topic": (ResourceType.TOPIC, topic),
        "id": (ResourceType.TRANSACTIONAL_ID, "exchange.denied"),
        "group": (ResourceType.GROUP, "exchange.denied"),
    }
    items = [
        item
        for kind, right in given.items()
        for item in acl(*kinds[kind], ACLOperation[right.upper()])
    ]
    if "topic" in given:
        items += acl(*kinds["topic"], ACLOperation.DESCRIBE_CONFIGS)
    with closing(guarded.admin()) as admin:
        if items:
            grant(admin, items)
    with (
        closing(KafkaLog(guarded.settings(USER), secret=secret, base=guarded.folder)) as log,
        pytest.raises(Denied) as caught,
    ):
        does(log, topic)
    assert named.format(topic=topic) in caught.value.what.en
    assert "ACL" in caught.value.hint.en
    assert caught.value.exit_code == 5
