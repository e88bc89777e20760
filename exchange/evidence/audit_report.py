"""The report of an audit, sealed: what was checked, what was found, by whose node, and when.

Envelope, canonical JSON (:mod:`exchange.seal.batch.jcs`)::

    {"chain": [base64 DER certificate, …], "format": "exchange-audit-envelope-1",
     "report": {…}, "seal": base64 DER SES_Signature (GB/T 38540) over the report's bytes}

It says what the node itself found: whoever wants to know makes the audit himself.
"""

from __future__ import annotations

import base64
from datetime import datetime
from typing import TYPE_CHECKING, Final

from exchange.seal.batch import jcs
from exchange.seal.batch.statement import instant, moment
from exchange.seal.checks import Check, Verification
from exchange.seal.crypto.suites import SUITES, suite
from exchange.seal.eseal.signature import Sealer, check_signature
from exchange.text import Text

if TYPE_CHECKING:
    from exchange.seal.pki.trust import Trust

FORMAT: Final = "exchange-audit-1"
ENVELOPE: Final = "exchange-audit-envelope-1"
MAX_BYTES: Final = 1024 * 1024
"""Longest envelope that is read."""
_MAX_CHAIN: Final = 8
_MEMBERS: Final = {"format", "suite", "node", "origin", "at", "program", "result", "checks"}
_CHECK: Final = {"name", "result", "expected", "found"}
_RESULTS: Final = ("passed", "failed", "noted")
_TEXT: Final = Text("审计报告格式规范，字段齐全", "the report is canonical and complete")


def issue_report(
    verification: Verification,
    sealer: Sealer,
    *,
    node: str,
    origin: str,
    program: str,
    at: datetime,
) -> bytes:
    """Seal the report of an audit and return its envelope.

    ``origin`` names the node's evidence log, ``program`` the release that made the audit.
    Raises Misconfigured outside the seal's validity.
    """
    report: dict[str, jcs.Value] = {
        "format": FORMAT,
        "suite": sealer.suite.id,
        "node": node,
        "origin": origin,
        "at": instant(at),
        "program": program,
        "result": "passed" if verification.ok else "failed",
        "checks": [_line(check) for check in verification.checks],
    }
    seal = sealer.seal(jcs.encode(report), property_info=_property(report), at=at)
    return jcs.encode(
        {
            "format": ENVELOPE,
            "report": report,
            "seal": base64.b64encode(seal).decode(),
            "chain": [base64.b64encode(each).decode() for each in sealer.chain],
        }
    )


def _line(check: Check) -> dict[str, jcs.Value]:
    result = "failed" if not check.ok else "noted" if check.note else "passed"
    return {
        "name": check.name,
        "result": result,
        "expected": _clean(check.expected),
        "found": _clean(check.found),
    }


def _clean(text: str) -> str:
    return text.encode(errors="replace").decode()


def _property(report: dict[str, jcs.Value]) -> str:
    return f"urn:gds:audit:{report['node']}/{report['at']};canon=jcs"


def verify_report(data: bytes, *, trust: Trust) -> Verification:
    """Check that a report is what a node has sealed; the facts tell what it says.

    1. format: the envelope is canonical, every field present and well formed
    2. and on: the checks of the seal (GB/T 38540) under the reader's anchors

    Arbitrary bytes give a failed check, never an exception.
    """
    try:
        report, seal, chain = _open(data)
    except ValueError as error:
        broken = Check("format", ok=False, text=_TEXT, expected=ENVELOPE, found=str(error)[:200])
        return Verification((broken,))
    checks = check_signature(
        seal,
        jcs.encode(report),
        suite=suite(str(report["suite"])),
        property_info=_property(report),
        chain=chain,
        trust=trust,
    )
    lines = report["checks"]
    assert isinstance(lines, list)  # noqa: S101 - _open has looked
    failed = [str(line["name"]) for line in lines if _result(line) == "failed"]  # type: ignore[call-overload, index]
    facts: dict[str, object] = {
        name: report[name] for name in ("node", "origin", "at", "program", "result")
    }
    facts |= {"checks": len(lines), "failed": ", ".join(failed)}
    first = Check("format", ok=True, text=_TEXT, expected=ENVELOPE, found=ENVELOPE)
    return Verification((first, *checks), facts=facts)


def _open(data: bytes) -> tuple[dict[str, jcs.Value], bytes, tuple[bytes, ...]]:
    """Read an envelope; raises ValueError saying what is wrong with it."""
    if len(data) > MAX_BYTES:
        raise ValueError(f"longer than {MAX_BYTES} bytes")
    match jcs.decode(data):
        case {"format": form, "report": dict(report), "seal": seal, "chain": list(chain), **rest}:
            if form != ENVELOPE or rest or len(chain) > _MAX_CHAIN:
                raise ValueError(f"not an envelope of format {ENVELOPE}")
            _check_members(report)
            return report, _binary(seal), tuple(map(_binary, chain))
    raise ValueError(f"not an envelope of format {ENVELOPE}")


def _check_members(report: dict[str, jcs.Value]) -> None:
    lines = report.get("checks")
    if report.keys() != _MEMBERS or report["format"] != FORMAT or not isinstance(lines, list):
        raise ValueError(f"not a report of format {FORMAT}")
    texts = [value for name, value in report.items() if name != "checks"]
    for line in lines:
        if not isinstance(line, dict) or line.keys() != _CHECK or _result(line) not in _RESULTS:
            raise ValueError("a check without name, result, expected and found")
        texts += line.values()
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a member that is no text")
    if report["suite"] not in SUITES or report["result"] not in _RESULTS[:2]:
        raise ValueError("an unknown suite or result")
    if not str(report["node"]).isascii():
        raise ValueError("the node's code is not ASCII")
    moment(str(report["at"]))
    worst = "failed" if any(_result(line) == "failed" for line in lines) else "passed"
    if not lines or report["result"] != worst:
        raise ValueError("the result is not that of the checks")


def _result(line: jcs.Value) -> object:
    return line["result"] if isinstance(line, dict) and "result" in line else None


def _binary(text: object) -> bytes:
    if isinstance(text, str):
        data = base64.b64decode(text, validate=True)
        if base64.b64encode(data).decode() == text:  # one spelling only (RFC 4648 §3.5)
            return data
    raise ValueError("seal and chain are plain base64")
