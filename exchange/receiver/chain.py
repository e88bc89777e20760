"""The chain of statements as it arrives: each batch goes on from the one before it.

Pure. A node keeps the order of a partition, so the batch before has been received, or was
refused and is put back later: then it fills the gap that the chain began with. Anything else is
told, and taken only when a person admits it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from exchange.seal.batch.statement import Statement, moment
from exchange.store.receiver.batches import ChainRow


@dataclass(frozen=True, slots=True)
class Gap:
    """Why a statement does not go on from its chain; ``data`` for the answer."""

    message: str
    data: dict[str, object]


def early(statement: Statement, now: datetime, ahead: timedelta) -> int:
    """Return the seconds until a statement sealed in the future may come; 0: now."""
    left = moment(statement.sealed_at) - ahead - now
    return 0 if left <= timedelta() else int(left.total_seconds()) + 1


def gap(chain: ChainRow | None, statement: Statement) -> Gap | None:
    """Say why a statement has no place in its chain; None: it has one.

    The first one of a chain may name any statement before it: what came then went elsewhere.
    """
    if chain is None or _fills(chain, statement):
        return None
    if statement.previous != chain.statement:
        wanted = f"{chain.statement} ({chain.batch_no})"
        return Gap(
            f"批次 {statement.batch_no} 不接续上一批：应接 {chain.batch_no}，"
            f"实接 {statement.previous or '（空）'}；缺少中间的批次",
            {"chain": "previous", "expected": wanted, "found": statement.previous},
        )
    if statement.sealed_at < chain.sealed_at:  # UTC texts of one form
        return Gap(
            f"批次 {statement.batch_no} 的封签时间早于上一批 {chain.batch_no}",
            {"chain": "time", "expected": f">= {chain.sealed_at}", "found": statement.sealed_at},
        )
    return None


def is_behind(chain: ChainRow | None, statement: Statement) -> bool:
    """Tell whether a chain has passed a statement: numbers rise in a partition."""
    return chain is not None and statement.batch_no <= chain.batch_no


def advance(chain: ChainRow | None, statement: Statement, sender: str) -> ChainRow:
    """Return the chain with a statement that has its place in it, or was admitted."""
    if chain is not None and _fills(chain, statement):
        return replace(chain, missing=statement.previous)
    goes_on = chain is not None and statement.previous == chain.statement
    return ChainRow(
        statement.department,
        statement.resource,
        statement.lane,
        sender,
        statement.digest,
        statement.batch_no,
        statement.sealed_at,
        chain.missing if chain is not None and goes_on else statement.previous,
    )


def _fills(chain: ChainRow, statement: Statement) -> bool:
    """Whether a statement is the one that the chain's oldest goes on from."""
    return bool(chain.missing) and statement.digest == chain.missing
