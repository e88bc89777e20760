"""Commands on connectors and sources: list, check, preview."""

from __future__ import annotations

from exchange.cli.output import Talk


def listing(talk: Talk) -> int:
    """List the installed connectors with their settings."""
    from exchange.connect import find, installed

    specs = [find(name).spec() for name in installed()]
    talk.answer({"connectors": specs})
    for spec in specs:
        talk.table(
            f"{spec['name']}  {spec['doc'].splitlines()[0] if spec['doc'] else ''}",
            [talk.t(*pair) for pair in _HEADS],
            (
                (
                    setting["name"],
                    setting["type"],
                    talk.t("必填", "required") if setting["required"] else setting["default"],
                    setting[talk.lang],
                )
                for setting in spec["settings"]
            ),
        )
    return 0


_HEADS = (("配置项", "setting"), ("类型", "type"), ("默认值", "default"), ("说明", "meaning"))


def check(talk: Talk, source: str) -> int:
    """Try a source without pulling from it."""
    from exchange.cli.node import open_node

    with open_node() as node:
        told = node.source(source).check()
    talk.answer({"source": source, "ok": True, "text": told._asdict()}, talk.text(told))
    return 0


def preview(talk: Talk, source: str, rows: int) -> int:
    """Show the first rows of a source, personal data masked."""
    from exchange.cli.node import open_node
    from exchange.cli.records import lines, masked
    from exchange.validate.work import RESERVED, source_columns

    with open_node() as node:
        resource = node.context.resource(node.source_settings(source).resource)
        frame = node.source(source).preview(rows)
    if frame is None:
        talk.answer({"source": source, "resource": resource.name, "columns": [], "rows": []})
        talk.say(talk.t("目前没有数据", "nothing there now"))
        return 0
    found = {column: name for name, column in source_columns(resource, frame.columns).items()}
    records = masked(frame, resource)
    columns = [
        {"column": name, "type": str(dtype), "field": found.get(name)}
        for name, dtype in frame.schema.items()
    ]
    titles = {column: resource.field(name).title for column, name in found.items()}
    unnamed = [name for name in frame.columns if name not in found and name not in RESERVED]
    listed = []
    for number, record in enumerate(records, start=1):
        told = {name: value for name, value in record.items() if name not in unnamed}
        listed += [f"— {number}", *lines(told, titles)]
    answer = {"source": source, "resource": resource.name, "columns": columns, "rows": records}
    talk.answer(answer, "\n".join(listed))
    if unnamed:
        names = ", ".join(unnamed)
        talk.say(
            talk.t(
                f"目录没有登记这些列，不会采用，也不显示：{names}",
                f"the catalog does not name these columns: left out, not shown: {names}",
            )
        )
    return 0
