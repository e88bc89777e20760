"""What an audit works with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from exchange.audit.dropped import Gone
from exchange.audit.findings import Findings
from exchange.audit.leaves import Leaves
from exchange.log import CURSORS, Entry, Log
from exchange.seal.pki.trust import Trust

if TYPE_CHECKING:
    from exchange.store.database import Store

CLOCK_SKEW: Final = timedelta(minutes=10)
"""How far the time of a seal may be from the time at which the log took the batch."""


@dataclass
class Given:
    """What an audit works with; ``store`` is None where it is missing, which is a fault already."""

    log: Log
    store: Store | None
    trust: Trust
    """Whom we trust for the seals of departments."""
    province: Trust | None
    """Whom we trust for receipts; None: there is no province."""
    schemas: Mapping[str, str]
    """File name by fingerprint of every released schema."""
    leaves: Leaves
    trail: Trail
    evident: Mapping[tuple[str, int], int]
    """By topic and partition: where the stage of the evidence log stood before all else was read:
    what is before has its leaf."""
    ages: bool
    """Whether the log drops messages by their age, by itself: no line of the trail says so."""
    findings: Findings
    progress: Callable[[int], None] = lambda _rows: None

    def latest(self, key: str) -> Entry | None:
        """Read the newest state with this key."""
        return self.log.latest(CURSORS, key)


@dataclass
class Trail:
    """What the audit trail says that other parts have to agree with."""

    rewinds: Counter[str] = field(default_factory=Counter)
    """By source: how often a person moved its cursor."""
    rebuilt: bool = False
    """Whether the log was lost once, and rebuilt."""
    recovered: bool = False
    """Whether the store was lost once, and made again: it shows the newest pulls only."""
    dismissed: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Records that were dismissed, by person, resource and reason."""
    former_dismissed: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Those of them in lines of a former version, which came before the dismissal."""
    retained: dict[str, int] = field(default_factory=dict)
    """By ``topic/partition``: first offset that retention by a person has left."""
    former_retained: dict[str, int] = field(default_factory=dict)
    """As far as a former version did it, which left no entries in the evidence log."""


class Fact(NamedTuple):
    """What is kept of a batch until receipts and store have been read: half a kilobyte."""

    partition: int
    offset: int
    statement: str
    root: str
    rows: int
    sealed_at: str
    resource_code: str
    pull: str
    void: bool
    """Whether the log says that a person has withdrawn it."""


@dataclass
class Totals:
    """What an audit has counted."""

    rows: int = 0
    """Rows of all messages read: raw, sealed and refused ones."""
    raw: dict[tuple[str, str], int] = field(default_factory=dict)
    """Rows by source and pull."""
    messages: dict[tuple[str, str], dict[int, int]] = field(default_factory=dict)
    """Raw messages by source and pull, by partition."""
    shortened: set[str] = field(default_factory=set)
    """Resources of whose raw messages some are gone, nobody can say of which pull."""
    removed: Counter[str] = field(default_factory=Counter)
    """Rows of raw messages that a person has removed, by pull."""
    removed_messages: dict[str, Counter[int]] = field(default_factory=dict)
    """How many messages these were, by pull and partition."""
    gone: Gone = field(default_factory=Gone)
    batches: dict[str, dict[str, Fact]] = field(default_factory=dict)
    """By resource and batch number."""
    receipts: dict[tuple[str, str], str] = field(default_factory=dict)
    """Digest of the receipt by resource and batch number."""
    receipt_numbers: dict[tuple[str, str], str] = field(default_factory=dict)
    """Its number."""
    refusals: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    """Code and reason of a batch's newest refusal, by resource and batch number."""
    wrong: set[tuple[str, str]] = field(default_factory=set)
    """Batches of which the log has a wrong receipt."""
    upto: int = 0
    """Next offset of the topic of receipts that was not read."""
    newest: tuple[str, str] = ("", "")
    """Time of the newest batch, and the digest of its catalog."""
