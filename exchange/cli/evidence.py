"""Commands on evidence: verify and prove. They need neither node nor network nor the extras."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from exchange import settings as settings_room
from exchange.catalog.problems import CatalogErrors
from exchange.cli.talk import Talk
from exchange.errors import ExchangeError, Integrity, Misconfigured
from exchange.receipt import receipt as receipts
from exchange.seal.batch import open_batch
from exchange.seal.checks import Check, Verification
from exchange.seal.container import MAGIC, MAX_FILE
from exchange.seal.folder import read_certificates
from exchange.seal.prove import FORMAT as PROOF
from exchange.seal.prove import prove as prove_record
from exchange.seal.verify import verify_batch, verify_proof
from exchange.text import Text

USAGE = 64
RECEIPT_SUFFIX = ".receipt.json"
BATCH_SUFFIX = ".avro"

_NEEDS_BATCH = frozenset({"batch", "statement", "root", "counts", "time"})
"""Checks of a receipt that compare it with what was sent."""
_KINDS = {
    "batch": Text("封签批次", "sealed batch"),
    "receipt": Text("回执", "receipt"),
    "proof": Text("单条证明", "proof of a record"),
    "unknown": Text("未知文件", "unknown file"),
}


@dataclass(frozen=True)
class Trust:
    """Root certificates (DER): whom we believe about batches and proofs, and about receipts."""

    batches: tuple[bytes, ...] = ()
    receipts: tuple[bytes, ...] = ()


def verify(talk: Talk, files: Sequence[Path], trust: Sequence[Path], batch: Path | None) -> int:
    """Check files offline, every check named; 6 when one fails."""
    anchors = _given(trust) if trust else _configured()
    fine = True
    for path in files:
        kind, found = _verify(path, anchors, batch)
        fine = fine and found.ok
        told = found.as_dict() | {"kind": kind}
        talk.answer(told if len(files) == 1 else {"file": str(path), **told})
        if not talk.as_json:
            _print(talk, path, kind, found)
    if not fine and not (anchors.batches or anchors.receipts):
        talk.say(
            talk.t(
                "没有信任根：用 --trust 根证书.pem 指定，或在节点目录中运行",
                "no trust anchors: name a root with --trust ROOT.pem, or run it in a node's folder",
            )
        )
    return 0 if fine else Integrity.exit_code


def prove(talk: Talk, file: Path, key: Sequence[str], row: int | None, to: Path | None) -> int:
    """Write the proof of one record: to a file, or to stdout byte for byte."""
    pairs = [item.partition("=") for item in key]
    if bool(pairs) == (row is not None) or not all(equals for _, equals, _ in pairs):
        talk.say(
            talk.t(
                "用 --key 字段=值（可多个）或 --row 序号 指定一条记录",
                "name one record: --key FIELD=VALUE (repeatable) or --row NUMBER",
            )
        )
        return USAGE
    values = {name: value for name, _, value in pairs}
    data = prove_record(_read(file), row=row, key=values or None)
    if to is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return 0
    try:
        to.write_bytes(data)
    except OSError as error:
        raise Misconfigured(
            Text(f"无法写入 {to}：{error.strerror}", f"cannot write {to}: {error.strerror}"),
            hint=Text("检查目录和权限", "check the folder and its rights"),
        ) from error
    talk.answer(None, str(to))
    talk.say(talk.t(f"验证：exchange verify {to}", f"verify: exchange verify {to}"))
    return 0


def _verify(path: Path, anchors: Trust, batch: Path | None) -> tuple[str, Verification]:
    """Recognise a file by its content, by its name when that is damaged, and check it."""
    data = _read(path)
    match _kind(path, data):
        case "batch":
            return "batch", verify_batch(data, anchors=anchors.batches)
        case "proof":
            return "proof", verify_proof(data, anchors=anchors.batches)
        case "receipt":
            sent, why = _sent(path, batch)
            return "receipt", _receipt(data, anchors.receipts, sent, why)
    text = Text("文件是批次、回执或证明", "the file is a batch, a receipt or a proof")
    found = data[:16].hex() or "empty"
    return "unknown", Verification((Check("file", ok=False, text=text, found=found),))


def _kind(path: Path, data: bytes) -> str:
    if data.startswith(MAGIC):
        return "batch"
    if data.lstrip().startswith(b"{"):
        if receipts.ENVELOPE.encode() in data:
            return "receipt"
        if PROOF.encode() in data:
            return "proof"
    if path.name.endswith(BATCH_SUFFIX):
        return "batch"
    return "receipt" if path.name.endswith(RECEIPT_SUFFIX) else "unknown"


def _sent(path: Path, batch: Path | None) -> tuple[receipts.Sent | None, str]:
    """Find what a receipt is about: the batch named, or the one beside it of the same stem."""
    stem = path.name.removesuffix(".json").removesuffix(".receipt")
    beside = path.with_name(stem + BATCH_SUFFIX)
    if batch is None and not beside.is_file():
        return None, "no batch given: name it with --batch"
    try:
        return receipts.Sent.of(open_batch(_read(batch or beside)).statement), ""
    except Integrity as error:
        return None, f"the batch cannot be read: {error.what.en}"


def _receipt(
    data: bytes, anchors: Sequence[bytes], sent: receipts.Sent | None, why: str
) -> Verification:
    """Check a receipt; without its batch the checks that need it fail, the others are made."""
    if sent is not None:
        return receipts.check(data, anchors=anchors, sent=sent)
    found = receipts.check(data, anchors=anchors, sent=_echo(data))
    checks = (
        replace(check, ok=False, expected="", found=why) if check.name in _NEEDS_BATCH else check
        for check in found.checks
    )
    return replace(found, checks=tuple(checks))


def _echo(data: bytes) -> receipts.Sent:
    """Take what was sent from the receipt itself: its other checks can be made then."""
    try:
        said = receipts.read(data)
    except Integrity:
        return receipts.Sent(
            batch_no="", resource="", resource_code="", statement="", root="", rows=0, sealed_at=""
        )
    return receipts.Sent(
        batch_no=said.batch_no,
        resource=said.resource,
        resource_code=said.resource_code,
        statement=said.statement,
        root=said.root,
        rows=said.rows_sent,
        sealed_at=said.received_at,
    )


def _read(path: Path) -> bytes:
    """Read a file of evidence, one byte beyond the largest so that the checks see the excess."""
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_FILE + 1)
    except OSError as error:
        raise Misconfigured(
            Text(f"读不到 {path}：{error.strerror}", f"cannot read {path}: {error.strerror}"),
            hint=Text("请检查路径和权限", "check the path and its rights"),
        ) from error


def _given(paths: Sequence[Path]) -> Trust:
    roots = tuple(root for path in paths for root in read_certificates(path))
    return Trust(roots, roots)


def _configured() -> Trust:
    """Take the roots of the node found from here; none when there is no node.

    A department's root says nothing about the province's receipts, nor the other way round.
    """
    try:
        settings = settings_room.load(settings_room.find(Path.cwd()))
    except CatalogErrors:
        raise
    except ExchangeError:
        return Trust()
    batches = settings.trust + (settings.gateway.trust if settings.gateway else ())
    upstream = settings.upstream.trust if settings.upstream else ()

    def roots(paths: tuple[Path, ...]) -> tuple[bytes, ...]:
        return tuple(r for path in paths for r in read_certificates(settings.resolve(path)))

    return Trust(roots(batches), roots(upstream))


def _print(talk: Talk, path: Path, kind: str, found: Verification) -> None:
    lines = [f"{path}  {talk.text(_KINDS[kind])}"]
    for number, check in enumerate(found.checks, start=1):
        mark = "✓" if check.ok else "✗"
        lines.append(f"  {mark} {number:>2} {check.name}  {talk.text(check.text)}")
        if not check.ok and check.expected:
            lines.append(f"       {talk.t('应为', 'expected')}  {check.expected}")
        if not check.ok:
            lines.append(f"       {talk.t('实为', 'found')}  {check.found or '-'}")
    lines.append(_verdict(talk, kind, found))
    talk.answer(None, "\n".join(lines))


def _verdict(talk: Talk, kind: str, found: Verification) -> str:
    if not found.ok:
        failed, names = len(found.failed), ", ".join(check.name for check in found.failed)
        return talk.t(
            f"✗ 不成立：{failed} 项未通过（{names}）",
            f"✗ does not verify: {failed} of {len(found.checks)} checks failed ({names})",
        )
    facts: dict[str, Any] = dict(found.facts)
    head = talk.t(
        f"✓ 成立：{len(found.checks)} 项全部通过", f"✓ verified: all {len(found.checks)} checks"
    )
    number = facts.get("receipt_no") or facts.get("batch_no", "")
    at = facts.get("received_at") or facts.get("sealed_at", "")
    told = talk.t(
        f"{head}；{facts.get('resource', '')} {number}，{found.rows:,} 条，{at}",
        f"{head}; {facts.get('resource', '')} {number}, {found.rows:,} records, {at}",
    )
    if kind == "proof":
        told += "".join(f"\n    {name} = {value}" for name, value in facts["record"].items())
    return told
