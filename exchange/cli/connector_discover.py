"""``exchange connector discover``: what a source offers, whatever the catalog says."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from exchange.cli.invocation import Invocation
from exchange.cli.options import Json, bilingual
from exchange.cli.output import Output
from exchange.text import Text

HELP = bilingual(
    "列出数据源有哪些表、文件、工作表", "list the tables, files and sheets of a source"
)
_HEADS = (
    ("名称", "name"),
    ("种类", "kind"),
    ("行数", "rows"),
    ("列数", "columns"),
    ("说明", "how"),
)
_COLUMN_HEADS = (
    ("列", "column"),
    ("类型", "type"),
    ("可空", "nullable"),
    ("键", "key"),
    ("注释", "comment"),
)
_KINDS: Mapping[str, Text] = {
    "table": Text("表", "table"),
    "view": Text("视图", "view"),
    "file": Text("文件", "file"),
    "sheet": Text("工作表", "sheet"),
    "list": Text("列表", "list"),
    "topic": Text("主题", "topic"),
    "operation": Text("操作", "operation"),
    "skipped": Text("不读取", "not read"),
}
_CHOSEN = frozenset({"list", "topic", "operation"})
"""Kinds whose settings a person writes under ``with``."""


def discover(
    context: typer.Context,
    source: str,
    *,
    table: Annotated[
        str | None, typer.Option(help=bilingual("只看一个表的列", "columns of one table"))
    ] = None,
    as_json: Json = False,
) -> int:
    """List what a source offers; its resource need not be in the catalog."""
    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    with call.open_node() as node:
        settings = {item["name"] for item in node.source(source).connector.spec()["settings"]}
        options = {"table": table} if table is not None and "table" in settings else {}
        entries = node.source(source, options).discover()
    if table is not None and not options:
        entries = [entry for entry in entries if entry["name"] == table]
    output.answer({"source": source, "entries": entries})
    if as_json:
        return 0
    output.table(
        source,
        [output.t(*head) for head in _HEADS],
        (
            (
                entry["name"],
                output.text(_KINDS[entry["kind"]]) if entry.get("kind") in _KINDS else "",
                rows_text(entry),
                len(entry["columns"]) if "columns" in entry else "",
                "; ".join(how(entry, output)),
            )
            for entry in entries
        ),
    )
    if len(entries) == 1 and "columns" in entries[0]:
        output.table(
            str(entries[0]["name"]),
            [output.t(*head) for head in _COLUMN_HEADS],
            _columns(entries[0], output),
        )
    for entry in entries:
        show_top(entry, output)
    output.inform(
        f"起草目录：exchange catalog draft {source}" + (f" --table {table}" if table else ""),
        f"draft a catalog entry: exchange catalog draft {source}"
        + (f" --table {table}" if table else ""),
    )
    return 0


def rows_text(entry: Mapping[str, Any]) -> str:
    """Write the rows: ``> 100,000`` where there are more, ``~`` where lines were counted."""
    rows = entry.get("rows")
    if rows is None:
        return ""
    sign = "> " if entry.get("more") else "~ " if entry.get("about") else ""
    return f"{sign}{rows:,}"


def how(entry: Mapping[str, Any], output: Output) -> Iterator[str]:
    """Say how a file is read, or why it is not."""
    for key, name in (
        ("comment", ""),
        ("encoding", output.t("编码 ", "encoding ")),
        ("delimiter", output.t("分隔符 ", "delimiter ")),
        ("header", output.t("表头在第 ", "header in row ")),
    ):
        if entry.get(key) not in (None, ""):
            value = repr(entry[key]) if key == "delimiter" else entry[key]
            yield f"{name}{value}" + (output.t(" 行", "") if key == "header" else "")
    chosen = entry.get("with", {})
    if entry.get("kind") in _CHOSEN or "columns" in chosen:
        yield "with: " + json.dumps(chosen, ensure_ascii=False)
    if entry.get("visible") is False:
        yield output.t("隐藏", "hidden")
    for key in ("why", "hint"):
        if key in entry:
            yield output.t(entry[key]["zh"], entry[key]["en"])


def show_top(entry: Mapping[str, Any], output: Output) -> None:
    """Show the first rows with their numbers, masked, where no header was found."""
    rows: Sequence[Sequence[Any]] = entry.get("top", ())
    if not rows:
        return
    output.table(
        str(entry["name"]),
        [output.t("行", "row"), *(str(n) for n in range(1, _width(rows) + 1))],
        ((number, *cells) for number, cells in masked_top(rows)),
    )
    name = str(entry["name"])
    why = Text(**entry["why"]) if "why" in entry else Text(name, name)
    output.inform(
        f"{why.zh}；用 header 写明表头在第几行（0 为没有）",
        f"{why.en}; say with header in which row it stands (0: none)",
    )


def masked_top(rows: Sequence[Sequence[Any]]) -> list[tuple[int, list[str]]]:
    """Mask what may be personal in the first rows of a file, cell by cell."""
    import re

    from exchange.catalog.masking import mask
    from exchange.validate.draft.words import PERSON

    def masked(cell: str) -> str:
        return mask("name" if re.fullmatch(PERSON, cell) else "free_text", cell)

    filled = [(number, cells) for number, cells in rows if any(cells)]
    return [(int(number), [masked(str(cell)) for cell in cells]) for number, cells in filled]


def _width(rows: Sequence[Sequence[Any]]) -> int:
    return max(len(cells) for _, cells in rows)


def _columns(entry: Mapping[str, Any], output: Output) -> Iterator[Sequence[object]]:
    key = set(entry.get("key", ()))
    unique = {names[0] for names in entry.get("unique", ()) if len(names) == 1}
    for column in entry["columns"]:
        name = column["name"]
        mark = output.t("主键", "key") if name in key else ""
        yield (
            name,
            column.get("type", ""),
            "" if column.get("nullable", True) else output.t("否", "no"),
            mark or (output.t("唯一", "unique") if name in unique else ""),
            column.get("comment", ""),
        )
