"""Commands on connectors and sources: list, check, discover, preview."""

from __future__ import annotations

from typing import Annotated

import typer

from exchange.cli.connector_discover import HELP, discover
from exchange.cli.invocation import Invocation
from exchange.cli.options import Json, bilingual, group

app = group("connector", "连接器与数据源", "connectors and sources")
app.command(help=HELP)(discover)


@app.command("list", help=bilingual("列出连接器及其配置项", "list connectors and their settings"))
def list_connectors(context: typer.Context, *, as_json: Json = False) -> int:
    """List the installed connectors with their settings."""
    from exchange.connect import find, installed

    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    specs = [find(name).spec() for name in installed()]
    output.answer({"connectors": specs})
    for spec in specs:
        output.table(
            f"{spec['name']}  {spec['doc'].splitlines()[0] if spec['doc'] else ''}",
            [output.t(*pair) for pair in _HEADS],
            (
                (
                    setting["name"],
                    setting["type"],
                    output.t("必填", "required") if setting["required"] else setting["default"],
                    setting[output.lang],
                )
                for setting in spec["settings"]
            ),
        )
    return 0


_HEADS = (("配置项", "setting"), ("类型", "type"), ("默认值", "default"), ("说明", "meaning"))


@app.command(help=bilingual("试连一个数据源", "try a source"))
def check(context: typer.Context, source: str, *, as_json: Json = False) -> int:
    """Try a source without pulling from it."""
    from exchange.cli.doctor import source_concerns
    from exchange.connect.surface import CHECK_SECONDS

    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    with call.open_node() as node:
        connector = node.source(source)
        text = connector.check()
        resource = node.catalog.resource(node.source_settings(source).resource)
        concerns = source_concerns(connector, resource, CHECK_SECONDS)
    output.answer(
        {
            "source": source,
            "ok": True,
            "text": text._asdict(),
            "concerns": [concern._asdict() for concern in concerns],
        },
        output.text(text),
    )
    for concern in concerns:
        output.inform(f"! {output.text(concern)}")
    return 0


@app.command(help=bilingual("看数据源的前几条（脱敏）", "first rows of a source, masked"))
def preview(
    context: typer.Context,
    source: str,
    *,
    rows: Annotated[int, typer.Option(min=1, max=1000)] = 5,
    as_json: Json = False,
) -> int:
    """Show the first rows of a source, personal data masked."""
    from exchange.cli.record_text import lines, masked
    from exchange.validate.source_frame import RESERVED, source_columns

    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    with call.open_node() as node:
        resource = node.catalog.resource(node.source_settings(source).resource)
        frame = node.source(source).preview(rows)
    if frame is None:
        output.answer({"source": source, "resource": resource.name, "columns": [], "rows": []})
        output.inform("目前没有数据", "nothing there now")
        return 0
    fields = {column: name for name, column in source_columns(resource, frame.columns).items()}
    records = masked(frame, resource)
    columns = [
        {"column": name, "type": str(dtype), "field": fields.get(name)}
        for name, dtype in frame.schema.items()
    ]
    titles = {column: resource.field(name).title for column, name in fields.items()}
    unnamed = [name for name in frame.columns if name not in fields and name not in RESERVED]
    texts = []
    for number, record in enumerate(records, start=1):
        values = {name: value for name, value in record.items() if name not in unnamed}
        texts += [f"— {number}", *lines(values, titles)]
    answer = {"source": source, "resource": resource.name, "columns": columns, "rows": records}
    output.answer(answer, "\n".join(texts))
    if unnamed:
        names = ", ".join(unnamed)
        output.inform(
            f"目录没有登记这些列，不会采用，也不显示：{names}",
            f"the catalog does not name these columns: left out, not shown: {names}",
        )
    return 0
