"""Which notices (通知) are due: decided from what is wrong now and what was sent, without I/O.

A problem is told when it has stood for a while, again at most every so many hours while it
stands, and once when it is over. Problems that come together are told in one notice, and notices
keep a distance: a node on which everything fails sends no storm. A notice names stages, sources
and resources and counts; never a value, a reason or an error's own words, which may quote data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, time, timedelta
from typing import Final, Self

from exchange.log import Entry, Message
from exchange.pipeline.messages import STATE_VERSION, state_message, state_of
from exchange.run.outcome import RunOutcome
from exchange.text import BEIJING, Text, beijing

_LINES = 20
"""Problems that one notice names; of more it tells the number."""
TITLES: Final[Mapping[str, Text]] = {
    "halt": Text("资源已停止", "the resource is halted"),
    "pull": Text("拉取失败", "the pull fails"),
    "schedule": Text("无法安排拉取", "the pull cannot be planned"),
    "seal": Text("校验封签失败", "checking and sealing fails"),
    "cascade": Text("投递失败", "the delivery fails"),
    "refused": Text("省级平台退回批次", "the province refused a batch"),
    "overdue": Text("回执逾期", "the receipt is overdue"),
    "evidence": Text("存证日志异常", "the evidence log fails"),
    "audit": Text("审计未通过", "the audit has failed"),
    "store": Text("存储不可用", "the store does not answer"),
    "log": Text("日志不可用", "the log does not answer"),
    "catalog": Text("目录与日志不符", "catalog and log do not fit"),
}
"""What is told of each kind of problem."""
LASTING: Final = frozenset({"pull", "halt", "refused", "overdue"})
"""Kinds that are looked up in log and store."""


@dataclass(frozen=True, slots=True)
class NoticeRule:
    """When notices are sent."""

    after: timedelta
    """How long a problem stands before it is told."""
    repeat: timedelta
    """How long until a problem that stands is told again."""
    distance: timedelta
    """Shortest time between two notices."""
    summary: time | None = None
    """When the daily summary is sent, Beijing time."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What is sent: a title, and a line for each problem."""

    title: Text
    lines: tuple[Text, ...]

    def text(self, lang: str) -> str:
        """Return it in one language."""
        return "\n".join(text.pick(lang) for text in (self.title, *self.lines))


def notices_key(worker: str, channel: str) -> str:
    """Name the state of what a worker has sent over a channel."""
    return f"notices/{worker}/{channel}"


@dataclass(frozen=True, slots=True)
class NoticeState:
    """What a channel was sent; times as ISO 8601."""

    began: Mapping[str, str] = field(default_factory=dict)
    """By problem, since when it stands."""
    notified: Mapping[str, str] = field(default_factory=dict)
    """By problem, when it was told last."""
    last: str = ""
    """When the last notice of problems was sent."""
    summary: str = ""
    """Day of the last summary, Beijing time."""

    def to_message(self, key: str) -> Message:
        """Make the message."""
        return state_message(key, asdict(self) | {"version": STATE_VERSION})

    @classmethod
    def of(cls, entry: Entry | None) -> Self:
        """Read the newest state."""
        return cls(**state_of(entry))


def problems_of(outcome: RunOutcome) -> dict[str, str]:
    """Name what is wrong in a run and stands nowhere else: ``kind/subject``, with the error's kind.

    Sources that fail, halts and refusals stand in log and store: they outlive the process.
    """
    return {
        str(where): type(error).__name__
        for where, error in outcome.errors.items()
        if where.stage in TITLES
        and where.stage not in LASTING
        and not outcome.is_halted(where.subject)
    }


def decide(
    state: NoticeState, problems: Mapping[str, str], now: datetime, rule: NoticeRule, node: str
) -> tuple[Notice | None, NoticeState]:
    """Return the notice that is due, if any, and the state behind it, to be kept once it is sent.

    ``problems`` as :func:`problems_of` returns them; ``node``: the name for the title.
    """
    stamp = now.isoformat(timespec="seconds")
    began = {name: state.began.get(name, stamp) for name in problems}
    known = replace(state, began=began)
    new = [
        name
        for name, since in began.items()
        if name not in state.notified and _age(since, now) >= rule.after
    ]
    again = [
        name
        for name, at in state.notified.items()
        if name in began and _age(at, now) >= rule.repeat
    ]
    over = [name for name in state.notified if name not in began]
    near = bool(state.last) and _age(state.last, now) < rule.distance
    if near or not (new or again or over):
        return None, known
    notified = {name: at for name, at in state.notified.items() if name in began}
    notified |= dict.fromkeys([*new, *again], stamp)
    lines = [
        *_lines(new, Text("", ""), problems, began),
        *_lines(again, Text("仍未恢复：", "still: "), problems, began),
        *_lines(over, Text("已恢复：", "back to normal: "), {}, {}),
    ]
    if len(lines) > _LINES:
        more = len(lines) - _LINES
        lines = [*lines[:_LINES], Text(f"另有 {more} 项", f"and {more} more")]
    count = len(began)
    title = Text(f"【{node}】{count} 项需要处理", f"[{node}] {count} problems wait for a person")
    if not began:
        title = Text(f"【{node}】已全部恢复", f"[{node}] everything is back to normal")
    else:
        lines.append(Text("查看：exchange status", "see: exchange status"))
    return Notice(title, tuple(lines)), replace(known, notified=notified, last=stamp)


def summary_is_due(state: NoticeState, now: datetime, rule: NoticeRule) -> bool:
    """Tell whether today's summary is to be sent."""
    local = now.astimezone(BEIJING)
    return (
        rule.summary is not None
        and local.time() >= rule.summary
        and state.summary != f"{local:%Y-%m-%d}"
    )


def summarised(state: NoticeState, now: datetime) -> NoticeState:
    """Return the state behind today's summary."""
    return replace(state, summary=f"{now.astimezone(BEIJING):%Y-%m-%d}")


def _age(since: str, now: datetime) -> timedelta:
    return abs(now - datetime.fromisoformat(since))


def _lines(
    names: Iterable[str], head: Text, kinds: Mapping[str, str], began: Mapping[str, str]
) -> list[Text]:
    lines = []
    for name in names:
        stage, _, subject = name.partition("/")
        title = TITLES[stage]
        kind = f" ({kinds[name]})" if kinds.get(name) else ""
        since = Text("", "")
        if name in began:
            moment = beijing(datetime.fromisoformat(began[name]))
            since = Text(f"，自 {moment}", f", since {moment}")
        lines.append(
            Text(
                f"{head.zh}{subject} {title.zh}{kind}{since.zh}",
                f"{head.en}{subject} {title.en}{kind}{since.en}",
            )
        )
    return lines
