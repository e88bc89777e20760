"""The command ``demo``."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from exchange.cli.node import counts
from exchange.cli.output import Progress, Talk
from exchange.cli.reasons import reason

if TYPE_CHECKING:
    from exchange.devtools.demo.run import DemoResult

_SHOWN_REASONS = 3


def demo(talk: Talk, *, folder: Path | None, scale: float, seed: int) -> int:
    """Run the demo and say in a table what happened and what to try next."""
    from exchange.devtools.demo.run import run_demo

    place = folder or Path(tempfile.mkdtemp(prefix="exchange-demo-"))
    talk.say(talk.t(f"演示节点：{place}", f"the demo's node: {place}"))
    progress = Progress(talk, talk.t("拉取", "pulled"))
    done = run_demo(
        place,
        scale=scale,
        seed=seed,
        said=lambda what, count: progress.add(count if what == "pulled" else 0),
    )
    progress.end()
    _table(talk, done)
    for name, error in done.outcome.errors.items():
        talk.say(f"— {name}")
        talk.error(error)
    talk.answer(
        counts(done.outcome)
        | {
            "verified": done.verified,
            "seconds": round(done.seconds, 2),
            "ok": done.whole,
            "node": str(done.node),
        },
        _summary(talk, done),
    )
    return 0 if done.whole else 1


def _table(talk: Talk, done: DemoResult) -> None:
    heads = [
        talk.t("部门", "department"),
        talk.t("资源", "resource"),
        talk.t("来源", "source"),
        talk.t("拉取", "pulled"),
        talk.t("封签", "sealed"),
        talk.t("隔离", "quarantined"),
        talk.t("批次", "batches"),
        talk.t("回执", "receipts"),
        talk.t("主要拒收原因", "main reasons"),
    ]
    rows = [
        (
            one.resource.department.name,
            one.resource.title,
            talk.text(one.form),
            f"{one.pulled:,}",
            f"{one.accepted:,}",
            f"{one.quarantined:,}",
            one.batches,
            one.receipts,
            "\n".join(
                f"{reason(name, one.resource, talk.lang)} ×{count}"
                for name, count in list(one.reasons.items())[:_SHOWN_REASONS]
            ),
        )
        for one in done.results
    ]
    talk.table(talk.t("从部门数据到省级回执", "from departments to receipts"), heads, rows)


def _summary(talk: Talk, done: DemoResult) -> str:
    run = done.outcome
    here = command()
    batch = min((path for path in done.files if path.suffix == ".avro"), default=done.node)
    return talk.t(
        f"拉取 {run.pulled:,} 条 = 封签 {run.accepted:,} + 隔离 {run.quarantined:,}；"
        f"{run.batches} 个批次，{run.receipts} 份回执，{done.verified} 个文件验证通过；"
        f"{done.seconds:.1f} 秒\n\n"
        "接下来可以试试：\n"
        f"  cd {done.node}\n"
        f"  {here} status                                  # 各资源的数量\n"
        f"  {here} quarantine list                         # 被拒收的记录与原因\n"
        f"  {here} verify {batch}\n"
        f"  {here} verify {batch.with_suffix('.receipt.json')}\n"
        f"  {here} prove {batch} --row 1 --to proof.json   # 单条记录的证明\n"
        f"  {here} verify proof.json",
        f"{run.pulled:,} records pulled = {run.accepted:,} sealed + {run.quarantined:,} in "
        f"quarantine; {run.batches} batches, {run.receipts} receipts, {done.verified} files "
        f"verify; {done.seconds:.1f} s\n\n"
        "try next:\n"
        f"  cd {done.node}\n"
        f"  {here} status                                  # numbers by resource\n"
        f"  {here} quarantine list                         # refused records and reasons\n"
        f"  {here} verify {batch}\n"
        f"  {here} verify {batch.with_suffix('.receipt.json')}\n"
        f"  {here} prove {batch} --row 1 --to proof.json   # proof of a single record\n"
        f"  {here} verify proof.json",
    )


def command() -> str:
    """Return what to type to run this command again: its path where it is not on the PATH."""
    return "exchange" if shutil.which("exchange") else str(Path(sys.argv[0]).absolute())
