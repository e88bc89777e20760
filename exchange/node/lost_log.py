"""Tells at the start that the log was lost: the other parts of the node remember it.

A node whose log is empty would make a new one, pull everything once more and deliver it under
new numbers. The evidence log and the store say whether there has been one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exchange.errors import Integrity
from exchange.evidence.disk import Disk
from exchange.evidence.log import read_head
from exchange.log import EVIDENCE, Log, sealed_topic
from exchange.text import Text

if TYPE_CHECKING:
    from exchange.node.node import Node


def check_file(node: Node) -> None:
    """Raise Integrity before a file is made for a log that was lost."""
    if entries := _entries(node):
        raise _lost(entries, 0)
    if batches := sum(node.store.deliveries.counts().values()):
        raise _lost(0, batches)


def check_log(node: Node) -> None:
    """Raise Integrity where the log is empty although another part remembers it.

    A lost store or folder of the evidence log is no reason: both are made again from the log.
    """
    if node.log.bounds(EVIDENCE, 0)[1] > 0:
        return  # the usual start
    if entries := _entries(node):
        raise _lost(entries, 0)
    batches = sum(node.store.deliveries.counts().values())
    if batches and not _has_sealed(node.log):
        raise _lost(0, batches)


def _entries(node: Node) -> int:
    """Count the entries of the evidence log's folder; its own stage tells what is wrong with it."""
    try:
        head = read_head(Disk(node.settings.resolve(node.settings.evidence.folder)))
    except (Integrity, OSError):
        return 0
    return 0 if head is None else head.size


def _has_sealed(log: Log) -> bool:
    return any(
        log.bounds(topic.name, partition)[1] > 0
        for topic in log.topics()
        if topic.name.startswith(sealed_topic(""))
        for partition in range(topic.partitions)
    )


def _lost(entries: int, batches: int) -> Integrity:
    zh = f"存证日志有 {entries} 条" if entries else f"存储中有 {batches} 个批次"
    en = (
        f"the evidence log has {entries} entries" if entries else f"the store has {batches} batches"
    )
    return Integrity(
        Text(f"日志丢失：日志是空的，而{zh}", f"the log was lost: it is empty, and {en}"),
        hint=Text(
            "从备份恢复日志；没有备份时运行 exchange recover 查看能重建什么，再加 --apply 重建",
            "restore the log from a backup; without one `exchange recover` shows what can be"
            " rebuilt, and rebuilds it with --apply",
        ),
    )
