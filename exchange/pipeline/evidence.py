"""The stage that writes the evidence log (存证日志): what must not change afterwards goes in.

    EvidenceStage  sealed, receipts ─────────────────┬──► exchange.evidence ──► folder ──► witness
                   quarantine, seals, pulls, trail ──┘

Every statement, receipt and refusal is an entry; messages of quarantine, steps of seals, states of
pulls and lines of the audit trail have one for what a step has read of them: a digest and counts.

A topic holds the entries in their order, and the folder of the evidence log is a projection of
it: a folder that was lost is made again, to the byte, and each machine may have one. The folder
may be behind the topic; entries that only the folder has (the log was restored from an older
backup) go back to the topic. One process writes a folder; the others leave it alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

from exchange.cascade.witness import Cosignature, WitnessedSize
from exchange.errors import Integrity
from exchange.evidence.checkpoint import SignedNote, Signers
from exchange.evidence.entry import (
    AnyEntry,
    EvidenceEntry,
    MessagesEntry,
    PullEntry,
    TrailEntry,
    bytes_digest,
    messages_digest,
    well_formed,
)
from exchange.evidence.log import EvidenceLog
from exchange.log import (
    CURSORS,
    EVIDENCE,
    RECEIPTS,
    SEALS,
    Entry,
    Fenced,
    Message,
    quarantine_topic,
    sealed_topic,
)
from exchange.pipeline.checkpoint_state import CHECKPOINT_KEY, CheckpointState
from exchange.pipeline.context import CHUNK_BYTES, PipelineContext
from exchange.pipeline.messages import (
    EVIDENCE_KEY,
    IDENTITY_KEY,
    EvidenceState,
    PullState,
    ReceiptEntry,
    SealedEntry,
    identity_message,
    identity_of,
    leaf_digest,
    leaf_key,
    leaf_message,
    pull_key,
)
from exchange.pipeline.refusal import refusal_leaf
from exchange.pipeline.stage import Reading
from exchange.seal.batch.build import open_statement
from exchange.seal.crypto.suites import SM2_SM3
from exchange.seal.eseal.signature import Sealer
from exchange.seal.pki.trust import Trust
from exchange.text import Text

GROUP = "evidence"
LEAVES_GROUP = "evidence.leaves"
"""Reads what is not sealed: a group of its own, as an upgraded node begins with what is kept."""
_ENTRIES = 64

TrailEnds = Callable[[], tuple[str, int, str] | None]
"""Returns the audit trail's first digest, and number and digest of its newest line."""
Ask = Callable[[SignedNote, int, Sequence[bytes], Sequence[bytes]], Cosignature | WitnessedSize]
"""Asks the witness: the note, what it saw last, the proof from there, the certificates."""


