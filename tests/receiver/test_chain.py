"""The chain of statements at the receiver, clocks, and what a person admits. Takes 1 s."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from exchange.receiver.reception import Reception, Reply
from exchange.seal.batch.build import SealedBatch
from tests.receipt.seals import NOW
from tests.receiver.batches import make_batch
from tests.receiver.province import CREDENTIALS, PREFECTURE, PROVINCE, Province, make_caller

CALLER = make_caller(CREDENTIALS.rid)
Deliver = Callable[[SealedBatch], Reply]


def batch(number: int, previous: str = "", at: datetime = NOW, prefix: str = "") -> SealedBatch:
    return make_batch(
        PREFECTURE.sealer, number, partition=0, previous=previous, sealed_at=at, prefix=prefix
    )


@pytest.fixture
def deliver(province: Province) -> Deliver:
    reception = Reception(
        folder=province.settings.folder,
        province="23",
        ahead=timedelta(minutes=1),
        store=province.store,
        sealer=PROVINCE.sealer,
        clock=province.clock,
        entropy=os.urandom,
    )
    return lambda sealed: reception.take(sealed.data, caller=CALLER, claimed={})


def test_each_batch_goes_on_from_the_one_before(province: Province, deliver: Deliver) -> None:
    first = batch(1)
    second = batch(2, first.digest)
    third = batch(3, second.digest)
    assert deliver(first).status == 200
    gap = deliver(third)
    assert (gap.status, gap.data["chain"]) == (424, "previous")
    assert "2026112300001" in gap.message
    assert gap.data["statement"] == third.digest
    anew = deliver(batch(9))
    assert (anew.status, anew.data["found"]) == (424, "")
    assert province.store.received_batches.counts()[0] == 1, "nothing is stored"
    assert [deliver(each).status for each in (second, third, first, second)] == [200] * 4
    fork = deliver(batch(4, second.digest))
    assert fork.status == 424


def test_a_chain_may_begin_anywhere_and_the_one_before_may_follow(deliver: Deliver) -> None:
    first = batch(1)
    second, late = batch(2, first.digest), batch(3, batch(2, "a" * 64).digest)
    assert deliver(second).status == 200, "the province came later, or refused the first one"
    assert deliver(late).status == 424
    assert deliver(first).status == 200, "it was refused, mended and put back"
    assert deliver(batch(3, second.digest)).status == 200


def test_one_hundred_and_twenty_batches_that_name_nothing_before_them(deliver: Deliver) -> None:
    answers = [deliver(batch(number)).status for number in range(1, 121)]
    assert answers == [200] + [424] * 119


@pytest.mark.parametrize("ahead", [timedelta(minutes=30), timedelta(days=2)])
def test_a_batch_sealed_in_the_future_comes_again(
    province: Province, deliver: Deliver, ahead: timedelta
) -> None:
    early = batch(1, at=NOW + ahead)
    reply = deliver(early)
    assert reply.status == 425
    assert reply.retry_after is not None
    wait = timedelta(seconds=reply.retry_after)
    assert ahead - timedelta(minutes=2) < wait <= ahead
    assert province.store.received_batches.counts()[0] == 0
    province.clock.now += wait
    assert deliver(early).status == 200


@pytest.mark.parametrize("behind", [timedelta(minutes=30), timedelta(days=2)])
def test_a_batch_sealed_before_the_one_before_it(
    province: Province, deliver: Deliver, behind: timedelta
) -> None:
    province.clock.now = now = NOW + timedelta(days=3)
    first = batch(1, at=now)
    assert deliver(first).status == 200
    back = deliver(batch(2, first.digest, now - behind))
    assert (back.status, back.data["chain"]) == (424, "time")
    assert deliver(batch(2, first.digest, now)).status == 200


@pytest.mark.parametrize("behind", [timedelta(minutes=30), timedelta(days=2)])
def test_a_slow_clock_of_the_node_is_no_matter(
    province: Province, deliver: Deliver, behind: timedelta
) -> None:
    province.clock.now = NOW + behind
    assert deliver(batch(1)).status == 200


def test_a_person_admits_another_content_and_both_stay(
    province: Province, deliver: Deliver
) -> None:
    first, other = batch(1), batch(1, prefix="改")
    receipt = deliver(first).data["receipt"]
    assert deliver(other).status == 409
    province.store.received_batches.admit(other.digest, "双方核对，以后者为准", "王")
    taken = deliver(other)
    assert taken.status == 200
    assert taken.data["receipt"] != receipt
    assert deliver(first).data["receipt"] == receipt, "what was given stays given"
    assert deliver(other).data == taken.data
    rows = province.store.received_batches.numbered(
        first.statement.department, "permits", "2026112300001"
    )
    assert [(row.version, row.statement) for row in rows] == [(1, first.digest), (2, other.digest)]
    kept = {path.read_bytes() for path in province.files}
    assert kept == {first.data, other.data}
    actions = [line.action for line in province.store.audit.find()]
    assert actions == [
        *("receiver.received", "receiver.conflict", "receiver.admit"),
        *("receiver.received", "receiver.admitted"),
    ]
    assert deliver(batch(2, other.digest)).status == 200, "the chain goes on from it"


def test_a_person_admits_a_new_start(province: Province, deliver: Deliver) -> None:
    assert deliver(batch(1)).status == 200
    start = batch(7)
    assert deliver(start).status == 424
    province.store.received_batches.admit(start.digest, "节点重装", "王")
    assert deliver(start).status == 200
    assert deliver(batch(8, start.digest)).status == 200


def test_an_admission_goes_around_number_and_chain_only(
    province: Province, deliver: Deliver
) -> None:
    early = batch(1, at=NOW + timedelta(days=2))
    province.store.received_batches.admit(early.digest, "急", "王")
    assert deliver(early).status == 425
