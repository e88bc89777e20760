"""What goes on only when a person acts, and the command for it: for status and doctor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from exchange.cascade.delivery import State
from exchange.errors import ExchangeError
from exchange.foreign import original
from exchange.log import CURSORS, SEALS
from exchange.text import Text, counted

if TYPE_CHECKING:
    from datetime import datetime

    from exchange.log import Log
    from exchange.node.node import Node
    from exchange.run.audit_schedule import LastAudit
    from exchange.run.status import ResourceStatus
    from exchange.store.glance import LastPull


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that waits for a person."""

    subject: str
    """A source, a resource, or one of its partitions."""
    what: Text
    do: str
    """The command that shows it, or ends it."""

    def as_dict(self) -> dict[str, Any]:
        """Return the item for JSON."""
        return {"subject": self.subject, "what": self.what._asdict(), "do": self.do}


def last_pulls(node: Node) -> dict[str, LastPull]:
    """Return the newest pull of each source."""
    glance = node.glance()
    pulls = {name: glance.last_pull(name) for name in node.settings.sources}
    return {name: pull for name, pull in pulls.items() if pull is not None}


def last_checks(node: Node) -> dict[str, datetime]:
    """Return when a source of each resource was last asked, whether it had anything or not."""
    from exchange.pipeline.messages import PullState, pull_key

    checks: dict[str, datetime] = {}
    for name, source in node.settings.sources.items():
        state = PullState.of(node.log.latest(CURSORS, pull_key(name)))
        if state is not None and state.pull:
            known = checks.get(source.resource, state.began)
            checks[source.resource] = max(known, state.began)
    return checks


def items(
    node: Node,
    statuses: Sequence[ResourceStatus],
    pulls: Mapping[str, LastPull],
    broken: ExchangeError | None = None,
) -> Iterator[Item]:
    """Name what waits for a person: the catalog, seals, then resources, then sources.

    ``broken``: why the catalog cannot be read; what needs it is not looked at then.
    """
    if broken is not None:
        yield Item("catalog", broken.what, "exchange catalog check")
    else:
        yield from of_seals(node)
    for status in statuses:
        yield from of_resource(node, status)
    audit = last_audit_of(node)
    if audit is not None and audit.error is not None:
        yield Item("audit", audit.error.what, "exchange audit")
    for name in node.settings.sources:
        if (pause := pause_of(node, name)) is not None:
            yield Item(name, pause, f"exchange source resume {name}")
        failure = failure_of(node, name)
        if failure is not None:
            ends = f"exchange run --once {name}"  # it ends what was mended
            if _has_deletions(node, name):
                ends = f"exchange source deletions {name}"
            yield Item(name, failure, ends)
        elif (pull := pulls.get(name)) is not None and pull.error:
            yield Item(name, original(pull.error), f"exchange run --once {name}")
    for name in node.settings.sources:
        yield from _of_columns(node, name)


def _of_columns(node: Node, name: str) -> Iterator[Item]:
    """Name the columns of a source that have vanished or appeared."""
    absent, appeared = _drift(node, name)
    if absent:
        text = Text(
            f"来源缺少目录登记的列：{absent}",
            f"the source lacks columns that the catalog names: {absent}",
        )
        yield Item(name, text, f"exchange connector check {name}")
    if appeared:
        text = Text(
            f"来源出现目录没有登记的新列：{appeared}",
            f"columns have appeared that the catalog does not name: {appeared}",
        )
        yield Item(name, text, f"exchange source accept {name}")


def of_seals(node: Node) -> Iterator[Item]:
    """Name the seals that departments use and that may not seal, and what ends it."""
    from exchange.pipeline.seal_register import stopped_seals
    from exchange.seal.eseal.lifecycle import FOLLOWING, TITLES, SealState, Step

    log: Log = node.cluster if node.settings.log.driver == "kafka" else node.log
    if not log.topics([SEALS]):
        return
    stopped = stopped_seals(log)
    for name, es_id in node.seals.numbers(node.catalog) if stopped else ():
        if es_id not in stopped:
            continue
        _, state, reason = stopped[es_id]
        title, step = TITLES[SealState(state)], FOLLOWING.get(SealState(state), Step.MAKE)
        text = Text(
            f"印章 {es_id} {title.zh}，不得盖章" + (f"：{reason}" if reason else ""),
            f"seal {es_id} is {title.en}: it seals nothing" + (f" ({reason})" if reason else ""),
        )
        filing = " --number N" if step is Step.FILE else ""
        yield Item(f"seal {name}", text, f"exchange seal {step} {name}{filing}")


