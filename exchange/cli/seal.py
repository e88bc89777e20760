"""Commands on electronic seals: the register, pilots' seals, keys that change."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from exchange.cli.invocation import Invocation, actor
from exchange.cli.options import Json, bilingual, group
from exchange.cli.output import Output
from exchange.durable import write_file
from exchange.errors import Misconfigured, Rejected
from exchange.foreign import os_reason
from exchange.text import Text, beijing, counted, with_beijing

if TYPE_CHECKING:
    from exchange.node.node import Node
    from exchange.node.seal_administration import SealAdministration
    from exchange.store.node.seals import SealRow

app = group("seal", "电子印章：台账、试点印章、换钥", "electronic seals and their register")

SealName = Annotated[
    str,
    typer.Argument(metavar="NAME", help=bilingual("部门或印章标识", "department, or its number")),
]
Reason = Annotated[
    str, typer.Option(help=bilingual("理由，记入审计", "why; kept in the audit trail"))
]
Password = Annotated[
    str, typer.Option(help=bilingual("口令的引用 env: 或 file:", "its reference, env: or file:"))
]
Years = Annotated[int, typer.Option(min=1, max=10, help=bilingual("有效年数", "years of validity"))]


@contextmanager
def _administration(call: Invocation) -> Iterator[SealAdministration]:
    from exchange.node.seal_administration import SealAdministration

    with call.open_node() as node:
        yield SealAdministration(node, actor())


@app.command("list", help=bilingual("列出印章及其状态", "list the seals and their state"))
def list_seals(context: typer.Context, *, as_json: Json = False) -> int:
    """List the seals and their state."""
    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    with _administration(call) as administration:
        seals = [_facts(row) for row in administration.rows()]
        away = _away(administration.node)
    output.answer({"seals": seals, **away})
    if away:
        output.inform(
            output.t(
                "时间戳服务自 {since} 起没有应答，已等待 {spent} 秒，期限 {patience} 秒",
                "the TSA is away since {since}: {spent} s of {patience} s are used up",
            ).format(**away["tsa_away"] | {"since": with_beijing(away["tsa_away"]["since"])})
        )
    heads = [("编号", "number"), ("部门", "of"), ("印章", "seal"), ("状态", "state")]
    heads += [("有效期至", "until"), ("证书", "certificates")]
    output.table(
        output.t("电子印章", "electronic seals"),
        [output.t(*pair) for pair in heads],
        (
            (
                seal["es_id"],
                seal["name"],
                seal.get("title", ""),
                _title(output, seal["state"]),
                with_beijing(seal.get("valid_until", ""))[:10],
                len(seal.get("certificates", ())),
            )
            for seal in seals
        ),
    )
    return 0


def _away(node: Node) -> dict[str, Any]:
    """Tell for how long the time-stamping authority has been away, when it is."""
    from exchange.seal.pki.stamping import read_patience

    state = read_patience(node.seals.patience_file)
    if node.settings.tsa is None or state.since is None:
        return {}
    return {
        "tsa_away": {
            "since": state.since.isoformat(),
            "spent": int(state.spent.total_seconds()),
            "patience": int(node.settings.tsa.patience.total_seconds()),
        }
    }


@app.command(help=bilingual("查看一枚印章及其经历", "show a seal and what was done with it"))
def show(
    context: typer.Context,
    name: SealName,
    *,
    picture: Annotated[
        Path | None,
        typer.Option(help=bilingual("把图像写入该文件", "write its picture to this file")),
    ] = None,
    as_json: Json = False,
) -> int:
    """Show one seal with its history; write its picture when a file is named."""
    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    with _administration(call) as administration:
        row = administration.find(name)
        facts = _facts(row) | {"history": administration.history(row)}
    if picture is not None:
        _write_picture(row, picture)
    output.answer(facts, _lines(output, facts))
    return 0


def _write_picture(row: SealRow, path: Path) -> None:
    from exchange.seal.eseal.structures import read_seal

    if not row.content:
        raise Rejected(
            Text("印章尚未制作，没有图像", "the seal is not made yet: there is no picture"),
            hint=Text(f"exchange seal make {row.name}", f"exchange seal make {row.name}"),
        )
    picture = read_seal(row.content).info.picture
    suffix = f".{picture.type.lower()}"
    if path.suffix.lower() != suffix:
        raise Rejected(
            Text(f"图像的类型是 {picture.type}", f"the picture is {picture.type}"),
            hint=Text(f"请用扩展名 {suffix}", f"name a file {suffix}"),
        )
    _write(path, picture.data)


def _write(path: Path, data: bytes) -> None:
    """Write a file at once: whole or not at all."""
    try:
        write_file(path, data, make_folders=False)
    except OSError as error:
        raise Misconfigured(
            Text(
                f"无法写入 {path}：{os_reason(error).zh}",
                f"cannot write {path}: {os_reason(error).en}",
            ),
            hint=Text("请检查路径和权限", "check the path and its rights"),
        ) from error


@app.command(help=bilingual("登记印章申请", "note that a department asks for a seal"))
def request(
    context: typer.Context,
    name: SealName,
    *,
    number: Annotated[str, typer.Option(help=bilingual("申请号", "number of the request"))] = "",
    reason: Reason = "",
    as_json: Json = False,
) -> int:
    """Note that a department asks for a seal."""
    call: Invocation = context.obj
    with _administration(call) as administration:
        row = administration.request(name, reason, number)
        return _answer(call.output(as_json=as_json), row)


@app.command(help=bilingual("制作测试、试点印章（软件密钥）", "make a seal for tests and pilots"))
def make(
    context: typer.Context,
    name: SealName,
    *,
    title: Annotated[
        str,
        typer.Option("--name", help=bilingual("印章名称（默认部门名称）", "the seal's own name")),
    ] = "",
    suite: Annotated[str, typer.Option(help="sm2-sm3 | ecdsa-p256-sha256")] = "sm2-sm3",
    version: Annotated[
        int, typer.Option(min=4, max=5, help="4 GB/T 38540-2020 | 5 GM/T 0031-2025")
    ] = 4,
    years: Years = 5,
    folder: Annotated[
        Path | None, typer.Option(help=bilingual("新目录", "a new folder (default: seals/NAME)"))
    ] = None,
    password: Password = "",
    as_json: Json = False,
) -> int:
    """Make a pilot's seal."""
    from exchange.seal.pki.signers import SOFTWARE_KEY_WARNING

    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    with _administration(call) as administration:
        row, place = administration.make(
            name,
            title=title,
            suite_id=suite,
            version=version,
            years=years,
            folder=folder,
            password=password,
        )
        settings = administration.node.settings
    path = os.path.relpath(place, settings.folder)
    root = os.path.relpath(place.parent / "authority" / "cert.pem", settings.folder)
    output.inform(f"!!! {output.text(SOFTWARE_KEY_WARNING)}")
    if name not in settings.seals:
        line = f'{name}: {{folder: {path}, password: "{password or "file:password.txt"}"}}'
        output.inform(
            f"在 exchange.yaml 的 seals 下登记：{line}；信任根：{root}",
            f"name it under seals: in exchange.yaml: {line}; its root: {root}",
        )
    return _answer(output, row, folder=path)


