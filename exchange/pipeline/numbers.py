"""Batch numbers (批次号): unique in a resource, given out to its partitions in blocks."""

from __future__ import annotations

from contextlib import suppress

from exchange.log import Fenced
from exchange.pipeline.context import PipelineContext
from exchange.pipeline.partition import Numbers, PartitionState, numbers_key
from exchange.pipeline.stage import FENCED_IN_A_ROW
from exchange.text import Text

_STEP_SECONDS, _LONGEST_STEP_SECONDS = 0.05, 1.0
"""How long a worker that was stopped waits: about as long as taking numbers takes, then longer."""


def take_numbers(
    context: PipelineContext, resource: str, partition: int, state: PartitionState, today: str
) -> PartitionState:
    """Take a block of batch numbers for a partition; other workers take theirs at the same time.

    On a cluster each attempt stops those that are under way elsewhere, so whoever was stopped
    waits, by chance and longer each time: else they may keep each other from it for ever.
    """
    for attempt in range(FENCED_IN_A_ROW):
        if attempt:
            longest = min(_STEP_SECONDS * 2**attempt, _LONGEST_STEP_SECONDS)
            context.sleep(longest * context.entropy(1)[0] / 255)
        with suppress(Fenced), context.log.transaction(numbers_key(resource)) as tx:
            entry = context.latest(numbers_key(resource))
            numbers = Numbers.of(entry)
            if entry is None:  # before there were blocks, all batches were of the first partition
                first = context.partition_state(resource, 0)
                numbers = Numbers(first.day, first.number)
            numbers, taken = numbers.block(partition, state, today)
            tx.append(numbers.to_message(resource))
            return taken
    raise Fenced(
        Text(f"取不到 {resource} 的批次号", f"no batch numbers of {resource} to be had"),
        hint=Text("其他工作者正在取号，稍后自动重试", "others take theirs; it goes on by itself"),
    )
