"""Pulls: the states that sources go on from, the raw messages, and the store's list of pulls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from exchange.audit.given import Given, Totals
from exchange.pipeline.messages import REPLAY, PullState, pull_key
from exchange.store.columns import as_kept
from exchange.store.database import Store
from exchange.store.node.pulls import DONE, PullRow


class Shown(NamedTuple):
    """A pull as the store shows it."""

    source: str
    resource: str
    state: str
    pulled: int
    started_at: datetime

    @classmethod
    def of(cls, row: PullRow) -> Shown:
        """Take a row."""
        return cls(row.source, row.resource, row.state, row.pulled, row.started_at)


def shown_pulls(store: Store | None) -> dict[str, Shown]:
    """Read all pulls that the store shows."""
    return {} if store is None else {row.pull: Shown.of(row) for row in store.pulls.walk()}


def read_states(given: Given, sources: Mapping[str, str]) -> dict[str, PullState | None]:
    """Read the states of all sources."""
    return {name: PullState.of(given.latest(pull_key(name))) for name in sources}


def check_pulls(
    given: Given,
    totals: Totals,
    sources: Mapping[str, str],
    before: Mapping[str, PullState | None],
    shown: Mapping[str, Shown],
) -> None:
    """Compare the states of pulls with the raw messages; ``before``: read before these were.

    ``sources``: resource by source; ``shown``: pulls of the store, read before the messages.
    """
    now = read_states(given, sources)
    for source, resource in sources.items():
        state, findings = before[source], given.findings
        if state is None or resource in totals.shortened:
            continue
        key, where = (source, state.pull), f"{source}, pull {state.pull or '-'}"
        found = totals.raw.get(key, 0) + totals.removed[state.pull]
        if found < state.rows or (found > state.rows and state == now[source]):
            findings.fault("pulls.rows", where, f"{state.rows} rows", f"{found} rows")
        messages = totals.messages.get(key, {})
        removed = totals.removed_messages.get(state.pull, Counter[int]())
        for partition, count in enumerate(state.messages):
            there = messages.get(partition, 0) + removed[partition]
            if there != count and state == now[source]:
                expected = f"{count} messages"
                findings.fault("pulls.rows", f"{where} in {partition}", expected, there)
    if given.store is not None:
        _compare(given, totals, sources, now, shown)


def _compare(
    given: Given,
    totals: Totals,
    sources: Mapping[str, str],
    now: Mapping[str, PullState | None],
    shown: Mapping[str, Shown],
) -> None:
    """Compare the store's pulls with those of the log, both ways."""
    findings = given.findings
    known = set()
    leaves = ((source, leaf) for source, own in given.leaves.pulls.items() for leaf in own)
    ended = {(source, leaf.pull) for source, leaf in leaves if leaf.done and leaf.rows}
    for source, pull in totals.raw:
        known.add(pull)
        resource = sources.get(source)
        if resource is None or resource in totals.shortened or pull.startswith(REPLAY):
            continue
        place = (source, resource, pull)
        finished = (source, pull) in ended
        _compare_row(given, totals, place, now[source], shown.get(pull), finished=finished)
    for pull, row in shown.items():
        if pull in known or totals.removed[pull] or row.resource in totals.shortened:
            continue
        findings.fault("store.pulls", f"{row.source}, pull {pull}", "rows in the log", "none")


def _compare_row(
    given: Given,
    totals: Totals,
    place: tuple[str, str, str],
    state: PullState | None,
    row: Shown | None,
    *,
    finished: bool,
) -> None:
    """Compare what the store shows of a pull: source, resource and pull are its ``place``."""
    store, findings = given.store, given.findings
    assert store is not None  # noqa: S101 - the caller has looked
    source, resource, pull = place
    newest = state if state is not None and state.pull == pull else None
    where = f"{source}, pull {pull}"
    if row is None or newest is not None:
        late = store.pulls.get(pull)
        row = None if late is None else Shown.of(late)
    if row is None:
        if newest is None and given.trail.recovered:
            findings.note("store.pulls", f"{source}: pulls from before the store was lost")
        elif newest is None:
            findings.fault("store.pulls", where, "in the store", "missing")
        return
    findings.equal("store.pulls", f"{where} source", source, row.source)
    findings.equal("store.pulls", f"{where} resource", resource, row.resource)
    whole = totals.raw[source, pull] + totals.removed[pull]
    if row.state == DONE and (newest is None or whole == newest.rows):
        findings.equal("store.pulls", where, whole, row.pulled)
    elif newest is None and (finished or row.pulled > whole):
        findings.fault("store.pulls", where, f"{DONE}, {whole}", f"{row.state}, {row.pulled}")
    if newest is not None:
        began = as_kept(newest.began)
        findings.equal("store.pulls", f"{where} started_at", began, row.started_at)
