"""The corridor's door to the evidence log (存证日志): every statement and every receipt goes in.

    EvidenceDoor   sealed, receipts ──► evidence log ──► checkpoint ──► witness

The evidence log follows the log: it may be behind, never ahead, and what is appended again
after a kill is in once. One process of a node has it open; the others leave it alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from exchange.cascade.witness import Cosigned, Seen
from exchange.errors import Integrity
from exchange.evidence.checkpoint import Note, Signers
from exchange.evidence.entry import Entry
from exchange.evidence.log import EvidenceLog
from exchange.log import RECEIPTS, Fenced, sealed_topic
from exchange.log import Entry as Message
from exchange.pipeline import House
from exchange.seal.batch import open_statement
from exchange.seal.links import Trust
from exchange.seal.ses import Sealer
from exchange.seal.suites import SM2_SM3
from exchange.text import Text
from exchange.view import is_batch

GROUP = "evidence"
_ENTRIES = 64
_PAGE = 16
_BYTES = 16 * 1024 * 1024

Ask = Callable[[Note, int, Sequence[bytes], Sequence[bytes]], Cosigned | Seen]
"""Asks the witness: the note, what it saw last, the proof from there, the certificates."""


@dataclass
class EvidenceDoor:
    """Keeps the evidence log of a node; open while this process has it."""

    house: House
    log: EvidenceLog
    sealer: Callable[[], Sealer]
    resources: Sequence[str]
    ask: Ask | None = None
    """None: nobody outside signs along."""
    witnesses: Trust | None = None

    @classmethod
    def open(cls, house: House, folder: Path, origin: str, **options: object) -> Self:
        """Open the evidence log to append; raises Transient when another process has it."""
        folder.mkdir(parents=True, exist_ok=True)
        return cls(house, EvidenceLog.open(folder, origin=origin), **options)  # type: ignore[arg-type]

    def __post_init__(self) -> None:
        """Join the consumer group; append again what was lost, and nothing else yet."""
        with ExitStack() as undo:
            undo.callback(self.log.close)
            for resource in self.resources:
                self.house.ensure(resource)
            self._topics = [*map(sealed_topic, self.resources), RECEIPTS]
            self._consumer = self.house.log.consumer(GROUP, self._topics)
            undo.callback(self._consumer.close)
            self._catch_up()
            undo.pop_all()

    def _catch_up(self) -> None:
        """Append again what the evidence log has lost: it was deleted, or is an old backup.

        It lacks something when it lacks the last message that was appended of a lane. What the
        witness has seen in another order it refuses: nobody's history is rewritten quietly.
        """
        log = self.house.log
        known = {topic.name: topic.partitions for topic in log.topics()}
        for topic in self._topics:
            for lane in range(known[topic]):
                offset, end = log.bounds(topic, lane)[0], log.position(GROUP, topic, lane)
                if offset >= end or self._has(log.read(topic, lane, end - 1, max_entries=1)):
                    continue
                while page := log.read(topic, lane, offset, max_entries=_PAGE):
                    self._append(message for message in page if message.offset < end)
                    offset = page[-1].offset + 1
                    if offset >= end:
                        break

    def _has(self, messages: Sequence[Message]) -> bool:
        entries = [entry for entry in map(entry_of, messages) if entry is not None]
        return bool(entries) and self.log.find(entries[0].to_bytes()) is not None

    def _append(self, messages: Iterable[Message]) -> int:
        entries = [entry.to_bytes() for entry in map(entry_of, messages) if entry is not None]
        self.log.append(entries)
        return len(entries)

    def close(self) -> None:
        """Leave the group and give the evidence log free."""
        self._consumer.close()
        self.log.close()

    def step(self) -> int | None:
        """Append what the next messages hold; how many entries, None when there are none."""
        messages = self._consumer.poll(max_entries=_ENTRIES, max_bytes=_BYTES)
        if not messages:
            return None
        last = messages[-1]
        self.house.at("evidence:before")
        try:
            count = self._append(messages)
            self.house.at("evidence:appended")
            with self.house.log.transaction(f"evidence/{last.topic}/{last.partition}") as tx:
                tx.commit(self._consumer, last.topic, last.partition, last.offset + 1)
        except Fenced:
            self._consumer.rewind()
            return 0
        except BaseException:
            self._consumer.rewind()
            raise
        self.house.at("evidence:after")
        return count

    def checkpoint(self) -> Note:
        """Sign the log as it is; the time of signing never runs backwards, whatever the clock."""
        newest, now = self.log.newest(), self.house.clock()
        return self.log.checkpoint(
            self.sealer(), now if newest is None else max(now, newest.checkpoint.time)
        )

    def witness(self) -> Note | None:
        """Have the newest state signed by node and witness; None when that is done already.

        Raises Integrity when witness and log contradict each other.
        """
        seen = self.log.witnessed()
        if self.ask is None or self.log.size == (seen.checkpoint.head.size if seen else 0):
            return None
        note = self.checkpoint()
        self.house.at("witness:before")
        old = 0 if seen is None else seen.checkpoint.head.size
        answer = self._ask(note, old)
        if isinstance(answer, Seen):  # it knows more than we have noted, or has forgotten
            size = note.checkpoint.head.size
            if answer.size > size:
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
        if isinstance(answer, Seen):
            raise Fenced(
                Text("见证方的状态正在变化", "the witness's state is moving"),
                hint=Text("稍后自动重试", "it is asked again by itself"),
            )
        self._trusted(note, answer)
        whole = self.log.add_witness(note.checkpoint.head.size, answer.line, answer.certificates)
        self.house.at("witness:after")
        return whole

    def _ask(self, note: Note, old: int) -> Cosigned | Seen:
        assert self.ask is not None  # noqa: S101 - witness() has looked
        proof = self.log.consistency(old, note.checkpoint.head.size) if old else []
        sealer = self.sealer()
        return self.ask(note, old, proof, (sealer.signer.certificate, *sealer.chain))

    def _trusted(self, note: Note, answer: Cosigned) -> None:
        """Believe a witness only whose certificate leads to the province's root."""
        if self.witnesses is None:
            return
        signers = Signers(answer.certificates, trust=self.witnesses, witnesses=self.witnesses)
        try:
            failed = [one.name for one in signers.check_witness(note, answer.line) if not one.ok]
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


def entry_of(message: Message) -> Entry | None:
    """Return what a message of the log is in the evidence log; None for what does not belong."""
    if message.topic == RECEIPTS:
        return _receipt(message.key, message.value, message.headers)
    return Entry.of_statement(open_statement(message.value)) if is_batch(message) else None


def _receipt(key: str, content: bytes, headers: Mapping[str, str]) -> Entry | None:
    resource, _, batch_no = key.partition("/")
    if headers.get("kind") != "receipt":
        return None
    return Entry(
        type="receipt",
        resource=resource,
        lane=int(headers.get("lane", "0")),  # before there were lanes, all were the first
        batch_no=batch_no,
        digest=f"sm3:{SM2_SM3.digest(content).hex()}",
    )
