"""The commands ``source pause`` and ``source resume``: whether a source is pulled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from exchange.cli.invocation import Invocation, actor
from exchange.cli.options import Json, bilingual

if TYPE_CHECKING:
    from exchange.cli.output import Output
    from exchange.node.node import Node

PAUSE_HELP = bilingual("暂停数据源，重启后仍有效", "pause sources: it outlives a restart")
RESUME_HELP = bilingual("继续已暂停的数据源", "pull paused sources again")

_Names = Annotated[
    list[str], typer.Argument(metavar="SOURCE...", help=bilingual("数据源", "sources"))
]


def pause(
    context: typer.Context,
    names: _Names,
    *,
    reason: Annotated[
        str, typer.Option(help=bilingual("原因，供他人查看", "why, for others"))
    ] = "",
    as_json: Json = False,
) -> int:
    """Pause sources; a pull that is under way ends before its next transaction."""
    call: Invocation = context.obj
    with call.open_node() as node:
        return _change(call.output(as_json=as_json), node, names, paused=True, reason=reason)


def resume(context: typer.Context, names: _Names, *, as_json: Json = False) -> int:
    """Pull paused sources again; each goes on where it was."""
    call: Invocation = context.obj
    with call.open_node() as node:
        return _change(call.output(as_json=as_json), node, names, paused=False, reason="")


def _change(output: Output, node: Node, names: list[str], *, paused: bool, reason: str) -> int:
    from exchange.pipeline.messages import pull_key
    from exchange.pipeline.pause import Pause, pause_key

    for name in names:
        node.source_settings(name)
    facts: list[dict[str, Any]] = []
    for name in names:
        before = Pause.of(node.context.latest(pause_key(name)))
        changed = (before is not None) != paused
        if changed:
            since = node.clock().isoformat(timespec="seconds")
            after = Pause(since, actor(), reason) if paused else Pause()
            node.context.log.claim(pull_key(name))  # a pull that is under way writes no more
            with node.context.log.transaction(pause_key(name)) as tx:
                tx.append(after.to_message(name))
            node.store.audit.append(
                actor(), f"source.{'pause' if paused else 'resume'}", name, reason
            )
        facts.append({"source": name, "paused": paused, "changed": changed})
    output.answer({"sources": facts})
    for fact in facts if not output.as_json else ():
        name = fact["source"]
        if paused:
            text = output.t(f"{name}：已暂停", f"{name}: paused")
        else:
            text = output.t(f"{name}：按计划继续", f"{name}: goes on by its schedule")
        if not fact["changed"]:
            text = output.t(f"{name}：无需改动", f"{name}: it was so already")
        output.answer(None, text)
    return 0
