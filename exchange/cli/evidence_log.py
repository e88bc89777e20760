"""Commands on the node's evidence log: audit, checkpoint, consistency, packages of one record."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from exchange.cli.evidence import read, tell, write
from exchange.cli.node import open_node
from exchange.cli.output import Talk
from exchange.errors import Integrity, Rejected
from exchange.node.node import Node
from exchange.text import Text

if TYPE_CHECKING:
    from exchange.seal.pki.trust import Trust

USAGE = 64


def audit(talk: Talk, folder: Path | None, known: Sequence[Path]) -> int:
    """Hash the whole log again and check every checkpoint; exit code 6 when anything fails."""
    from exchange.evidence.audit import audit as whole
    from exchange.evidence.files import Verdict
    from exchange.seal.pki.trust import Trust

    with open_node() as node:
        place = folder or _folder(node)
        found = whole(
            place,
            trust=Trust(node.anchors(node.settings.trust)),
            witnesses=_witnesses(node),
            known=[read(path) for path in known],
        )
    tell(talk, Verdict(str(place), "log", found), several=False)
    return 0 if found.ok else Integrity.exit_code


def checkpoint(talk: Talk, to: Path | None) -> int:
    """Write the newest checkpoint that the province has signed along, else the newest signed."""
    from exchange.evidence.log import Reader

    with open_node() as node:
        log = Reader.at(_folder(node))
    note = log.witnessed() or log.newest()
    if note is None:
        raise _nothing()
    head = note.checkpoint.head
    if to is not None:
        write(to, note.to_bytes())
    talk.answer(
        {
            "origin": head.origin,
            "size": head.size,
            "root": head.root.hex(),
            "time": note.checkpoint.at,
            "witnesses": [one.name for one in note.witnesses],
            "entries": log.size,
        },
        str(to) if to is not None else note.to_bytes().decode().rstrip("\n"),
    )
    return 0


def prove(talk: Talk, old: int, new: int | None) -> int:
    """Print the proof that the log of ``old`` entries grew into that of ``new``: a hash a line.

    It is what ``exchange verify OLD NEW --proof FILE`` takes.
    """
    from exchange.evidence.log import Reader

    with open_node() as node:
        log = Reader.at(_folder(node))
    size = log.size if new is None else new
    if not 0 < old <= size <= log.size:
        raise Rejected(
            Text(
                f"日志有 {log.size} 条，没有 {old} 到 {size}", f"{log.size} entries are in the log"
            ),
            hint=Text("用 0 < --from <= --to", "use 0 < --from <= --to, up to that"),
        )
    lines = [b64encode(one).decode() for one in log.consistency(old, size)]
    talk.answer({"old": old, "new": size, "proof": lines}, "\n".join(lines))
    return 0


def export(
    talk: Talk, batch: tuple[str, str], key: Sequence[str], row: int | None, to: Path
) -> int:
    """Write the evidence package of one record of a batch (resource and number)."""
    from exchange.evidence.log import Reader
    from exchange.evidence.package import make_package
    from exchange.seal.batch.prove import prove as prove_record

    pairs = [item.partition("=") for item in key]
    if bool(pairs) == (row is not None) or not all(equals for _, equals, _ in pairs):
        talk.say(
            talk.t(
                "用 --key 字段=值（可多个）或 --row 序号 指定一条记录",
                "name one record: --key FIELD=VALUE (repeatable) or --row NUMBER",
            )
        )
        return USAGE
    resource, batch_no = batch
    with open_node() as node:
        delivery = node.store.deliveries.get(resource, batch_no)
        receipt = node.store.receipts.get(resource, batch_no)
        if delivery is None or receipt is None:
            raise Rejected(
                Text(
                    f"批次 {resource}/{batch_no} 不存在或尚无回执",
                    f"there is no batch {resource}/{batch_no} with a receipt",
                ),
                hint=Text("见 exchange cascade list", "see `exchange cascade list`"),
            )
        address = (delivery.topic, delivery.partition, delivery.offset)
        (entry,) = node.log.read(*address, max_entries=1)
        values = {name: value for name, _, value in pairs}
        proof = prove_record(entry.value, row=row, key=values or None)
        package = make_package(Reader.at(_folder(node)), proof=proof, receipt=receipt.content)
    write(to, package)
    talk.answer({"file": str(to), "bytes": len(package)}, str(to))
    talk.say(talk.t(f"验证：exchange verify {to}", f"verify: exchange verify {to}"))
    return 0


def _folder(node: Node) -> Path:
    return node.settings.resolve(node.settings.evidence.folder)


def _witnesses(node: Node) -> Trust | None:
    from exchange.seal.pki.trust import Trust

    upstream = node.settings.upstream
    return Trust(node.anchors(upstream.trust)) if upstream is not None else None


def _nothing() -> Rejected:
    return Rejected(
        Text("存证日志还没有检查点", "the evidence log has no checkpoint yet"),
        hint=Text("先运行 exchange run --once", "run `exchange run --once` first"),
    )
