"""The command ``status``: what needs a person first, then how every resource stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import typer

from exchange.cascade.delivery import State
from exchange.cli.attention import items, last_audit_of, last_checks, last_pulls
from exchange.cli.invocation import Invocation
from exchange.cli.options import Json, alone, bilingual
from exchange.cli.output import Output
from exchange.errors import ExchangeError
from exchange.log import publish_group
from exchange.text import Text, beijing, with_beijing

if TYPE_CHECKING:
    from exchange.node.node import Node
    from exchange.run.status import ResourceStatus
    from exchange.store.glance import LastPull

_GROUPS = ("seal", "cascade", "store", "evidence")

_RESULTS = {True: ("通过", "passed"), False: ("未通过", "failed")}

app = alone()


@app.command(
    help=bilingual("各资源的数量、积压、停止原因", "what came in, went out, waits or is halted")
)
def status(context: typer.Context, *, as_json: Json = False) -> int:
    """Show each resource: what came in, went out, waits or is halted, and who is behind."""
    from exchange.run.status import StatusReader

    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    with call.open_node() as node:
        statuses = StatusReader(node)()
        pulls, checks = last_pulls(node), last_checks(node)
        broken = _broken_catalog(node)
        attention = [item.as_dict() for item in items(node, statuses, pulls, broken)]
        audited = last_audit_of(node)
        now = node.clock()
    rows = [_row(status, pulls, checks, now) for status in statuses]
    audit = None if audited is None else audited.as_dict()
    output.answer({"attention": attention, "resources": rows, "audit": audit})
    code = 0 if broken is None else broken.exit_code
    if output.as_json:
        return code
    for item in attention:
        output.answer(None, f"! {item['subject']}: {item['what'][output.lang]}\n  → {item['do']}")
    _resources(output, rows)
    _lags(output, rows)
    if audited is not None:
        result = output.t(*_RESULTS[audited.result == "passed"])
        at = beijing(audited.at)
        output.answer(None, output.t(f"最近审计 {at}：{result}", f"last audit {at}: {result}"))
    return code


def _broken_catalog(node: Node) -> ExchangeError | None:
    """Return why the catalog cannot be read; None: it can."""
    from exchange.catalog.loader import check_entries

    try:
        check_entries(node.settings.resolve(node.settings.catalog))
    except ExchangeError as error:
        return error
    return None


def _row(
    status: ResourceStatus,
    pulls: Mapping[str, LastPull],
    checks: Mapping[str, datetime],
    now: datetime,
) -> dict[str, Any]:
    halted = next(iter(status.halted.values()), None)
    if halted is None and status.deliveries.get(State.HALTED):
        halted = Text("回执不成立", "wrong receipt")
    ended = [
        pull.ended_at
        for pull in pulls.values()
        if pull.resource == status.resource and pull.ended_at is not None
    ]
    return {
        "resource": status.resource,
        "unchecked": status.behind("seal"),
        "quarantine": status.quarantine,
        "batches": status.batches,
        "receipts": status.deliveries.get(State.RECEIPTED, 0),
        "waiting": status.waiting,
        "refused": status.deliveries.get(State.REFUSED, 0),
        "halted": halted._asdict() if halted is not None else None,
        "last_pull": _newest(max(ended, default=None)),
        "last_check": _newest(checks.get(status.resource)),
        "partitions": status.partitions,
        "lag": {reader: _lag(status, group, now) for reader, group in _groups(status).items()},
    }


def _newest(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")


def _groups(status: ResourceStatus) -> dict[str, str]:
    """Give the group of each reader; the group of publishing only when records are published."""
    publishing = publish_group(status.resource)
    published = any(lag.group == publishing for lag in status.lags)
    return {name: name for name in _GROUPS} | ({"publish": publishing} if published else {})


def _lag(status: ResourceStatus, group: str, now: datetime) -> dict[str, Any]:
    since = status.since(group)
    return {
        "behind": status.behind(group),
        "seconds": max(0, int((now - since).total_seconds())) if since is not None else 0,
        "partitions": sum(lag.behind > 0 for lag in status.lags if lag.group == group),
    }


def _resources(output: Output, rows: Sequence[Mapping[str, Any]]) -> None:
    heads = {
        "resource": output.t("资源", "resource"),
        "unchecked": output.t("未检（消息）", "unchecked (messages)"),
        "quarantine": output.t("隔离（记录）", "quarantine (records)"),
        "batches": output.t("批次", "batches"),
        "receipts": output.t("回执", "receipts"),
        "waiting": output.t("待投递", "waiting"),
        "refused": output.t("退回", "refused"),
        "halted": output.t("停止原因", "halted"),
        "last_pull": output.t("最近数据", "last rows"),
        "last_check": output.t("最近检查", "last check"),
    }
    body = [[_cell(output, name, row[name]) for name in heads] for row in rows]
    output.table(output.t("节点状态", "status"), [*heads.values()], body)


def _cell(output: Output, name: str, value: Any) -> object:
    if name == "halted" and value:
        return value[output.lang]
    return with_beijing(value) if name in {"last_pull", "last_check"} and value else value


def _lags(output: Output, rows: Sequence[Mapping[str, Any]]) -> None:
    """Show who is behind; nothing when nobody is."""
    groups = {
        "seal": output.t("校验封签", "check and seal"),
        "cascade": output.t("投递", "deliver"),
        "store": output.t("存储", "store"),
        "evidence": output.t("存证", "evidence"),
        "publish": output.t("发布", "publish"),
    }
    behind = [
        (
            row["resource"],
            groups[group],
            lag["behind"],
            output.t(f"{lag['seconds']} 秒", f"{lag['seconds']} s"),
            f"{lag['partitions']}/{row['partitions']}",
        )
        for row in rows
        for group, lag in row["lag"].items()
        if lag["behind"]
    ]
    if behind:
        heads = [
            output.t("资源", "resource"),
            output.t("环节", "reader"),
            output.t("积压（消息）", "entries behind"),
            output.t("最久", "oldest"),
            output.t("分区", "partitions"),
        ]
        output.table(output.t("积压", "lag"), heads, behind)
