"""Batch numbers (批次号): unique in a resource, given out to its lanes in blocks."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict

from exchange.log import Fenced
from exchange.pipeline.context import FENCED_IN_A_ROW, PipelineContext, state_message
from exchange.pipeline.partition import Lane, Numbers, lane_key, numbers_key
from exchange.text import Text

_STEP_SECONDS, _LONGEST_STEP_SECONDS = 0.05, 1.0
"""How long a worker that was stopped waits: about as long as taking numbers takes, then longer."""


def take_numbers(
    context: PipelineContext, resource: str, number: int, lane: Lane, today: str
) -> None:
    """Take a block of batch numbers for a lane; lanes of other workers take theirs meanwhile.

    On a cluster each attempt stops those that are under way elsewhere, so whoever was stopped
    waits, by chance and longer each time: else they may keep each other from it for ever.
    """
    for attempt in range(FENCED_IN_A_ROW):
        if attempt:
            longest = min(_STEP_SECONDS * 2**attempt, _LONGEST_STEP_SECONDS)
            context.sleep(longest * context.entropy(1)[0] / 255)
        with suppress(Fenced), context.log.transaction(numbers_key(resource)) as tx:
            state = context.state(numbers_key(resource))
            if not state:  # before there were blocks, all batches were of the first lane
                first = context.state(lane_key(resource, 0))
                state = {"day": first.get("day", ""), "last": first.get("number", 0)}
            numbers = Numbers(**state)
            numbers.block(number, lane, today)
            tx.append(state_message(numbers_key(resource), asdict(numbers)))
            return
    raise Fenced(
        Text(f"取不到 {resource} 的批次号", f"no batch numbers of {resource} to be had"),
        hint=Text("其他工作者正在取号，稍后自动重试", "others take theirs; it goes on by itself"),
    )
