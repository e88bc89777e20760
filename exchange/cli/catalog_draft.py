"""``exchange catalog draft``: a catalog entry for a source that nobody has described yet."""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any

import typer

from exchange.cli.invocation import Invocation
from exchange.cli.options import Json, bilingual
from exchange.cli.output import Output
from exchange.errors import Misconfigured
from exchange.text import Text, suggest

if TYPE_CHECKING:
    from exchange.catalog.model import Catalog, Department
    from exchange.node.node import Node
    from exchange.validate.draft.proposal import Draft

HELP = bilingual("按数据源起草目录条目", "draft a catalog entry from a source")
SECONDS = 120.0
"""How long the first rows may take."""
_FIRST_CODE = "399999/1"
_SHOWN_NAMES = 20
_TABLES = frozenset({"table", "view", "list", "topic", "operation"})
"""Kinds of what `--table` names."""


def draft(
    context: typer.Context,
    source: str,
    *,
    table: Annotated[str | None, typer.Option(help=bilingual("数据库的表", "table"))] = None,
    file: Annotated[str | None, typer.Option(help=bilingual("文件名", "name of a file"))] = None,
    sheet: Annotated[
        str | None, typer.Option(help=bilingual("工作表", "sheet of the file"))
    ] = None,
    department: Annotated[
        str | None, typer.Option(help=bilingual("提供部门", "id of the providing department"))
    ] = None,
    excel: Annotated[
        Path | None, typer.Option(help=bilingual("另写一份电子表格", "write a spreadsheet, too"))
    ] = None,
    as_json: Json = False,
) -> int:
    """Write the YAML of a resource and its code tables to stdout; what it rests on to stderr."""
    from exchange.validate.draft.guess import MAX_ROWS
    from exchange.validate.draft.proposal import Facts
    from exchange.validate.draft.proposal import draft as propose

    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    with call.open_node() as node:
        entry = _entry(node, source, table, file, sheet)
        opened = node.source(source, entry.get("with", {}))
        look = opened.look(MAX_ROWS, timeout=SECONDS)
        if look.frame is None or not look.frame.width:
            raise Misconfigured(
                Text(f"{entry['name']} 目前没有数据", f"there is nothing in {entry['name']} now"),
                hint=Text("有数据后再起草", "draft it when there is"),
            )
        catalog = _catalog(node, output)
        name = node.source_settings(source).resource
        if catalog is not None and name in catalog.resources:
            output.inform(
                f"目录中已有资源 {name}，草稿供对照", f"the catalog has {name} already: compare"
            )
        facts = Facts.of({**entry, "comment": entry.get("comment") or _stem(entry)})
        proposal = propose(
            look.frame,
            facts,
            name=name,
            code=_code(catalog),
            department=_department(catalog, name, department),
            today=node.clock().date(),
            taken=frozenset(catalog.tables if catalog is not None else ()),
        )
    if excel is not None:
        from exchange.validate.draft.book import write

        write(proposal, excel, output.lang)
    _show(output, source, str(entry["name"]), proposal)
    return 0


def _entry(
    node: Node, source: str, table: str | None, file: str | None, sheet: str | None
) -> Mapping[str, Any]:
    """Choose one of what the source offers."""
    options: dict[str, object] = {}
    settings = {item["name"] for item in node.source(source).connector.spec()["settings"]}
    if table is not None and "table" in settings:
        options["table"] = table
    if file is not None:
        options["glob"] = glob.escape(file)
    try:
        every = node.source(source, options).discover()
    except Misconfigured as error:
        plain = node.source(source)  # raises where its settings are wrong by themselves
        raise _no_such_choice(source, plain.discover(), error) from error
    candidates = [entry for entry in every if entry.get("kind") != "skipped"]
    if sheet is not None:
        candidates = [entry for entry in candidates if entry.get("with", {}).get("sheet") == sheet]
    if table is not None and "table" not in settings:
        candidates = [entry for entry in candidates if entry["name"] == table]
    tables = [entry for entry in candidates if entry.get("kind") in _TABLES]
    if len(tables) > 1 or not candidates:
        names = [str(entry["name"]) for entry in every]
        wanted = " ".join(filter(None, (table, file, sheet)))
        raise _choose(source, wanted, names, several=bool(candidates))
    return next((entry for entry in candidates if "why" not in entry), candidates[0])


