"""The registry's client against a registry that serves HTTP, and against servers that misbehave."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import pytest
import requests

from exchange.errors import Denied, ExchangeError, Misconfigured, Rejected, Transient
from exchange.publish.registry import FRESH_SECONDS, Registry, connect
from exchange.settings import NodeIdentity, RegistrySettings, Settings
from tests.publish import registry as served
from tests.publish.avro import differences
from tests.support.sockets import Handler, listening, read_request, reply


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server() -> Iterator[served.Running]:
    with served.running() as running:
        yield running


@contextmanager
def client(
    url: str, clock: Clock | None = None, more: Mapping[str, object] = {}
) -> Iterator[Registry]:
    settings = Settings(node=NodeIdentity(code="232700", name="大兴安岭地区"))
    limits = {"connect_seconds": 1, "read_seconds": 0.5, "total_seconds": 1}
    section = RegistrySettings.model_validate({"url": url, **limits, **more})
    environ = {"REGISTRY_PASSWORD": "s3cret"}
    with connect(settings, section, environ=environ, monotonic=clock or time.monotonic) as registry:
        yield registry


def schema(*fields: str, **types: str) -> str:
    """Write a record schema: plain names are texts."""
    named = dict.fromkeys(fields, "string") | types
    items = [{"name": name, "type": kind} for name, kind in named.items()]
    return json.dumps({"type": "record", "name": "one", "fields": items})


def fresh(name: str) -> str:
    return f"exchange.records.{name}{time.time_ns()}-value"


def test_a_schema_gets_a_number_by_which_others_find_it(server: served.Running) -> None:
    subject, other = fresh("a"), fresh("b")
    with client(server.url) as registry:
        number = registry.number(subject, schema("no"))
        assert server.schema(number) == json.loads(schema("no"))
        assert registry.number(other, schema("no")) == number
        assert registry.number(subject, schema("no")) == number
        listed = requests.get(f"{server.url}/subjects/{subject}/versions", timeout=10).json()
        assert listed == [1]


def test_an_asked_number_is_asked_no_more_for_a_minute(server: served.Running) -> None:
    clock, store = Clock(), server.ours
    with client(server.url, clock) as registry:
        first = registry.number("s-value", schema("no"))
        assert store.asked == ["POST /subjects/s-value", "POST /subjects/s-value/versions"]
        clock.now += FRESH_SECONDS - 1
        assert registry.number("s-value", schema("no")) == first
        assert len(store.asked) == 2
        clock.now += 1
        assert registry.number("s-value", schema("no")) == first
        assert store.asked[2:] == ["POST /subjects/s-value"]


def test_a_registry_that_was_made_anew_is_told_the_schema_again(server: served.Running) -> None:
    clock = Clock()
    with client(server.url, clock) as registry:
        first = registry.number("s-value", schema("no"))
        server.ours.wipe()
        clock.now += FRESH_SECONDS
        second = registry.number("s-value", schema("no"))
    assert second != first
    assert server.schema(second) == json.loads(schema("no"))


def test_a_schema_that_is_registered_needs_no_right_to_write(server: served.Running) -> None:
    with client(server.url) as registry:
        number = registry.number("s-value", schema("no"))
    server.ours.forbid = "/versions"
    with client(server.url) as registry:
        assert registry.number("s-value", schema("no")) == number
        with pytest.raises(Denied):
            registry.number("t-value", schema("no"))


def test_a_compatible_schema_is_a_new_version(server: served.Running) -> None:
    subject = fresh("c")
    with client(server.url) as registry:
        before = registry.number(subject, schema("no", "name"))
        after = registry.number(subject, schema("no"))  # the default level: new reads old
    assert before != after


def test_an_incompatible_schema_is_refused_with_what_changed(server: served.Running) -> None:
    subject = fresh("d")
    with client(server.url) as registry:
        registry.number(subject, schema("no", count="long"))
        for changed, item in (
            (schema("no", "place", count="long"), "place"),
            (schema("no", "count"), "count"),
        ):
            with pytest.raises(Rejected) as caught:
                registry.number(subject, changed)
            assert type(caught.value) is Rejected
            assert subject in caught.value.what.en
            assert item in caught.value.what.en
        server.relax(subject, "NONE")
        assert registry.number(subject, schema("no", "count")) >= 0


def test_a_text_that_is_no_schema_is_refused(server: served.Running) -> None:
    with client(server.url) as registry, pytest.raises(Rejected) as caught:
        registry.number(fresh("e"), '{"type": "nothing"}')
    assert type(caught.value) is Rejected


def test_user_and_password_let_in(server: served.Running) -> None:
    server.ours.login = ("node", "s3cret")
    login = {"user": "node", "password": "env:REGISTRY_PASSWORD"}
    with client(server.url, more=login) as registry:
        assert registry.number("s-value", schema("no")) > 0
    server.ours.login = ("node", "another")
    nobody: dict[str, str] = {}
    for item in (login, nobody):
        with client(server.url, more=item) as registry, pytest.raises(Denied) as caught:
            registry.number("s-value", schema("no"))
        assert "s3cret" not in f"{caught.value!r} {caught.value} {caught.value.__cause__}"


def test_user_and_password_come_together() -> None:
    with pytest.raises(ValueError, match="together"):
        RegistrySettings(url="https://registry.example.gov.cn", user="node")
    with pytest.raises(ValueError, match="total_seconds"):
        RegistrySettings(url="https://registry.example.gov.cn", read_seconds=40)


def failure(handler: Handler) -> ExchangeError:
    with listening(handler) as url, client(url) as registry:
        with pytest.raises(ExchangeError) as caught:
            registry.number("s-value", schema("no"))
        return caught.value


def code(status: str, number: int, message: str = "so it is") -> Handler:
    return reply(status, json.dumps({"error_code": number, "message": message}).encode())


@pytest.mark.parametrize(
    ("handler", "kind"),
    [
        (code("401 Unauthorized", 401), Denied),
        (code("403 Forbidden", 403), Denied),
        (code("422 Unprocessable", 42205), Rejected),
        (code("429 Too Many", 429), Transient),
        (code("500 Error", 50001), Transient),
        (reply("503 Busy", b"<html>"), Transient),
        (reply("302 Found", b"", "Location: http://127.0.0.1:1/subjects\r\n"), Misconfigured),
        (reply("404 Not Found", b"<html>"), Misconfigured),
        (reply("200 OK", b"<html>"), Misconfigured),
        (reply("200 OK", b"[]"), Misconfigured),
        (reply("200 OK", b'{"id": "7"}'), Misconfigured),
        (reply("200 OK", b'{"id": -1}'), Misconfigured),
        (reply("200 OK", b'{"id": 2147483648}'), Misconfigured),
        (reply("200 OK", b'{"id": true}'), Misconfigured),
        (reply("200 OK", b"[" * 100_000), Misconfigured),
        (reply("200 OK", b" " * 2_000_000), Transient),
        (lambda _connection: None, Transient),
        (lambda connection: time.sleep(0.9) if read_request(connection) else None, Transient),
    ],
)
def test_every_fault_has_its_verdict(handler: Handler, kind: type[ExchangeError]) -> None:
    error = failure(handler)
    assert type(error) is kind
    assert "registry" in str(error)
    assert "upstream" not in str(error)


def test_what_a_registry_says_is_bounded_and_cannot_move_the_cursor() -> None:
    error = failure(code("422 Unprocessable", 42201, "\x1b[2J" + "长" * 5000))
    assert "\x1b" not in str(error)
    assert 900 < len(error.what.en) < 1200


def test_nobody_listens() -> None:
    with client("http://127.0.0.1:1") as registry, pytest.raises(Transient) as caught:
        registry.number("s-value", schema("no"))
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("url", "more", "hint"),
    [
        ("http://registry.example.gov.cn", {}, "registry.insecure_http"),
        ("https://127.0.0.1:1", {"ca": "missing.pem"}, "registry.ca"),
    ],
)
def test_an_unsafe_address_is_refused(url: str, more: dict[str, str], hint: str) -> None:
    with ExitStack() as stack, pytest.raises(Misconfigured) as caught:
        stack.enter_context(client(url, more=more)).number("s-value", schema("no"))
    assert hint in caught.value.hint.en


# --- the registry of the tests itself ------------------------------------------------------------


def test_it_answers_as_the_reference_says(server: served.Running) -> None:
    url, body = server.url, {"schema": schema("no")}
    subject = fresh("f")
    answer = requests.post(f"{url}/subjects/{subject}", json=body, timeout=10)
    assert (answer.status_code, answer.json()["error_code"]) == (404, 40401)
    number = requests.post(f"{url}/subjects/{subject}/versions", json=body, timeout=10).json()["id"]
    other = {"schema": schema("yes")}
    answer = requests.post(f"{url}/subjects/{subject}", json=other, timeout=10)
    assert (answer.status_code, answer.json()["error_code"]) == (404, 40403)
    result = requests.post(f"{url}/subjects/{subject}", json=body, timeout=10).json()
    assert (result["subject"], result["version"], result["id"]) == (subject, 1, number)
    latest = requests.get(f"{url}/subjects/{subject}/versions/latest", timeout=10).json()
    assert latest == result
    answer = requests.post(f"{url}/subjects/{subject}/versions", json=other, timeout=10)
    assert (answer.status_code, answer.json()["error_code"]) == (409, 409)


INT = {"type": "int", "logicalType": "date"}


def record(*fields: tuple[str, object, bool]) -> dict[str, object]:
    items = [
        {"name": name, "type": kind} | ({"default": None} if default else {})
        for name, kind, default in fields
    ]
    return {"type": "record", "name": "r", "fields": items}


def money(precision: int, scale: int) -> dict[str, object]:
    return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}


@pytest.mark.parametrize(
    ("reader", "writer", "can"),
    [
        (record(("a", "string", False)), record(("a", "string", False)), True),
        (record(("a", ["null", "string"], True)), record(), True),
        (record(("a", "string", False)), record(), False),
        (record(), record(("a", "string", False)), True),
        (record(("a", ["null", "string"], True)), record(("a", "string", False)), True),
        (record(("a", "string", False)), record(("a", ["null", "string"], True)), False),
        (record(("a", "long", False)), record(("a", INT, False)), True),
        (record(("a", INT, False)), record(("a", "long", False)), False),
        (record(("a", "double", False)), record(("a", "long", False)), True),
        (record(("a", money(9, 2), False)), record(("a", money(9, 2), False)), True),
        (record(("a", money(9, 3), False)), record(("a", money(9, 2), False)), False),
        ({**record(), "name": "s"}, record(), False),
        (
            {"type": "enum", "name": "e", "symbols": ["I", "U", "D"]},
            {"type": "enum", "name": "e", "symbols": ["D", "I"]},
            True,
        ),
        (
            {"type": "enum", "name": "e", "symbols": ["I"]},
            {"type": "enum", "name": "e", "symbols": ["I", "U"]},
            False,
        ),
    ],
)
def test_schema_resolution_as_the_specification_has_it(
    reader: object, writer: object, *, can: bool
) -> None:
    assert (differences(reader, writer) == []) is can