def last_audit_of(node: Node) -> LastAudit | None:
    """Return what the newest report of an audit by schedule says; None: there is none."""
    section = node.settings.audit
    if section is None:
        return None
    from exchange.run.audit_schedule import last_audit

    return last_audit(node.settings.resolve(section.folder))


def of_resource(node: Node, status: ResourceStatus) -> Iterator[Item]:
    """Name what waits of a resource."""
    name = status.resource
    for partition, why in status.halted.items():
        yield Item(f"{name}/{partition}", why, f"exchange release {name}")
    if wrong := status.deliveries.get(State.HALTED, 0):
        text = Text(f"{wrong} 个批次的回执不成立", f"wrong receipt of {counted(wrong, 'batch')}")
        yield Item(name, text, f"exchange cascade retry {name}")
    if status.deliveries.get(State.WAITING) and (blocked := node.glance().blocked(name)):
        why = Text.split(blocked)
        text = Text(f"投递等待：{why.zh}", f"a batch waits: {why.en}")
        do = f"exchange cascade list {name} --state waiting"
        if blocked.startswith("425 "):  # sealed in the future: it waits for that time
            do = f'exchange cascade reseal {name} --reason "…"'
        yield Item(name, text, do)
    if refused := status.deliveries.get(State.REFUSED, 0):
        text = Text(
            f"省级退回 {refused} 个批次", f"{counted(refused, 'batch')} refused by the province"
        )
        yield Item(name, text, f"exchange cascade list {name} --state refused")
    if status.quarantine and (unreadable := node.glance().unreadable(name)):
        text = Text(
            f"{unreadable} 条消息不能读作记录，已隔离",
            f"{unreadable} messages cannot be read as records: they are in quarantine",
        )
        yield Item(name, text, f"exchange quarantine list {name}")


def pause_of(node: Node, name: str) -> Text | None:
    """Return since when a source is paused, by whom and why; None: it is not."""
    from exchange.pipeline.pause import Pause, pause_key

    pause = Pause.of(node.log.latest(CURSORS, pause_key(name)))
    return None if pause is None else pause.describe()


def failure_of(node: Node, name: str) -> Text | None:
    """Return why the last pull of a source failed and what to do; None: it went well."""
    from exchange.pipeline.failure import PullFailure, failure_key

    failure = PullFailure.of(node.log.latest(CURSORS, failure_key(name)))
    if not failure.kind:
        return None
    what, hint = failure.what, failure.hint
    return Text(f"{what.zh}（{hint.zh}）", f"{what.en} ({hint.en})")


def _has_deletions(node: Node, name: str) -> bool:
    """Tell whether deletions of a source wait for a decision."""
    from exchange.pipeline.difference import waiting
    from exchange.pipeline.messages import PullState, pull_key

    if node.settings.sources[name].difference is None:
        return False
    state = PullState.of(node.log.latest(CURSORS, pull_key(name)))
    cursor = state.cursor if state is not None else None
    if not cursor:
        return False
    waits = waiting(node.difference_folder(name), cursor.get("known"))
    return waits is not None and cursor.get("decision", {}).get("deleted", -1) < waits.deleted


def _drift(node: Node, name: str) -> tuple[str, str]:
    """Return the columns that the last pull of a source lacked, and those that appeared."""
    from exchange.pipeline.messages import PullState, pull_key

    state = PullState.of(node.log.latest(CURSORS, pull_key(name)))
    return ("", "") if state is None else (", ".join(state.absent), ", ".join(state.appeared))
