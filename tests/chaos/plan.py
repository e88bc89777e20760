"""What goes wrong, and when: drawn from a seed, so that a run can be had again.

In: a seed and a length in seconds. Out: tracks, each a list of events one after another. Tracks
run beside each other: one for each worker, one for the brokers (so that two of them are away at
once only when an event means it), one for the province, one for the sources.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import cycle
from random import Random

from tests.receiver.faults import Fault

WORKERS = ("w-0", "w-1", "w-2")
FAR = "w-2"
"""The worker whose way to the brokers leads through relays that can be cut."""
PARTITIONS = {"cases": 4, "firms": 1, "listed": 2}


class What(StrEnum):
    """The kinds of events, as they are counted."""

    APPEND = "appends"
    KILL_WORKER = "workers killed"
    PAUSE_WORKER = "paused"
    CUT_WORKER = "cut off"
    KILL_BROKER = "brokers killed"
    KILL_TWO = "two at once"
    PAUSE_BROKER = "brokers paused"
    FILL_DISK = "disks filled"
    FAULT = "province faults"
    SILENT = "silent"
    TWICE = "answers twice"
    KILL_PROVINCE = "provinces killed"


@dataclass(frozen=True)
class Event:
    """One thing that goes wrong ``after`` so many seconds, for so many more."""

    what: What
    after: float
    lasts: float
    whom: str = ""
    """Which broker, by what it does: see :class:`tests.chaos.stage.Stage`; or which fault."""
    number: int = 0
    """Rows to append; or the broker when nobody has that role."""


@dataclass(frozen=True)
class Track:
    """Events one after another; ``name`` is a worker, ``brokers``, ``province`` or ``sources``."""

    name: str
    events: Sequence[Event]


GONE = 5.0
"""Seconds until a dead broker surely counts as gone: their session is 4 s. It starts no sooner.

One that is back before may still take itself for the coordinator of transactions, and commit what
no other broker knows of: docs/chaos.md.
"""
HEALING = (
    Fault.SLOW,
    Fault.BUSY,
    Fault.CRASH,
    Fault.NO_CODE,
    Fault.HTML,
    Fault.NO_RECEIPT,
    Fault.CLOSES_BEFORE,
    Fault.CLOSES_IN_MID_BODY,
    Fault.DRIPS,
)
"""Faults that heal within seconds, and without a person: a 401 is tried again in 5 minutes."""


def plan(seed: int, seconds: float) -> list[Track]:
    """Draw the events of a seed."""
    chance = Random(seed)  # noqa: S311 - to be had again, not to be secret
    return [
        *(_track(name, _worker(name, chance), seconds) for name in WORKERS),
        _track("brokers", _brokers(chance), seconds),
        _track("province", _province(chance), seconds),
        _track("sources", _sources(chance), seconds),
    ]


def _track(name: str, events: Iterable[Event], seconds: float) -> Track:
    """Take as many events as begin in time."""
    items: list[Event] = []
    now = 0.0
    for event in events:
        now += event.after
        if now >= seconds:
            break
        items.append(event)
        now += event.lasts
    return Track(name, items)


def _worker(name: str, chance: Random) -> Iterable[Event]:
    """Kill it, and let it stand still: for longer than a session (6 s), or only just not."""
    still = What.CUT_WORKER if name == FAR else What.PAUSE_WORKER
    deck = [still, What.KILL_WORKER, chance.choice([still, What.KILL_WORKER])]
    chance.shuffle(deck)
    for what in cycle(deck):
        away = chance.uniform(0.1, 8) if what is What.KILL_WORKER else chance.uniform(5, 11)
        yield Event(what, chance.uniform(1, 5), away)


def _roles(chance: Random) -> list[str]:
    resource = chance.choice(list(PARTITIONS))
    partition = chance.randrange(PARTITIONS[resource])
    return [
        f"leader exchange.raw.{resource} {partition}",
        f"leader exchange.sealed.{resource} {partition}",
        "leader exchange.cursors 0",
        f"transactions exchange.seal/{resource}/{partition}",
        "group exchange.seal",
        "group exchange.cascade",
        "controller",
    ]


def _brokers(chance: Random) -> Iterable[Event]:
    deck = [What.KILL_BROKER, What.KILL_BROKER]
    deck += [chance.choice([What.PAUSE_BROKER, What.FILL_DISK])]
    deck += [What.KILL_TWO] * (chance.random() < 0.25)
    chance.shuffle(deck)
    for what in cycle(deck):
        away = chance.uniform(GONE, GONE + 4)
        if what is What.PAUSE_BROKER:
            away = chance.uniform(3, 9)
        elif what is What.FILL_DISK:
            away = chance.uniform(3, 5)
        role = chance.choice(_roles(chance))
        yield Event(what, chance.uniform(1, 3), away, role, chance.randrange(3))


def _province(chance: Random) -> Iterable[Event]:
    while True:
        what = chance.choice([What.FAULT, What.FAULT, What.SILENT, What.TWICE, What.KILL_PROVINCE])
        away = chance.uniform(0.5, 4)
        yield Event(what, chance.uniform(1, 4), away, chance.choice(HEALING).value)


def _sources(chance: Random) -> Iterable[Event]:
    while True:
        (resource,) = chance.choices(list(PARTITIONS), [6, 1, 1])
        most = 200 if resource == "cases" else 12
        yield Event(What.APPEND, chance.uniform(0.1, 1.2), 0, resource, chance.randint(1, most))
