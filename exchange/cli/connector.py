"""Commands on connectors and sources: list, check, discover, preview, new."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from exchange.cli import connector_discover, connector_preview
from exchange.cli.invocation import Invocation
from exchange.cli.options import Json, bilingual, group
from exchange.errors import ExchangeError, Misconfigured
from exchange.text import Text

app = group("connector", "连接器与数据源", "connectors and sources")
app.command(help=connector_discover.HELP)(connector_discover.discover)
app.command(help=connector_preview.HELP)(connector_preview.preview)


@app.command("list", help=bilingual("列出连接器及其配置项", "list connectors and their settings"))
def list_connectors(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help=bilingual("只列一个（默认全部）", "one; all by default"))
    ] = None,
    *,
    schema: Annotated[
        bool, typer.Option("--schema", help=bilingual("以 JSON Schema 输出", "as JSON Schema"))
    ] = False,
    as_json: Json = False,
) -> int:
    """List the installed connectors, and the local ones of the settings, with their settings."""
    from exchange.connect import find, installed

    call: Invocation = context.obj
    output = call.output(as_json=as_json or schema)
    base, local = _local(call)
    names = [*installed(), *local] if name is None else [name]
    connectors = {}
    for item in names:
        try:
            connectors[item] = find(item, base=base)
        except ExchangeError as error:
            if name is not None:
                raise
            output.inform(f"! {item}: {output.text(error.what)}")
    if schema:
        schemas = {item: connector.schema() for item, connector in connectors.items()}
        output.answer(schemas if name is None else schemas[name])
        return 0
    specs = [connector.spec() | {"name": item} for item, connector in connectors.items()]
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


def _local(call: Invocation) -> tuple[Path, list[str]]:
    """Return where local connectors start, and those that the node's settings name."""
    from exchange.catalog.problems import FileErrors

    try:
        settings = call.settings()
    except FileErrors:
        raise
    except Misconfigured:
        return Path(), []  # there is no node here
    named = {source.connector for source in settings.sources.values()}
    return settings.folder, sorted(item for item in named if ".py:" in item)


@app.command(help=bilingual("新建连接器：插件、数据、测试", "make a plugin with data and tests"))
def new(
    context: typer.Context,
    name: str,
    *,
    to: Annotated[
        Path | None, typer.Option(help=bilingual("目录（默认同名）", "folder; NAME by default"))
    ] = None,
    as_json: Json = False,
) -> int:
    """Write a connector that runs and conforms as made, to be changed step by step."""
    from exchange.connect.starter import new_connector

    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    folder = to if to is not None else Path(name)
    paths = new_connector(folder, name)
    output.answer({"files": [str(path) for path in paths]}, "\n".join(map(str, paths)))
    output.inform(
        f"试运行：pytest {folder}；在 exchange.yaml 中写 connector: {folder}/{name}.py:{name}",
        f"try it: pytest {folder}; in exchange.yaml: connector: {folder}/{name}.py:{name}",
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
