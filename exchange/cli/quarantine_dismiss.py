"""The command that gives up refused records."""

from __future__ import annotations

from typing import Annotated

import typer

from exchange.cli.invocation import Invocation, actor
from exchange.cli.options import Json, bilingual
from exchange.cli.output import Output
from exchange.cli.reasons import reason as worded
from exchange.errors import Rejected
from exchange.text import Text, counted

HELP = bilingual(
    "不再处理隔离的记录（试运行，--apply 生效）", "give refused records up; a dry run first"
)


def dismiss(
    context: typer.Context,
    resource: str,
    reason: Annotated[
        str, typer.Option(help=bilingual("原因，记入审计", "why; it goes into the audit trail"))
    ],
    *,
    address: Annotated[
        list[str] | None,
        typer.Option(
            help=bilingual("批或记录的编号，可多次", "of a message or record, repeatable")
        ),
    ] = None,
    rule: Annotated[
        str,
        typer.Option(help=bilingual("拒收规则，如 table:status", "refused by, as table:status")),
    ] = "",
    pull: Annotated[str, typer.Option(help=bilingual("某次拉取", "of one pull"))] = "",
    apply: Annotated[
        bool,
        typer.Option("--apply", help=bilingual("实际执行，否则只试运行", "do it; else a dry run")),
    ] = False,
    as_json: Json = False,
) -> int:
    """Dismiss waiting records by address, rule or pull; without ``--apply`` only show which."""
    from exchange.pipeline.dismissal import Selection
    from exchange.pipeline.dismissal import dismiss as give_up
    from exchange.validate.refused_records import histogram

    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    selection = Selection(tuple(address or ()), rule, pull)
    if selection == Selection():
        raise Rejected(
            Text("没有指明哪些记录", "it does not say which records"),
            hint=Text(
                "用 --address、--rule 或 --pull 指明", "name them by --address, --rule or --pull"
            ),
        )
    with call.open_node() as node:
        form = node.catalog.resource(resource)
        counts: dict[str, int] = {}
        places: dict[str, int] = {}
        for message in selection.records(node.context, node.store, resource):
            places[f"{resource}/{message.partition}/{message.offset}"] = message.frame.height
            for name, count in histogram(message.frame).items():
                counts[name] = counts.get(name, 0) + count
        rows = sum(places.values())
        if apply:
            rows = give_up(node.context, node.store, resource, selection, by=actor(), reason=reason)
    output.answer(
        {
            "resource": resource,
            "rows": rows,
            "messages": places,
            "reasons": counts,
            "applied": apply,
        },
        output.t(f"{resource}：{rows:,} 条记录", f"{resource}: {counted(rows, 'record')}"),
    )
    for name, count in counts.items():
        output.inform(
            f"{worded(name, form, 'zh')}：{count:,}", f"{worded(name, form, 'en')}: {count:,}"
        )
    if not rows:
        output.inform(
            "没有待处理的记录符合条件；见 exchange quarantine list",
            "no waiting record matches; see `exchange quarantine list`",
        )
    else:
        _say(output, applied=apply)
    return 0


def _say(output: Output, *, applied: bool) -> None:
    if applied:
        output.inform("已忽略，原记录留在日志中", "dismissed; the records stay in the log")
    else:
        output.inform(
            "试运行，未改动；加 --apply 生效", "a dry run, nothing is changed; --apply does it"
        )
