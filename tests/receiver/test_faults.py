"""The cascade against a province that misbehaves: an event each time, and nothing lost."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from exchange.cascade.delivery import (
    Answered,
    Blocked,
    Delivery,
    Due,
    Failed,
    Outcome,
    Policy,
    ReceiptRight,
    ReceiptWrong,
    Refused,
    State,
    decide,
)
from exchange.cascade.profiles import Target, attempt, profile
from exchange.http.transport import Transport
from exchange.receipt import SentBatch, check, read
from exchange.seal.pki.trust import Trust
from exchange.settings import Timeouts
from tests.receipt.seals import NOW, make_party
from tests.receiver.batches import make_batch, outgoing
from tests.receiver.faults import Fault, FaultyProvince, answering_twice
from tests.receiver.province import CREDENTIALS, PREFECTURE, PROVINCE, Node, Province, node
from tests.support.sockets import listening

BATCH = make_batch(PREFECTURE.sealer)
SENT = SentBatch.of(BATCH.statement)
STRANGER = make_party("stranger")


@pytest.fixture
def faulty(province: Province) -> FaultyProvince:
    return FaultyProvince(province.app, PROVINCE.sealer, STRANGER.sealer)


@contextlib.contextmanager
def impatient(faulty: FaultyProvince) -> Iterator[Node]:
    with node(faulty) as caller:
        yield replace(caller, timeouts=Timeouts(connect=0.5, read=0.5, total=1))


TROUBLE = [
    (Fault.SLOW, Failed),
    (Fault.BUSY, Failed),
    (Fault.CRASH, Failed),
    (Fault.NO_CODE, Failed),
    (Fault.HTML, Failed),
    (Fault.NO_RECEIPT, Failed),
    (Fault.CLOSES_BEFORE, Failed),
    (Fault.CLOSES_IN_MID_BODY, Failed),
    (Fault.DRIPS, Failed),
    (Fault.DENIES, Blocked),
    (Fault.REFUSES, Refused),
]


@pytest.mark.parametrize(("fault", "kind"), TROUBLE)
def test_trouble_is_an_event_and_the_repeat_gets_one_receipt(
    fault: Fault, kind: type[Outcome], faulty: FaultyProvince, province: Province
) -> None:
    faulty.fault, faulty.times = fault, 2
    with impatient(faulty) as caller:
        for _ in range(2):
            started = time.monotonic()
            assert isinstance(caller.attempt(outgoing(BATCH)), kind)
            assert time.monotonic() - started < 3
        patient = replace(caller, timeouts=Timeouts())
        answers = {patient.attempt(outgoing(BATCH)) for _ in range(2)}
    (answer,) = answers
    assert isinstance(answer, Answered)
    assert check(answer.receipt, trust=Trust([PROVINCE.root]), batch=SENT).ok
    assert province.store.received_batches.counts() == (1, 3)
    assert len(province.files) == 1


def test_down_then_up(province: Province) -> None:
    with node(province.app) as caller:
        pass
    assert isinstance(caller.attempt(outgoing(BATCH)), Failed)
    with node(province.app) as caller:
        assert isinstance(caller.attempt(outgoing(BATCH)), Answered)


def test_retry_after_comes_through(faulty: FaultyProvince) -> None:
    faulty.fault = Fault.BUSY
    with node(faulty) as caller:
        outcome = caller.attempt(outgoing(BATCH))
    assert outcome == Failed("503", "繁忙", timedelta(seconds=7))


WRONG = {
    Fault.WRONG_SEAL: "signer.chain",
    Fault.WRONG_ROOT: "root",
    Fault.WRONG_COUNT: "counts",
    Fault.OTHER_BATCH: "batch",
    Fault.BROKEN_RECEIPT: "signature.digest",
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_receipt_halts_its_resource(fault: Fault, faulty: FaultyProvince) -> None:
    faulty.fault = fault
    with node(faulty) as caller:
        delivery, alarms = deliver(caller)
    assert delivery.state is State.HALTED
    assert WRONG[fault] in delivery.reason
    assert alarms == 1


def test_a_right_receipt_settles(faulty: FaultyProvince) -> None:
    with node(faulty) as caller:
        delivery, alarms = deliver(caller)
    assert delivery.state is State.RECEIPTED
    assert alarms == 0


def deliver(caller: Node) -> tuple[Delivery, int]:
    """Do as the pipeline does: decide, act outside, decide again."""
    policy = Policy()
    delivery = decide(Delivery("permits", "2026112300001"), Due("a"), NOW, policy)
    answer = caller.attempt(outgoing(BATCH))
    delivery = decide(delivery, answer, NOW, policy)
    assert delivery.state is State.CHECKING
    assert isinstance(answer, Answered)
    verification = check(answer.receipt, trust=Trust([PROVINCE.root]), batch=SENT)
    event = (
        ReceiptRight(read(answer.receipt).receipt_no)
        if verification.ok
        else ReceiptWrong(tuple(item.name for item in verification.failed))
    )
    delivery = decide(delivery, event, NOW, policy)
    return delivery, int(delivery.state is State.HALTED)


def test_a_second_answer_is_never_taken_for_the_next_batch(province: Province) -> None:
    batches = [make_batch(PREFECTURE.sealer, number) for number in range(1, 6)]
    with node(province.app) as caller, listening(answering_twice(caller.endpoint)) as relay:
        transport = Transport(relay, monotonic=time.monotonic)
        with contextlib.closing(transport):
            for batch in batches:
                outcome = attempt(
                    outgoing(batch),
                    Target(relay, CREDENTIALS),
                    profile=profile("national"),
                    post=transport.post,
                    now=lambda: NOW,
                )
                assert isinstance(outcome, Answered)
                sent = SentBatch.of(batch.statement)
                assert check(outcome.receipt, trust=Trust([PROVINCE.root]), batch=sent).ok
    assert province.store.received_batches.counts() == (5, 15)
