from __future__ import annotations

import contextlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import make_url

from exchange.cascade.delivery import Answered, Blocked, Failed, Refused
from exchange.cascade.profiles import National, OutgoingBatch, Target
from exchange.cascade.signing import signed_headers
from exchange.errors import Misconfigured
from exchange.receipt import SentBatch, check, read
from exchange.receiver.app import create_app
from exchange.seal.crypto.suites import ECDSA_P256_SHA256
from exchange.seal.pki.trust import Trust
from tests.receipt.seals import NOW, make_party
from tests.receiver.batches import make_batch, outgoing
from tests.receiver.province import (
    CREDENTIALS,
    PREFECTURE,
    PROVINCE,
    SECRET,
    Province,
    make_caller,
    make_settings,
    node,
)
from tests.receiver.province import province as open_province
from tests.support.files import files_at_most
from tests.support.servers import Server

BATCH = make_batch(PREFECTURE.sealer)


def post(endpoint: str, body: bytes = b"x", **changes: str) -> requests.Response:
    headers = {**signed_headers(CREDENTIALS, NOW), **changes}
    return requests.post(f"{endpoint}/sysapi/batch", data=body, headers=headers, timeout=20)


def test_a_batch_is_kept_and_receipted(province: Province) -> None:
    with node(province.app) as caller:
        outcome = caller.attempt(outgoing(BATCH))
    assert isinstance(outcome, Answered)
    verification = check(
        outcome.receipt, trust=Trust([PROVINCE.root]), batch=SentBatch.of(BATCH.statement)
    )
    assert verification.ok, verification.failed
    assert verification.rows == 3
    (kept,) = province.files
    assert kept.read_bytes() == BATCH.data
    (row,) = province.store.received_batches.numbered(
        "11232700MB0A12345X", "permits", "2026112300001"
    )
    assert (row.sender, row.version) == ("rid-dxal", 1)
    assert (row.receipt, row.statement, row.rows) == (outcome.receipt, BATCH.digest, 3)
    assert province.settings.folder / row.path == kept


def test_on_postgresql_too(tmp_path: Path, postgres: Server) -> None:
    url = make_url(postgres.url).set(drivername="postgresql+psycopg")
    text = url.render_as_string(hide_password=False)
    with open_province(tmp_path, text) as province, node(province.app) as caller:
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(caller.attempt, [outgoing(BATCH)] * 4))
        assert len(set(answers)) == 1
        assert isinstance(answers[0], Answered)
        other = make_batch(PREFECTURE.sealer, prefix="x")
        assert isinstance(caller.attempt(outgoing(other)), Refused)


def test_a_repeat_gets_the_same_receipt_byte_for_byte(tmp_path: Path) -> None:
    answers = []
    for _ in range(2):
        with open_province(tmp_path) as province, node(province.app) as caller:
            answers += [caller.attempt(outgoing(BATCH)) for _ in range(2)]
            province.clock.now += timedelta(minutes=1)
            assert len(province.files) == 1
    assert len(set(answers)) == 1
    assert isinstance(answers[0], Answered)


def test_identical_posts_at_once_yield_one_receipt(province: Province) -> None:
    with node(province.app) as caller, ThreadPoolExecutor(8) as pool:
        ready = threading.Barrier(8)

        def send(_: int) -> Any:
            ready.wait()
            return caller.attempt(outgoing(BATCH))

        answers = set(pool.map(send, range(8)))
    assert len(answers) == 1
    assert isinstance(answers.pop(), Answered)
    assert len(province.files) == 1
    assert province.store.received_batches.counts() == (1, 3)


def test_different_batches_of_one_number_at_once_yield_one_receipt(province: Province) -> None:
    batches = [make_batch(PREFECTURE.sealer, prefix=f"{i}-") for i in range(4)]
    with node(province.app) as caller, ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(caller.attempt, map(outgoing, batches)))
    assert sorted(type(answer).__name__ for answer in answers) == ["Answered"] + ["Refused"] * 3
    assert province.store.received_batches.counts() == (1, 3)


def test_another_content_under_a_used_number_is_refused_with_an_alarm(province: Province) -> None:
    other = make_batch(PREFECTURE.sealer, prefix="改")
    with node(province.app) as caller:
        first = caller.attempt(outgoing(BATCH))
        refused = caller.attempt(outgoing(other))
        again = caller.attempt(outgoing(BATCH))
    assert isinstance(refused, Refused)
    assert refused.code == "409"
    assert first == again
    taken, entry = province.store.audit.find()
    assert (taken.actor, taken.action) == ("rid-dxal", "receiver.received")
    assert (entry.actor, entry.action) == ("rid-dxal", "receiver.conflict")
    assert taken.subject == entry.subject
    assert entry.subject == "11232700MB0A12345X/permits/2026112300001"
    assert BATCH.digest in entry.detail
    assert other.digest in entry.detail
    assert len(province.files) == 1


