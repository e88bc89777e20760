"""The command ``demo``."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from exchange.cli.invocation import Invocation
from exchange.cli.options import Json, alone, bilingual
from exchange.cli.output import Output, Progress
from exchange.cli.reasons import reason
from exchange.cli.run import counts

if TYPE_CHECKING:
    from exchange.devtools.demo.demonstration import DemoResult

_SHOWN_REASONS = 3


app = alone()


@app.command(
    help=bilingual(
        "在临时节点上跑完整个流程：三个部门、真实区划、约 1% 脏数据、模拟省级平台",
        "run the whole job on a temporary node: three departments, dirty data, a province",
    )
)
def demo(
    context: typer.Context,
    *,
    folder: Annotated[
        Path | None,
        typer.Option(
            help=bilingual("节点目录（默认临时目录）", "folder of the node (default: new)")
        ),
    ] = None,
    scale: Annotated[float, typer.Option(min=0.01, max=100)] = 1.0,
    seed: Annotated[int, typer.Option(help=bilingual("随机种子", "seed of the data"))] = 2026,
    as_json: Json = False,
) -> int:
    """Run the demo; show in a table what happened, and what to try next."""
    from exchange.devtools.demo.demonstration import run_demo

    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    place = folder or Path(tempfile.mkdtemp(prefix="exchange-demo-"))
    output.inform(f"演示节点：{place}", f"the demo's node: {place}")
    progress = Progress(output, output.t("拉取", "pulled"))
    result = run_demo(
        place,
        scale=scale,
        seed=seed,
        progress=progress.count,
    )
    progress.end()
    show_results(output, result)
    for name, error in result.outcome.errors.items():
        output.inform(f"— {name}")
        output.error(error)
    output.answer(
        counts(result.outcome)
        | {
            "verified": result.verified,
            "seconds": round(result.seconds, 2),
            "ok": result.whole,
            "node": str(result.node),
        },
        summary(output, result, command()),
    )
    return 0 if result.whole else 1


def show_results(output: Output, result: DemoResult) -> None:
    """Show what happened to each source, department by department."""
    heads = [
        output.t("部门", "department"),
        output.t("资源", "resource"),
        output.t("来源", "source"),
        output.t("拉取", "pulled"),
        output.t("封签", "sealed"),
        output.t("隔离", "quarantined"),
        output.t("批次", "batches"),
        output.t("回执", "receipts"),
        output.t("主要拒收原因", "main reasons"),
    ]
    rows = [
        (
            row.resource.department.name,
            row.resource.title,
            output.text(row.form),
            f"{row.pulled:,}",
            f"{row.accepted:,}",
            f"{row.quarantined:,}",
            row.batches,
            row.receipts,
            "\n".join(
                f"{reason(name, row.resource, output.lang)} ×{count}"
                for name, count in list(row.reasons.items())[:_SHOWN_REASONS]
            ),
        )
        for row in result.results
    ]
    output.table(output.t("从部门数据到省级回执", "from departments to receipts"), heads, rows)


def summary(output: Output, result: DemoResult, here: str) -> str:
    """Say what happened in a sentence, and what to try next; ``here`` is how to call us."""
    run = result.outcome
    first = min((path for path in result.files if path.suffix == ".avro"), default=result.node)
    batch = Path(os.path.relpath(first, result.node))
    return output.t(
        f"拉取 {run.pulled:,} 条 = 封签 {run.accepted:,} + 隔离 {run.quarantined:,}；"
        f"{run.batches} 个批次，{run.receipts} 份回执，{result.verified} 个文件验证通过；"
        f"{result.seconds:.1f} 秒\n\n"
        "接下来可以试试：\n"
        f"  cd {result.node}\n"
        f"  {here} status                                  # 各资源的数量\n"
        f"  {here} quarantine list                         # 被拒收的记录与原因\n"
        f"  {here} verify {batch}\n"
        f"  {here} verify {batch.with_suffix('.receipt.json')}\n"
        f"  {here} prove {batch} --row 1 --to proof.json\n"
        f"  {here} verify proof.json",
        f"{run.pulled:,} records pulled = {run.accepted:,} sealed + {run.quarantined:,} in "
        f"quarantine; {run.batches} batches, {run.receipts} receipts, {result.verified} files "
        f"verify; {result.seconds:.1f} s\n\n"
        "try next:\n"
        f"  cd {result.node}\n"
        f"  {here} status                                  # numbers by resource\n"
        f"  {here} quarantine list                         # refused records and reasons\n"
        f"  {here} verify {batch}\n"
        f"  {here} verify {batch.with_suffix('.receipt.json')}\n"
        f"  {here} prove {batch} --row 1 --to proof.json\n"
        f"  {here} verify proof.json",
    )


def command() -> str:
    """Return what to type to run this command again: its path where it is not on the PATH."""
    return "exchange" if shutil.which("exchange") else str(Path(sys.argv[0]).absolute())
