"""The commands verify and prove. They need neither node nor network nor any extra.

They read their own command lines with the standard library: a stranger installs the verifier
alone, and typer, rich and what these bring along are larger than all the rest.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import sys
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from exchange import __version__
from exchange.cli.invocation import Invocation
from exchange.cli.output import USAGE, Output
from exchange.cli.usage import Parser, wrong
from exchange.cli.verdict import show_verdict
from exchange.durable import read_file, write_file
from exchange.errors import ExchangeError, Integrity, Misconfigured, Rejected
from exchange.foreign import os_reason
from exchange.text import Text

if TYPE_CHECKING:
    from exchange.evidence.files import Circumstances, FileVerdict, Verifier
    from exchange.evidence.report import Titles
    from exchange.seal.pki.trust import Delegation

MAX_FILE = 8 * 1024 * 1024
"""Bytes of the largest file of evidence; a larger one is refused before it is read."""
MAX_FILES = 1000
RECEIPT_SUFFIX = ".receipt.json"
BATCH_SUFFIX = ".avro"


def parsers(lang: str) -> dict[str, argparse.ArgumentParser]:
    """Describe the command lines, by command."""

    def t(zh: str, en: str) -> str:
        return zh if lang == "zh" else en

    def parser(name: str, zh: str, en: str) -> argparse.ArgumentParser:
        return Parser(f"exchange {name}", lang, USAGE, t(zh, en))

    pem = t("证书.pem", "PEM")
    file = t("文件", "FILE")
    verify = parser(
        "verify",
        "离线验证封签批次、回执、证明、存证包、检查点、审计报告、电子印章和签章；不联网，逐项列出检查。",
        "Verify sealed batches, receipts, proofs, evidence packages, checkpoints, reports of "
        "audits, seals and signatures: offline, check by check.",
    )
    verify.add_argument("files", nargs="+", type=Path, metavar=file)
    for option, help_text in (
        ("--trust", t("信任根证书，可多个", "trusted root certificate, repeatable")),
        (
            "--province",
            t(
                "省级一侧（回执、见证）的信任根；不给则同 --trust",
                "trusted root of the province (receipts, witness); default: those of --trust",
            ),
        ),
        (
            "--tsa-trust",
            t(
                "时间戳机构的信任根；不给则同 --trust",
                "trusted root of time-stamping authorities; default: those of --trust",
            ),
        ),
        ("--chain", t("途中的证书（不受信任）", "certificates on the way (not trusted)")),
    ):
        verify.add_argument(
            option, action="append", type=Path, default=[], metavar=pem, help=help_text
        )
    verify.add_argument(
        "--crl",
        action="append",
        type=Path,
        default=[],
        metavar="CRL",
        help=t("证书撤销列表，可多个", "revocation list (DER or PEM), repeatable"),
    )
    verify.add_argument(
        "--require-revocation",
        action="store_true",
        help=t("撤销状态未知即不通过", "fail where nobody says whether a certificate is revoked"),
    )
    verify.add_argument(
        "--require-owner",
        action="store_true",
        help=t("证书没有写明印章归属即不通过", "fail where no certificate says whose the seal is"),
    )
    verify.add_argument(
        "--delegated",
        action="append",
        type=_delegation,
        default=[],
        metavar=t("印章=部门代码", "SEAL=DEPARTMENT"),
        help=t("受托代章，可多个", "this seal may seal for that department, repeatable"),
    )
    verify.add_argument(
        "--batch", type=Path, metavar=file, help=t("回执对应的批次", "what a receipt is about")
    )
    verify.add_argument(
        "--content",
        type=Path,
        metavar=file,
        help=t("签章所盖的原文", "what a detached signature was put on"),
    )
    verify.add_argument(
        "--proof",
        action="append",
        type=Path,
        default=[],
        metavar=file,
        help=t(
            "两个检查点之间的一致性证明：每行一个 Base64 杂凑值",
            "consistency proof between two checkpoints: one hash in Base64 a line",
        ),
    )
    verify.add_argument(
        "--at",
        type=_moment,
        metavar=t("时间", "TIME"),
        help=t("问电子印章何时有效（默认现在）", "when a seal should be valid (default: now)"),
    )
    verify.add_argument(
        "--reveal",
        action="store_true",
        help=t("显示记录的明文（默认隐去）", "show the values of a record (hidden otherwise)"),
    )
    verify.add_argument("--report", type=Path, metavar="HTML", help=t("验证书", "certificate"))
    verify.add_argument("--json", action="store_true", help=t("以 JSON 输出", "answer as JSON"))

    prove = parser("prove", "从批次中取出一条记录的证明。", "Prove one record of a batch.")
    prove.add_argument("file", type=Path, metavar=file)
    prove.add_argument(
        "--key",
        action="append",
        default=[],
        metavar=t("字段=值", "FIELD=VALUE"),
        help=t("可多个", "repeatable"),
    )
    prove.add_argument("--row", type=int, metavar="N", help=t("第几条", "record number, from 1"))
    prove.add_argument("--to", type=Path, metavar=file, help=t("输出文件", "output file"))
    return {"verify": verify, "prove": prove}


def _moment(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise wrong(
            f"“{text}”不是时间，例如 2027-01-01T00:00:00+08:00",
            f"'{text}' is no time, such as 2027-01-01T00:00:00+08:00",
        ) from error
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _delegation(text: str) -> Delegation:
    from exchange.seal.pki.trust import Delegation

    seal, equals, department = text.partition("=")
    if not (seal and equals and department):
        raise wrong(f"“{text}”应为 印章=部门代码", f"'{text}': write SEAL=DEPARTMENT")
    return Delegation(seal, department, datetime.max.replace(tzinfo=UTC), "--delegated")


def run(call: Invocation, arguments: Sequence[str]) -> int:
    """Run ``verify …`` or ``prove …``; returns the exit code."""
    command, *rest = arguments
    try:
        options = parsers(call.lang)[command].parse_args(rest)
    except SystemExit as stop:
        return int(stop.code or 0)
    return verify(call, options) if command == "verify" else prove(call.output(), options)


def alone(call: Invocation, arguments: Sequence[str]) -> int:
    """Answer where only the verifier is installed: what there is, and how to get the rest."""
    for parser in parsers(call.lang).values():
        call.output().inform(parser.format_usage().strip())
    if not arguments or arguments[0] in {"-h", "--help"}:
        return 0
    raise Misconfigured(
        Text(
            f"此处只安装了验证程序，没有 {arguments[0]} 命令",
            f"only the verifier is installed here, without {arguments[0]}",
        ),
        hint=Text(
            "节点请安装 gov-exchange[node]", "for a node, install the extra: gov-exchange[node]"
        ),
    )


# --- verify -------------------------------------------------------------------------------------


def verify(call: Invocation, options: argparse.Namespace) -> int:
    """Check files offline, every check named; 6 when one fails, 1 when one is of no known kind."""
    from exchange.evidence.files import Verifier

    output = call.output(as_json=options.json)
    if len(options.files) > MAX_FILES:
        output.inform(f"一次最多 {MAX_FILES} 个文件", f"at most {MAX_FILES} files at once")
        return USAGE
    circumstances = _circumstances(call, options)
    verifier = Verifier(circumstances)
    _learn(verifier, options.files)
    batch = read(options.batch) if options.batch else None
    verdicts: list[FileVerdict] = []
    failures = 0
    for path in options.files:
        verdict = _verify(output, verifier, path, batch)
        if verdict is None:
            failures = Rejected.exit_code
            continue
        if not options.reveal:
            verdict = verdict.veil()
        verdicts.append(verdict)
        fields = _field_titles(call, verdict)
        show_verdict(output, verdict, several=len(options.files) > 1, fields=fields)
    together = verifier.together()
    if together is not None:
        verdicts.append(together)
        show_verdict(output, together, several=True)
    if options.report:
        _report(call, options.report, verdicts, circumstances)
    if all(verdict.ok for verdict in verdicts):
        return failures
    if not circumstances.trust.anchors and not circumstances.province.anchors:
        output.inform(
            "没有信任根：用 --trust 根证书.pem 指定，或在节点目录中运行",
            "no trust anchors: name a root with --trust ROOT.pem, or run it in a node's folder",
        )
    return Integrity.exit_code


def _verify(
    output: Output, verifier: Verifier, path: Path, batch: bytes | None
) -> FileVerdict | None:
    """Verify one file; None for one of no known kind, or too large, which is told."""
    try:
        return verifier.verify(str(path), read(path), batch)
    except Misconfigured:
        raise
    except Rejected as error:
        what = Text(f"{path}：{error.what.zh}", f"{path}: {error.what.en}")
        output.error(Rejected(what, hint=error.hint))
        return None


def _learn(verifier: Verifier, files: Sequence[Path]) -> None:
    """Show the verifier every file first: one may say something of another."""
    for path in [*files, *_beside(files)]:
        if path.is_file():
            # An error is reported when this file is verified itself.
            with contextlib.suppress(ExchangeError):
                verifier.learn(read(path))


def _beside(files: Sequence[Path]) -> Iterator[Path]:
    """Name the batch that stands beside a receipt, as ``exchange cascade export`` writes them."""
    for path in files:
        if path.name.endswith(RECEIPT_SUFFIX):
            yield path.with_name(path.name.removesuffix(RECEIPT_SUFFIX) + BATCH_SUFFIX)


def _circumstances(call: Invocation, options: argparse.Namespace) -> Circumstances:
    from exchange.evidence.files import Circumstances
    from exchange.seal.pki.trust import Trust

    own_certificates, province_certificates = (
        _certificates(options.trust),
        _certificates(options.province),
    )
    if not province_certificates:
        province_certificates = own_certificates
    delegations: tuple[Delegation, ...] = ()
    if not (options.trust or options.province):
        own_certificates, province_certificates, delegations = _configured(call)
    crls = tuple(der for path in options.crl for der in _ders(path))
    stampers = _certificates(options.tsa_trust) if options.tsa_trust else None

    def trust(anchors: tuple[bytes, ...]) -> Trust:
        return Trust(
            anchors,
            crls,
            stampers,
            options.require_revocation,
            (*options.delegated, *delegations),
            options.require_owner,
        )

    return Circumstances(
        trust=trust(own_certificates),
        province=trust(province_certificates),
        at=options.at or datetime.now(UTC),
        chain=_certificates(options.chain),
        content=read(options.content) if options.content else None,
        consistency=tuple(_hashes(path) for path in options.proof),
    )


def _certificates(paths: Sequence[Path]) -> tuple[bytes, ...]:
    return tuple(der for path in paths for der in _ders(path))


def _ders(path: Path) -> list[bytes]:
    """Read the DER values of a PEM file, or of one in DER."""
    from exchange.seal.crypto.der import from_pem

    try:
        return from_pem(read(path))
    except ValueError as error:
        raise _unreadable(path, Text("既不是 PEM 也不是 DER", "no PEM, no DER")) from error


def _hashes(path: Path) -> tuple[bytes, ...]:
    try:
        return tuple(b64decode(line, validate=True) for line in read(path).split())
    except ValueError as error:
        raise _unreadable(path, Text("不是 Base64", "not Base64")) from error


def _configured(
    call: Invocation,
) -> tuple[tuple[bytes, ...], tuple[bytes, ...], tuple[Delegation, ...]]:
    """Take the roots and delegations of the node found from here; none when there is no node.

    A department's root says nothing about the province's receipts, nor the other way round.
    """
    from exchange.catalog.problems import FileErrors

    try:
        settings = call.settings()
    except ModuleNotFoundError:
        return (), (), ()  # the verifier alone is installed: no node can be here
    except FileErrors:
        raise
    except ExchangeError:
        return (), (), ()
    batches = settings.trust + (settings.receiver.trust if settings.receiver else ())
    upstream = settings.upstream.trust if settings.upstream else ()

    def roots(paths: tuple[Path, ...]) -> tuple[bytes, ...]:
        return _certificates([settings.resolve(path) for path in paths])

    from exchange.node.seals import delegations

    return roots(batches), roots(upstream), delegations(settings.delegations)


def read(path: Path) -> bytes:
    """Read a file; one that is too large, or no plain file, is refused before it is opened."""
    try:
        return read_file(path, MAX_FILE)
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise Rejected(
                Text(
                    f"{path} 超过上限 {MAX_FILE:,} 字节",
                    f"{path} has more than {MAX_FILE:,} bytes",
                ),
                hint=Text("存证文件不会这么大", "no file of evidence is that large"),
            ) from error
        raise _unreadable(path, os_reason(error)) from error


def _unreadable(path: Path, why: Text) -> Misconfigured:
    return Misconfigured(
        Text(f"读不到 {path}：{why.zh}", f"cannot read {path}: {why.en}"),
        hint=Text("请检查路径和权限", "check the path and its rights"),
    )


def write(path: Path, data: bytes) -> None:
    """Write a file; raises Misconfigured when that cannot be done."""
    try:
        write_file(path, data, make_folders=False)
    except OSError as error:
        raise Misconfigured(
            Text(
                f"无法写入 {path}：{os_reason(error).zh}",
                f"cannot write {path}: {os_reason(error).en}",
            ),
            hint=Text("检查目录和权限", "check the folder and its rights"),
        ) from error


def _titles(call: Invocation) -> Titles:
    """Take the names of the catalog of the node found from here; none where there is no node."""
    from exchange.evidence.report import Titles

    try:
        from exchange.catalog.loader import load

        settings = call.settings()
        catalog = load(settings.resolve(settings.catalog))
    except (ExchangeError, ModuleNotFoundError):
        return Titles()
    return Titles(
        {unit.code: unit.name for unit in catalog.departments.values()},
        {name: resource.title for name, resource in catalog.resources.items()},
        {
            name: {item.name: item.title for item in resource.fields}
            for name, resource in catalog.resources.items()
        },
    )


def _report(
    call: Invocation, path: Path, verdicts: Sequence[FileVerdict], circumstances: Circumstances
) -> None:
    from exchange.evidence.report import certificate

    output = call.output()
    page = certificate(
        verdicts,
        at=datetime.now(UTC),
        version=__version__,
        trust=circumstances.trust,
        province=circumstances.province,
        titles=_titles(call),
    )
    write(path, page.encode())
    output.inform(f"验证书：{path}", f"certificate: {path}")


def _field_titles(call: Invocation, verdict: FileVerdict) -> Mapping[str, str]:
    """Name the fields of a record by the reader's catalog."""
    if verdict.record is None:
        return {}
    return _titles(call).fields.get(str(verdict.verification.facts.get("resource", "")), {})


# --- prove --------------------------------------------------------------------------------------


def prove(output: Output, options: argparse.Namespace) -> int:
    """Write the proof of one record: to a file, or to stdout byte for byte."""
    from exchange.seal.batch.prove import prove as prove_record

    values = record_key(output, options.key, options.row)
    if values is None:
        return USAGE
    data = prove_record(read(options.file), row=options.row, key=values or None)
    if options.to is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return 0
    write(options.to, data)
    output.answer(None, str(options.to))
    output.inform(f"验证：exchange verify {options.to}", f"verify: exchange verify {options.to}")
    return 0


def record_key(output: Output, key: Sequence[str], row: int | None) -> dict[str, str] | None:
    """Read ``FIELD=VALUE`` pairs; None, after a message, unless they or a row name one record."""
    pairs = [item.partition("=") for item in key]
    if bool(pairs) != (row is not None) and all(equals for _, equals, _ in pairs):
        return {name: value for name, _, value in pairs}
    output.inform(
        "用 --key 字段=值（可多个）或 --row 序号 指定一条记录",
        "name one record: --key FIELD=VALUE (repeatable) or --row NUMBER",
    )
    return None
