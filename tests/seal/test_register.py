"""The life of a seal: one table, every way through it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.errors import Denied, Rejected
from exchange.seal.eseal.lifecycle import LEDGER, TITLES, TRANSITIONS, SealState, Step, admit, move


@given(st.lists(st.sampled_from(Step), max_size=30))
def test_any_steps_end_in_a_state_or_a_refusal(steps: list[Step]) -> None:
    """A seal is never in use before it was filed or adopted, and never after it was cancelled."""
    state: SealState | None = None
    items: list[Step] = []
    for step in steps:
        if (state, step) not in TRANSITIONS:
            with pytest.raises(Rejected) as caught:
                move(state, step, "data")
            assert caught.value.hint.en.startswith("possible now: ")
            continue
        state = move(state, step, "data")
        items.append(step)
        if state is SealState.IN_USE:
            assert Step.CANCEL not in items
            assert Step.ADOPT in items or items[:4] == [
                *(Step.REQUEST, Step.MAKE, Step.FILE, Step.USE)
            ]
    assert items[-1:] == [Step.CANCEL] or Step.CANCEL not in items


def test_every_state_can_be_reached_and_is_named() -> None:
    reached: set[SealState | None] = {None}
    while (
        more := {after for (before, _), after in TRANSITIONS.items() if before in reached} - reached
    ):
        reached |= more
    assert reached == {None, *SealState} == set(TITLES)
    assert set(LEDGER) == set(SealState) - {SealState.REQUESTED}
    assert {step for _, step in TRANSITIONS} == set(Step)


@pytest.mark.parametrize("state", [None, *SealState])
def test_only_a_seal_in_use_seals(state: SealState | None) -> None:
    if state in {None, SealState.IN_USE}:
        admit(state, "data")
        return
    with pytest.raises(Denied) as caught:
        admit(state, "data")
    assert TITLES[state].en in str(caught.value)
    assert "nothing is lost" in caught.value.hint.en
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("state", [s for s in SealState if s is not SealState.IN_USE])
def test_the_hint_names_a_step_that_there_is(state: SealState) -> None:
    with pytest.raises(Denied) as caught:
        admit(state, "data")
    items = [step for step in Step if f"seal {step} data" in caught.value.hint.en]
    assert all((state, step) in TRANSITIONS for step in items)
    assert bool(items) == (state is not SealState.CANCELLED)
