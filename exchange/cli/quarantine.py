"""Commands on refused records: list, show, export, replay."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exchange.cli.output import Talk
from exchange.cli.reasons import reason
from exchange.errors import Rejected
from exchange.text import Text

if TYPE_CHECKING:
    from exchange.catalog.model import Resource
    from exchange.node.node import Node
    from exchange.store.rows import QuarantineRow

_LIMIT = 10_000
"""Messages listed at once."""
_PULLS = 100
"""Newest pulls whose notes are summed up."""
_SHOWN_REASONS = 4


def listing(talk: Talk, resource: str | None) -> int:
    """List the messages with records that wait, and what was no record at all."""
    from exchange.cli.node import open_node

    with open_node() as node:
        if resource is not None:
            node.context.resource(resource)
        rows = node.store.quarantine.find(resource=resource, waiting=True, limit=_LIMIT)
        notes = list(_notes(node, resource))
        resources = node.catalog.resources
    talk.answer(
        {"messages": [_told(row) for row in rows], "notes": notes},
        None if rows else talk.t("没有待处理的记录", "nothing waits in quarantine"),
    )
    _table(talk, rows, notes, resources)
    return 0


def _table(
    talk: Talk,
    rows: Sequence[QuarantineRow],
    notes: Sequence[dict[str, Any]],
    resources: Mapping[str, Resource],
) -> None:
    if rows:
        talk.table(
            talk.t("隔离的记录", "quarantine"),
            [talk.t(*pair) for pair in _HEADS],
            (
                (
                    address(row),
                    row.source,
                    row.locator,
                    f"{row.waiting:,}/{row.rows:,}",
                    _reasons(_worded(row, resources, talk.lang)),
                )
                for row in rows
            ),
        )
    if notes:
        talk.table(
            talk.t("不是记录的行（标题、分组等）", "rows that are no records"),
            [talk.t(*pair) for pair in _NOTE_HEADS],
            ((n["source"], n["locator"], _reasons(n["kinds"].items())) for n in notes),
        )
    if rows:
        talk.say(
            talk.t(
                "查看：exchange quarantine show 编号；导出：exchange quarantine export 资源 --to "
                "文件.xlsx",
                "see `exchange quarantine show ADDRESS`, `exchange quarantine export RESOURCE "
                "--to FILE.xlsx`",
            )
        )


_HEADS = (
    ("编号", "address"),
    ("数据源", "source"),
    ("位置", "place"),
    ("待处理/共", "waiting/all"),
    ("原因", "reasons"),
)
_NOTE_HEADS = (("数据源", "source"), ("位置", "place"), ("行数", "rows"))


def show(talk: Talk, named: str, rows: int) -> int:
    """Show the records of one message, masked, each with every reason."""
    from exchange.cli.node import open_node
    from exchange.cli.records import lines
    from exchange.pipeline.replay import refused_of
    from exchange.validate.quarantine import show as shown

    with open_node() as node:
        row = _find(node, named)
        resource = node.context.resource(row.resource)
        entry = node.log.read(row.topic, row.partition, row.offset, max_entries=1)[0]
        touched = node.store.quarantine.touched(row.topic, row.partition, row.offset)
    titles = {field.name: field.title for field in resource.fields}
    records = list(shown(refused_of(entry), resource))
    states = [touched[place].state if place in touched else None for place in range(len(records))]
    listed = list(zip(records, states, strict=True))[:rows]
    talk.answer(
        _told(row) | {"records": [one.as_dict() | {"state": state} for one, state in listed]}
    )
    if talk.as_json:
        return 0
    words = {
        "replayed": talk.t("（已重新送检）", " (replayed)"),
        "dismissed": talk.t("（已忽略）", " (dismissed)"),
        None: "",
    }
    for record, state in listed:
        place = record.locator + ("" if record.row is None else f":{record.row}")
        talk.answer(None, f"— {record.address}  {place}{words[state]}")
        for one in record.reasons:
            talk.answer(None, f"  ✗ {one[talk.lang]}  [{one['rule']}]")
        talk.answer(None, "\n".join(lines(record.values, titles)))
    if len(records) > rows:
        talk.say(
            talk.t(
                f"共 {len(records)} 条，只显示前 {rows} 条（--rows）",
                f"{rows} of {len(records)} records; see --rows",
            )
        )
    return 0


def export(talk: Talk, resource: str, to: Path) -> int:
    """Write the waiting records to a spreadsheet for the department, masked."""
    from exchange.cli.node import open_node
    from exchange.pipeline.replay import waiting
    from exchange.validate.sheet import export as write

    with open_node() as node:
        found = node.context.resource(resource)
        rows = node.store.quarantine.find(resource=resource, waiting=True, limit=_LIMIT)
        count = write(waiting(node.context, node.store, rows), found, to)
    talk.answer(
        {"resource": resource, "file": str(to), "rows": count},
        talk.t(f"{to}：{count:,} 条记录", f"{to}: {count:,} records"),
    )
    talk.say(
        talk.t(
            f"改正后送回：exchange quarantine replay {resource} --file {to}",
            f"when corrected: exchange quarantine replay {resource} --file {to}",
        )
    )
    return 0


def replay(talk: Talk, resource: str, file: Path | None) -> int:
    """Send waiting records through again, with corrections when there is a file."""
    from exchange.cli.actor import actor
    from exchange.cli.node import open_node
    from exchange.pipeline.replay import replay as send_back
    from exchange.validate.sheet import read_corrections

    with open_node() as node:
        found = node.context.resource(resource)
        corrections = None if file is None else read_corrections(file)
        by = actor()
        done = send_back(node.context, node.store, found, by=by, corrections=corrections)
        numbers = {"rows": done.rows, "held": done.held, "unknown": done.unknown}
        if done.rows:
            detail = json.dumps(numbers | {"pull": done.pull, "file": file and file.name})
            node.store.audit.append(by, "quarantine.replay", resource, detail)
    talk.answer(
        {"resource": resource, "pull": done.pull if done.rows else None, **numbers},
        talk.t(f"{done.rows:,} 条已送回待检", f"{done.rows:,} records went back"),
    )
    if done.held:
        talk.say(
            talk.t(
                f"{done.held:,} 条重复记录未送回，以免重复封签；确需送回的请用 --file 指明",
                f"{done.held:,} repeats stay, else they would be sealed twice; "
                "name them with --file to send them all the same",
            )
        )
    if done.unknown:
        talk.say(
            talk.t(
                f"文件中有 {done.unknown:,} 条已处理过或不在隔离区",
                f"{done.unknown:,} records of the file are not waiting: done before, or unknown",
            )
        )
    if done.rows:
        talk.say(
            talk.t(
                "运行中的节点会自动检验；否则运行 exchange run --once --only seal，"
                "再运行 exchange run --once --only cascade",
                "a running node checks them; else `exchange run --once --only seal`, "
                "then `exchange run --once --only cascade`",
            )
        )
    return 0


def address(row: QuarantineRow) -> str:
    """Name a message as ``show`` takes it."""
    return f"{row.resource}/{row.partition}/{row.offset}"


def _find(node: Node, named: str) -> QuarantineRow:
    from exchange.log import quarantine_topic

    resource, _, place = named.partition("/")
    partition, _, offset = place.partition("/")
    row = None
    if partition.isdecimal() and offset.isdecimal():
        topic = quarantine_topic(resource)
        row = node.store.quarantine.get(topic, int(partition), int(offset))
    if row is None:
        raise Rejected(
            Text(f"隔离区没有 {named}", f"quarantine has no {named}"),
            hint=Text(
                "编号写作 资源/分区/偏移量，见 exchange quarantine list",
                "an address is resource/partition/offset, see `exchange quarantine list`",
            ),
        )
    return row


def _notes(node: Node, resource: str | None) -> Iterable[dict[str, Any]]:
    """Sum up by place what the newest pulls found that is no record."""
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


def _reasons(counts: Iterable[tuple[str, int]]) -> str:
    """Write a histogram, most frequent first."""
    ordered = sorted(counts, key=lambda pair: -pair[1])
    shown = ", ".join(f"{name} {count:,}" for name, count in ordered[:_SHOWN_REASONS])
    return shown + (" …" if len(ordered) > _SHOWN_REASONS else "")


def _told(row: QuarantineRow) -> dict[str, Any]:
    return {
        "address": address(row),
        "resource": row.resource,
        "source": row.source,
        "pull": row.pull,
        "locator": row.locator,
        "rows": row.rows,
        "waiting": row.waiting,
        "replayed": row.replayed,
        "dismissed": row.dismissed,
        "reasons": dict(row.reasons),
        "catalog_version": row.catalog_version,
        "created_at": row.created_at,
    }