@app.command(help=bilingual("登记备案号", "note that a seal is filed"))
def file(
    context: typer.Context,
    name: SealName,
    *,
    number: Annotated[str, typer.Option(help=bilingual("备案号", "number of the filing"))],
    approval: Annotated[str, typer.Option(help=bilingual("审批号", "number of the approval"))] = "",
    police_code: Annotated[
        str, typer.Option(help=bilingual("公安备案编码", "code of the public security"))
    ] = "",
    as_json: Json = False,
) -> int:
    """Note that a seal is filed."""
    call: Invocation = context.obj
    with _administration(call) as administration:
        row = administration.file(name, number, approval, police_code)
        return _answer(call.output(as_json=as_json), row)


@app.command(help=bilingual("启用已备案的印章", "put a filed seal in use"))
def use(
    context: typer.Context, name: SealName, *, reason: Reason = "", as_json: Json = False
) -> int:
    """Put a filed seal in use."""
    return _step(context.obj, name, "use", reason, as_json=as_json)


@app.command(help=bilingual("停用：不再盖章，直到恢复", "let it seal nothing until resumed"))
def suspend(
    context: typer.Context,
    name: SealName,
    *,
    reason: Reason,
    lost: Annotated[bool, typer.Option("--lost", help=bilingual("挂失", "it is lost"))] = False,
    as_json: Json = False,
) -> int:
    """Let a seal seal nothing until it is resumed."""
    return _step(context.obj, name, "lose" if lost else "suspend", reason, as_json=as_json)


@app.command(help=bilingual("恢复使用", "let a suspended seal seal again"))
def resume(
    context: typer.Context, name: SealName, *, reason: Reason = "", as_json: Json = False
) -> int:
    """Let a suspended seal seal again."""
    return _step(context.obj, name, "resume", reason, as_json=as_json)


@app.command(help=bilingual("注销：永远不再盖章", "cancel it for good"))
def cancel(context: typer.Context, name: SealName, *, reason: Reason, as_json: Json = False) -> int:
    """Cancel a seal for good."""
    return _step(context.obj, name, "cancel", reason, as_json=as_json)


def _step(call: Invocation, name: str, step: str, reason: str, *, as_json: bool) -> int:
    from exchange.seal.eseal.lifecycle import Step

    with _administration(call) as administration:
        row = administration.take(name, Step(step), reason)
        return _answer(call.output(as_json=as_json), row)


