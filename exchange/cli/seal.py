"""Commands on electronic seals: the register, pilots' seals, keys that change."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exchange.cli.output import Talk
from exchange.durable import write_file
from exchange.errors import Misconfigured, Rejected
from exchange.seal.eseal.lifecycle import TITLES, State, Step
from exchange.text import Text

if TYPE_CHECKING:
    from exchange.node.node import Node
    from exchange.node.seal_administration import SealAdministration
    from exchange.store.rows import SealRow


@contextmanager
def _custody() -> Iterator[SealAdministration]:
    from exchange.cli.actor import actor
    from exchange.cli.node import open_node
    from exchange.node.seal_administration import SealAdministration

    with open_node() as node:
        yield SealAdministration(node, actor())


def listing(talk: Talk) -> int:
    """List the seals and their state."""
    with _custody() as administration:
        told = [_told(row) for row in administration.rows()]
        away = _away(administration.node)
    talk.answer({"seals": told, **away})
    if away:
        talk.say(
            talk.t(
                "时间戳服务自 {since} 起没有应答，已等待 {spent} 秒，期限 {patience} 秒",
                "the TSA is away since {since}: {spent} s of {patience} s are used up",
            ).format(**away["tsa_away"])
        )
    heads = [("编号", "number"), ("部门", "of"), ("印章", "seal"), ("状态", "state")]
    heads += [("有效期至", "until"), ("证书", "certificates")]
    talk.table(
        talk.t("电子印章", "electronic seals"),
        [talk.t(*pair) for pair in heads],
        (
            (
                one["es_id"],
                one["name"],
                one.get("title", ""),
                _titled(talk, one["state"]),
                one.get("valid_until", "")[:10],
                len(one.get("certificates", ())),
            )
            for one in told
        ),
    )
    return 0


def _away(node: Node) -> dict[str, Any]:
    """Tell for how long the time-stamping authority has been away, when it is."""
    from exchange.seal.pki.stamping import read_patience

    state = read_patience(node.patience_file)
    if node.settings.tsa is None or state.since is None:
        return {}
    return {
        "tsa_away": {
            "since": state.since.isoformat(),
            "spent": int(state.spent.total_seconds()),
            "patience": int(node.settings.tsa.patience.total_seconds()),
        }
    }


def show(talk: Talk, name: str, picture: Path | None) -> int:
    """Show one seal with its history; write its picture when a file is named."""
    with _custody() as administration:
        row = administration.find(name)
        told = _told(row) | {"history": administration.history(row)}
    if picture is not None:
        _write_picture(row, picture)
    talk.answer(told, _lines(talk, told))
    return 0


def _write_picture(row: SealRow, path: Path) -> None:
    from exchange.seal.eseal.structures import read_seal

    if not row.content:
        raise Rejected(
            Text("印章尚未制作，没有图像", "the seal is not made yet: there is no picture"),
            hint=Text(f"exchange seal make {row.name}", f"exchange seal make {row.name}"),
        )
    found = read_seal(row.content).info.picture
    if path.suffix.lower() != f".{found.type.lower()}":
        raise Rejected(
            Text(f"图像的类型是 {found.type}", f"the picture is {found.type}"),
            hint=Text(f"请用扩展名 .{found.type.lower()}", f"name a file .{found.type.lower()}"),
        )
    _write(path, found.data)


def _write(path: Path, data: bytes) -> None:
    """Write a file at once: whole or not at all."""
    try:
        write_file(path, data)
    except OSError as error:
        raise Misconfigured(
            Text(f"无法写入 {path}：{error.strerror}", f"cannot write {path}: {error.strerror}"),
            hint=Text("请检查路径和权限", "check the path and its rights"),
        ) from error


def request(talk: Talk, name: str, reason: str, number: str) -> int:
    """Note that a department asks for a seal."""
    with _custody() as administration:
        return _done(talk, administration.request(name, reason, number))


def make(talk: Talk, name: str, **options: Any) -> int:
    """Make a pilot's seal."""
    from exchange.seal.pki.signers import SOFTWARE_KEY_WARNING

    with _custody() as administration:
        row, folder = administration.make(name, **options)
        settings = administration.node.settings
        shown = os.path.relpath(folder, settings.folder)
        named = name in settings.seals
        root = os.path.relpath(folder.parent / "authority" / "cert.pem", settings.folder)
        password = options["password"] or "file:password.txt"
    talk.say(f"!!! {talk.text(SOFTWARE_KEY_WARNING)}")
    if not named:
        line = f'{name}: {{folder: {shown}, password: "{password}"}}'
        talk.say(
            talk.t(
                f"在 exchange.yaml 的 seals 下登记：{line}；信任根：{root}",
                f"name it under seals: in exchange.yaml: {line}; its root: {root}",
            )
        )
    return _done(talk, row, folder=shown)


