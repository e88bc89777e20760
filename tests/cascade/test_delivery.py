from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from exchange.cascade.delivery import (
    Answered,
    Blocked,
    Delivery,
    Due,
    Event,
    Failed,
    LeaseExpired,
    OutOfOrder,
    Policy,
    ReceiptRight,
    ReceiptWrong,
    Refused,
    Restarted,
    Retry,
    State,
    Withdrawn,
    decide,
    is_due,
)

NOW = datetime(2026, 11, 23, tzinfo=UTC)
POLICY = Policy()
NEW = Delivery("permits", "2026112300001")
ONE_OF_EACH: tuple[Event, ...] = (
    Due("a"),
    Answered(b"receipt"),
    ReceiptRight("R1"),
    ReceiptWrong(("root",)),
    Refused("422", "no"),
    Blocked("401", "who?"),
    Failed("503", "busy"),
    LeaseExpired(),
    Restarted("a"),
    Retry(),
    Withdrawn("resealed"),
)
ALLOWED = {
    State.PENDING: {Due, Withdrawn},
    State.WAITING: {Due, Withdrawn},
    State.SENDING: {Answered, Refused, Blocked, Failed, LeaseExpired, Restarted, Withdrawn},
    State.CHECKING: {ReceiptRight, ReceiptWrong, LeaseExpired, Restarted},
    State.RECEIPTED: set(),
    State.REFUSED: {Retry},
    State.HALTED: {Retry},
    State.WITHDRAWN: set(),
}


def run(*events: Event, now: datetime = NOW) -> Delivery:
    delivery = NEW
    for event in events:
        delivery = decide(delivery, event, now, POLICY)
    return delivery


def test_the_happy_path() -> None:
    sending = run(Due("a"))
    assert (sending.state, sending.owner, sending.attempts) == (State.SENDING, "a", 1)
    checking = decide(sending, Answered(b"r"), NOW, POLICY)
    assert checking == replace(sending, state=State.CHECKING)
    assert not checking.settled
    result = decide(checking, ReceiptRight("R1"), NOW, POLICY)
    assert (result.state, result.receipt_no, result.owner, result.due) == (
        State.RECEIPTED,
        "R1",
        "",
        None,
    )
    assert result.settled


def test_a_wrong_receipt_halts_and_does_not_settle() -> None:
    halted = run(Due("a"), Answered(b"r"), ReceiptWrong(("root", "counts")))
    assert (halted.state, halted.reason) == (State.HALTED, "root, counts")
    assert halted.code == "receipt"
    assert not halted.settled


def test_a_refusal_is_visible_and_settles() -> None:
    refused = run(Due("a"), Refused("422", "验签失败"))
    assert (refused.state, refused.code, refused.reason) == (State.REFUSED, "422", "验签失败")
    assert refused.settled


def test_blocked_waits_the_longest_and_says_why() -> None:
    waiting = run(Due("a"), Blocked("401", "unknown caller"))
    assert waiting.due == NOW + POLICY.cap
    assert (waiting.state, waiting.code) == (State.WAITING, "401")
    assert waiting.reason == "unknown caller"


def test_retry_by_a_person_starts_afresh() -> None:
    for events in ((Refused("422", "no"),), (Answered(b""), ReceiptWrong(("root",)))):
        assert run(Due("a"), *events, Retry()) == NEW


@pytest.mark.parametrize("state", State)
def test_out_of_order_raises_in_every_state(state: State) -> None:
    delivery = replace(NEW, state=state, owner="a", due=NOW)
    names = set()
    for event in ONE_OF_EACH:
        try:
            decide(delivery, event, NOW, POLICY)
        except OutOfOrder:
            continue
        names.add(type(event))
    assert names == ALLOWED[state]


def test_not_before_it_is_due() -> None:
    waiting = run(Due("a"), Failed("503", "busy"))
    with pytest.raises(OutOfOrder):
        decide(waiting, Due("a"), NOW, POLICY)
    assert waiting.due is not None
    decide(waiting, Due("a"), waiting.due, POLICY)


