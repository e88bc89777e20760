"""The register of seals (电子印章台账) in the log: every step that people take with a seal.

The topic has one message for each step, with the seal as the step leaves it. A seal may seal by
what the log says; the store's table is a projection, and the evidence log has a leaf of every
message. In: steps. Out: the state of a seal, its history. Raises Stale for a step that builds on
an older one, Integrity for a number that another seal has.
"""

from __future__ import annotations

import json
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from exchange.log import SEALS, Entry, Fenced, Log, Message
from exchange.pipeline.stage import FENCED_IN_A_ROW
from exchange.seal.batch.statement import instant
from exchange.seal.eseal.lifecycle import SealState

if TYPE_CHECKING:
    from exchange.store.node.seals import SealRow

OWNER: Final = "seal/register"
"""Owner of the transactions that write steps."""
CARRIED: Final = "carry"
"""The step of a seal whose former steps are in the audit trail alone."""
_VERSION: Final = 1
_PAGE: Final = 64
_TIMES: Final = ("applied_at", "approved_at", "filed_at", "updated_at")


@dataclass(frozen=True, slots=True)
class SealEvent:
    """One step with a seal: who took it and why, and the seal as it leaves it."""

    row: SealRow
    actor: str
    step: str
    """As :class:`exchange.seal.eseal.lifecycle.Step`, or :data:`CARRIED`."""
    detail: str

    def to_message(self) -> Message:
        """Make the message."""
        seal: dict[str, Any] = {f.name: getattr(self.row, f.name) for f in fields(self.row)}
        seal["content"] = b64encode(self.row.content).decode()
        for name in _TIMES:
            seal[name] = None if seal[name] is None else instant(seal[name])
        value = {"actor": self.actor, "step": self.step, "detail": self.detail, "seal": seal}
        text = json.dumps(value | {"version": _VERSION}, ensure_ascii=False, sort_keys=True)
        return Message(SEALS, text.encode(), self.row.es_id, {"kind": "seal"})

    @classmethod
    def of(cls, entry: Entry) -> Self | None:
        """Read an entry of the topic; None for one that no node of ours wrote."""
        from exchange.store.node.seals import SealRow

        if entry.headers.get("kind") != "seal":
            return None
        try:
            value = json.loads(entry.value)
            seal = value["seal"]
            for name in _TIMES:
                seal[name] = None if seal[name] is None else datetime.fromisoformat(seal[name])
            seal["content"] = b64decode(seal["content"], validate=True)
            row = SealRow(**seal)
            return cls(row, value["actor"], value["step"], value["detail"])
        except (ValueError, KeyError, TypeError):
            return None


class StoppedSeal(NamedTuple):
    """A seal that may not seal, as a status needs it."""

    es_id: str
    state: str
    reason: str


def stopped_seals(log: Log) -> dict[str, StoppedSeal]:
    """Return the seals of the register that are not in use, by number; without the store's room."""
    newest: dict[str, StoppedSeal] = {}
    offset, end = log.bounds(SEALS, 0)
    while offset < end and (page := log.read(SEALS, 0, offset, max_entries=_PAGE)):
        for entry in page:
            with suppress(ValueError, KeyError, TypeError):  # no node of ours wrote it
                seal = json.loads(entry.value)["seal"]
                newest[entry.key] = StoppedSeal(entry.key, seal["state"], seal["reason"])
        offset = page[-1].offset + 1
    return {es_id: seal for es_id, seal in newest.items() if seal.state != SealState.IN_USE}


class SealRegister:
    """The register as the log has it; what was read is kept, and only what is new is read."""

    def __init__(self, log: Log, clock: Callable[[], datetime]) -> None:
        """Read nothing yet."""
        self._log = log
        self._clock = clock
        self._lock = threading.RLock()
        self._next = -1
        self._events: dict[str, list[SealEvent]] = {}

    def state(self, es_id: str) -> str | None:
        """Return the state of a seal as of now; None when nobody has registered it."""
        events = self._follow().get(es_id)
        return events[-1].row.state if events else None

    def rows(self) -> list[SealRow]:
        """List the seals by number, each as its newest step leaves it."""
        return [events[-1].row for _, events in sorted(self._follow().items())]

    def events(self) -> list[SealEvent]:
        """List every step, by seal and in its order."""
        return [event for _, events in sorted(self._follow().items()) for event in events]

    def history(self, es_id: str) -> list[SealEvent]:
        """List the steps of one seal, oldest first."""
        return list(self._follow().get(es_id, ()))

    def append(self, row: SealRow, *, actor: str, step: str, detail: str) -> SealEvent:
        """Write a step; ``row`` is the seal after it, with the version before it.

        Raises Stale when somebody else has taken a step since the row was read, Integrity when a
        new seal has the number of another.
        """
        from exchange.store.node.seals import as_stored
        from exchange.store.sql import contradiction, stale

        after = as_stored(replace(row, updated_at=self._clock(), version=row.version + 1))
        event = SealEvent(after, actor, step, detail)
        for _ in range(FENCED_IN_A_ROW):
            with self._lock, suppress(Fenced), self._log.transaction(OWNER) as tx:
                known = self._follow().get(row.es_id)
                if row.version != (known[-1].row.version if known else 0):
                    what = f"seal {row.es_id}"
                    raise stale(what) if row.version else contradiction(what)
                tx.append(event.to_message())
                return event
        raise stale("the register of seals")

    def carry(self, rows: Sequence[SealRow], *, actor: str) -> bool:
        """Write the seals of a store as first entries; False when the log has entries already."""
        from exchange.store.sql import stale

        for _ in range(FENCED_IN_A_ROW):
            with self._lock, suppress(Fenced), self._log.transaction(OWNER) as tx:
                if self._follow():
                    return False
                for row in rows:
                    tx.append(SealEvent(row, actor, CARRIED, row.reason).to_message())
                return bool(rows)
        raise stale("the register of seals")

    def _follow(self) -> dict[str, list[SealEvent]]:
        with self._lock:
            first, end = self._log.bounds(SEALS, 0)
            if self._next < 0:
                self._next = first
            while self._next < end:
                page = self._log.read(SEALS, 0, self._next, max_entries=_PAGE)
                for event in filter(None, map(SealEvent.of, page)):
                    self._events.setdefault(event.row.es_id, []).append(event)
                self._next = page[-1].offset + 1 if page else end
            return self._events
