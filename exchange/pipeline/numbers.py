"""Batch numbers (批次号): unique in a resource, given out to its partitions in blocks."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict

from exchange.log import Fenced
from exchange.pipeline.context import FENCED_IN_A_ROW, PipelineContext, state_message
from exchange.pipeline.partition import Numbers, PartitionState, numbers_key, partition_key
from exchange.text import Text

_STEP_SECONDS, _LONGEST_STEP_SECONDS = 0.05, 1.0
"""How long a worker that was stopped waits: about as long as taking numbers takes, then longer."""


def take_numbers(
    context: PipelineContext, resource: str, partition: int, state: PartitionState, today: str
) -> None:
    """Take a block of batch numbers for a partition; other workers take theirs at the same time.

    On a cluster each attempt stops those that are under way elsewhere, so whoever was stopped
    waits, by chance and longer each time: else they may keep each other from it for ever.
    """
    for attempt in range(FENCED_IN_A_ROW):
        if attempt:
            longest = min(_STEP_SECONDS * 2**attempt, _LONGEST_STEP_SECONDS)
            context.sleep(longest * context.entropy(1)[0] / 255)
        with suppress(Fenced), context.log.transaction(numbers_key(resource)) as tx:
            given = context.state(numbers_key(resource))
            if not given:  # before there were blocks, all batches were of the first partition
                first = context.state(partition_key(resource, 0))
                given = {"day": first.get("day", ""), "last": first.get("number", 0)}
            numbers = Numbers(**given)
            numbers.block(partition, state, today)
            tx.append(state_message(numbers_key(resource), asdict(numbers)))
            return
    raise Fenced(
        Text(f"取不到 {resource} 的批次号", f"no batch numbers of {resource} to be had"),
        hint=Text("其他工作者正在取号，稍后自动重试", "others take theirs; it goes on by itself"),
    )
