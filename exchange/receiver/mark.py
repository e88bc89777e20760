"""The mark beside a receiver's files: which database is theirs, and how far it was.

Database and mark rise together, when a receiver starts, when it ends and with every checkpoint
that it witnesses. A database that is behind the mark is an older copy: whoever delivers again what
came since would get a second, other receipt.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from exchange.durable import read_file, write_file
from exchange.errors import Integrity, Misconfigured
from exchange.foreign import original
from exchange.store.database import Store
from exchange.store.parts import OWN
from exchange.text import Text

_MAX_BYTES = 4096


def mark_path(folder: Path) -> Path:
    """Name the mark of a folder of received files."""
    return folder.with_name(f"{folder.name}.mark")


def check_mark(store: Store, folder: Path) -> None:
    """Raise Integrity where the database is older than its mark says, or of another receiver.

    A folder without a mark is new, or of a former version.
    """
    path = mark_path(folder)
    try:
        mark = json.loads(read_file(path, _MAX_BYTES))
        identity, number = str(mark["store"]), int(mark["mark"])
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Misconfigured(
            Text(
                f"无法读取 {path}：{original(error).zh}",
                f"cannot read {path}: {original(error).en}",
            ),
            hint=Text("检查该文件及其权限", "look at that file and its rights"),
        ) from error
    own = store.parts.get(OWN)
    if own is not None and own.identity == identity and own.mark >= number:
        return
    older = own is not None and own.identity == identity
    zh = "是较旧的副本" if older else f"不是 {folder} 的"
    en = "is an older copy" if older else f"is not that of {folder}"
    raise Integrity(
        Text(f"接收端的数据库{zh}", f"the receiver's database {en}"),
        hint=Text(
            f"恢复最新的数据库；没有时移走 {path} 再启动：此后收到过的批次会得到新的回执，"
            "请通知各节点",
            f"put the newest database back; without one move {path} away and start: batches that"
            " came since then get a new receipt when they come again, which their nodes have to"
            " know",
        ),
    )


def write_mark(store: Store, folder: Path, entropy: Callable[[int], bytes]) -> None:
    """Raise the mark of the database, then the one beside the files."""
    own = store.parts.advance(entropy)
    mark = {"store": own.identity, "mark": own.mark}
    write_file(mark_path(folder), json.dumps(mark, sort_keys=True).encode() + b"\n")
