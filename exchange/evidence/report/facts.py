"""What files say of themselves: the few facts of the front, and all the rest."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from exchange.evidence.files import FileVerdict
from exchange.evidence.report.html import quiet, stated
from exchange.text import Text

LABELS: Final[Mapping[str, Text]] = {
    "department": Text("部门（统一社会信用代码）", "department (its code)"),
    "resource": Text("资源", "resource"),
    "title": Text("资源名称", "title of the resource"),
    "resource_code": Text("资源代码", "code of the resource"),
    "batch_no": Text("批次号", "batch number"),
    "rows": Text("记录数", "records"),
    "operations": Text("增 / 改 / 删", "inserts / updates / deletes"),
    "sealed_at": Text("封签时间", "sealed at"),
    "pulled_at": Text("采集时间", "pulled at"),
    "source": Text("来源", "source"),
    "catalog_version": Text("目录版本", "version of the catalog"),
    "catalog_digest": Text("目录摘要", "digest of the catalog"),
    "root": Text("树根", "root of the tree"),
    "statement": Text("声明摘要", "digest of the statement"),
    "previous": Text("前一批次声明摘要", "digest of the statement before"),
    "receipt_no": Text("回执编号", "receipt number"),
    "province": Text("接收方", "received by"),
    "received_at": Text("接收时间", "received at"),
    "rows_sent": Text("发送条数", "records sent"),
    "rows_accepted": Text("接收条数", "records accepted"),
    "rows_rejected": Text("拒收条数", "records rejected"),
    "code": Text("结果码", "result"),
    "message": Text("说明", "message"),
    "log": Text("存证日志", "evidence log"),
    "log_size": Text("日志条数", "entries of the log"),
    "checkpoint_at": Text("检查点时间", "checkpoint made at"),
    "witnesses": Text("见证方", "witnesses"),
    "names": Text("所签内容的名称", "name of what was signed"),
}
"""Facts in the order in which they are shown."""
VEILED: Final = Text(
    "记录（值已隐去；verify --reveal 显示）",
    "the record (values are hidden; verify --reveal shows them)",
)
_CONTROL: Final[Mapping[str, str]] = {"cd_operation": "增删改标识"}
_TIMES: Final = frozenset({"sealed_at", "pulled_at", "received_at", "checkpoint_at"})


@dataclass(frozen=True, slots=True)
class Titles:
    """Names that the reader's catalog has for what files only number."""

    departments: Mapping[str, str] = field(default_factory=dict)
    """统一社会信用代码 → name."""
    resources: Mapping[str, str] = field(default_factory=dict)
    """Resource → title."""
    fields: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Resource → field → title."""


_MAIN: Final = (
    *("department", "resource", "title", "batch_no", "rows", "sealed_at", "receipt_no"),
    *("province", "received_at", "rows_accepted", "log", "witnesses", "names"),
)
"""Facts of the front, in their order."""


def main_facts(verdict: FileVerdict, titles: Titles) -> Iterator[tuple[Text, str]]:
    """List what a reader asks first: department, resource, batch, receipt, times."""
    facts = _whole(verdict)
    resource, department = str(facts.get("resource", "")), str(facts.get("department", ""))
    facts["title"] = facts["title"] or titles.resources.get(resource, "")
    if name := titles.departments.get(department):
        facts["department"] = f"{name} {department}"
    yield from _labelled({key: facts[key] for key in _MAIN if key in facts}, verdict)


def said(verdict: FileVerdict) -> Iterator[tuple[Text, str]]:
    """List everything that a file says of itself, its size and its digests."""
    yield from _labelled(_whole(verdict), verdict)
    if verdict.size:
        yield Text("文件大小", "size of the file"), f"{verdict.size:,} B"
    for name, digest in verdict.digests.items():
        yield Text(f"文件摘要 {name.upper()}", f"{name.upper()} of the file"), digest


def _whole(verdict: FileVerdict) -> dict[str, object]:
    """Gather the facts of a file; of an evidence package, what its receipt says as well."""
    facts = dict(verdict.verification.facts)
    receipt = facts.get("receipt")
    if isinstance(receipt, Mapping):
        facts = {**receipt, **facts}
    if verdict.statement is not None:
        statement = verdict.statement
        facts["operations"] = f"{statement.inserts} / {statement.updates} / {statement.deletes}"
        facts["statement"] = statement.digest
    facts["title"] = _titles(verdict.schema).get("", "")
    return facts


def _labelled(facts: Mapping[str, object], verdict: FileVerdict) -> Iterator[tuple[Text, str]]:
    if verdict.kind == "seal":
        return
    for key, label in LABELS.items():
        value = facts.get(key)
        if isinstance(value, Sequence) and not isinstance(value, str):
            value = ", ".join(map(str, value))
        if value not in (None, ""):
            yield label, stated(str(value)) if key in _TIMES else str(value)


def record_rows(verdict: FileVerdict, titles: Titles) -> Iterator[tuple[Text, str]]:
    """List the record's values under the titles of their fields; empty ones are left out."""
    own = _titles(verdict.schema)
    known = titles.fields.get(str(_whole(verdict).get("resource", "")), {})
    for name, value in (verdict.record or {}).items():
        title = own.get(name) or known.get(name) or _CONTROL.get(name, "")
        if value is not None:
            yield Text(title, name), str(value)


def _titles(schema: str) -> dict[str, str]:
    """Return the titles in an Avro schema: the record's under the empty name, then the fields'."""
    declared = quiet(lambda: json.loads(schema))
    if not isinstance(declared, dict):
        return {}
    listed = declared.get("fields")
    named = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    found = {"": declared.get("doc")} | {str(each.get("name")): each.get("doc") for each in named}
    return {name: doc for name, doc in found.items() if isinstance(doc, str)}