def test_numbers_count_per_resource_and_day(province: Province) -> None:
    batches = [
        BATCH,
        make_batch(PREFECTURE.sealer, 2),
        make_batch(PREFECTURE.sealer, resource="penalties"),
    ]
    with node(province.app) as caller:
        answers = [caller.attempt(outgoing(batch)) for batch in batches]
    assert all(isinstance(answer, Answered) for answer in answers)
    assert (
        len({read(item.receipt).receipt_no for item in answers if isinstance(item, Answered)}) == 3
    )


def test_a_province_may_seal_with_another_suite(province: Province) -> None:
    province.party = make_party("province", ECDSA_P256_SHA256)
    with node(province.app) as caller:
        outcome = caller.attempt(outgoing(BATCH))
    assert isinstance(outcome, Answered)
    sent = SentBatch.of(BATCH.statement)
    assert check(outcome.receipt, trust=Trust([province.party.root]), batch=sent).ok


# --- what is refused -------------------------------------------------------------------------


def test_a_batch_that_does_not_verify_is_refused_by_name(province: Province) -> None:
    stranger = make_batch(make_party("stranger").sealer)
    damaged = bytearray(BATCH.data)
    damaged[len(damaged) // 2] ^= 1
    with node(province.app) as caller:
        for data, name in ((stranger.data, "signer.chain"), (bytes(damaged), ""), (b"", "")):
            outcome = caller.attempt(OutgoingBatch("permits", "2026112300001", "", data))
            assert isinstance(outcome, Refused)
            assert outcome.code == "422"
            assert name in outcome.reason
    assert province.files == []
    assert [entry.action for entry in province.store.audit.find()] == ["receiver.refused"] * 3
    assert province.store.received_batches.counts() == (0, 0)


@pytest.mark.parametrize("name", ["resource", "batch_no", "department"])
def test_headers_that_contradict_the_statement(name: str, province: Province) -> None:
    with node(province.app) as caller:
        batch = outgoing(BATCH)
        outcome = caller.attempt(replace(batch, **{name: "other"}))  # type: ignore[arg-type]
    assert isinstance(outcome, Refused)
    assert name in outcome.reason
    assert province.files == []


def test_who_may_call(province: Province) -> None:
    with node(province.app) as caller:
        for credentials, code in (
            (replace(CREDENTIALS, secret="guess"), "401"),
            (replace(CREDENTIALS, rid="somebody"), "401"),
            (replace(CREDENTIALS, rid=""), "401"),
            (replace(CREDENTIALS, family="gjgxjhpt"), "401"),
            (replace(CREDENTIALS, sid="sid-other"), "403"),
        ):
            outcome = replace(caller, credentials=credentials).attempt(outgoing(BATCH))
            assert isinstance(outcome, Blocked)
            assert outcome.code == code
        for seconds, kind in ((-601, Blocked), (601, Blocked), (-599, Answered), (599, Answered)):
            late = replace(caller, now=NOW + timedelta(seconds=seconds))
            assert isinstance(late.attempt(outgoing(BATCH)), kind)


def test_an_unknown_rid_and_a_wrong_signature_look_alike(province: Province) -> None:
    with node(province.app) as caller:
        wrong = post(caller.endpoint, gjzwfwpt_sign="x")
        unknown = post(caller.endpoint, gjzwfwpt_rid="x")
        odd = post(caller.endpoint, gjzwfwpt_sign="\xff", gjzwfwpt_rtime="²")
    assert wrong.status_code == unknown.status_code == odd.status_code == 401
    assert wrong.json() == unknown.json() == odd.json()


def test_a_large_body_is_told_so(tmp_path: Path) -> None:
    with open_province(tmp_path, max_body=300_000) as province, node(province.app) as caller:
        for size in (300_001, 1_000_000):
            outcome = caller.attempt(OutgoingBatch("permits", "1", "", bytes(size)))
            assert isinstance(outcome, Refused)
            assert outcome.code == "413"
        endless = post(caller.endpoint, (bytes(10_000) for _ in range(40)))  # type: ignore[arg-type]
        assert endless.status_code == 413
        denied = replace(caller, credentials=replace(CREDENTIALS, secret="guess"))
        assert isinstance(
            denied.attempt(OutgoingBatch("permits", "1", "", bytes(1_000_000))), Blocked
        )
        assert isinstance(caller.attempt(outgoing(BATCH)), Answered)


def test_a_body_that_does_not_arrive_is_given_up(tmp_path: Path) -> None:
    def slowly() -> Any:
        yield b"Obj"
        threading.Event().wait(1.5)
        yield b"\x01"

    with open_province(tmp_path, body_seconds=0.5) as province, node(province.app) as caller:
        # The answer and the close may reach a caller that is still sending.
        with contextlib.suppress(requests.ConnectionError):
            assert post(caller.endpoint, slowly()).status_code == 408
        assert isinstance(caller.attempt(outgoing(BATCH)), Answered)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/sysapi/batch", 405),
        ("POST", "/sysapi/other", 404),
        ("GET", "/docs", 404),
        ("GET", "/redoc", 404),
        ("GET", "/openapi.json", 404),
        ("GET", "/", 404),
    ],
)
def test_nothing_else_is_served(method: str, path: str, status: int, province: Province) -> None:
    with node(province.app) as caller:
        answer = requests.request(method, caller.endpoint + path, timeout=20)
    assert answer.status_code == status
    assert answer.json()["code"] == str(status)
    assert set(answer.json()) == {"code", "message", "data"}
    assert "server" not in answer.headers


