"""Which batches of a partition a person has withdrawn: they are not sent, others stand for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from exchange.log import CURSORS, Log, Message
from exchange.pipeline.context import PipelineContext
from exchange.pipeline.messages import state_message, state_of

WITHDRAWN: Final = "withdrawn"
"""Code of the refusal of a batch that was withdrawn."""
Withdrawals = Sequence[tuple[int, int]]
"""Offsets of the sealed topic: from the first, up to, not with, the second."""


def withdrawn(context: PipelineContext, resource: str, partition: int) -> Withdrawals:
    """Read what was withdrawn of a partition."""
    return withdrawn_of(context.log, resource, partition)


def withdrawn_of(log: Log, resource: str, partition: int) -> Withdrawals:
    """Read what was withdrawn of a partition."""
    state = state_of(log.latest(CURSORS, withdrawn_key(resource, partition)))
    return [(int(first), int(end)) for first, end in state.get("ranges", ())]


def withdrawn_key(resource: str, partition: int) -> str:
    """Name the state of what was withdrawn of a partition."""
    return f"withdrawn/{resource}/{partition}"


def withdrawn_message(resource: str, partition: int, ranges: Withdrawals) -> Message:
    """Note what was withdrawn so far; ranges that touch become one."""
    joined: list[list[int]] = []
    for first, end in sorted(ranges):
        if joined and first <= joined[-1][1]:
            joined[-1][1] = max(end, joined[-1][1])
        else:
            joined.append([first, end])
    return state_message(withdrawn_key(resource, partition), {"ranges": joined})


def is_withdrawn(ranges: Withdrawals, offset: int) -> bool:
    """Tell whether a batch was withdrawn."""
    return any(first <= offset < end for first, end in ranges)
