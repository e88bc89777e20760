"""The command audit: everything that the node keeps is read again and compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from exchange.cli.invocation import Invocation
from exchange.cli.options import Json, alone, bilingual
from exchange.cli.output import Progress
from exchange.cli.verdict import show_verdict
from exchange.cli.verify import read, write
from exchange.errors import Integrity

if TYPE_CHECKING:
    from exchange.node.node import Node
    from exchange.seal.checks import Verification

app = alone()


@app.command(
    help=bilingual(
        "审计整个节点：日志、批次、回执、隔离、存储、存证、审计链、目录",
        "audit the whole node: log, batches, receipts, quarantine, store, evidence, trail, catalog",
    )
)
def audit(
    context: typer.Context,
    *,
    known: Annotated[
        list[Path] | None,
        typer.Option(
            help=bilingual(
                "手中已有的检查点或回执，可多个", "checkpoint or receipt you have, repeatable"
            )
        ),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(help=bilingual("把签章的报告写入该文件", "write a sealed report here")),
    ] = None,
    as_json: Json = False,
) -> int:
    """Read everything again and compare; exit code 6 when anything fails. Nothing is changed."""
    from exchange.evidence.files import FileVerdict
    from exchange.node.auditing import audit_node

    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    with call.open_node() as node:
        progress = Progress(output, output.t("审计", "audit"))
        try:
            verification = audit_node(
                node, known=[read(path) for path in known or ()], progress=progress.add
            )
        finally:
            progress.end()
        folder = str(node.settings.folder)
        show_verdict(output, FileVerdict(folder, "node", verification), several=False)
        if to is not None:
            write(to, _report(node, verification))
            output.inform(f"报告：{to}", f"report: {to}")
    return 0 if verification.ok else Integrity.exit_code


def _report(node: Node, verification: Verification) -> bytes:
    from exchange import __version__
    from exchange.evidence.audit_report import issue_report

    return issue_report(
        verification,
        node.seals.of_evidence(),
        node=node.settings.node.code,
        origin=node.origin,
        program=__version__,
        at=node.clock(),
    )
