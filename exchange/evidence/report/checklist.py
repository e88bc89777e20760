"""The list of all checks: the annex's main part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from exchange.evidence.report.html import Html, both, table, tag
from exchange.seal.checks import Check
from exchange.text import Text, with_beijing

_STATES: Final = {
    "good": Text("✓ 通过", "ok"),
    "note": Text("! 注意", "note"),
    "fail": Text("✗ 未通过", "FAILED"),
}


def checks_table(checks: Sequence[Check]) -> Html:
    """List every check with its number, result and code; what failed with both values."""
    heads = (
        Text("序号", "no."),
        Text("结果", "result"),
        Text("代号", "code"),
        Text("内容", "what is checked"),
    )
    rows: list[Html] = []
    for number, check in enumerate(checks, start=1):
        state = "fail" if not check.ok else "note" if check.note else "good"
        told = [both(check.text)]
        if state != "good":
            values = (
                (Text("应为", "expected"), check.expected),
                (Text("实为", "found"), check.found),
            )
            lines = [
                tag("div", both(label), Html(": "), tag("code", with_beijing(value)))
                for label, value in values
                if value
            ]
            told += lines
        rows.append(
            tag(
                "tr",
                tag("td", str(number)),
                tag("td", both(_STATES[state])),
                tag("td", tag("code", check.name)),
                tag("td", *told),
                css=state,
            )
        )
    return table(heads, rows, css="checks")
