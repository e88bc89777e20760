"""The commands ``source list`` and ``source history``: how each source stands, and its pulls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from exchange.cli.attention import failure_of
from exchange.cli.invocation import Invocation
from exchange.cli.options import Json, bilingual
from exchange.errors import Misconfigured
from exchange.log import CURSORS
from exchange.text import Text, beijing

if TYPE_CHECKING:
    from datetime import datetime

    from exchange.node.node import Node
    from exchange.store.node.pulls import PullRow

LIST_HELP = bilingual(
    "列出数据源：最近检查、最近数据、下次时间、是否暂停",
    "list the sources: last check, last rows, next time, whether paused",
)
HISTORY_HELP = bilingual(
    "列出数据源最近的拉取：记录数、用时、速度",
    "list the newest pulls of a source: rows, time, rows/s",
)


def list_sources(context: typer.Context, *, as_json: Json = False) -> int:
    """Show how each source stands."""
    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    with call.open_node() as node:
        facts = [source_facts(node, name) for name in node.settings.sources]
    heads = [
        output.t(*pair)
        for pair in (
            ("数据源", "source"),
            ("资源", "resource"),
            ("状态", "state"),
            ("最近检查", "last check"),
            ("最近数据", "last rows"),
            ("记录", "rows"),
            ("条/秒", "rows/s"),
            ("下次", "next"),
        )
    ]
    output.answer({"sources": facts}, None if facts else output.t("没有数据源", "no sources"))
    if facts:
        body = [
            (
                fact["source"],
                fact["resource"],
                output.t(*_STATES[fact["state"]]),
                _short(fact["last_check"]),
                _short(fact["last_rows"]),
                fact["rows"],
                fact["rows_per_second"],
                _short(fact["next"]) or output.t("手动", "by hand"),
            )
            for fact in facts
        ]
        output.table(output.t("数据源", "sources"), heads, body)
    for fact in facts if not output.as_json else ():
        for name in ("paused", "failure"):
            if fact[name] is not None:
                output.answer(None, f"! {fact['source']}: {fact[name][output.lang]}")
    return 0


_STATES = {
    "ok": ("正常", "ok"),
    "paused": ("暂停", "paused"),
    "failing": ("失败", "failing"),
    "open": ("未完", "unfinished"),
    "new": ("未拉取", "new"),
}


def source_facts(node: Node, name: str) -> dict[str, Any]:
    """Return how a source stands, for JSON; times in ISO 8601."""
    from exchange.pipeline.messages import PullState, pull_key
    from exchange.pipeline.pause import Pause, pause_key

    source = node.source_settings(name)
    last = PullState.of(node.log.latest(CURSORS, pull_key(name)))
    pause = Pause.of(node.log.latest(CURSORS, pause_key(name)))
    failure = failure_of(node, name)
    rows = node.store.pulls.find(source=name, limit=1)
    row = rows[0] if rows else None
    seconds = _seconds(row)
    if pause is not None:
        state = "paused"
    elif failure is not None:
        state = "failing"
    elif last is None:
        state = "new"
    else:
        state = "ok" if last.done else "open"
    planned, unplanned = (None, None) if pause is not None else next_of(node, name, last)
    if failure is None:
        failure = unplanned
    return {
        "source": name,
        "resource": source.resource,
        "connector": source.connector,
        "state": state,
        "last_check": _iso(last.began if last is not None and last.pull else None),
        "last_rows": _iso(row.ended_at or row.started_at if row is not None else None),
        "rows": row.pulled if row is not None else None,
        "seconds": seconds,
        "rows_per_second": _rate(row, seconds),
        "next": _iso(planned),
        "paused": pause.describe()._asdict() if pause is not None else None,
        "failure": failure._asdict() if failure is not None else None,
    }


def next_of(node: Node, name: str, last: Any) -> tuple[datetime | None, Text | None]:
    """Return when a source is pulled next, or why that cannot be planned."""
    from exchange.run.schedule import planned_pull

    source, now = node.source_settings(name), node.clock()
    if source.every is None and source.cron is None:
        return None, None
    try:
        planned = planned_pull(name, source, last, now, lambda: node.working_days)
    except Misconfigured as error:
        return None, Text(
            f"{error.what.zh}（{error.hint.zh}）", f"{error.what.en} ({error.hint.en})"
        )
    return max(planned, now), None


def history(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="SOURCE", help=bilingual("数据源", "the source"))],
    *,
    limit: Annotated[
        int, typer.Option(min=1, max=10_000, help=bilingual("最多列出", "list at most"))
    ] = 20,
    as_json: Json = False,
) -> int:
    """List the newest pulls of a source that brought rows, newest first."""
    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    with call.open_node() as node:
        node.source_settings(name)
        pulls = node.store.pulls.find(source=name, limit=limit)
    facts = [_pull_facts(row) for row in pulls]
    rows = [
        (
            _short(fact["began"]),
            output.t("完成", "done") if fact["state"] == "done" else output.t("未完", "open"),
            fact["rows"],
            fact["accepted"],
            fact["quarantined"],
            fact["seconds"],
            fact["rows_per_second"],
            fact["error"],
        )
        for fact in facts
    ]
    output.page(
        "pulls",
        facts,
        rows,
        title=Text(f"{name} 的拉取", f"pulls of {name}"),
        heads=[
            Text("开始", "began"),
            Text("状态", "state"),
            Text("记录", "rows"),
            Text("合格", "accepted"),
            Text("隔离", "quarantined"),
            Text("秒", "seconds"),
            Text("条/秒", "rows/s"),
            Text("错误", "error"),
        ],
        nothing=Text("还没有拉取到数据", "no pull has brought rows yet"),
        limit=limit,
    )
    return 0


def _pull_facts(row: PullRow) -> dict[str, Any]:
    seconds = _seconds(row)
    return {
        "pull": row.pull,
        "state": row.state,
        "began": _iso(row.started_at),
        "ended": _iso(row.ended_at),
        "rows": row.pulled,
        "accepted": row.accepted,
        "quarantined": row.quarantined,
        "seconds": seconds,
        "rows_per_second": _rate(row, seconds),
        "error": row.error,
    }


def _seconds(row: PullRow | None) -> float | None:
    if row is None or row.ended_at is None:
        return None
    return round(max(0.0, (row.ended_at - row.started_at).total_seconds()), 1)


def _rate(row: PullRow | None, seconds: float | None) -> int | None:
    return round(row.pulled / seconds) if row is not None and seconds else None


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")


def _short(moment: str | None) -> str:
    """Write a moment without its year: a table has little room."""
    from datetime import datetime

    return beijing(datetime.fromisoformat(moment))[5:] if moment else ""
