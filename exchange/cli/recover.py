"""The command ``recover``: rebuilds what of a node is lost or older."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from exchange.cli.invocation import Invocation, actor
from exchange.cli.options import Json, alone, bilingual

if TYPE_CHECKING:
    from exchange.cli.output import Output
    from exchange.node.recovery import RecoveryPlan

CHANGES_PENDING = 2
app = alone()


@app.command(
    help=bilingual(
        "重建丢失或较旧的部分：日志、存储、存证（试运行，--apply 生效）",
        "rebuild what is lost or older: log, store, evidence log; a dry run first",
    )
)
def recover(
    context: typer.Context,
    *,
    apply: Annotated[
        bool,
        typer.Option("--apply", help=bilingual("实际执行，否则只试运行", "do it; else a dry run")),
    ] = False,
    repeat: Annotated[
        bool,
        typer.Option(
            "--repeat",
            help=bilingual(
                "位置未知的来源可以从头拉取", "sources of unknown position may begin anew"
            ),
        ),
    ] = False,
    as_json: Json = False,
) -> int:
    """Show what is lost, what can be rebuilt and what cannot; ``--apply`` rebuilds it.

    Exit code 0: nothing is to be done, or it is done; 2: a dry run found something.
    """
    from exchange.node.recovery import plan_recovery
    from exchange.node.recovery import recover as rebuild

    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    with call.open_node() as node:
        plan = plan_recovery(node)
        _show(output, plan, applied=apply)
        if not plan.steps and not plan.before:
            return 0
        if not apply:
            return CHANGES_PENDING
        rebuild(node, plan, by=actor(), repeat=repeat)
    output.inform(
        "已重建；下一步：exchange audit，再 exchange run",
        "rebuilt; next: `exchange audit`, then `exchange run`",
    )
    return 0


def _show(output: Output, plan: RecoveryPlan, *, applied: bool) -> None:
    heads = (
        (output.t("重建", "rebuilt"), plan.steps),
        (output.t("无法重建", "cannot be rebuilt"), plan.lost),
        (output.t("先要做的", "to be done before"), plan.before),
    )
    lines = [f"{head}: {output.text(text)}" for head, texts in heads for text in texts]
    nothing = output.t("各部分都在且相互一致", "every part is there, and they agree")
    output.answer(
        {
            "parts": list(plan.parts),
            "rebuilt": [text._asdict() for text in plan.steps],
            "lost": [text._asdict() for text in plan.lost],
            "before": [text._asdict() for text in plan.before],
            "repeated": plan.repeated,
            "applied": applied,
        },
        "\n".join(lines) or nothing,
    )
    if plan.steps and not applied:
        output.inform(
            "试运行，未改动；停止节点后加 --apply 生效",
            "a dry run, nothing is changed; stop the node, then --apply does it",
        )
