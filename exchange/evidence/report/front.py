"""The page: verdict and main facts of every file on the front, all the rest in the annex."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from exchange.evidence.files import KINDS, FileVerdict
from exchange.evidence.report.causes import why
from exchange.evidence.report.checklist import checks_table
from exchange.evidence.report.facts import VEILED, Titles, main_facts, record_rows, said
from exchange.evidence.report.figures import details, figure
from exchange.evidence.report.html import Html, both, facts_table, moment, quiet, shown, tag
from exchange.evidence.report.style import STYLE
from exchange.foreign import subject
from exchange.seal.pki.trust import Trust
from exchange.seal.pki.x509 import read_certificate
from exchange.text import Text


def certificate(
    verdicts: Sequence[FileVerdict],
    *,
    at: datetime,
    version: str,
    trust: Trust,
    province: Trust,
    titles: Titles | None = None,
) -> str:
    """Write the page; ``at`` is when the checks were made, the rest what they were made with.

    ``titles`` are names of departments, resources and fields that the reader's own catalog has;
    the files say codes only.
    """
    names = Titles() if titles is None else titles
    notes = sum(len(each.verification.notes) for each in verdicts)
    good = all(each.ok for each in verdicts)
    title = Text("电子印章与存证验证书", "Verification certificate")
    head = Html(
        '<meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
    ) + tag("title", f"{title.zh} {title.en}")
    body = [
        tag("h1", both(title)),
        *([] if len(verdicts) == 1 else [_stamp(ok=good, notes=notes)]),
        facts_table(
            [
                (Text("验证时间", "checked at"), moment(at)),
                (Text("验证程序", "checked by"), f"exchange {version}"),
            ],
            beside=True,
        ),
        *(_front(verdict, names) for verdict in verdicts),
        tag("footer", both(_MEANING)),
        tag(
            "div",
            tag("h1", both(Text("附件：核验明细", "Annex: what was checked"))),
            facts_table(_trusted(trust, province)),
            *(_annex(verdict) for verdict in verdicts),
            css="annex",
        ),
    ]
    style = f"<style>{STYLE}</style>"
    page = tag("html", Html(f"<head>{head}{style}</head>"), tag("body", *body), lang="zh")
    return f"<!doctype html>\n{page}\n"


_MEANING: Final = Text(
    "本页是验证结果的说明，本身不是证据：任何人都可以用同样的文件和信任根，离线重新验证。"
    "“注意”表示该项通过，但有读者应当知道的保留。",
    "This page explains a result and is no evidence itself: anybody can check the same files "
    "offline, with the same trusted roots. A note means that a check passed with a reservation.",
)
_GOOD: Final = Text("成立：全部检查通过", "VERIFIED: all checks passed")
_BAD: Final = Text("不成立", "DOES NOT VERIFY")


def _stamp(*, ok: bool, notes: int = 0) -> Html:
    """Say the verdict: ✓ in a round frame, ✗ in a double one with corners."""
    text = _GOOD if ok else _BAD
    parts = [tag("b", "✓" if ok else "✗", css="sign"), Html(" "), both(text)]
    if notes:
        parts.append(both(Text(f"（{notes} 项注意）", f"({notes} noted)")))
    return tag("p", *parts, css="verdict good" if ok else "verdict bad")


def _trusted(trust: Trust, province: Trust) -> Iterator[tuple[Text, Html]]:
    same = list(trust.anchors) == list(province.anchors)
    sides = [(Text("信任根", "trusted roots"), trust)]
    if not same:
        sides = [
            (Text("信任根（部门、节点）", "trusted roots (departments, node)"), trust),
            (Text("信任根（省级）", "trusted roots (province)"), province),
        ]
    for label, side in sides:
        lines = [_root(each) for each in side.anchors] or [
            both(Text("没有给出信任根", "no trusted roots were given"))
        ]
        yield label, Html("<br>".join(lines))
    yield Text("撤销列表", "revocation lists"), Html(shown(str(len(trust.crls))))


def _root(data: bytes) -> Html:
    found = quiet(lambda: read_certificate(data))
    return Html(shown(f"{subject(found.title).zh} · SHA-256 {found.fingerprint}" if found else "?"))


def _front(verdict: FileVerdict, titles: Titles) -> Html:
    """Say of a file what a reader asks first: does it hold, whose seal, which record, when."""
    result = verdict.verification
    parts: list[Html] = [_name(verdict), _stamp(ok=result.ok, notes=len(result.notes))]
    failed = [why(item) for item in result.failed if not item.found.startswith("not reached")]
    if failed:
        reasons = list(dict.fromkeys(failed))
        parts.append(tag("ul", *(tag("li", both(item)) for item in reasons), css="why"))
    if verdict.marks:
        parts.append(tag("div", *(figure(m, ok=result.ok) for m in verdict.marks), css="seals"))
    parts.append(facts_table(main_facts(verdict, titles), beside=True))
    if verdict.record is not None:
        parts += [
            tag("h3", both(VEILED if verdict.veiled else Text("记录", "the record"))),
            facts_table(record_rows(verdict, titles), beside=True),
        ]
    return tag("section", *parts)


def _annex(verdict: FileVerdict) -> Html:
    """List everything: what the file says, its seals and certificates, every check."""
    return tag(
        "section",
        _name(verdict),
        facts_table(said(verdict)),
        *(details(mark) for mark in verdict.marks),
        tag("h3", both(Text("检查", "checks"))),
        checks_table(verdict.verification.checks),
    )


def _name(verdict: FileVerdict) -> Html:
    name = tag("code", verdict.name) if verdict.name else Html("")
    return tag("h2", both(KINDS[verdict.kind]), Html(" "), name)
