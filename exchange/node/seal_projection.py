"""Shows the register of seals in the store, and takes a former store's register into the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from exchange.log import SEALS
from exchange.pipeline.seal_register import CARRIED, SealEvent, SealRegister

if TYPE_CHECKING:
    from exchange.log import Log
    from exchange.node.node import Node
    from exchange.store.node.seals import SealRow

_PROGRAM: Final = "exchange"
"""Stands for the person who acts, where no person did."""


def action(event: SealEvent) -> str:
    """Name a step as the audit trail does."""
    return f"seal.{event.step}"


def detail(event: SealEvent) -> str:
    """Write what the audit trail says of a step."""
    return f"{event.row.name}: {event.detail}"


def show_register(node: Node) -> None:
    """Bring the store's table to what the log says; each step has its line of the audit trail.

    Where the log has no register yet, that of the store becomes its first entries.
    """
    register, seals = node.seal_register, node.store.seals
    if not register.rows() and (rows := seals.find()) and register.carry(rows, actor=_PROGRAM):
        numbers = ", ".join(row.es_id for row in rows)
        node.store.audit.append(_PROGRAM, f"seal.{CARRIED}", "", f"into the log: {numbers}")
    versions = {row.es_id: row.version for row in seals.find()}
    for event in register.events():
        if event.row.version > versions.get(event.row.es_id, 0):
            seals.show(event.row, actor=event.actor, action=action(event), detail=detail(event))


def known_seals(node: Node) -> list[SealRow]:
    """List the register as it stands; nothing is written, and no topic is made on a cluster."""
    log: Log = node.cluster if node.settings.log.driver == "kafka" else node.log
    if log.topics([SEALS]):
        rows = SealRegister(log, node.clock).rows()
        if rows:
            return rows
    return node.store.seals.find()
