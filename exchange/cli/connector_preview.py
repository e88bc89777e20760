"""``exchange connector preview``: the first rows of a source, with or without a catalog entry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from exchange.cli.connector_discover import how, rows_text, show_top
from exchange.cli.invocation import Invocation
from exchange.cli.options import Json, bilingual
from exchange.cli.output import Output
from exchange.cli.reasons import note_kind
from exchange.errors import ExchangeError, Misconfigured
from exchange.text import Text

if TYPE_CHECKING:
    from datetime import date

    import polars as pl

    from exchange.catalog.model import Field, Resource
    from exchange.connect import Look, Source
    from exchange.node.node import Node

HELP = bilingual("看数据源的前几条（脱敏）", "first rows of a source, masked")
_GUESSED_ROWS = 1000
"""Rows by which types are guessed where the catalog names none."""
_MAX_NOTES = 20


def preview(
    context: typer.Context,
    source: str,
    *,
    rows: Annotated[int, typer.Option(min=1, max=1000)] = 5,
    as_json: Json = False,
) -> int:
    """Show the first rows of a source, personal data masked, and how they are read."""
    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    with call.open_node() as node:
        resource = known_resource(node, source)
        connector = node.source(source)
        entries = _described(connector)
        try:
            look = connector.look(max(rows, _GUESSED_ROWS))
        except Misconfigured:
            # Where no header is recognised, a person sees in which row it stands.
            for entry in entries:
                show_top(entry, output)
            raise
        today = node.clock().date()
    entry = next((item for item in entries if item["name"] == look.locator), {})
    _how_it_is_read(output, look, entry, entries)
    name = node.source_settings(source).resource
    answer: dict[str, Any] = {
        "source": source,
        "resource": name,
        "in_catalog": resource is not None,
        "place": look.locator,
        "read": {key: entry[key] for key in ("encoding", "delimiter", "header") if key in entry},
        "notes": [
            {"row": n.row, "kind": n.kind, "text": _masked_text(Text.split(n.text).en)}
            for n in look.notes
        ],
    }
    if look.frame is None:
        output.answer(answer | {"columns": [], "rows": []})
        output.inform("目前没有数据", "nothing there now")
        return 0
    if resource is None:
        _by_guess(output, answer, look.frame, rows, today)
        output.inform(
            f"目录中没有资源 {name}：按猜测的类型脱敏；起草：exchange catalog draft {source}",
            f"the catalog has no resource {name}: masked by guessed types; "
            f"draft one: exchange catalog draft {source}",
        )
    else:
        _by_catalog(output, answer, look.frame.head(rows), resource)
    return 0


def known_resource(node: Node, source: str) -> Resource | None:
    """Return the resource of a source; None where the catalog does not have it yet."""
    return node.catalog.resources.get(node.source_settings(source).resource)


def _described(connector: Source) -> list[dict[str, Any]]:
    """Ask how the source would be read; what fails here fails more clearly in the pull."""
    if not connector.discovers:
        return []
    try:
        return connector.discover()
    except ExchangeError:
        return []


def _how_it_is_read(
    output: Output, look: Look, entry: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]
) -> None:
    if look.locator:
        words = "; ".join(filter(None, (rows_text(entry), *how(entry, output))))
        output.inform(f"{look.locator}" + (f": {words}" if words else ""))
    for note in look.notes[:_MAX_NOTES]:
        row = f" {note.row}" if note.row else ""
        text = output.text(Text.split(note.text))
        kind = note_kind(note.kind, output.lang)
        output.inform(f"  [{kind}{row}] {_masked_text(text)}")
    if len(look.notes) > _MAX_NOTES:
        more = len(look.notes) - _MAX_NOTES
        output.inform(f"  另有 {more} 条", f"  {more} more")
    for item in entries:
        if item["name"] != look.locator and "why" in item and item.get("kind") != "skipped":
            output.inform(f"! {item['name']}: {output.text(Text(**item['why']))}")


def _masked_text(text: str) -> str:
    from exchange.catalog.masking import mask

    return mask("free_text", text)


def _by_guess(
    output: Output, answer: Mapping[str, Any], frame: pl.DataFrame, rows: int, today: date
) -> None:
    from exchange.validate.draft.proposal import guessed_fields, masked_rows

    fields: Mapping[str, Field] = guessed_fields(frame, today)
    records = masked_rows(frame.head(rows), fields)
    columns = [
        {"column": name, "type": str(frame[name].dtype), "field": None, "guess": field.type.spec}
        for name, field in fields.items()
    ]
    guesses = {name: field.type.spec for name, field in fields.items()}
    output.answer({**answer, "columns": columns, "rows": records}, _text(records, guesses))


def _by_catalog(
    output: Output, answer: Mapping[str, Any], frame: pl.DataFrame, resource: Resource
) -> None:
    from exchange.cli.record_text import masked
    from exchange.validate.source_frame import RESERVED, source_columns

    fields = {column: name for name, column in source_columns(resource, frame.columns).items()}
    records = masked(frame, resource)
    columns = [
        {"column": name, "type": str(dtype), "field": fields.get(name)}
        for name, dtype in frame.schema.items()
    ]
    titles = {column: resource.field(name).title for column, name in fields.items()}
    unnamed = [name for name in frame.columns if name not in fields and name not in RESERVED]
    named = [{n: v for n, v in record.items() if n not in unnamed} for record in records]
    output.answer({**answer, "columns": columns, "rows": records}, _text(named, titles))
    if unnamed:
        names = ", ".join(unnamed)
        output.inform(
            f"目录没有登记这些列，不会采用，也不显示：{names}",
            f"the catalog does not name these columns: left out, not shown: {names}",
        )


def _text(records: Sequence[Mapping[str, str]], titles: Mapping[str, str]) -> str:
    return "\n".join(_lines(records, titles))


def _lines(records: Sequence[Mapping[str, str]], titles: Mapping[str, str]) -> Iterator[str]:
    from exchange.cli.record_text import lines

    for number, record in enumerate(records, start=1):
        yield f"— {number}"
        yield from lines(record, titles)
