"""The command ``source notes``: what the pulls of a source met that is no record."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from exchange.cli.attention import failure_of
from exchange.cli.invocation import Invocation
from exchange.cli.options import Json, bilingual
from exchange.cli.output import Output
from exchange.cli.reasons import note_kind
from exchange.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from exchange.node.node import Node

HELP = bilingual(
    "列出数据源中不是记录的内容：标题、分组、表尾、未读的工作表和文件",
    "list what is no record: titles, groups, footers, unread sheets and files",
)
_PULLS = 100
"""Newest pulls whose notes are listed."""
_HEADS = (("拉取", "pull"), ("位置", "place"), ("行", "row"), ("类别", "kind"), ("内容", "text"))


def notes(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="SOURCE", help=bilingual("数据源", "the source"))],
    *,
    rows: Annotated[int, typer.Option(min=1, help=bilingual("最多行数", "rows at most"))] = 1_000,
    as_json: Json = False,
) -> int:
    """List the notes of the newest pulls of a source, newest pull first."""
    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    with call.open_node() as node:
        rows_and_one_more = list(islice(_notes(node, name, rows + 1), rows + 1))
        failure = failure_of(node, name)
    page = rows_and_one_more[:rows]
    nothing = output.t("没有", "there is nothing")
    output.answer(
        {
            "failure": None if failure is None else failure._asdict(),
            "notes": [note | {"text": Text.split(note["text"]).en} for note in page],
            "more": len(rows_and_one_more) > rows,
        },
        None if page or failure is not None else nothing,
    )
    if failure is not None and not output.as_json:
        output.answer(None, f"! {output.text(failure)}")
    if page:
        heads = [output.t(*pair) for pair in _HEADS]
        output.table(name, heads, (_cells(note, output) for note in page))
    if len(rows_and_one_more) > rows:
        output.inform(f"只列出前 {rows} 条，用 --rows 改变", f"the first {rows}: see --rows")
    return 0


def _cells(note: Mapping[str, Any], output: Output) -> tuple[str, ...]:
    kind, text = note_kind(note["kind"], output.lang), Text.split(note["text"])
    return note["pull"], note["locator"], str(note["row"] or ""), kind, output.text(text)


def _notes(node: Node, name: str, limit: int) -> Iterator[dict[str, Any]]:
    """Yield the notes of a source; raises Misconfigured when there is no such source."""
    node.source_settings(name)
    pulls = [pull.pull for pull in node.store.pulls.find(source=name, limit=_PULLS)]
    # A pull that brought notes alone stands in no list of pulls.
    state = node.context.pull_state(name)
    current = [state.pull] if state is not None and state.pull else []
    for pull in dict.fromkeys([*current, *pulls]):
        for note in node.store.pulls.notes(pull, limit=limit):
            yield {
                "pull": pull,
                "locator": note.locator,
                "row": note.row,
                "kind": note.kind,
                "text": note.text,
            }