def file(talk: Talk, name: str, number: str, approval: str, police_code: str) -> int:
    """Note that a seal is filed."""
    with _custody() as administration:
        return _done(talk, administration.file(name, number, approval, police_code))


def step(talk: Talk, name: str, what: str, reason: str = "") -> int:
    """Take one step: use, suspend, lose, resume, cancel."""
    with _custody() as administration:
        return _done(talk, administration.take(name, Step(what), reason))


def rotate(talk: Talk, name: str, *, at: str, **options: Any) -> int:
    """Let a new key take over."""
    with _custody() as administration:
        row, key = administration.rotate(name, at=_moment(at), **options)
    assert key.since is not None  # noqa: S101 - a key that takes over has its moment
    talk.say(
        talk.t(
            f"新密钥 {key.folder} 自 {key.since.isoformat()} 起启用；旧批次照常验证",
            f"key {key.folder} takes over at {key.since.isoformat()}; old batches still verify",
        )
    )
    return _done(talk, row, key=key.folder, since=key.since.isoformat())


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


def export(talk: Talk, to: Path) -> int:
    """Write the register as a CSV file, for a source of the resource eseal_registry."""
    with _custody() as administration:
        rows = administration.ledger()
    text = io.StringIO(newline="")
    if rows:
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    _write(to, text.getvalue().encode())
    talk.answer(
        {"file": str(to), "seals": len(rows)},
        talk.t(f"{to}：{len(rows)} 枚印章", f"{to}: {len(rows)} seals"),
    )
    return 0


def _told(row: SealRow) -> dict[str, Any]:
    told: dict[str, Any] = {
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
        return told
    from exchange.seal.eseal.structures import read_seal
    from exchange.seal.pki.x509 import read_certificate

    seal = read_seal(row.content)
    info, maker = seal.info, read_certificate(seal.maker)
    return told | {
        "title": info.name,
        "version": seal.version,
        "maker": maker.title,
        "created": info.created.isoformat(),
        "valid_from": info.valid_from.isoformat(),
        "valid_until": info.valid_until.isoformat(),
        "certificates": [
            {
                "subject": found.title,
                "serial": f"{found.serial:x}",
                "not_after": found.not_after.isoformat(),
                "sha256": found.fingerprint,
            }
            for found in map(read_certificate, info.certificates)
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


def _lines(talk: Talk, told: Mapping[str, Any]) -> str:
    shown = {**told, "state": _titled(talk, told["state"])}
    lines = [f"{talk.t(*words)}: {shown[key]}" for key, words in _WORDS.items() if shown.get(key)]
    for one in told.get("certificates", ()):
        head = talk.t("证书", "certificate")
        lines.append(f"{head}: {one['subject']} · {one['serial']} · {one['not_after'][:10]}")
    if "picture" in told:
        picture = told["picture"]
        lines.append(
            talk.t("图像", "picture")
            + f": {picture['type']}, {picture['bytes']} B, "
            + f"{picture['width_mm']} × {picture['height_mm']} mm"
        )
    lines += [f"{one['at']}  {one['actor']}  {one['detail']}" for one in told["history"]]
    return "\n".join(lines)


def _titled(talk: Talk, state: str) -> str:
    return talk.text(TITLES[State(state) if state else None])


def _done(talk: Talk, row: SealRow, **more: str) -> int:
    title = _titled(talk, row.state)
    talk.answer(
        {"es_id": row.es_id, "name": row.name, "state": row.state, **more},
        f"{row.es_id} {row.name}: {title}",
    )
    return 0
