"""Commands on the node's evidence log: audit, checkpoint, prove, export."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from exchange.cli.invocation import Invocation
from exchange.cli.options import BatchNumber, Json, bilingual, group
from exchange.cli.output import USAGE
from exchange.cli.verdict import show_verdict
from exchange.cli.verify import read, record_key, write
from exchange.errors import Integrity, Rejected
from exchange.text import Text

if TYPE_CHECKING:
    from exchange.node.node import Node
    from exchange.seal.pki.trust import Trust

app = group(
    "evidence", "存证日志：审计、检查点、存证包", "the evidence log: audit, checkpoints, packages"
)


@app.command(help=bilingual("完整审计存证日志", "check the whole evidence log"))
def audit(
    context: typer.Context,
    folder: Annotated[
        Path | None,
        typer.Argument(
            help=bilingual("日志目录（默认本节点的）", "its folder (default: this node's)")
        ),
    ] = None,
    *,
    known: Annotated[
        list[Path] | None,
        typer.Option(
            help=bilingual(
                "手中已有的检查点或回执，可多个", "checkpoint or receipt you have, repeatable"
            )
        ),
    ] = None,
    as_json: Json = False,
) -> int:
    """Hash the whole log again and check every checkpoint; exit code 6 when anything fails."""
    from exchange.evidence.audit import audit as audit_log
    from exchange.evidence.files import FileVerdict

    call: Invocation = context.obj
    with call.open_node() as node:
        place = folder or _folder(node)
        verification = audit_log(
            place,
            trust=node.trust(node.settings.trust),
            witnesses=_witnesses(node),
            known=[read(path) for path in known or ()],
        )
    verdict = FileVerdict(str(place), "log", verification)
    show_verdict(call.output(as_json=as_json), verdict, several=False)
    return 0 if verification.ok else Integrity.exit_code


@app.command(help=bilingual("最新的检查点", "the newest checkpoint"))
def checkpoint(
    context: typer.Context,
    *,
    to: Annotated[Path | None, typer.Option(help=bilingual("写入该文件", "write it here"))] = None,
    as_json: Json = False,
) -> int:
    """Write the newest checkpoint that the province has signed along, else the newest signed."""
    from exchange.evidence.log import LogReader

    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    with call.open_node() as node:
        log = LogReader.at(_folder(node))
    note = log.witnessed() or log.newest()
    if note is None:
        raise _nothing()
    head = note.checkpoint.head
    if to is not None:
        write(to, note.to_bytes())
    output.answer(
        {
            "origin": head.origin,
            "size": head.size,
            "root": head.root.hex(),
            "time": note.checkpoint.at,
            "witnesses": [witness.name for witness in note.witnesses],
            "entries": log.size,
        },
        str(to) if to is not None else note.to_bytes().decode().rstrip("\n"),
    )
    return 0


@app.command(help=bilingual("证明日志只增不改", "prove that the log grew and nothing changed"))
def prove(
    context: typer.Context,
    *,
    old: Annotated[int, typer.Option("--from", help=bilingual("先前的条数", "entries before"))],
    new: Annotated[
        int | None,
        typer.Option("--to", help=bilingual("之后的条数", "entries after (default: now)")),
    ] = None,
    as_json: Json = False,
) -> int:
    """Print the proof that the log of ``old`` entries grew into that of ``new``: a hash a line.

    It is what ``exchange verify OLD NEW --proof FILE`` takes.
    """
    from exchange.evidence.log import LogReader

    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    with call.open_node() as node:
        log = LogReader.at(_folder(node))
    size = log.size if new is None else new
    if not 0 < old <= size <= log.size:
        raise Rejected(
            Text(
                f"日志有 {log.size} 条，没有 {old} 到 {size}", f"{log.size} entries are in the log"
            ),
            hint=Text("用 0 < --from <= --to", "use 0 < --from <= --to, up to that"),
        )
    lines = [b64encode(node_hash).decode() for node_hash in log.consistency(old, size)]
    output.answer({"old": old, "new": size, "proof": lines}, "\n".join(lines))
    return 0


@app.command(help=bilingual("一条记录的存证包", "the evidence package of one record"))
def export(
    context: typer.Context,
    resource: Annotated[str, typer.Argument(help=bilingual("资源", "resource"))],
    batch: BatchNumber,
    *,
    key: Annotated[
        list[str] | None, typer.Option(help=bilingual("字段=值，可多个", "FIELD=VALUE, repeatable"))
    ] = None,
    row: Annotated[
        int | None, typer.Option(min=1, help=bilingual("序号", "number of the row"))
    ] = None,
    to: Annotated[Path, typer.Option(help=bilingual("写入该文件", "write it here"))],
    as_json: Json = False,
) -> int:
    """Write the evidence package of one record of a batch."""
    from exchange.evidence.log import LogReader
    from exchange.evidence.package import make_package
    from exchange.seal.batch.prove import prove as prove_record

    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    values = record_key(output, key or [], row)
    if values is None:
        return USAGE
    with call.open_node() as node:
        delivery = node.store.deliveries.get(resource, batch)
        receipt = node.store.receipts.get(resource, batch)
        if delivery is None or receipt is None:
            raise Rejected(
                Text(
                    f"批次 {resource}/{batch} 不存在或尚无回执",
                    f"there is no batch {resource}/{batch} with a receipt",
                ),
                hint=Text("见 exchange cascade list", "see `exchange cascade list`"),
            )
        address = (delivery.topic, delivery.partition, delivery.offset)
        (entry,) = node.log.read(*address, max_entries=1)
        proof = prove_record(entry.value, row=row, key=values or None)
        package = make_package(LogReader.at(_folder(node)), proof=proof, receipt=receipt.content)
    write(to, package)
    output.answer({"file": str(to), "bytes": len(package)}, str(to))
    output.inform(f"验证：exchange verify {to}", f"verify: exchange verify {to}")
    return 0


def _folder(node: Node) -> Path:
    return node.settings.resolve(node.settings.evidence.folder)


def _witnesses(node: Node) -> Trust | None:

    upstream = node.settings.upstream
    return node.trust(upstream.trust) if upstream is not None else None


def _nothing() -> Rejected:
    return Rejected(
        Text("存证日志还没有检查点", "the evidence log has no checkpoint yet"),
        hint=Text("先运行 exchange run --once", "run `exchange run --once` first"),
    )
