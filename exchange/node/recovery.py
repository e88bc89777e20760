"""Rebuilds parts of a node that are lost or older, from those that are there (`exchange recover`).

    store     from the log: deliveries, receipts, quarantine index, register of seals
    evidence  from the log, to the byte
    log       on one machine: states, batch numbers and chain from what store and evidence log
              remember; its topics begin behind what was lost, so that no offset comes twice

What cannot be rebuilt is named. The plan changes nothing; nothing but the plan is done.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from exchange.audit.decisions import RECOVERED
from exchange.errors import ExchangeError, Rejected
from exchange.evidence.entry import PullEntry, TrailEntry, read_entry
from exchange.evidence.log import LogReader
from exchange.log import CURSORS, EVIDENCE, Log
from exchange.node.part_marks import (
    EVIDENCE_LOG,
    STATE,
    check_witness,
    exchange_marks,
    faults,
    missing_file,
)
from exchange.node.recovery_log import rebuild_log
from exchange.node.seal_projection import show_register
from exchange.pipeline.evidence import cursor_digest
from exchange.pipeline.messages import (
    EVIDENCE_KEY,
    STORE_KEY,
    EvidenceState,
    StoreMark,
    pull_key,
)
from exchange.pipeline.rebuild import catch_up
from exchange.store.node.pulls import DONE, PullRow
from exchange.store.parts import OWN, PartRow
from exchange.text import Text

if TYPE_CHECKING:
    from exchange.node.node import Node
    from exchange.store.database import Store

_PAGE: Final = 64


@dataclass(frozen=True)
class RecoveryPlan:
    """What is rebuilt, what cannot be, and what a person has to do before."""

    parts: tuple[str, ...] = ()
    """Of log, store, evidence: those that are rebuilt."""
    steps: list[Text] = field(default_factory=list)
    lost: list[Text] = field(default_factory=list)
    before: list[Text] = field(default_factory=list)
    """What has to be done first: nothing is rebuilt until then."""
    repeated: list[str] = field(default_factory=list)
    """Sources that begin anew: their records come once more."""


def plan_recovery(node: Node) -> RecoveryPlan:
    """Look which parts are lost or older, and what can be rebuilt; nothing is changed.

    Raises Integrity for a part of another node, and where the witness has seen more than all parts
    together have: which one is right, a person has to say.
    """
    parts = tuple(_parts(node))
    plan = RecoveryPlan(parts)
    if not parts:
        check_witness(node)  # all of them may be an older copy, or were begun anew
    if "log" in parts:
        _plan_log(node, plan, store="store" not in parts, evidence="evidence" not in parts)
    if "store" in parts:
        _plan_store(plan, log="log" not in parts)
    if "evidence" in parts and "log" not in parts:
        plan.steps.append(
            Text("存证目录：按日志重建，逐字节相同；检查点由上级重新见证",
                 "evidence log: made again from the log, to the byte; the province signs anew")
        )  # fmt: skip
    return plan


def _parts(node: Node) -> Iterator[str]:
    """Yield the parts that are lost or older."""
    log_lost = _lost_log(node)
    store_lost = missing_file(node) is not None
    if not log_lost and store_lost:
        store_lost = bool(StoreMark.of(node.log.latest(CURSORS, STORE_KEY)).identity)
    elif not log_lost and not store_lost:
        for part, wrong in faults(node, ("pull", "seal", "cascade", "evidence")):
            if not part:
                raise wrong
            log_lost |= part == "log"
            store_lost |= part == "store"
    if log_lost:
        yield "log"
    if store_lost:
        yield "store"
    if _evidence(node) is None and (log_lost or _evident(node)):
        yield "evidence"


def _evident(node: Node) -> int:
    """Return how many entries the log knows to be in the folder of the evidence log."""
    return EvidenceState.of(node.log.latest(CURSORS, EVIDENCE_KEY)).size


def _lost_log(node: Node) -> bool:
    settings = node.settings
    return settings.log.driver != "kafka" and not settings.resolve(settings.log.path).is_file()


def _evidence(node: Node) -> LogReader | None:
    """Open the folder of the evidence log; None where there is none that can be read."""
    with suppress(ExchangeError):
        return LogReader.at(node.settings.resolve(node.settings.evidence.folder))
    return None


def _plan_store(plan: RecoveryPlan, *, log: bool) -> None:
    if log:
        plan.steps.append(
            Text("存储：按日志重建投递、回执、隔离索引、印章台账；审计链以一条说明缺口的记录重新开始",
                 "store: deliveries, receipts, index of quarantine and register of seals are made"
                 " again from the log; the audit trail goes on with a line that names the gap")
        )  # fmt: skip
    plan.lost.append(
        Text("审计链中丢失的各行、对隔离记录的舍弃决定、省级退回批次的原话",
             "lines of the audit trail that were lost, what people dismissed in quarantine, the"
             " province's words on refused batches")
    )  # fmt: skip


def _plan_log(node: Node, plan: RecoveryPlan, *, store: bool, evidence: bool) -> None:
    if node.settings.log.driver == "kafka":
        plan.before.append(
            Text("集群的主题由其副本和备份恢复，本命令不能重建",
                 "topics of a cluster come back from its copies and backups: not by this command")
        )  # fmt: skip
        return
    if not store and not evidence:
        plan.before.append(
            Text("日志、存储、存证都不在，无从重建：另定 evidence.origin，通知上级后重新开始",
                 "log, store and evidence log are not there, nothing is left to rebuild from:"
                 " name evidence.origin anew, tell the province, begin anew")
        )  # fmt: skip
        return
    plan.steps.append(
        Text("日志：主题从丢失部分之后开始；批次号、声明链、拉取位置接续",
             "log: its topics begin behind what was lost; batch numbers, the chain of"
             " statements and the positions of sources go on")
    )  # fmt: skip
    plan.lost.append(
        Text("封签批次、原始消息和隔离记录的内容；尚未封签的原始行由来源重新拉取",
             "what batches, raw messages and refused records held; raw rows that were not sealed"
             " are pulled again")
    )  # fmt: skip
    if not store:
        plan.lost.append(
            Text("印章台账：停用、注销的印章须在运行之前重新登记，exchange seal list 查看；"
                 "回执：可向上级索取",
                 "the register of seals: suspend or cancel again, before a run, those that were;"
                 " see `exchange seal list`; receipts: the province has them")
        )  # fmt: skip
    else:
        _plan_waiting(node.store, plan)
    _plan_sources(node, plan, store=store)
    row = node.store.parts.get(EVIDENCE_LOG) if store else None
    reader = _evidence(node) if evidence else None
    size = 0 if reader is None else reader.size
    if row is not None and row.detail == node.origin and size < row.mark:
        plan.before.append(
            Text(f"存证日志 {node.origin} 曾有 {row.mark} 条，只剩 {size} 条，无法接续："
                 "移走存证目录，另定 evidence.origin，通知上级",
                 f"the evidence log {node.origin} had {row.mark} entries, {size} are left, and it"
                 " cannot go on: move its folder away, name evidence.origin anew, tell the"
                 " province")
        )  # fmt: skip


def _plan_waiting(store: Store, plan: RecoveryPlan) -> None:
    for resource, (rows, *decided) in store.quarantine.counts().items():
        if waiting := rows - sum(decided):
            plan.lost.append(
                Text(f"{resource}：{waiting} 条待处理的隔离记录，须由来源重新提供",
                     f"{resource}: {waiting} refused records that wait; their source has to give"
                     " them again")
            )  # fmt: skip


def _plan_sources(node: Node, plan: RecoveryPlan, *, store: bool) -> None:
    """Name the sources whose position nobody remembers, or not the newest one."""
    copies = {row.name: row for row in node.store.parts.find()} if store else {}
    newest = _newest_cursors(node)
    for source in node.settings.sources:
        row = copies.get(STATE + pull_key(source))
        if row is None:
            if source in newest or not store:
                plan.repeated.append(source)
            continue
        cursor = json.loads(row.detail).get("cursor")
        if newest and newest.get(source) != cursor_digest(cursor):
            plan.lost.append(
                Text(f"{source}：最近的拉取位置，此后的记录会再来一次",
                     f"{source}: its newest position; records since then come once more")
            )  # fmt: skip
    if plan.repeated:
        names = ", ".join(plan.repeated)
        plan.lost.append(
            Text(f"这些来源的位置，将从头拉取：{names}；重建后先用 exchange source rewind 设定",
                 f"the positions of {names}: they begin anew, unless `exchange source rewind` sets"
                 " them after the rebuilding")
        )  # fmt: skip


def _newest_cursors(node: Node) -> dict[str, str]:
    """Return the digest of each source's newest cursor, as the evidence log has it."""
    return {entry.source: entry.digest for entry in _entries(node) if isinstance(entry, PullEntry)}


