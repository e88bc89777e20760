"""The own evidence log against what the witness has seen: behind, equal, ahead, or another."""

from __future__ import annotations

from collections.abc import Callable

from exchange.errors import Integrity
from exchange.evidence.checkpoint import Head
from exchange.text import Text


def contradiction(seen: Head, size: int, root_of: Callable[[int], bytes]) -> Integrity | None:
    """Compare what the witness has seen with the own log; None when the log continues it.

    ``size`` entries are in the own log, ``root_of`` gives its root after so many.
    """
    if seen.size > size:
        return Integrity(
            Text(
                f"上级已见证 {seen.size} 条存证，本地只有 {size} 条：日志被截断、丢失或是旧备份",
                f"the witness has seen {seen.size} entries, here are {size}: the evidence log was"
                " cut or lost, or is an older backup",
            ),
            hint=Text(
                "只丢了存证目录时，exchange run --once --only evidence 按日志重建；日志也丢了就停止"
                "本节点，恢复较新的备份；没有备份时与上级核对并另定 evidence.origin",
                "where only the evidence folder is lost, `exchange run --once --only evidence`"
                " makes it again; else stop this node and restore a newer backup of the log;"
                " without one, settle it with the province and begin another evidence.origin",
            ),
        )
    if root_of(seen.size) != seen.root:
        return Integrity(
            Text(
                f"前 {seen.size} 条存证与上级见证的不同：历史被改写",
                f"the first {seen.size} entries are not those the witness has seen: the history"
                " was rewritten",
            ),
            hint=Text(
                "停止本节点，保留现状，恢复备份后与上级核对",
                "stop this node, keep it as it is, compare a backup with the province",
            ),
        )
    return None
