from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.cascade.delivery import Answered, Blocked, Failed, Outcome, Refused
from exchange.cascade.profiles import PROFILES, OutgoingBatch, Target, attempt, profile
from exchange.cascade.signing import Claim, Credentials
from exchange.errors import Denied, Misconfigured, Transient
from exchange.http.message import Request, Response
from exchange.http.retry import retry_after
from exchange.text import Text

NOW = datetime(2026, 11, 23, 1, 2, 3, tzinfo=UTC)
NATIONAL = profile("national")
TARGET = Target("https://province.example/gw/", Credentials("rid", "sid", "secret-x"), "data/batch")
BATCH = OutgoingBatch("permits", "2026112300001", "11232700MB0A12345X", b"Obj\x01...")


def outcome(status: int, body: object = None, **headers: str) -> Outcome:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return NATIONAL.outcome(Response(status, headers, data), NOW)


def envelope(code: str, message: str = "", **data: Any) -> dict[str, object]:
    return {"code": code, "message": message, "data": data}


def test_the_request_is_the_sealed_file_signed() -> None:
    request = NATIONAL.request(BATCH, TARGET, NOW)
    assert request.url == "https://province.example/gw/sysapi/data/batch"
    assert request.body is BATCH.data
    claim = Claim.of(request.headers, "gjzwfwpt")
    assert claim.holds("secret-x")
    assert claim.is_recent(NOW, timedelta())
    assert request.headers["exchange-batch"] == "2026112300001"
    assert all(name == name.lower() for name in request.headers)
    for item in (repr(TARGET), repr(request), repr(BATCH)):
        assert "secret-x" not in item
        assert "Obj" not in item


@pytest.mark.parametrize("path", ["", "/batch", "a//b", "../etc", "a/../b", "a?b", "a b", "批"])
def test_a_path_stays_below_the_endpoint(path: str) -> None:
    with pytest.raises(Misconfigured):
        Target("https://province.example", TARGET.credentials, path)


RECEIPT = envelope("200", "成功", receipt='{"回":"执"}')


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, RECEIPT, Answered('{"回":"执"}'.encode())),
        (201, RECEIPT, Answered('{"回":"执"}'.encode())),
        (200, {**RECEIPT, "code": 200}, Answered('{"回":"执"}'.encode())),
        (200, {"message": "ok"}, Failed),
        (200, {**RECEIPT, "code": ""}, Failed),
        (200, {**RECEIPT, "code": None}, Failed),
        (200, {**RECEIPT, "code": ["200"]}, Failed),
        (200, b"<html>ok</html>", Failed),
        (200, b"[" * 100_000, Failed),
        (200, b"\xff", Failed),
        (200, [], Failed),
        (200, envelope("200"), Failed),
        (200, {"code": "200", "data": None}, Failed),
        (200, envelope("300", "catalog-001 目录不存在"), Refused("300", "catalog-001 目录不存在")),
        (200, envelope("401", "签名错误"), Blocked("401", "签名错误")),
        (200, envelope("503", "忙"), Failed("503", "忙")),
        (200, envelope("-1", "?"), Refused("-1", "?")),
        (302, b"", Blocked("302", "HTTP 302")),
        (400, b"", Refused("400", "HTTP 400")),
        (401, envelope("401", "未知 rid"), Blocked("401", "未知 rid")),
        (403, b"", Blocked("403", "HTTP 403")),
        (404, b"<html>nginx</html>", Blocked("404", "HTTP 404")),
        (404, envelope("404", "资源不存在"), Refused("404", "资源不存在")),
        (405, b"", Blocked),
        (408, b"", Failed),
        (409, envelope("409", "同号异文"), Refused("409", "同号异文")),
        (413, b"", Refused),
        (422, envelope("422", "验签失败"), Refused("422", "验签失败")),
        (425, b"", Failed),
        (429, b"", Failed),
        (500, envelope("500", "内部错误"), Failed("500", "内部错误")),
        (500, RECEIPT, Failed),
        (502, b"", Failed),
        (503, b"", Failed),
    ],
)
def test_what_each_answer_means(status: int, body: object, expected: Any) -> None:
    result = outcome(status, body)
    if isinstance(expected, type):
        assert isinstance(result, expected)
    else:
        assert result == expected


@given(st.integers(100, 599), st.binary(max_size=200) | st.text(max_size=50).map(str.encode))
def test_no_answer_crashes_and_none_is_a_receipt_by_chance(status: int, body: bytes) -> None:
    assert not isinstance(outcome(status, body), Answered)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9), st.lists
)


@given(st.integers(200, 599), json_values, json_values, json_values)
def test_any_envelope_is_interpreted(status: int, code: Any, message: Any, data: Any) -> None:
    result = outcome(
        status, {"code": code, "message": message, "data": {"receipt": data, "more": 1}}
    )
    if isinstance(result, Answered):
        assert (str(code), status // 100, bool(data)) == ("200", 2, True)
    else:
        assert len(result.reason) <= 300
        assert "".join(Text.split(result.reason)).isprintable()


def test_retry_after_reaches_the_event() -> None:
    assert outcome(429, b"", **{"retry-after": "30"}) == Failed(
        "429", "HTTP 429", timedelta(seconds=30)
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("0", timedelta()),
        ("120", timedelta(seconds=120)),
        ("9" * 400, timedelta(seconds=10**9)),
        ("Mon, 23 Nov 2026 01:03:03 GMT", timedelta(seconds=60)),
        ("Mon, 23 Nov 2026 01:03:03 -0000", timedelta(seconds=60)),
        ("-5", None),
        ("soon", None),
        ("１２", None),
        ("", None),
    ],
)
def test_retry_after(value: str | None, expected: timedelta | None) -> None:
    assert retry_after(value, NOW) == expected


@given(st.text(max_size=40))
def test_retry_after_never_crashes(value: str) -> None:
    retry_after(value, NOW)


def test_an_unknown_profile_is_named() -> None:
    with pytest.raises(Misconfigured, match="national"):
        profile("provincial")
    assert list(PROFILES) == ["national"]


@pytest.mark.parametrize(
    ("kind", "event"), [(Transient, Failed), (Misconfigured, Blocked), (Denied, Blocked)]
)
def test_an_attempt_never_raises_for_trouble(kind: Any, event: type[Outcome]) -> None:
    def post(_: Request) -> Response:
        raise kind(Text("断线", "cut"), hint=Text("等", "wait"))

    result = attempt(BATCH, TARGET, profile=NATIONAL, post=post, now=lambda: NOW)
    assert isinstance(result, event)
    assert not isinstance(result, Answered)
    assert Text.split(result.reason) == Text("断线", "cut")


def test_an_attempt_ends_in_the_answer() -> None:
    def post(request: Request) -> Response:
        assert request.body == BATCH.data
        return Response(200, {}, json.dumps(RECEIPT).encode())

    result = attempt(BATCH, TARGET, profile=NATIONAL, post=post, now=lambda: NOW)
    assert result == Answered('{"回":"执"}'.encode())
