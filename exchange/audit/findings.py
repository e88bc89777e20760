"""The checks of an audit by name, and what was found for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from exchange.seal.checks import Check
from exchange.text import Text

CHECKS: Final[Mapping[str, Text]] = {
    "log.file": Text("日志文件的结构完好", "the structure of the log's file is whole"),
    "log.entries": Text(
        "每条日志都在且校验和正确", "every entry of the log is there, with its checksum"
    ),
    "log.positions": Text(
        "读取位置在日志范围内，且与其产出一致",
        "the positions of readers are in the log, and where their work ends",
    ),
    "raw.rows": Text("每条原始消息的行数属实", "every raw message has the rows that it states"),
    "pulls.rows": Text(
        "每个来源的拉取状态与原始消息一致", "the state of each source agrees with the raw messages"
    ),
    "pulls.sealed": Text(
        "拉取的行数 = 封签 + 隔离", "rows pulled are as many as sealed and quarantined"
    ),
    "batches.seal": Text(
        "每个批次的封签与记录成立", "the seal and the records of every batch hold"
    ),
    "batches.place": Text(
        "每个批次位于其声明所述之处", "every batch stands where its statement says"
    ),
    "batches.chain": Text("批次首尾相接", "every batch names the one before it"),
    "batches.numbers": Text("批次号递增且不重复", "numbers of batches rise, and none comes twice"),
    "batches.counts": Text(
        "声明的接收与拒收数属实", "rows accepted and rejected are as the statements say"
    ),
    "batches.time": Text(
        "封签时间不倒退，与写入时间一致",
        "times of sealing never run backwards, and are those of the log",
    ),
    "batches.schema": Text(
        "每个批次的模式是已发布的模式", "the schema of every batch is a released one"
    ),
    "partitions.state": Text(
        "分区状态与最后的批次一致", "the state of each partition is that of its last batch"
    ),
    "quarantine.rows": Text(
        "每条隔离消息的行数属实", "every message of quarantine has the rows that it states"
    ),
    "receipts.seal": Text("每份回执成立且属于其批次", "every receipt holds, and is of its batch"),
    "receipts.once": Text("每个批次至多一份回执", "no batch has two receipts"),
    "seals.steps": Text(
        "印章台账的每一步都接续上一步", "every step with a seal goes on from the one before"
    ),
    "store.deliveries": Text("存储中的投递与日志一致", "the store's deliveries are the log's"),
    "store.receipts": Text("存储中的回执与日志一致", "the store's receipts are the log's"),
    "store.quarantine": Text(
        "存储中的隔离索引与日志一致", "the store's index of quarantine is the log's"
    ),
    "store.decisions": Text(
        "对隔离记录的每个决定都有依据", "every decision about refused records has its ground"
    ),
    "store.pulls": Text("存储中的拉取与日志一致", "the store's pulls are the log's"),
    "store.seals": Text("存储中的印章台账与日志一致", "the store's register of seals is the log's"),
    "trail.chain": Text("审计链完整", "the chain of the audit trail is whole"),
    "catalog.applied": Text(
        "已生效目录未被改动", "the applied catalog is the one that was applied"
    ),
    "schemas.released": Text("已发布模式未被改动", "the released schemas are as released"),
    "evidence.batches": Text(
        "每份声明和回执都在存证日志中，反之亦然",
        "every statement and receipt is in the evidence log, and the other way round",
    ),
    "evidence.quarantine": Text(
        "每条隔离消息与其存证一致", "every message of quarantine is as its evidence"
    ),
    "evidence.pulls": Text("每个拉取状态与其存证一致", "the pulls are as their evidence"),
    "evidence.seals": Text(
        "印章台账的每一步与其存证一致", "every step with a seal is as its evidence"
    ),
    "evidence.trail": Text("审计链与其存证一致", "the audit trail is as its evidence"),
    "evidence.retention": Text(
        "清理掉的恰为存证所述", "what was removed is what its evidence says"
    ),
    "evidence.checkpoints": Text("签过的检查点都在", "the checkpoints that were signed are there"),
    "evidence.identity": Text("存证属于这份日志", "the evidence is that of this log"),
    "received.rows": Text(
        "接收端的每个批次都有其文件和回执", "every batch received has its file and receipt"
    ),
    "received.files": Text(
        "接收端的每个文件都有登记", "every file received has its row in the store"
    ),
    "received.chain": Text(
        "接收的批次在各自的链上首尾相接", "every batch received is in the chain of its sender"
    ),
    "received.trail": Text(
        "接收端的审计链完整，与登记一致", "the receiver's audit trail is whole, and says the same"
    ),
    "received.witness": Text("见证过的状态从不倒退", "what was witnessed never went back"),
    "received.known": Text("他人持有的回执都有登记", "the receipts that others have are kept here"),
}
"""What each check says, in the order of their numbers; those of the evidence log follow."""
_APART: Final = (
    *("catalog.applied", "schemas.released", "received.rows", "received.files"),
    *("received.chain", "received.trail", "received.witness", "received.known"),
)
"""Checks that need no log."""
_NAMED: Final = 5
"""Faults that a check names; the others are counted."""
_MAX_TEXT: Final = 2_000


@dataclass
class Findings:
    """What was found, by check; a check without a fault passes."""

    faults: dict[str, list[tuple[str, str, str]]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    stopped: str = ""
    """The check that kept the others from being made; those of other files were made all the same.
    """

    def fault(self, check: str, where: str, expected: object, found: object) -> None:
        """Note a fault: where, what was expected, and what is there."""
        assert check in CHECKS, check  # noqa: S101 - a slip of ours
        self.counts[check] = self.counts.get(check, 0) + 1
        named = self.faults.setdefault(check, [])
        if len(named) < _NAMED:
            named.append((where, str(expected)[:200], str(found)[:200]))

    def equal(self, check: str, where: str, expected: object, found: object) -> None:
        """Note a fault unless both are the same."""
        if expected != found:
            self.fault(check, where, expected, found)

    def note(self, check: str, text: str) -> None:
        """Note what the reader should know though the check passes."""
        assert check in CHECKS, check  # noqa: S101 - a slip of ours
        named = self.notes.setdefault(check, [])
        if len(named) < _NAMED and text not in named:
            named.append(text)

    def checks(self) -> Iterator[Check]:
        """Yield the checks in their order."""
        for name, text in CHECKS.items():
            named, count = self.faults.get(name, []), self.counts.get(name, 0)
            if not count and self.stopped and name not in _APART:
                found = f"not reached because {self.stopped} failed"
                yield Check(name, ok=False, text=text, found=found)
                continue
            if not count:
                told = "; ".join(self.notes.get(name, []))
                yield Check(name, ok=True, text=text, found=told, note=bool(told))
                continue
            expected = "; ".join(f"{where}: {wanted}" for where, wanted, _ in named)
            found = "; ".join(f"{where}: {what}" for where, _, what in named)
            if count > len(named):
                found += f"; and {count - len(named)} more"
            yield Check(
                name, ok=False, text=text, expected=expected[:_MAX_TEXT], found=found[:_MAX_TEXT]
            )