@dataclass
class EvidenceStage:
    """Writes the evidence log of a node; open while this process has it."""

    context: PipelineContext
    log: EvidenceLog
    sealer: Callable[[], Sealer]
    resources: Sequence[str]
    ask: Ask | None = None
    """None: nobody outside signs along."""
    witnesses: Trust | None = None
    trail: TrailEnds = lambda: None

    @classmethod
    def open(cls, context: PipelineContext, folder: Path, origin: str, **options: object) -> Self:
        """Open the evidence log to append; raises Transient when another process has it."""
        folder.mkdir(parents=True, exist_ok=True)
        return cls(context, EvidenceLog.open(folder, origin=origin), **options)  # type: ignore[arg-type]

    def __post_init__(self) -> None:
        """Join the consumer group; bring folder and topic to the same entries."""
        with ExitStack() as undo:
            undo.callback(self.log.close)
            for resource in self.resources:
                self.context.ensure(resource)
            self.identity = log_identity(self.context)
            log, resources = self.context.log, self.resources
            sealed = Reading(log, GROUP, [*map(sealed_topic, resources), RECEIPTS])
            undo.callback(sealed.close)
            others = [*map(quarantine_topic, resources), CURSORS, SEALS]
            leaves = Reading(log, LEAVES_GROUP, others, complete=False)
            undo.callback(leaves.close)
            self._readings = (sealed, leaves)
            self._next, self._size = self._followed()
            self._follow()
            self._give_back()
            undo.pop_all()

    def close(self) -> None:
        """Leave the groups and give the evidence log free."""
        for reading in self._readings:
            reading.close()
        self.log.close()

    def step(self) -> int | None:
        """Append what the next messages hold; how many entries, None when there are none."""
        for reading in self._readings:
            if messages := reading.poll(_ENTRIES, CHUNK_BYTES):
                return reading.attempt(partial(self._take, reading, messages)) or 0
        return self._follow() or self._note_trail() or None  # other writers may have added some

    def _take(self, reading: Reading, messages: Sequence[Entry]) -> int:
        last = messages[-1]
        self.context.failpoint("evidence:before")
        with reading.transaction(f"evidence/{last.topic}/{last.partition}", last) as tx:
            # No state without an entry: it is a message that the next step would read.
            if entries := list(self._entries(messages)):
                tx.append(_message(entry.to_bytes() for entry in entries))
                for entry in entries:
                    if isinstance(entry, PullEntry):
                        tx.append(leaf_message(entry.source, entry.digest))
                tx.append(self._state().to_message())
        self.context.failpoint("evidence:ordered")
        count = self._follow()
        self.context.failpoint("evidence:after")
        return count

    def _entries(self, messages: Sequence[Entry]) -> Iterator[AnyEntry]:
        """Yield what messages of one partition are in the evidence log."""
        topic = messages[0].topic
        if topic == CURSORS:
            yield from self._pulls(messages)
        elif topic == SEALS or topic.startswith(quarantine_topic("")):
            yield messages_entry(messages, self.identity)
        else:
            yield from (entry for entry in map(entry_of, messages) if entry is not None)

    def _pulls(self, messages: Iterable[Entry]) -> Iterator[PullEntry]:
        """Yield the entries of the newest states of pulls; the topic keeps no others.

        A pull that brought nothing and left the cursor where it was has none.
        """
        newest = {message.key: message for message in messages}
        for key, message in newest.items():
            if not key.startswith(pull_key("")):
                continue
            with suppress(ValueError):  # no source of ours has such a name
                entry = pull_entry(message, self.identity)
                known = leaf_digest(self.context.latest(leaf_key(entry.source)))
                if entry.rows or entry.digest != known:
                    yield entry

    def _note_trail(self) -> int:
        """Append the newest line of the audit trail; how many entries were new to the folder."""
        ends = self.trail()
        if ends is None:
            return 0
        first, number, digest = ends
        entry = TrailEntry(trail=first, number=number, digest=digest).to_bytes()
        if self.log.find(entry) is not None:
            return 0
        with self.context.log.transaction("evidence/audit") as tx:
            tx.append(_message([entry]))
        return self._follow()

    def _follow(self) -> int:
        """Append to the folder what the topic has; how many entries were new to the folder.

        Raises Integrity where the folder has other entries, or in another order.
        """
        before = self.log.size
        while page := self.context.log.read(EVIDENCE, 0, self._next, max_entries=_ENTRIES):
            entries = dict.fromkeys(entry for message in page for entry in _entries(message))
            fresh = [entry for entry in entries if not self._known(entry)]
            self.log.append(fresh)
            self._size += len(fresh)
            self._next = page[-1].offset + 1
        return self.log.size - before

    def _known(self, entry: bytes) -> bool:
        """Whether the folder has it, which is as the next one or, from before, further up."""
        place = self.log.find(entry)
        if (self.log.size if place is None else place) > self._size:
            raise _another_history(self.log, self._size)
        self._size += place == self._size
        return place is not None

    def _state(self) -> EvidenceState:
        return EvidenceState(self._next, self._size, self.log.root_of(self._size).hex())

    def _followed(self) -> tuple[int, int]:
        """Return an offset of the topic, and how many of the folder's entries come before it.

        From the last state that was noted, when the folder begins with it; else from the start.
        """
        state = EvidenceState.of(self.context.latest(EVIDENCE_KEY))
        known = 0 < state.size <= self.log.size
        if known and self.log.root_of(state.size).hex() == state.root:
            return state.offset, state.size
        return 0, 0

    def _give_back(self) -> None:
        """Put entries that only the folder has into the topic, in the folder's order."""
        with self.context.log.transaction("evidence") as tx:
            for first in range(self._size, self.log.size, _ENTRIES):
                rest = range(first, min(first + _ENTRIES, self.log.size))
                tx.append(_message(map(self.log.entry, rest)))

    def checkpoint(self) -> SignedNote:
        """Sign the log as it is; the time of signing never runs backwards, whatever the clock."""
        newest, now = self.log.newest(), self.context.clock()
        note = self.log.checkpoint(
            self.sealer(), now if newest is None else max(now, newest.checkpoint.time)
        )
        self._note_checkpoint(note)
        return note

    def first_checkpoint(self) -> None:
        """Sign a log that was never signed: one without a checkpoint is no log at all."""
        if self.log.size and self.log.newest() is None:
            self.checkpoint()

    def sign_anew(self) -> None:
        """Sign what was rebuilt, and note what there is: former checkpoints may be lost."""
        if not self.log.size:
            return
        size, seen = self.checkpoint().checkpoint.head.size, self.log.witnessed()
        state = CheckpointState(size, 0 if seen is None else seen.checkpoint.head.size)
        with self.context.log.transaction("evidence/checkpoint") as tx:
            tx.append(state.to_message())

    def _note_checkpoint(self, note: SignedNote) -> None:
        """Note in the log how much was signed, and witnessed: no checkpoint may go unnoticed."""
        known = CheckpointState.of(self.context.latest(CHECKPOINT_KEY))
        size = note.checkpoint.head.size
        state = CheckpointState(
            max(known.size, size), max(known.witnessed, size if note.witnesses else 0)
        )
        if state != known:
            with self.context.log.transaction("evidence/checkpoint") as tx:
                tx.append(state.to_message())

    def witness(self) -> SignedNote | None:
        """Have the newest state signed by node and witness; None when that is done already.

        Raises Integrity when witness and log contradict each other.
        """
        seen = self.log.witnessed()
        if self.ask is None:
            if self.log.size:
                self.checkpoint()
            return None
        if self.log.size == (seen.checkpoint.head.size if seen else 0):
            return None
        note = self.checkpoint()
        self.context.failpoint("witness:before")
        old = 0 if seen is None else seen.checkpoint.head.size
        answer = self._ask(note, old)
        if isinstance(answer, WitnessedSize):  # it knows more than we have noted, or has forgotten
            size = note.checkpoint.head.size
            if answer.size > size:
                self._follow()
                if answer.size <= self.log.size:  # another writer has shown what was new
                    return None
                raise Integrity(
                    Text(
                        f"上级已见证 {answer.size} 条存证，本地只有 {size} 条",
                        f"the witness has seen {answer.size} entries, here are only {size}",
                    ),
                    hint=Text(
                        "存证日志被截断或恢复了旧备份：请停止并核对",
                        "the evidence log was cut, or an old backup restored: stop and compare",
                    ),
                )
            answer = self._ask(note, answer.size)
        if isinstance(answer, WitnessedSize):
            raise Fenced(
                Text("见证方的状态正在变化", "the witness's state is moving"),
                hint=Text("稍后自动重试", "it is asked again by itself"),
            )
        self._trusted(note, answer)
        whole = self.log.add_witness(note.checkpoint.head.size, answer.line, answer.certificates)
        self._note_checkpoint(whole)
        self.context.failpoint("witness:after")
        return whole

    def _ask(self, note: SignedNote, old: int) -> Cosignature | WitnessedSize:
        assert self.ask is not None  # noqa: S101 - witness() has looked
        proof = self.log.consistency(old, note.checkpoint.head.size) if old else []
        sealer = self.sealer()
        return self.ask(note, old, proof, (sealer.signer.certificate, *sealer.chain))

    def _trusted(self, note: SignedNote, answer: Cosignature) -> None:
        """Believe a witness only whose certificate leads to the province's root."""
        if self.witnesses is None:
            return
        signers = Signers(answer.certificates, trust=self.witnesses, witnesses=self.witnesses)
        try:
            failed = [c.name for c in signers.check_witness(note, answer.line) if not c.ok]
        except ValueError as error:
            failed = [str(error)]
        if failed:
            raise Integrity(
                Text(
                    f"见证签名不成立：{'、'.join(failed)}",
                    f"the witness's signature does not hold: {', '.join(failed)}",
                ),
                hint=Text("请与省级平台核对", "settle it with the province"),
            )


