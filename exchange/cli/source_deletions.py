"""``source deletions``: what waits because too much of a source is gone, and what to do."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from exchange.cli.invocation import Invocation, actor
from exchange.cli.options import Json, bilingual

HELP = bilingual(
    "查看来源中消失的记录，并决定是否删除",
    "records that are gone from a source: delete them or not",
)


def deletions(
    context: typer.Context,
    name: str,
    *,
    accept: Annotated[
        bool,
        typer.Option("--accept", help=bilingual("确属删除，照送", "they are gone: delete them")),
    ] = False,
    refuse: Annotated[
        bool,
        typer.Option(
            "--refuse",
            help=bilingual(
                "保留这些记录，只送其余变化", "keep them, deliver the other changes only"
            ),
        ),
    ] = False,
    as_json: Json = False,
) -> int:
    """Show what waits of a source with `difference`, or decide about it for one pull.

    Accepted are at most as many deletions as are shown.
    """
    from exchange.pipeline.difference import DeletionDecision, decided, waiting
    from exchange.pipeline.messages import pull_key

    call: Invocation = context.obj
    if accept and refuse:
        raise typer.BadParameter("--accept, or --refuse")
    output = call.output(as_json=as_json)
    with call.open_node() as node:
        node.source_settings(name)
        key = pull_key(name)
        if accept or refuse:
            node.context.log.claim(key)  # a pull that is under way stops before it writes more
        state = node.context.pull_state(name)
        cursor = state.cursor if state is not None else None
        waits = None
        if state is not None and cursor is not None and "next" not in cursor:
            waits = waiting(node.difference_folder(name), cursor.get("known"))
        decision = None
        if waits is not None and (accept or refuse):
            assert state is not None  # noqa: S101 - what waits, waits against its cursor
            assert cursor is not None  # noqa: S101
            decision = DeletionDecision("accept" if accept else "refuse", waits.deleted)
            # The trail has it before it holds.
            node.store.audit.append(
                actor(), f"source.deletions.{decision.what}", name, f"{waits.deleted}"
            )
            with node.context.log.transaction(key) as tx:
                tx.append(replace(state, cursor=decided(cursor, decision)).to_message(name))
    shown = {"before": waits.before, "now": waits.now, "deleted": waits.deleted} if waits else None
    output.answer(
        {"source": name, "waiting": shown, "decision": decision.what if decision else None},
        output.t(f"{name}：没有等待决定的删除", f"{name}: no deletions wait")
        if waits is None
        else output.t(
            f"{name}：原有 {waits.before} 条，现有 {waits.now} 条，{waits.deleted} 条已消失",
            f"{name}: {waits.before} records before, {waits.now} now, {waits.deleted} are gone",
        ),
    )
    if decision is not None:
        output.inform("下次拉取按此处理", "the next pull does so")
    elif waits is not None:
        output.inform(
            "未改动；用 --accept 或 --refuse 决定", "nothing is changed: --accept, --refuse"
        )
    return 0
