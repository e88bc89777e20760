"""Commands on refused records: list, show, export, replay."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from exchange.cli.invocation import Invocation, actor
from exchange.cli.options import Json, OptionalResource, bilingual, group
from exchange.cli.output import Output
from exchange.cli.quarantine_dismiss import HELP, dismiss
from exchange.cli.reasons import note_kind, reason
from exchange.errors import Rejected
from exchange.text import Text, counted

if TYPE_CHECKING:
    from exchange.catalog.model import Resource
    from exchange.node.node import Node
    from exchange.store.node.quarantine import QuarantineRow

_LIMIT = 10_000
"""Messages listed at once."""
_PULLS = 100
"""Newest pulls whose notes are summed up."""
_SHOWN_REASONS = 4
_SHOWN_DEFECT = 80
_DEFECT = "source.defect:_defect"
_DEFECTIVE = 200
"""Messages of which the list says what is broken at the source."""


app = group("quarantine", "隔离区：被拒收的记录", "quarantine: refused records")
app.command(help=HELP)(dismiss)


@app.command("list", help=bilingual("列出隔离的记录（按批）", "list what is in quarantine"))
def list_messages(
    context: typer.Context, resource: OptionalResource = None, *, as_json: Json = False
) -> int:
    """List the messages with records that wait, and what was no record at all."""
    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    with call.open_node() as node:
        if resource is not None:
            node.catalog.resource(resource)
        rows = node.store.quarantine.find(resource=resource, waiting=True, limit=_LIMIT)
        rows = [_of_waiting(node, row) for row in rows]
        broken = [row for row in rows if _DEFECT in row.reasons][:_DEFECTIVE]
        defects = {_address(row): _defects(node, row) for row in broken}
        notes = list(_notes(node, resource))
        resources = node.catalog.resources
    output.answer(
        {
            "messages": [_facts(row) | {"defects": defects.get(_address(row), {})} for row in rows],
            "notes": notes,
        },
        None if rows else output.t("没有待处理的记录", "nothing waits in quarantine"),
    )
    _table(output, rows, notes, resources, defects)
    return 0


def _table(
    output: Output,
    rows: Sequence[QuarantineRow],
    notes: Sequence[dict[str, Any]],
    resources: Mapping[str, Resource],
    defects: Mapping[str, Mapping[str, int]],
) -> None:
    if rows:
        output.table(
            output.t("隔离的记录", "quarantine"),
            [output.t(*pair) for pair in _HEADS],
            (
                (
                    _address(row),
                    row.source,
                    row.locator,
                    f"{row.waiting:,}/{row.rows:,}",
                    _reasons(_worded(row, resources, output.lang))
                    + _broken(defects.get(_address(row), {})),
                )
                for row in rows
            ),
        )
    if notes:
        output.table(
            output.t("不是记录的行（标题、分组等）", "rows that are no records"),
            [output.t(*pair) for pair in _NOTE_HEADS],
            ((n["source"], n["locator"], _reasons(_kinds(n["kinds"], output.lang))) for n in notes),
        )
    if rows:
        output.inform(
            "查看：exchange quarantine show 编号；导出：exchange quarantine export 资源 --to "
            "文件.xlsx",
            "see `exchange quarantine show ADDRESS`, `exchange quarantine export RESOURCE "
            "--to FILE.xlsx`",
        )


_HEADS = (
    ("编号", "address"),
    ("数据源", "source"),
    ("位置", "place"),
    ("待处理/共", "waiting/all"),
    ("原因", "reasons"),
)
_NOTE_HEADS = (("数据源", "source"), ("位置", "place"), ("行数", "rows"))


@app.command(help=bilingual("查看一批及每条的全部原因（脱敏）", "show records and every reason"))
def show(
    context: typer.Context,
    address: Annotated[str, typer.Argument(help="resource/partition/offset")],
    *,
    rows: Annotated[int, typer.Option(min=1, max=8192)] = 20,
    as_json: Json = False,
) -> int:
    """Show the records of one message, masked, each with every reason."""
    from exchange.cli.record_text import lines
    from exchange.pipeline.refused import refused_of
    from exchange.validate.refused_records import show as show_records

    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    with call.open_node() as node:
        row = _find(node, address)
        resource = node.catalog.resource(row.resource)
        entry = node.log.read(row.topic, row.partition, row.offset, max_entries=1)[0]
        touched = node.store.quarantine.decisions(row.topic, row.partition, row.offset)
    titles = {field.name: field.title for field in resource.fields}
    records = list(show_records(refused_of(entry), resource))
    states = [touched[place].state if place in touched else None for place in range(len(records))]
    page = list(zip(records, states, strict=True))[:rows]
    output.answer(
        _facts(row) | {"records": [record.as_dict() | {"state": state} for record, state in page]}
    )
    if output.as_json:
        return 0
    words = {
        "replayed": output.t("（已重新送检）", " (replayed)"),
        "dismissed": output.t("（已忽略）", " (dismissed)"),
        "settled": output.t("（已由新记录取代）", " (settled: a newer one is sealed)"),
        None: "",
    }
    for record, state in page:
        place = record.locator + ("" if record.row is None else f":{record.row}")
        output.answer(None, f"— {record.address}  {place}{words[state]}")
        for refusal in record.reasons:
            output.answer(None, f"  ✗ {refusal[output.lang]}  [{refusal['rule']}]")
        output.answer(None, "\n".join(lines(record.values, titles)))
    if len(records) > rows:
        output.inform(
            f"共 {len(records)} 条，只显示前 {rows} 条（--rows）",
            f"{rows} of {len(records)} records; see --rows",
        )
    return 0


@app.command(
    help=bilingual("导出 Excel 交给部门修改（脱敏）", "export to Excel for the department")
)
def export(
    context: typer.Context,
    resource: str,
    *,
    to: Annotated[Path, typer.Option(help=bilingual("文件 .xlsx", "file .xlsx"))],
    as_json: Json = False,
) -> int:
    """Write the waiting records to a spreadsheet for the department, masked."""
    from exchange.pipeline.refused import waiting
    from exchange.validate.sheet import export as write

    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    with call.open_node() as node:
        form = node.catalog.resource(resource)
        rows = node.store.quarantine.find(resource=resource, waiting=True, limit=_LIMIT)
        count = write(waiting(node.context, node.store, rows), form, to, node.catalog.tables)
    output.answer(
        {"resource": resource, "file": str(to), "rows": count},
        output.t(f"{to}：{count:,} 条记录", f"{to}: {counted(count, 'record')}"),
    )
    output.inform(
        f"改正后送回：exchange quarantine replay {resource} --file {to}",
        f"when corrected: exchange quarantine replay {resource} --file {to}",
    )
    return 0


@app.command(help=bilingual("重新送检（可带改正后的 Excel/CSV）", "send records through again"))
def replay(
    context: typer.Context,
    resource: str,
    *,
    file: Annotated[
        Path | None, typer.Option(help=bilingual("改正后的文件", "corrected file from export"))
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help=bilingual(
                "也送回已有更新记录的，旧值最后封签", "old values too, to be sealed last"
            ),
        ),
    ] = False,
    as_json: Json = False,
) -> int:
    """Send waiting records through again, with corrections when there is a file."""
    from exchange.cli.corrections import read_corrections
    from exchange.pipeline.replay import replay as send_back

    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    with call.open_node() as node:
        contract = node.catalog.resource(resource)
        corrections = None if file is None else read_corrections(file)
        by = actor()
        replayed = send_back(
            node.context, node.store, contract, by=by, corrections=corrections, force=force
        )
        numbers = {name: getattr(replayed, name) for name in ("rows", "held", "stale", "unknown")}
        if replayed.rows:
            about = {"pull": replayed.pull, "file": file and file.name, "force": force}
            detail = json.dumps(numbers | about)
            node.store.audit.append(by, "quarantine.replay", resource, detail)
    output.answer(
        {"resource": resource, "pull": replayed.pull if replayed.rows else None, **numbers},
        output.t(
            f"{replayed.rows:,} 条已送回待检", f"{counted(replayed.rows, 'record')} went back"
        ),
    )
    if replayed.held:
        output.inform(
            f"{replayed.held:,} 条重复记录未送回，以免重复封签；确需送回的请用 --file 指明",
            f"{replayed.held:,} repeats stay, else they would be sealed twice; "
            "name them with --file to send them all the same",
        )
    if replayed.stale:
        output.inform(
            f"{replayed.stale:,} 条未送回：同一主键已有更新的记录；确需旧值的加 --force",
            f"{replayed.stale:,} stay: a newer record of their key is there; --force sends the "
            "old values of those that a newer sealed one has settled",
        )
    if replayed.unknown:
        output.inform(
            f"文件中有 {replayed.unknown:,} 条已处理过或不在隔离区",
            f"{replayed.unknown:,} records of the file are not waiting: replayed, or unknown",
        )
    if replayed.rows:
        output.inform(
            "运行中的节点会自动检验；否则运行 exchange run --once --only seal，"
            "再运行 exchange run --once --only cascade",
            "a running node checks them; else `exchange run --once --only seal`, "
            "then `exchange run --once --only cascade`",
        )
    return 0


def _defects(node: Node, row: QuarantineRow) -> dict[str, int]:
    """Count what is broken at its source about the records that wait, the most frequent."""
    from exchange.pipeline.refused import waiting
    from exchange.validate.refused_records import defects

    counts: Counter[str] = Counter()
    for message in waiting(node.context, node.store, [row]):
        counts.update(defects(message.frame))
    return dict(counts.most_common(_SHOWN_REASONS))


def _of_waiting(node: Node, row: QuarantineRow) -> QuarantineRow:
    """Count the reasons of the records that wait, where some of a message do not."""
    if row.waiting == row.rows:
        return row
    from exchange.pipeline.refused import waiting
    from exchange.validate.refused_records import histogram

    counts: Counter[str] = Counter()
    for message in waiting(node.context, node.store, [row]):
        counts.update(histogram(message.frame))
    return replace(row, reasons=counts)


def _address(row: QuarantineRow) -> str:
    """Name a message as ``show`` takes it."""
    return f"{row.resource}/{row.partition}/{row.offset}"


def _find(node: Node, address: str) -> QuarantineRow:
    from exchange.log import quarantine_topic

    resource, _, place = address.partition("/")
    partition, _, offset = place.partition("/")
    row = None
    if partition.isdecimal() and offset.isdecimal():
        topic = quarantine_topic(resource)
        row = node.store.quarantine.get(topic, int(partition), int(offset))
    if row is None:
        raise Rejected(
            Text(f"隔离区没有 {address}", f"quarantine has no {address}"),
            hint=Text(
                "编号写作 资源/分区/偏移量，见 exchange quarantine list",
                "an address is resource/partition/offset, see `exchange quarantine list`",
            ),
        )
    return row


def _notes(node: Node, resource: str | None) -> Iterable[dict[str, Any]]:
    """Sum up by place what the newest pulls met that is no record."""
    for pull in node.store.pulls.find(limit=_PULLS):
        if resource is not None and pull.resource != resource:
            continue
        kinds: dict[str, Counter[str]] = {}
        for note in node.store.pulls.notes(pull.pull):
            kinds.setdefault(note.locator, Counter())[note.kind] += 1
        for locator, counts in kinds.items():
            yield {
                "resource": pull.resource,
                "source": pull.source,
                "pull": pull.pull,
                "locator": locator,
                "kinds": dict(counts),
            }


def _worded(
    row: QuarantineRow, resources: Mapping[str, Resource], lang: str
) -> Iterator[tuple[str, int]]:
    for name, count in row.reasons.items():
        yield reason(name, resources.get(row.resource), lang), count


def _kinds(counts: Mapping[str, int], lang: str) -> Iterator[tuple[str, int]]:
    for kind, count in counts.items():
        yield note_kind(kind, lang), count


def _reasons(counts: Iterable[tuple[str, int]]) -> str:
    """Write a histogram, most frequent first."""
    ordered = sorted(counts, key=lambda pair: -pair[1])
    rules = ", ".join(f"{name} {count:,}" for name, count in ordered[:_SHOWN_REASONS])
    return rules + (" …" if len(ordered) > _SHOWN_REASONS else "")


def _broken(defects: Mapping[str, int]) -> str:
    """Say what is broken most often at the source; empty when nothing is."""
    return next((f": {text[:_SHOWN_DEFECT]}" for text in defects), "")


def _facts(row: QuarantineRow) -> dict[str, Any]:
    return {
        "address": _address(row),
        "resource": row.resource,
        "source": row.source,
        "pull": row.pull,
        "locator": row.locator,
        "rows": row.rows,
        "waiting": row.waiting,
        "replayed": row.replayed,
        "dismissed": row.dismissed,
        "settled": row.settled,
        "reasons": dict(row.reasons),
        "catalog_version": row.catalog_version,
        "created_at": row.created_at,
    }
