"""The stage that writes the evidence log (存证日志): every statement and every receipt goes in.

    EvidenceStage  sealed, receipts ──► exchange.evidence ──► folder ──► checkpoint ──► witness

A topic holds the entries in their order, and the folder of the evidence log is a projection of
it: a folder that was lost is made again, to the byte, and each machine may have one. The folder
may be behind the topic; entries that only the folder has (the log was restored from an older
backup) go back to the topic. One process writes a folder; the others leave it alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from exchange.cascade.witness import Cosignature, WitnessedSize
from exchange.errors import Integrity
from exchange.evidence.checkpoint import SignedNote, Signers
from exchange.evidence.entry import EvidenceEntry, well_formed
from exchange.evidence.log import EvidenceLog
from exchange.log import EVIDENCE, RECEIPTS, Entry, Fenced, Message, sealed_topic
from exchange.pipeline.context import CHUNK_BYTES, PipelineContext
from exchange.pipeline.messages import EVIDENCE_KEY, EvidenceState, ReceiptEntry, SealedEntry
from exchange.pipeline.stage import Reading
from exchange.seal.batch.build import open_statement
from exchange.seal.crypto.suites import SM2_SM3
from exchange.seal.eseal.signature import Sealer
from exchange.seal.pki.trust import Trust
from exchange.text import Text

GROUP = "evidence"
_ENTRIES = 64

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
            topics = [*map(sealed_topic, self.resources), RECEIPTS]
            self._reading = Reading(self.context.log, GROUP, topics)
            undo.callback(self._reading.close)
            self._next, self._size = self._followed()
            self._follow()
            self._give_back()
            undo.pop_all()

    def close(self) -> None:
        """Leave the group and give the evidence log free."""
        self._reading.close()
        self.log.close()

    def step(self) -> int | None:
        """Append what the next messages hold; how many entries, None when there are none."""
        messages = self._reading.poll(_ENTRIES, CHUNK_BYTES)
        if not messages:
            return self._follow() or None  # what other writers have added
        return self._reading.attempt(lambda: self._take(messages)) or 0

    def _take(self, messages: Sequence[Entry]) -> int:
        last = messages[-1]
        self.context.failpoint("evidence:before")
        with self._reading.transaction(f"evidence/{last.topic}/{last.partition}", last) as tx:
            if entries := [entry for entry in map(entry_of, messages) if entry is not None]:
                tx.append(_message(entry.to_bytes() for entry in entries))
            tx.append(self._state().to_message())
        self.context.failpoint("evidence:ordered")
        count = self._follow()
        self.context.failpoint("evidence:after")
        return count

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
        return self.log.checkpoint(
            self.sealer(), now if newest is None else max(now, newest.checkpoint.time)
        )

    def witness(self) -> SignedNote | None:
        """Have the newest state signed by node and witness; None when that is done already.

        Raises Integrity when witness and log contradict each other.
        """
        seen = self.log.witnessed()
        if self.ask is None or self.log.size == (seen.checkpoint.head.size if seen else 0):
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


def entry_of(message: Entry) -> EvidenceEntry | None:
    """Return what a message of the log is in the evidence log; None for what does not belong."""
    if message.topic != RECEIPTS:
        sealed = SealedEntry.of(message)
        return None if sealed is None else EvidenceEntry.of_statement(open_statement(sealed.data))
    receipt = ReceiptEntry.of(message)
    if receipt is None or not receipt.verified:
        return None
    return EvidenceEntry(
        type="receipt",
        resource=receipt.resource,
        lane=receipt.partition,
        batch_no=receipt.batch_no,
        digest=f"sm3:{SM2_SM3.digest(receipt.content).hex()}",
    )
