"""Refused records that a person gives up: they wait no more, and stay in the log."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import polars as pl

from exchange.errors import Rejected
from exchange.log import quarantine_topic
from exchange.pipeline.context import PipelineContext
from exchange.pipeline.refused import waiting
from exchange.pipeline.replay import place_of
from exchange.store.database import Store
from exchange.text import Text
from exchange.validate.refused_records import RefusedRecords
from exchange.validate.source_frame import REASONS

if TYPE_CHECKING:
    from sqlalchemy import Connection

MAX_REASON = 1_000
"""Characters of a reason: it is kept whole, in the trail and beside each record."""
TRAIL_VERSION = 2
"""Lines of the trail of this version name what was dismissed with them, not before it."""
MAX_MESSAGES = 100_000
"""Quarantine messages looked at in one dismissal."""


@dataclass(frozen=True)
class Selection:
    """Which waiting records of a resource; what is not given does not matter."""

    addresses: tuple[str, ...] = ()
    """Of messages (resource/partition/offset) or records (partition-offset-position)."""
    rule: str = ""
    """A rule, or ``rule:field``, by which a record was refused."""
    pull: str = ""

    def records(
        self, context: PipelineContext, store: Store, resource: str
    ) -> Iterator[RefusedRecords]:
        """Yield them, message by message; raises Rejected for an address that is none."""
        places = _places(self.addresses, resource)
        rows = store.quarantine.find(
            resource=resource, pull=self.pull or None, waiting=True, limit=MAX_MESSAGES
        )
        if self.addresses:
            rows = [row for row in rows if (row.partition, row.offset) in places]
        for refused in waiting(context, store, rows):
            positions = refused.positions()
            fits = self._fits(refused.frame)
            only = places.get((refused.partition, refused.offset))
            kept = [
                place
                for place, position in enumerate(positions)
                if fits[place] and (not only or position in only)
            ]
            if kept:
                yield refused.part(kept)

    def _fits(self, frame: pl.DataFrame) -> list[bool]:
        if not self.rule:
            return [True] * frame.height
        rule, _, name = self.rule.partition(":")
        reason = pl.element().struct
        same = reason.field("rule") == rule
        if name:
            same &= reason.field("field") == name
        return frame[REASONS].list.eval(same).list.any().to_list()


def dismiss(
    context: PipelineContext,
    store: Store,
    resource: str,
    chosen: Selection,
    *,
    by: str,
    reason: str,
) -> int:
    """Dismiss the chosen records; return how many: with their line in the audit trail, or not.

    Raises Rejected without a reason, or with a long one. Safe to be repeated: what was dismissed
    waits no more.
    """
    if not reason.strip():
        raise Rejected(
            Text("忽略记录须写明原因", "records are dismissed for a reason"),
            hint=Text("用 --reason 写明", "say it with --reason"),
        )
    if len(reason) > MAX_REASON:
        raise Rejected(
            Text(f"原因超过 {MAX_REASON} 个字符", f"a reason has up to {MAX_REASON} characters"),
            hint=Text("写得更短，或注明文件的位置", "make it shorter, or say where it is written"),
        )
    places = [
        (refused.partition, refused.offset, list(refused.positions()))
        for refused in chosen.records(context, store, resource)
    ]
    rows = sum(len(positions) for *_, positions in places)
    if not rows:
        return 0
    context.failpoint("dismiss:before")
    topic = quarantine_topic(resource)
    count = 0

    def decide(connection: Connection) -> None:
        nonlocal count
        count = sum(
            len(
                store.quarantine.decide_in(
                    connection,
                    (topic, partition, offset),
                    positions,
                    state="dismissed",
                    by=by,
                    note=reason,
                )
            )
            for partition, offset, positions in places
        )

    def detail() -> str:
        context.failpoint("dismiss:audited")
        said = {"reason": reason, "rows": count, "version": TRAIL_VERSION} | asdict(chosen)
        return json.dumps(said, ensure_ascii=False)

    store.audit.append(by, "quarantine.dismiss", resource, detail, beside=decide)
    context.failpoint("dismiss:after")
    return count


def _places(addresses: Sequence[str], resource: str) -> dict[tuple[int, int], set[int]]:
    """Sort addresses by message; an empty set stands for the whole message."""
    places: dict[tuple[int, int], set[int]] = {}
    whole: set[tuple[int, int]] = set()
    for address in addresses:
        if address.startswith(f"{resource}/"):
            partition, offset, _ = place_of(f"{address[len(resource) + 1 :].replace('/', '-')}-0")
            whole.add((partition, offset))
        else:
            partition, offset, row = place_of(address)
            places.setdefault((partition, offset), set()).add(row)
    return places | {place: set() for place in whole}
