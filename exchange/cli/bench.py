"""The command ``bench``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from exchange.cli.invocation import Invocation
from exchange.cli.options import Json, alone, bilingual
from exchange.cli.output import Output

if TYPE_CHECKING:
    from exchange.devtools.bench.suite import Figure

app = alone()


@app.command(help=bilingual("测量本机速度与内存", "measure speed and memory on this machine"))
def bench(
    context: typer.Context,
    *,
    rows: Annotated[int, typer.Option(min=1000)] = 200_000,
    full: Annotated[
        bool, typer.Option("--full", help=bilingual("全部项目", "the full set"))
    ] = False,
    as_json: Json = False,
) -> int:
    """Measure, and show each figure beside its target; a target missed is no error."""
    call: Invocation = context.obj
    measure_all(call.output(as_json=as_json), rows=rows, full=full)
    return 0


def measure_all(output: Output, *, rows: int, full: bool) -> None:
    """Measure and write the figures."""
    from exchange.devtools.bench.suite import Workload, figures, full_plan, measure

    plan = full_plan(max(rows, 1_000_000)) if full else Workload(rows, in_python=1)
    measured = []
    with tempfile.TemporaryDirectory(prefix="exchange-bench-") as folder:
        for measurement in measure(plan, Path(folder), lambda t: output.inform(output.text(t))):
            output.answer(measurement)
            measured.append(measurement)
    results = figures(measured)
    output.answer(
        {
            "kind": "summary",
            "rows": plan.rows,
            "ok": all(figure.ok is not False for figure in results),
            "figures": {figure.name: _facts(figure) for figure in results},
        }
    )
    output.table(
        output.t(f"测量结果：{plan.rows:,} 行", f"measured: {plan.rows:,} rows"),
        [
            output.t("项目", "what"),
            output.t("数值", "value"),
            output.t("单位", "unit"),
            output.t("最小–最大", "least–most"),
            output.t("目标", "target"),
            "",
        ],
        [_row(output, figure) for figure in results],
    )


def _facts(figure: Figure) -> dict[str, object]:
    return {"value": figure.value, "unit": figure.unit, "target": figure.target, "ok": figure.ok}


def _row(output: Output, figure: Figure) -> tuple[str, ...]:
    spread = "" if figure.least is None else f"{_number(figure.least)}–{_number(figure.most or 0)}"
    sign = "≤" if figure.at_most else "≥"
    target = "" if figure.target is None else f"{sign} {_number(figure.target)}"
    verdicts = {True: output.t("达到", "ok"), False: output.t("未达到", "missed"), None: ""}
    name, verdict = output.text(figure.text), verdicts[figure.ok]
    return name, _number(figure.value), figure.unit, spread, target, verdict


def _number(value: float) -> str:
    """Write about three digits that count."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"  # noqa: PLR2004 - from here on whole
