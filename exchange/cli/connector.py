"""Commands on connectors and sources: list, check, discover, preview."""

from __future__ import annotations

import typer

from exchange.cli import connector_discover, connector_preview
from exchange.cli.invocation import Invocation
from exchange.cli.options import Json, bilingual, group
from exchange.text import Text

app = group("connector", "连接器与数据源", "connectors and sources")
app.command(help=connector_discover.HELP)(connector_discover.discover)
app.command(help=connector_preview.HELP)(connector_preview.preview)


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
        resource = connector_preview.known_resource(node, source)
        if resource is None:
            concerns = [_not_in_catalog(source, node.source_settings(source).resource)]
        else:
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


def _not_in_catalog(source: str, resource: str) -> Text:
    return Text(
        f"目录中没有资源 {resource}；起草：exchange catalog draft {source}",
        f"the catalog has no resource {resource}; draft one: exchange catalog draft {source}",
    )
