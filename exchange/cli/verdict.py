"""A verdict for a person: every check with its mark, what failed, whose seal it is, the record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from exchange.cli.output import Output
from exchange.foreign import subject
from exchange.text import counted, with_beijing

if TYPE_CHECKING:
    from exchange.evidence.files import FileVerdict


def show_verdict(
    output: Output,
    verdict: FileVerdict,
    *,
    several: bool,
    fields: Mapping[str, str] | None = None,
) -> None:
    """Answer with the checks of one file, in words or as JSON; ``fields`` are titles."""
    answer = verdict.verification.as_dict() | {"kind": verdict.kind}
    output.answer({"file": verdict.name, **answer} if several else answer)
    if not output.as_json:
        output.answer(None, "\n".join(_lines(output, verdict, fields or {})))


def _lines(output: Output, verdict: FileVerdict, fields: Mapping[str, str]) -> Iterator[str]:
    from exchange.evidence.files import KINDS

    yield f"{verdict.name}  {output.text(KINDS[verdict.kind])}".strip()
    for number, check in enumerate(verdict.verification.checks, start=1):
        mark = "✗" if not check.ok else "!" if check.note else "✓"
        text = with_beijing(output.text(check.text))
        yield f"  {mark} {number:>2} " + output.t(text, f"{check.name}  {text}")
        if not check.ok and check.expected:
            yield f"       {output.t('应为', 'expected')}  {with_beijing(check.expected)}"
        if not check.ok:
            yield f"       {output.t('实为', 'found')}  {with_beijing(check.found) or '-'}"
            yield f"       {output.t('代码', 'code')}  {check.name}"
    yield _conclusion(output, verdict, fields)


def _conclusion(output: Output, verdict: FileVerdict, fields: Mapping[str, str]) -> str:
    verification = verdict.verification
    total = len(verification.checks)
    if not verification.ok:
        failed, names = (
            len(verification.failed),
            ", ".join(check.name for check in verification.failed),
        )
        return output.t(
            f"✗ 不成立：{failed} 项未通过（{names}）",
            f"✗ does not verify: {failed} of {total} checks failed ({names})",
        )
    text = output.t(
        f"✓ 成立：{total} 项全部通过",
        f"✓ verified: all {total} checks",
    )
    if verification.notes:
        text += output.t(
            f"，{len(verification.notes)} 项注意", f", {len(verification.notes)} noted"
        )
    facts = verification.facts
    keys = ("resource", "receipt_no", "batch_no", "received_at", "sealed_at")
    values = [with_beijing(str(facts[name])) for name in keys if facts.get(name)]
    if values:
        values.insert(
            1, output.t(f"{verification.rows:,} 条", counted(verification.rows, "record"))
        )
        text += output.t("；", "; ") + output.t("，", ", ").join(values)
    text += _owner(output, verdict)
    if verdict.kind == "audit":
        at = with_beijing(str(facts["at"]))
        text += f"; {facts['node']}, {at}: {facts['result']} {facts['failed']}".rstrip()
    if verdict.record is not None:
        named = [
            (f"{name} {fields.get(name, '')}".strip(), value)
            for name, value in verdict.record.items()
        ]
        text += "".join(
            f"\n    {name} = {'—' if value is None else value}" for name, value in named
        )
    if verdict.veiled:
        text += "\n    "
        text += output.t("（值已隐去；--reveal 显示）", "(values are hidden: --reveal shows them)")
    return text


def _owner(output: Output, verdict: FileVerdict) -> str:
    """Say who signed, whose seal it is, and for which department."""
    facts = verdict.verification.facts
    if "signer" not in facts:
        return ""
    unnamed = output.t("证书未写明", "the certificate does not say")
    rows = (
        (output.t("签章者", "signer"), output.text(subject(str(facts["signer"])))),
        (output.t("印章", "seal"), f"{facts['seal_name']} ({facts['seal_number']})"),
        (output.t("印章归属", "owner"), facts["seal_owner"] or unnamed),
        (output.t("部门", "department"), facts["department"]),
    )
    return "".join(f"\n    {name}  {value}" for name, value in rows)
