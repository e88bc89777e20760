"""The command status: what needs a person first, then how every resource stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from exchange.cascade.delivery import State
from exchange.cli.node import open_node
from exchange.cli.output import Talk
from exchange.log import publish_group
from exchange.node.node import Node
from exchange.run.status import Standing, Survey
from exchange.store.rows import PullRow
from exchange.text import Text

_GROUPS = ("seal", "cascade", "store", "evidence")


def status(talk: Talk) -> int:
    """Show each resource: what came in, went out, waits or is halted, and who is behind."""
    with open_node() as node:
        standings = Survey(node)()
        pulls = _last_pulls(node)
        now = node.clock()
    rows = [_row(one, pulls, now) for one in standings]
    wanted = [*_attention(standings, pulls)]
    talk.answer({"attention": wanted, "resources": rows})
    if talk.as_json:
        return 0
    for item in wanted:
        talk.answer(None, f"! {item['subject']}: {item['what'][talk.lang]}\n  → {item['do']}")
    _resources(talk, rows)
    _lags(talk, rows)
    return 0


def _last_pulls(node: Node) -> dict[str, PullRow]:
    """Return the newest pull of each source."""
    found = {name: node.store.pulls.find(source=name, limit=1) for name in node.settings.sources}
    return {name: pulls[0] for name, pulls in found.items() if pulls}


def _attention(
    standings: Sequence[Standing], pulls: Mapping[str, PullRow]
) -> Iterator[dict[str, Any]]:
    """Name what goes on only when a person acts, and the command for it."""
    for one in standings:
        for partition, why in one.halted.items():
            yield _item(f"{one.resource}/{partition}", why, f"exchange release {one.resource}")
        if wrong := one.deliveries.get(State.HALTED, 0):
            yield _item(
                one.resource,
                Text(f"{wrong} 个批次的回执不成立", f"wrong receipt of {wrong} batches"),
                f"exchange cascade retry {one.resource}",
            )
        if refused := one.deliveries.get(State.REFUSED, 0):
            yield _item(
                one.resource,
                Text(f"省级退回 {refused} 个批次", f"{refused} batches refused by the province"),
                f"exchange cascade list {one.resource} --state refused",
            )
    for name, pull in pulls.items():
        if pull.error:
            yield _item(name, Text(pull.error, pull.error), f"exchange connector check {name}")


def _item(subject: str, what: Text, do: str) -> dict[str, Any]:
    return {"subject": subject, "what": what._asdict(), "do": do}


def _row(one: Standing, pulls: Mapping[str, PullRow], now: datetime) -> dict[str, Any]:
    halted = next(iter(one.halted.values()), None)
    if halted is None and one.deliveries.get(State.HALTED):
        halted = Text("回执不成立", "wrong receipt")
    ended = [
        pull.ended_at
        for pull in pulls.values()
        if pull.resource == one.resource and pull.ended_at is not None
    ]
    return {
        "resource": one.resource,
        "unchecked": one.behind("seal"),
        "quarantine": one.quarantine,
        "batches": one.batches,
        "receipts": one.deliveries.get(State.RECEIPTED, 0),
        "waiting": one.waiting,
        "refused": one.deliveries.get(State.REFUSED, 0),
        "halted": halted._asdict() if halted is not None else None,
        "last_pull": max(ended).isoformat(timespec="seconds") if ended else None,
        "partitions": one.partitions,
        "lag": {reader: _lag(one, group, now) for reader, group in _groups(one).items()},
    }


def _groups(one: Standing) -> dict[str, str]:
    """Give the group of each reader; that which publishes only when records are published."""
    publishing = publish_group(one.resource)
    published = any(lag.group == publishing for lag in one.lags)
    return {name: name for name in _GROUPS} | ({"publish": publishing} if published else {})


def _lag(one: Standing, group: str, now: datetime) -> dict[str, Any]:
    since = one.since(group)
    return {
        "behind": one.behind(group),
        "seconds": max(0, int((now - since).total_seconds())) if since is not None else 0,
        "partitions": sum(lag.behind > 0 for lag in one.lags if lag.group == group),
    }


def _resources(talk: Talk, rows: Sequence[Mapping[str, Any]]) -> None:
    heads = {
        "resource": talk.t("资源", "resource"),
        "unchecked": talk.t("未检", "unchecked"),
        "quarantine": talk.t("隔离", "quarantine"),
        "batches": talk.t("批次", "batches"),
        "receipts": talk.t("回执", "receipts"),
        "waiting": talk.t("待投递", "waiting"),
        "refused": talk.t("退回", "refused"),
        "halted": talk.t("停止原因", "halted"),
        "last_pull": talk.t("最近拉取", "last pull"),
    }
    body = [
        [row[name][talk.lang] if name == "halted" and row[name] else row[name] for name in heads]
        for row in rows
    ]
    talk.table(talk.t("节点状态", "status"), [*heads.values()], body)


def _lags(talk: Talk, rows: Sequence[Mapping[str, Any]]) -> None:
    """Show who is behind; nothing when nobody is."""
    groups = {
        "seal": talk.t("校验封签", "check and seal"),
        "cascade": talk.t("投递", "deliver"),
        "store": talk.t("存储", "store"),
        "evidence": talk.t("存证", "evidence"),
        "publish": talk.t("发布", "publish"),
    }
    behind = [
        (
            row["resource"],
            groups[group],
            lag["behind"],
            talk.t(f"{lag['seconds']} 秒", f"{lag['seconds']} s"),
            f"{lag['partitions']}/{row['partitions']}",
        )
        for row in rows
        for group, lag in row["lag"].items()
        if lag["behind"]
    ]
    if behind:
        heads = [
            talk.t("资源", "resource"),
            talk.t("环节", "reader"),
            talk.t("积压（消息）", "entries behind"),
            talk.t("最久", "oldest"),
            talk.t("分区", "partitions"),
        ]
        talk.table(talk.t("积压", "lag"), heads, behind)