def _entries(node: Node, log: Log | None = None) -> Iterator[object]:
    """Yield the entries of the evidence log, from the log's topic or from the folder."""
    lines: Iterator[bytes]
    if log is not None:
        lines = topic_lines(log)
    else:
        reader = _evidence(node)
        lines = iter(()) if reader is None else map(reader.entry, range(reader.size))
    for line in lines:
        with suppress(ValueError):
            yield read_entry(line)


def topic_lines(log: Log) -> Iterator[bytes]:
    """Yield the entries of the evidence log as the log has them."""
    offset, end = log.bounds(EVIDENCE, 0)
    while offset < end and (page := log.read(EVIDENCE, 0, offset, max_entries=_PAGE)):
        for entry in page:
            yield from entry.value.split(b"\n")
        offset = page[-1].offset + 1


# --- doing it -------------------------------------------------------------------------------


def recover(node: Node, plan: RecoveryPlan, *, by: str, repeat: bool = False) -> None:
    """Rebuild what the plan names, audited; it may be repeated after a kill.

    ``repeat``: sources whose position is unknown may begin anew. Raises Rejected where a person
    has to do something first.
    """
    if plan.before:
        raise Rejected(
            Text("；".join(text.zh for text in plan.before),
                 "; ".join(text.en for text in plan.before)),
            hint=Text("完成后再运行 exchange recover", "do that, then `exchange recover`"),
        )  # fmt: skip
    if plan.repeated and not repeat:
        names = ", ".join(plan.repeated)
        raise Rejected(
            Text(f"来源 {names} 的位置未知，从头拉取会重复报送",
                 f"the positions of {names} are unknown: from their beginning, all is delivered"
                 " once more"),
            hint=Text("加 --repeat 表示接受；随后在运行前用 exchange source rewind 设定位置",
                      "--repeat accepts that; set them with `exchange source rewind` before a run"),
        )  # fmt: skip
    # The trail that is remembered, before anything is written.
    remembered = _remembered_trail(node, None if "log" in plan.parts else node.log)
    if "store" in plan.parts:
        _begin_store(node, remembered, by)
    if "log" in plan.parts:
        rebuild_log(node, by=by)
    if "store" in plan.parts:
        _fill_store(node)
    if not {"log", "evidence"}.isdisjoint(plan.parts):
        with closing(node.evidence_stage()) as stage:
            while stage.step() is not None:
                pass
            stage.sign_anew()
    exchange_marks(node)
    check_witness(node)