@app.command(help=bilingual("换钥：新密钥到时接替", "let a new key take over"))
def rotate(
    context: typer.Context,
    name: SealName,
    *,
    at: Annotated[
        str, typer.Option(help=bilingual("接替时间（默认即刻）", "when (default: now)"))
    ] = "",
    folder: Annotated[
        Path | None,
        typer.Option(
            "--with", help=bilingual("制章机构换发的目录", "folder that the maker delivered")
        ),
    ] = None,
    key: Annotated[str, typer.Option(help=bilingual("新密钥的地址", "address of its key"))] = "",
    password: Password = "",
    years: Years = 5,
    as_json: Json = False,
) -> int:
    """Let a new key take over."""
    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    with _administration(call) as administration:
        row, new = administration.rotate(
            name, at=_moment(at), folder=folder, address=key, password=password, years=years
        )
    assert new.since is not None  # noqa: S101 - a key that takes over has its moment
    since = new.since.isoformat()
    output.inform(
        f"新密钥 {new.folder} 自 {beijing(new.since)} 起启用；旧批次照常验证",
        f"key {new.folder} takes over at {beijing(new.since)}; old batches still verify",
    )
    return _answer(output, row, key=new.folder, since=since)


def _moment(text: str) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError as error:
        raise Misconfigured(
            Text(f"--at {text} 不是时间", f"--at {text} is no time"),
            hint=Text("例如 2027-01-01T00:00:00+08:00", "such as 2027-01-01T00:00:00+08:00"),
        ) from error


@app.command(help=bilingual("导出电子印章台账（CSV）", "write the register as CSV"))
def export(
    context: typer.Context,
    *,
    to: Annotated[Path, typer.Option(help=bilingual("文件 .csv", "file .csv"))],
    as_json: Json = False,
) -> int:
    """Write the register as a CSV file, for a source of the resource eseal_registry."""
    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    with _administration(call) as administration:
        rows = administration.ledger()
    text = io.StringIO(newline="")
    if rows:
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    _write(to, text.getvalue().encode())
    output.answer(
        {"file": str(to), "seals": len(rows)},
        output.t(f"{to}：{len(rows)} 枚印章", f"{to}: {counted(len(rows), 'seal')}"),
    )
    return 0


def _facts(row: SealRow) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "es_id": row.es_id,
        "name": row.name,
        "state": row.state,
        "registered": row.version > 0,
        "apply_no": row.apply_no,
        "approve_no": row.approve_no,
        "filing_no": row.filing_no,
        "reason": row.reason,
    }
    if not row.content:
        return facts
    from exchange.seal.eseal.structures import read_seal
    from exchange.seal.pki.x509 import read_certificate

    seal = read_seal(row.content)
    info, maker = seal.info, read_certificate(seal.maker)
    return facts | {
        "title": info.name,
        "version": seal.version,
        "maker": maker.title,
        "created": info.created.isoformat(),
        "valid_from": info.valid_from.isoformat(),
        "valid_until": info.valid_until.isoformat(),
        "certificates": [
            {
                "subject": certificate.title,
                "serial": f"{certificate.serial:x}",
                "not_after": certificate.not_after.isoformat(),
                "sha256": certificate.fingerprint,
            }
            for certificate in map(read_certificate, info.certificates)
        ],
        "picture": {
            "type": info.picture.type,
            "bytes": len(info.picture.data),
            "width_mm": info.picture.width,
            "height_mm": info.picture.height,
        },
    }


_WORDS = {
    "es_id": ("印章标识", "number"),
    "name": ("部门", "of"),
    "title": ("印章名称", "seal"),
    "state": ("状态", "state"),
    "reason": ("原因", "reason"),
    "apply_no": ("申请号", "request number"),
    "approve_no": ("审批号", "approval number"),
    "filing_no": ("备案号", "filing number"),
    "version": ("格式版本", "format version"),
    "maker": ("制章者", "maker"),
    "created": ("制作", "made"),
    "valid_from": ("有效期起", "valid from"),
    "valid_until": ("有效期止", "valid until"),
}


def _lines(output: Output, facts: Mapping[str, Any]) -> str:
    values = {**facts, "state": _title(output, facts["state"])}
    lines = [
        f"{output.t(*words)}: {with_beijing(str(values[key]))}"
        for key, words in _WORDS.items()
        if values.get(key)
    ]
    head = output.t("证书", "certificate")
    lines += [
        f"{head}: {item['subject']} · {item['serial']} · {with_beijing(item['not_after'])[:10]}"
        for item in facts.get("certificates", ())
    ]
    if "picture" in facts:
        picture = facts["picture"]
        lines.append(
            output.t("图像", "picture")
            + f": {picture['type']}, {picture['bytes']} B, "
            + f"{picture['width_mm']} × {picture['height_mm']} mm"
        )
    lines += [
        f"{with_beijing(step['at'])}  {step['actor']}  {step['detail']}"
        for step in facts["history"]
    ]
    return "\n".join(lines)


def _title(output: Output, state: str) -> str:
    from exchange.seal.eseal.lifecycle import TITLES, SealState

    return output.text(TITLES[SealState(state) if state else None])


def _answer(output: Output, row: SealRow, **more: str) -> int:
    title = _title(output, row.state)
    output.answer(
        {"es_id": row.es_id, "name": row.name, "state": row.state, **more},
        f"{row.es_id} {row.name}: {title}",
    )
    return 0