def test_health(province: Province) -> None:
    with node(province.app) as caller:
        answer = requests.get(f"{caller.endpoint}/healthz", timeout=20)
    assert answer.json() == {"code": "200", "message": "正常", "data": {}}


def test_health_answers_while_batches_are_verified(province: Province) -> None:
    large = outgoing(make_batch(PREFECTURE.sealer, rows=8192))
    with node(province.app) as caller, ThreadPoolExecutor(4) as pool:
        work = [pool.submit(caller.attempt, large) for _ in range(8)]
        slowest = max(
            requests.get(f"{caller.endpoint}/healthz", timeout=20).elapsed for _ in range(20)
        )
        assert all(isinstance(item.result(), Answered) for item in work)
    assert slowest < timedelta(seconds=1)


# --- when the receiver itself is in trouble ----------------------------------------------------


def test_a_full_disk_is_a_503_and_leaves_nothing(province: Province) -> None:
    with node(province.app) as caller:
        with files_at_most(100):
            outcome = caller.attempt(outgoing(BATCH))
        assert isinstance(outcome, Failed)
        assert (outcome.code, outcome.retry_after) == ("503", timedelta(seconds=30))
        assert province.files == []
        assert province.store.received_batches.counts() == (0, 0)
        assert isinstance(caller.attempt(outgoing(BATCH)), Answered)


def test_a_folder_that_cannot_be_used_is_a_503(province: Province) -> None:
    province.settings.folder.write_bytes(b"in the way")
    with node(province.app) as caller:
        assert isinstance(caller.attempt(outgoing(BATCH)), Failed)
        province.settings.folder.unlink()
        assert isinstance(caller.attempt(outgoing(BATCH)), Answered)


def test_a_seal_out_of_date_is_a_503(province: Province) -> None:
    province.clock.now = NOW + timedelta(days=400)
    with node(province.app) as caller:
        outcome = replace(caller, now=province.clock.now).attempt(outgoing(BATCH))
    assert isinstance(outcome, Failed)
    assert province.store.received_batches.counts() == (0, 0)


def test_an_error_of_ours_is_an_envelope_too(province: Province) -> None:
    def broken(_: int) -> bytes:
        raise ZeroDivisionError

    app = create_app(
        province.settings,
        store=province.store,
        sealer=province.party.sealer,
        clock=province.clock,
        entropy=broken,
    )
    with node(app) as caller:
        outcome = caller.attempt(outgoing(BATCH))
    assert outcome == Failed("500", "接收端内部错误", None)


def test_settings_hide_their_secrets_and_refuse_nonsense(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, "postgresql://user:password@host/db")
    assert SECRET not in repr(settings)
    assert "password" not in repr(settings)
    changes: list[dict[str, Any]] = [
        {"callers": {}},
        {"trust": Trust(())},
        {"callers": {"rid": make_caller("rid", secret="")}},
    ]
    for change in changes:
        with pytest.raises(Misconfigured):
            make_settings(tmp_path, "sqlite://", **change)


def test_the_request_of_the_profile_is_what_the_receiver_expects() -> None:
    request = National().request(outgoing(BATCH), Target("http://127.0.0.1", CREDENTIALS), NOW)
    assert request.url.endswith("/sysapi/batch")
    assert json.dumps(dict(request.headers)).isascii()
