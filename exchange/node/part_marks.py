"""Log, store and evidence log remember each other's identity and newest state.

Each is compared at the start of a run, by a few look-ups: a part that is missing, older than
another remembers it, or of another node stops the run. An older copy of all parts together is
known to the witness alone: it is asked once, before anything is pulled or sealed.

The log names the store in a state of its compacted topic; the store names the log in its table of
parts; the folder of the evidence log begins with what the log's state of it says.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from exchange.errors import ExchangeError, Integrity
from exchange.evidence.log import LogReader
from exchange.log import CURSORS, EVIDENCE, Fenced, raw_topic, sealed_topic
from exchange.node.witness_check import contradiction
from exchange.pipeline.evidence import log_identity
from exchange.pipeline.messages import (
    EVIDENCE_KEY,
    IDENTITY_KEY,
    STORE_KEY,
    EvidenceState,
    SealedEntry,
    StoreMark,
    identity_of,
    pull_key,
)
from exchange.pipeline.partition import numbers_key, partition_key
from exchange.pipeline.pause import pause_key
from exchange.settings import Timeouts
from exchange.store.parts import OWN, PartRow
from exchange.text import Text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from exchange.log import Log
    from exchange.node.node import Node

LOG: Final = "log"
"""The store's row about the log."""
EVIDENCE_LOG: Final = "evidence"
"""The store's row about the evidence log: its size and its name."""
STATE: Final = "state/"
"""What the store's rows with copies of the log's states begin with."""
OWNER: Final = "store/part"
"""Owner of the transactions that name the store in the log."""
WITNESS_TIMEOUTS: Final = Timeouts(connect=2.0, read=5.0, total=5.0)
"""The witness is asked before a run begins: nobody waits long for it."""
_PAGE: Final = 64
_LOG, _STORE = Text("日志", "the log"), Text("存储", "the store")
_EVIDENCE = Text("存证目录", "the folder of the evidence log")
RECOVER: Final = Text(
    "停止节点，恢复较新的备份；没有备份时先运行 exchange recover 查看能重建什么，再加 --apply 重建",
    "stop the node and restore a newer backup; without one `exchange recover` shows what can be"
    " rebuilt, and rebuilds it with --apply",
)


def lost_store(node: Node) -> Path | None:
    """Return the path of a store's file that is not there, though the log remembers a store."""
    path = missing_file(node)
    if path is None:
        return None
    if node.settings.log.driver == "kafka":
        log: Log = node.cluster
    elif node.settings.resolve(node.settings.log.path).is_file():
        log = node.log
    else:
        return None  # both are gone, or neither was ever made: the check of the log tells
    if all(topic.name != CURSORS for topic in log.topics()):
        return None
    return path if StoreMark.of(log.latest(CURSORS, STORE_KEY)).identity else None


def check_store_file(node: Node) -> None:
    """Raise Integrity before an empty store is made in place of a lost one."""
    path = lost_store(node)
    if path is not None:
        raise Integrity(
            Text(
                f"存储丢失：{path} 不存在，而日志记得它",
                f"the store was lost: {path} is not there, and the log remembers it",
            ),
            hint=RECOVER,
        )


def missing_file(node: Node) -> Path | None:
    """Return the path of a store in a file that is not there."""
    from sqlalchemy import make_url

    url = make_url(node.settings.url(node.settings.store, node.environ))
    if url.get_backend_name() != "sqlite" or not url.database:
        return None
    path = Path(url.database)
    return None if path.is_file() else path


def check_marks(node: Node, stages: Collection[str]) -> None:
    """Raise Integrity where a part is older than another remembers it, or of another node.

    On a cluster a worker looks at what its ``stages`` may read.
    """
    for _, wrong in faults(node, stages):
        raise wrong


PartFault = tuple[Literal["log", "store", ""], Integrity]
"""Which part is an older copy, empty where one is of another node; and what to say of it."""