def _message(entries: Iterable[bytes]) -> Message:
    return Message(EVIDENCE, b"\n".join(entries))


def _entries(message: Entry) -> list[bytes]:
    """Return the entries of a message of the topic; none of one that a stranger wrote."""
    lines = message.value.split(b"\n")
    return lines if len(lines) <= _ENTRIES and all(map(well_formed, lines)) else []


def _another_history(log: EvidenceLog, place: int) -> Integrity:
    return Integrity(
        Text(
            f"存证日志 {log.origin} 的第 {place} 条与主题 {EVIDENCE} 不一致",
            f"entry {place} of the evidence log {log.origin} is not the one in {EVIDENCE}",
        ),
        hint=Text(
            "日志目录或主题被替换：请保留两者并核对；移走目录后会按主题重建",
            "one of them was replaced: keep both and compare; without the folder, it is made again"
            " from the topic",
        ),
    )


def log_identity(context: PipelineContext) -> str:
    """Return the name of the node's log; it is drawn when the log has none yet."""
    while not (identity := identity_of(context.latest(IDENTITY_KEY))):
        with suppress(Fenced), context.log.transaction("evidence/identity") as tx:
            if context.latest(IDENTITY_KEY) is None:
                tx.append(identity_message(context.entropy(16).hex()))
    return identity


