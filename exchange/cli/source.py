"""Commands on a source: where it starts from, what it has that is no record."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Annotated, Any

import typer

from exchange.cli import source_deletions
from exchange.cli.invocation import Invocation, actor
from exchange.cli.options import Json, bilingual, group
from exchange.cli.source_list import HISTORY_HELP, LIST_HELP, history, list_sources
from exchange.cli.source_notes import HELP, notes
from exchange.cli.source_pause import PAUSE_HELP, RESUME_HELP, pause, resume

app = group(
    "source", "数据源：状态、拉取、暂停、起点", "sources: state, pulls, pause, where they start"
)
app.command("list", help=LIST_HELP)(list_sources)
app.command(help=HISTORY_HELP)(history)
app.command(help=HELP)(notes)
app.command(help=source_deletions.HELP)(source_deletions.deletions)
app.command(help=PAUSE_HELP)(pause)
app.command(help=RESUME_HELP)(resume)


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
            target = "beginning" if to_beginning else after
            node.store.audit.append(actor(), "source.rewind", name, f"{before} -> {target}")
            with node.context.log.transaction(key) as tx:
                tx.append(state.rewind(cursor).to_message(name))
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
            node.store.audit.append(actor(), "source.retry", name, "")
            with node.context.log.transaction(key) as tx:
                tx.append(replace(state, cursor=cursor).to_message(name))
    output.answer(
        {"source": name, "changed": changed},
        output.t(f"{name}：下次拉取重新读取", f"{name}: the next pull reads it again")
        if changed
        else output.t(f"{name}：没有被拒的内容", f"{name}: nothing is remembered as refused"),
    )
    return 0


@app.command(help=bilingual("接受数据源现在的列", "take the columns of a source as they are now"))
def accept(context: typer.Context, name: str, *, as_json: Json = False) -> int:
    """Have the next pull learn the columns of a source anew."""
    from exchange.pipeline.messages import pull_key

    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    with call.open_node() as node:
        node.source_settings(name)
        key = pull_key(name)
        node.context.log.claim(key)  # a pull that is under way stops before it writes more
        state = node.context.pull_state(name)
        if state is not None:
            with node.context.log.transaction(key) as tx:
                anew = replace(state, columns=(), appeared=(), learns=True)
                tx.append(anew.to_message(name))
            node.store.audit.append(actor(), "source.accept", name, ", ".join(state.appeared))
    output.answer(
        {"source": name, "accepted": list(state.appeared) if state is not None else []},
        output.t(f"{name}：下次拉取重新认列", f"{name}: the next pull learns its columns"),
    )
    return 0


def shown_place(cursor: Any) -> str:
    """Return where a cursor stands: its plain values, without what it remembers beside them."""
    known = cursor or {}
    plain = {key: value for key, value in known.items() if isinstance(value, str | int | float)}
    place = known.get("since") or known.get("at") or plain
    return json.dumps(place, ensure_ascii=False) if place else "-"
