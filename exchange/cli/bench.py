"""The command ``bench``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from exchange.cli.output import Talk

if TYPE_CHECKING:
    from exchange.devtools.bench.suite import Figure


def bench(talk: Talk, *, rows: int, full: bool) -> int:
    """Measure, and say each figure beside its target; a target missed is no error."""
    from exchange.devtools.bench.suite import Plan, figures, full_plan, measure

    plan = full_plan(max(rows, 1_000_000)) if full else Plan(rows)
    measured = []
    with tempfile.TemporaryDirectory(prefix="exchange-bench-") as folder:
        for one in measure(plan, Path(folder), lambda text: talk.say(talk.text(text))):
            talk.answer(one)
            measured.append(one)
    found = figures(measured)
    talk.answer(
        {
            "kind": "summary",
            "rows": plan.rows,
            "ok": all(one.ok is not False for one in found),
            "figures": {one.name: _told(one) for one in found},
        }
    )
    talk.table(
        talk.t(f"测量结果：{plan.rows:,} 行", f"measured: {plan.rows:,} rows"),
        [
            talk.t("项目", "what"),
            talk.t("数值", "value"),
            talk.t("单位", "unit"),
            talk.t("最小–最大", "least–most"),
            talk.t("目标", "target"),
            "",
        ],
        [_row(talk, one) for one in found],
    )
    return 0


def _told(one: Figure) -> dict[str, object]:
    return {"value": one.value, "unit": one.unit, "target": one.target, "ok": one.ok}


def _row(talk: Talk, one: Figure) -> tuple[str, ...]:
    spread = "" if one.least is None else f"{_number(one.least)}–{_number(one.most or 0)}"
    target = "" if one.target is None else f"{'≤' if one.at_most else '≥'} {_number(one.target)}"
    verdict = {True: talk.t("达到", "ok"), False: talk.t("未达到", "missed"), None: ""}[one.ok]
    return talk.text(one.text), _number(one.value), one.unit, spread, target, verdict


def _number(value: float) -> str:
    """Write about three digits that count."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"  # noqa: PLR2004 - from here on whole