def messages_entry(messages: Sequence[Entry], identity: str) -> MessagesEntry:
    """Return the entry of successive messages of one partition."""
    return MessagesEntry(
        log=identity,
        topic=messages[0].topic,
        lane=messages[0].partition,
        first=messages[0].offset,
        next=messages[-1].offset + 1,
        count=len(messages),
        digest=messages_digest((m.offset, m.key, m.headers, m.value) for m in messages),
    )


def pull_entry(message: Entry, identity: str) -> PullEntry:
    """Return the entry of a state of a pull; raises ValueError for one that is none of ours."""
    state = PullState.of(message)
    if state is None:
        raise ValueError("an empty state")
    return PullEntry(
        log=identity,
        source=message.key.removeprefix(pull_key("")),
        pull=state.pull,
        rows=state.rows,
        done=int(state.done),
        offset=message.offset,
        digest=cursor_digest(state.cursor),
    )


def cursor_digest(cursor: Mapping[str, Any] | None) -> str:
    """Return the digest of a cursor: of its JSON in ASCII, keys sorted, no blanks."""
    return bytes_digest(json.dumps(cursor, sort_keys=True, separators=(",", ":")).encode())


def entry_of(message: Entry) -> EvidenceEntry | None:
    """Return the entry of a sealed batch, a receipt or a refusal; None for what does not belong."""
    if message.topic != RECEIPTS:
        sealed = SealedEntry.of(message)
        return None if sealed is None else EvidenceEntry.of_statement(open_statement(sealed.data))
    receipt = ReceiptEntry.of(message)
    if receipt is None:
        return refusal_leaf(message)
    if not receipt.verified:
        return None
    return EvidenceEntry(
        type="receipt",
        resource=receipt.resource,
        lane=receipt.partition,
        batch_no=receipt.batch_no,
        digest=f"sm3:{SM2_SM3.digest(receipt.content).hex()}",
    )
