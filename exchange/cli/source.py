"""Commands on a source: where it starts from, what it has that is no record."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Annotated, Any

import typer

from exchange.cli import source_deletions
from exchange.cli.invocation import Invocation, actor
from exchange.cli.options import Json, bilingual, group
from exchange.cli.source_notes import HELP, notes

app = group(
    "source", "数据源：从何处开始、不是记录的内容", "sources: where they start, what is no record"
)
app.command(help=HELP)(notes)
app.command(help=source_deletions.HELP)(source_deletions.deletions)


@app.callback()
def sources() -> None:
    """Keep the group a group, whatever the number of its commands."""


@app.command(help=bilingual("改变数据源的起点", "set where a source starts from"))
def rewind(
    context: typer.Context,
    name: str,
    *,
    to: Annotated[
        str,
        typer.Option(
            help=bilingual("增量列的值，含该值", "a value of the cursor column, inclusive")
        ),
    ] = "",
    to_beginning: Annotated[
        bool,
        typer.Option(
            "--to-beginning",
            help=bilingual("从头开始，任何连接器", "the beginning, for any connector"),
        ),
    ] = False,
    apply: Annotated[
        bool,
        typer.Option("--apply", help=bilingual("实际修改，否则只试运行", "do it; else a dry run")),
    ] = False,
    as_json: Json = False,
) -> int:
    """Have a source start from a value of its cursor column, or from its beginning.

    Without ``--apply`` only show it.
    """
    from exchange.pipeline.messages import PullState, pull_key

    call: Invocation = context.obj
    if bool(to) == to_beginning:
        raise typer.BadParameter(
            bilingual("给出 --to 值，或 --to-beginning", "--to VALUE, or --to-beginning")
        )
    output = call.output(as_json=as_json)
    with call.open_node() as node:
        source, key = node.source(name), pull_key(name)
        if apply:
            node.context.log.claim(key)  # a pull that is under way stops before it writes more
        state = node.context.pull_state(name) or PullState("", node.clock())
        cursor = None if to_beginning else source.rewind(state.cursor, to)
        before, after = shown_place(state.cursor), shown_place(cursor)
        if apply:
            with node.context.log.transaction(key) as tx:
                tx.append(state.rewind(cursor).to_message(name))
            target = "beginning" if to_beginning else after
            node.store.audit.append(actor(), "source.rewind", name, f"{before} -> {target}")
    output.answer(
        {"source": name, "before": before, "after": after, "applied": apply},
        f"{name}: {before} → {after}",
    )
    if apply:
        output.inform("下次拉取从此处开始", "the next pull starts there")
    else:
        output.inform(
            "试运行，未改动；加 --apply 生效", "a dry run, nothing is changed; --apply does it"
        )
    return 0


@app.command(help=bilingual("重新读取被拒的文件", "read what was refused once more"))
def retry(context: typer.Context, name: str, *, as_json: Json = False) -> int:
    """Have the next pull of a source read again what was refused of it."""
    from exchange.pipeline.messages import pull_key

    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    with call.open_node() as node:
        source, key = node.source(name), pull_key(name)
        node.context.log.claim(key)  # a pull that is under way stops before it writes more
        state = node.context.pull_state(name)
        cursor = None if state is None else state.cursor
        if node.source_settings(name).difference is None:  # which reads everything anyway
            cursor = source.retry(cursor)
        changed = state is not None and cursor != state.cursor
        if state is not None and changed:
            with node.context.log.transaction(key) as tx:
                tx.append(replace(state, cursor=cursor).to_message(name))
            node.store.audit.append(actor(), "source.retry", name, "")
    output.answer(
        {"source": name, "changed": changed},
        output.t(f"{name}：下次拉取重新读取", f"{name}: the next pull reads it again")
        if changed
        else output.t(f"{name}：没有被拒的内容", f"{name}: nothing is remembered as refused"),
    )
    return 0


def shown_place(cursor: Any) -> str:
    """Return where a cursor stands: its plain values, without what it remembers beside them."""
    known = cursor or {}
    plain = {key: value for key, value in known.items() if isinstance(value, str | int | float)}
    place = known.get("since") or known.get("at") or plain
    return json.dumps(place, ensure_ascii=False) if place else "-"