def faults(node: Node, stages: Collection[str]) -> Iterator[PartFault]:
    """Yield what is wrong with the parts."""
    log, parts = node.log, node.store.parts
    everything = node.settings.log.driver != "kafka"
    known = StoreMark.of(log.latest(CURSORS, STORE_KEY))
    own, of_log = parts.get(OWN), parts.get(LOG)
    identity, end = log_place(log)
    if known.identity and own is None:
        why = Text("它不记得日志", "it remembers no log, and the log remembers a store")
        yield _older("store", why)
    elif known.identity and own is not None and own.identity != known.identity:
        yield _foreign(_STORE, known.identity, own.identity)
    if of_log is not None and identity != of_log.identity:
        yield _foreign(_LOG, of_log.identity, identity or "-")
    if own is not None and own.mark < known.mark:
        why = Text(
            f"日志记得它的第 {known.mark} 个标记，它只到 {own.mark}",
            f"the log remembers its mark {known.mark}, and it is at {own.mark}",
        )
        yield _older("store", why)
    if of_log is not None and end < of_log.mark:
        why = Text(
            f"存储记得它的状态到 {of_log.mark}，它只到 {end}",
            f"the store remembers its states up to {of_log.mark}, and it ends at {end}",
        )
        yield _older("log", why)
    if everything or not {"seal", "cascade"}.isdisjoint(stages):
        for resource in node.topics.resources():
            yield from _wrong_newest(node, resource)
    if everything or "evidence" in stages:
        yield from _wrong_evidence(node)


def log_place(log: Log) -> tuple[str, int]:
    """Return the log's identity, empty before it has one, and the end of its topic of states."""
    return identity_of(log.latest(CURSORS, IDENTITY_KEY)), log.bounds(CURSORS, 0)[1]


def _wrong_newest(node: Node, resource: str) -> Iterator[PartFault]:
    """Look for the newest batch that the store has of a resource where the log should have it."""
    row = node.store.deliveries.newest(resource)
    known = {topic.name: topic.partitions for topic in node.log.topics()}
    if row is None or row.partition >= known.get(row.topic, 0):
        return  # a topic that is gone is told by its stage
    first, end = node.log.bounds(row.topic, row.partition)
    if row.offset < first:
        return  # retention has dropped it
    page = []
    if row.offset < end:
        try:
            page = node.log.read(row.topic, row.partition, row.offset, max_entries=1)
        except Integrity:
            return  # damage is told by its stage, and stops that resource alone
    sealed = SealedEntry.of(page[0]) if page else None
    if sealed is None or sealed.statement != row.statement:
        place = f"{row.topic}/{row.partition}/{row.offset}"
        why = Text(
            f"存储中的批次 {resource}/{row.batch_no} 不在 {place}",
            f"the store's batch {resource}/{row.batch_no} is not at {place}",
        )
        yield _older("log", why)


def _wrong_evidence(node: Node) -> Iterator[PartFault]:
    """Tell where the folder of the evidence log has what the log never had.

    A folder that is behind the log, or was lost, is made again by its stage, to the byte; what
    is broken in it is told there, too.
    """
    folder = node.settings.resolve(node.settings.evidence.folder)
    state = EvidenceState.of(node.log.latest(CURSORS, EVIDENCE_KEY))
    if not folder.is_dir():
        return
    try:
        reader = LogReader.at(folder)
        if reader.origin != node.origin or reader.size < state.size:
            return
        root = reader.root_of(state.size).hex()
        have = set(tail(node.log, state))
        beyond = next((i for i in range(state.size, reader.size) if reader.entry(i) not in have), 0)
    except ExchangeError:
        return
    if state.size and root != state.root:
        yield _foreign(_EVIDENCE, state.root[:32], root[:32])
    elif beyond:
        why = Text(
            f"存证目录从第 {beyond} 条起有日志没有的条目",
            f"the folder of the evidence log has entries from {beyond} on that the log lacks",
        )
        yield _older("log", why)


def tail(log: Log, state: EvidenceState) -> Iterator[bytes]:
    """Yield the entries that the topic of the evidence log has behind a state, each once."""
    seen: set[bytes] = set()
    offset, end = state.offset, log.bounds(EVIDENCE, 0)[1]
    while offset < end and (page := log.read(EVIDENCE, 0, offset, max_entries=_PAGE)):
        for line in (line for entry in page for line in entry.value.split(b"\n")):
            if line not in seen:
                seen.add(line)
                yield line
        offset = page[-1].offset + 1


