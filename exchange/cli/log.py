"""Commands on the log: what of its topics may be removed."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from exchange.cli.invocation import Invocation, actor
from exchange.cli.options import Json, OptionalResource, bilingual, group
from exchange.text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exchange.cli.output import Output
    from exchange.run.retention import Removal

app = group("log", "日志：清理不再需要的消息", "the log: remove what nobody needs")

_HEADS = (
    ("主题/分区", "topic/partition"),
    ("清理", "removed"),
    ("保留", "kept"),
    ("保留原因", "held back by"),
)


@app.callback()
def log() -> None:
    """Keep the group a group, whatever the number of its commands."""


@app.command(
    help=bilingual(
        "清理早于若干天且无人再需要的消息（试运行，--apply 生效）",
        "remove messages that are old and that nobody needs; a dry run first",
    )
)
def retain(
    context: typer.Context,
    resource: OptionalResource = None,
    *,
    days: Annotated[
        int, typer.Option(min=1, help=bilingual("早于多少天", "older than so many days"))
    ],
    topic: Annotated[
        list[str] | None,
        typer.Option(
            metavar="raw|sealed|quarantine",
            help=bilingual("只清理此类主题，可多次", "only topics of this kind, repeatable"),
        ),
    ] = None,
    apply: Annotated[
        bool,
        typer.Option("--apply", help=bilingual("实际执行，否则只试运行", "do it; else a dry run")),
    ] = False,
    as_json: Json = False,
) -> int:
    """Show what may be removed of the topics of a resource, or of all; ``--apply`` removes it."""
    from exchange.run.retention import kinds_of, plan_retention, remove

    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    kinds = kinds_of(topic or ())
    removals: list[Removal] = []
    with call.open_node() as node:
        for name in [node.catalog.resource(resource).name] if resource else node.topics.resources():
            planned = plan_retention(node, name, timedelta(days=days), kinds)
            if apply:
                remove(node, name, planned, by=actor())
            removals += planned
    _show(output, removals, applied=apply)
    return 0


def _show(output: Output, removals: Sequence[Removal], *, applied: bool) -> None:
    count = sum(removal.count for removal in removals)
    output.table(
        output.t("日志清理", "retention of the log"),
        [output.t(*head) for head in _HEADS],
        [
            (
                f"{removal.topic}/{removal.partition}",
                f"{removal.count:,}",
                f"{removal.end - removal.before:,}",
                removal.obstacle and output.text(removal.obstacle),
            )
            for removal in removals
            if removal.end > removal.first
        ],
    )
    output.answer(
        {
            "messages": count,
            "applied": applied,
            "topics": [removal.as_dict() for removal in removals],
        },
        output.t(f"共 {count:,} 条消息", counted(count, "message")),
    )
    if applied:
        output.inform(
            "已清理。其批次、隔离记录此后不能从日志导出、重放或重建",
            "removed. Their batches and refused records can no longer be exported, replayed or"
            " rebuilt from the log",
        )
    else:
        output.inform(
            "试运行，未改动；加 --apply 生效", "a dry run, nothing is changed; --apply does it"
        )