def test_a_lease_is_respected_until_it_ends() -> None:
    sending = run(Due("a"))
    with pytest.raises(OutOfOrder):
        decide(sending, LeaseExpired(), NOW + POLICY.lease - timedelta(seconds=1), POLICY)
    with pytest.raises(OutOfOrder):
        decide(sending, Restarted("b"), NOW, POLICY)
    for event in (LeaseExpired(), Restarted("a")):
        waiting = decide(sending, event, NOW + POLICY.lease, POLICY)
        assert (waiting.state, waiting.due) == (State.WAITING, NOW + POLICY.lease)


def test_a_clock_moved_back_does_not_put_a_delivery_to_sleep() -> None:
    waiting = run(Due("a"), Failed("down", ""))
    assert is_due(waiting, NOW - timedelta(days=400), POLICY)


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_waits_grow_to_the_cap_and_stay(attempts: int, jitter: float) -> None:
    wait, later = POLICY.wait(attempts, jitter), POLICY.wait(attempts + 1, jitter)
    assert POLICY.base / 2 <= wait <= later <= POLICY.cap
    assert POLICY.wait(1, jitter) <= POLICY.base


@given(
    st.one_of(st.none(), st.timedeltas(min_value=timedelta(days=-9), max_value=timedelta(days=999)))
)
def test_retry_after_is_respected_within_bounds(asked: timedelta | None) -> None:
    waiting = run(Due("a"), Failed("429", "busy", asked))
    assert waiting.due is not None
    wait = waiting.due - NOW
    assert POLICY.wait(1, 0) <= wait <= POLICY.retry_after_cap
    if asked is not None and asked >= POLICY.base:
        assert wait == min(asked, POLICY.retry_after_cap)


@pytest.mark.parametrize(
    "wrong",
    [
        {"base": timedelta()},
        {"cap": timedelta(milliseconds=1)},
        {"retry_after_cap": timedelta(seconds=2)},
        {"lease": timedelta()},
    ],
)
def test_policy_refuses_nonsense(wrong: dict[str, timedelta]) -> None:
    with pytest.raises(ValueError, match=r"need|lease"):
        Policy(**wrong)


class Deliveries(RuleBasedStateMachine):
    """Any events in any order, the clock moving either way."""

    def __init__(self) -> None:
        super().__init__()
        self.delivery = NEW
        self.now = NOW
        self.right = False
        self.before: State | None = None

    @rule(event=st.sampled_from(ONE_OF_EACH), jitter=st.floats(0, 1, exclude_max=True))
    def happens(self, event: Event, jitter: float) -> None:
        before = self.delivery
        self.before = before.state
        try:
            self.delivery = decide(before, event, self.now, POLICY, jitter=jitter)
        except OutOfOrder:
            assert self.delivery == before
            return
        assert (self.delivery.state is State.SENDING) == isinstance(event, Due)
        if isinstance(event, ReceiptRight):
            assert before.state is State.CHECKING
            self.right = True

    @rule(span=st.timedeltas(min_value=-timedelta(days=2), max_value=timedelta(days=2)))
    def time_passes(self, span: timedelta) -> None:
        self.now += span

    @precondition(lambda self: self.delivery.state in {State.PENDING, State.WAITING})
    @rule()
    def never_given_up(self) -> None:
        later = max(self.now, self.delivery.due or self.now)
        taken = decide(self.delivery, Due("b"), later, POLICY)
        assert taken.state is State.SENDING

    @invariant()
    def receipted_only_by_a_checked_receipt(self) -> None:
        assert (self.delivery.state is State.RECEIPTED) == self.right

    @invariant()
    def terminal_states_stay(self) -> None:
        if self.before is State.RECEIPTED:
            assert self.delivery.state is State.RECEIPTED
        if self.before in {State.REFUSED, State.HALTED}:
            assert self.delivery.state in {self.before, State.PENDING}

    @invariant()
    def only_a_lease_has_an_owner(self) -> None:
        leased = self.delivery.state in {State.SENDING, State.CHECKING}
        assert bool(self.delivery.owner) == leased


TestDeliveries = Deliveries.TestCase