def check_witness(node: Node) -> ExchangeError | None:
    """Ask the witness what it has seen; None: the log continues it, or nobody is a witness.

    Returns why it could not be asked: the run goes on then. Raises Integrity where the log lacks
    what the witness has seen: all parts together are an older copy, or another.
    """
    section = node.settings.upstream
    if section is None or not section.witness:
        return None
    try:
        seen = node.upstream.seen_by_witness(node.origin, WITNESS_TIMEOUTS)
    except Integrity:
        raise
    except ExchangeError as error:
        return error
    if seen is None:
        return None
    state = EvidenceState.of(node.log.latest(CURSORS, EVIDENCE_KEY))
    size, root_of = state.size + sum(1 for _ in tail(node.log, state)), None
    folder = node.settings.resolve(node.settings.evidence.folder)
    if folder.is_dir():
        with suppress(ExchangeError):  # what is broken in it is told by its stage
            reader = LogReader.at(folder)
            if seen.head.size <= reader.size:
                size, root_of = reader.size, reader.root_of(seen.head.size)
    wrong = contradiction(seen.head, size, lambda _size: root_of or seen.head.root)
    if wrong is not None:
        raise wrong
    return None


def exchange_marks(node: Node) -> None:
    """Let log and store write down each other's newest state; nothing when nothing has changed.

    Of resources that are settled, all sealed and delivered, the store keeps a copy of the states
    that a log goes on from: a lost log is rebuilt with them. A kill between two writes leaves an
    older mark, which is as true.
    """
    log, parts = node.log, node.store.parts
    local = node.settings.log.driver != "kafka"
    if local:
        log_identity(node.context)
    identity, end = log_place(log)
    row = parts.get(LOG)
    if not identity or (row is not None and (row.identity, row.mark) == (identity, end)):
        return
    known = StoreMark.of(log.latest(CURSORS, STORE_KEY))
    size = EvidenceState.of(log.latest(CURSORS, EVIDENCE_KEY)).size
    rows = [PartRow(EVIDENCE_LOG, mark=size, detail=node.origin)] if size else []
    rows += _copies(node) if local else ()
    own = parts.advance(node.entropy, rows, least=known.mark)
    with suppress(Fenced):  # another worker has just done the same
        with log.transaction(f"{OWNER}/{node.worker}") as tx:
            tx.append(StoreMark(own.identity, own.mark).to_message())
        parts.put(PartRow(LOG, identity, log.bounds(CURSORS, 0)[1]))


def _copies(node: Node) -> Iterator[PartRow]:
    """Copy the states of settled resources."""
    log, settings = node.log, node.settings
    known = {topic.name: topic.partitions for topic in log.topics()}
    for resource in node.topics.resources():
        count = known.get(raw_topic(resource), 0)
        if not count or not _is_settled(node, resource, count):
            continue
        names = [name for name, source in settings.sources.items() if source.resource == resource]
        keys = [*map(pull_key, names), *map(pause_key, names), numbers_key(resource)]
        keys += [partition_key(resource, number) for number in range(count)]
        for key in keys:
            entry = log.latest(CURSORS, key)
            if entry is not None:
                yield PartRow(STATE + key, mark=entry.offset, detail=entry.value.decode())


def _is_settled(node: Node, resource: str, partitions: int) -> bool:
    groups = [("seal", raw_topic(resource))]
    if node.settings.upstream is not None:
        groups.append(("cascade", sealed_topic(resource)))
    return all(
        node.log.position(group, topic, number) == node.log.bounds(topic, number)[1]
        for group, topic in groups
        for number in range(partitions)
    )


def _older(part: Literal["log", "store"], why: Text) -> PartFault:
    name = _LOG if part == "log" else _STORE
    what = Text(f"{name.zh}是较旧的副本：{why.zh}", f"{name.en} is an older copy: {why.en}")
    return part, Integrity(what, hint=RECOVER)


def _foreign(part: Text, expected: str, actual: str) -> PartFault:
    wrong = Integrity(
        Text(
            f"{part.zh}不是本节点的：应为 {expected}，实为 {actual}",
            f"{part.en} is not this node's: {expected} is expected, it is {actual}",
        ),
        hint=Text(
            "停止节点，把属于本节点的放回原处；丢失的移走另一份后运行 exchange recover",
            "stop the node and put its own back in place; where that is lost, move the other one"
            " away and see `exchange recover`",
        ),
    )
    return "", wrong