def _no_such_choice(
    source: str, every: Sequence[Mapping[str, Any]], error: Misconfigured
) -> Misconfigured:
    """Say how this source is chosen from: a database by table, a folder by file."""
    if any(entry.get("kind") in {"table", "view"} for entry in every):
        option = "--table"
    elif any(entry.get("kind") in {"file", "sheet"} for entry in every):
        option = "--file"
    else:
        return error
    listed = ", ".join(str(entry["name"]) for entry in every[:_SHOWN_NAMES])
    return Misconfigured(
        Text(f"数据源 {source} 里没有所指的内容", f"source {source} has nothing of that name"),
        hint=Text(f"用 {option} 写明一个：{listed}", f"name one by {option}: {listed}"),
    )


def _choose(source: str, wanted: str, names: Sequence[str], *, several: bool) -> Misconfigured:
    listed = ", ".join(names[:_SHOWN_NAMES]) or "-"
    what = (
        Text(f"数据源 {source} 有多个表", f"source {source} has several tables")
        if several
        else Text(f"数据源 {source} 中没有 {wanted}", f"source {source} has no {wanted}")
    )
    return Misconfigured(
        what,
        hint=Text(
            f"用 --table 或 --file 写明一个：{listed}", f"name one by --table or --file: {listed}"
        ),
    )


def _stem(entry: Mapping[str, Any]) -> str:
    """Title a file by its name without the suffix, a sheet too."""
    name = str(entry["name"])
    if entry.get("kind") not in {"file", "sheet"}:
        return name
    file = str(entry.get("with", {}).get("glob", name))
    return PurePath(re.sub(r"\[(.)\]", r"\1", file)).stem


def _catalog(node: Node, output: Output) -> Catalog | None:
    """Read the node's catalog, for its departments and codes; a draft needs none."""
    try:
        return node.catalog
    except Misconfigured as error:
        output.inform(f"! {output.text(error.what)}")
        return None


def _department(catalog: Catalog | None, resource: str, wanted: str | None) -> Department:
    from exchange.catalog.model import Department

    known = {} if catalog is None else catalog.departments
    if wanted is not None and known and wanted not in known:
        raise Misconfigured(
            Text(f"目录中没有部门 {wanted}", f"the catalog has no department {wanted}"),
            hint=suggest(wanted, known),
        )
    if wanted is not None:
        return known.get(wanted) or Department(id=wanted, code="", name="")
    if catalog is not None and resource in catalog.resources:
        return catalog.resources[resource].department
    return next(iter(known.values()), Department(id="data", code="", name=""))


def _code(catalog: Catalog | None) -> str:
    """Return the next free resource code of the catalog's own form; it is provisional."""
    codes = [] if catalog is None else [item.code for item in catalog.resources.values()]
    for code in codes:
        match = re.fullmatch(r"(.*?)([0-9]+)", code)
        if match is None:
            continue
        number = int(match[2]) + 1
        while (free := f"{match[1]}{number:0{len(match[2])}d}") in codes:
            number += 1
        return free
    return _FIRST_CODE


def _show(output: Output, source: str, place: str, proposal: Draft) -> None:
    from exchange.validate.draft.text import catalog_text

    yaml = catalog_text(proposal, output.lang)
    output.answer(
        {
            "source": source,
            "place": place,
            "resource": proposal.resource.name,
            "rows": proposal.rows,
            "key": proposal.resource.key,
            "key_from": proposal.key_from,
            "columns": [
                {
                    "column": item.column.name,
                    "source_type": item.source_type,
                    "field": item.field.name,
                    "title": item.field.title,
                    "type": item.field.type.spec,
                    "share": item.guess.share,
                    "filled": item.filled,
                    "required": item.field.required,
                }
                for item in proposal.columns
            ],
            "refused": proposal.refused,
            "refusals": [
                {"rule": r.rule, "field": r.field, "count": r.count, "example": r.example}
                | {"text": r.text._asdict()}
                for r in proposal.refusals
            ],
            "first": proposal.first,
            "left_out": proposal.left_out,
            "yaml": yaml,
        },
        yaml.removesuffix("\n"),
        verbatim=True,
    )
    output.inform(
        f"依据 {place} 的前 {proposal.rows:,} 行；按此草稿会拒收 {proposal.refused:,} 行",
        f"by the first {proposal.rows:,} rows of {place}; "
        f"this draft would refuse {proposal.refused:,}",
    )
    for name in proposal.left_out:
        output.inform(
            f"! 列名为空或过长，未列入：{name[:60]}",
            f"! a title that is blank or too long: {name[:60]}",
        )
    if output.as_json:
        return
    for number, row in enumerate(proposal.first, start=1):
        cells = (f"{column} = {value}" for column, value in row.items() if value)
        output.inform(f"— {number}  " + " · ".join(cells))