def _remembered_trail(node: Node, log: Log | None) -> TrailEntry | None:
    """Return the newest leaf of the audit trail."""
    newest = None
    for entry in _entries(node, log):
        if isinstance(entry, TrailEntry):
            newest = entry
    return newest


def _begin_store(node: Node, remembered: TrailEntry | None, by: str) -> None:
    """Open or make the store; its first line names what was lost of the trail."""
    store = node.make_store()
    number, digest = store.audit.head()
    gap = remembered is not None and (number < remembered.number or number == 0)
    if gap and remembered is not None:
        detail = {
            "trail": remembered.trail,
            "number": remembered.number,
            "digest": remembered.digest,
            "kept": number,
            "head": digest,
        }
        store.audit.append(by, RECOVERED, "", json.dumps(detail))
    else:
        store.audit.append(by, "store.recover", "")
    if "log" in vars(node) or not _lost_log(node):
        known = StoreMark.of(node.log.latest(CURSORS, STORE_KEY))
        if known.identity:
            store.parts.put(PartRow(OWN, known.identity, known.mark))


def _fill_store(node: Node) -> None:
    """Show in the store what the log has."""
    store, context = node.store, node.context
    for resource in node.topics.resources():
        catch_up(context, store, resource)
    for name, source in node.settings.sources.items():
        state = context.pull_state(name)
        if state is None or not state.rows or store.pulls.get(state.pull) is not None:
            continue
        ended = node.clock() if state.done else None
        store.pulls.save(
            PullRow(
                pull=state.pull,
                source=name,
                resource=source.resource,
                started_at=state.began,
                state=DONE if state.done else "open",
                ended_at=ended,
                pulled=state.rows,
            )
        )
    show_register(node)
