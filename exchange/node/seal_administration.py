"""Keeping a node's seals (印章管理): who did which step, made seals of pilots, changed keys.

Each step moves the machine of :mod:`exchange.seal.eseal.lifecycle` and is written to the log, then
shown in the store with its line of the audit trail. In: a node and who acts. Out: rows of the
register. Raises Rejected for a step that the seal's state does not allow, Misconfigured for folders
and names.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from exchange.errors import Integrity, Misconfigured, Rejected
from exchange.node.node import Node
from exchange.node.seal_projection import action, detail, known_seals, show_register
from exchange.pipeline.seal_register import CARRIED
from exchange.seal.crypto.suites import SM2_SM3, suite
from exchange.seal.eseal.folder import (
    PASSWORD,
    Key,
    add_key,
    check_free,
    check_last,
    open_sealer,
    read_certificates,
    read_eseal,
    read_keys,
    set_aside,
    write_seal_folder,
)
from exchange.seal.eseal.lifecycle import LEDGER, REASONED, SealState, Step, move
from exchange.seal.eseal.pilot import (
    AUTHORITY,
    SEAL_YEARS,
    make_unit_seal,
    open_authority,
    password_of,
    write_authority,
)
from exchange.seal.eseal.structures import WRITTEN_VERSION, Seal, read_seal
from exchange.seal.eseal.test_authority import Authority, make_authority
from exchange.seal.pki.x509 import read_certificate
from exchange.secrets import read_secret
from exchange.settings import SealSettings
from exchange.store.node.seals import SealRow
from exchange.text import Text, beijing

_ASIDE: Final = timedelta(seconds=2)
"""How long before its moment a new key is noted, so that every worker has read it by then."""


@dataclass(frozen=True, slots=True)
class SealAdministration:
    """The seals of a node; ``actor`` is who acts, for the audit trail."""

    node: Node
    actor: str

    def rows(self) -> list[SealRow]:
        """List the register, and the seals of the settings that are not in it (version 0)."""
        registered = known_seals(self.node)
        ids = {row.es_id for row in registered}
        return [*registered, *(row for row in self._unregistered() if row.es_id not in ids)]

    def find(self, name: str) -> SealRow:
        """Find a seal by number, or the present one of a department; raises Rejected."""
        rows = [row for row in self.rows() if name in {row.name, row.es_id}]
        if not rows:
            names = ", ".join(sorted({row.name for row in self.rows()})) or "-"
            raise Rejected(
                Text(f"没有 {name} 的印章", f"there is no seal of {name}"),
                hint=Text(f"已有：{names}", f"there are: {names}"),
            )
        # A cancelled one is shown when there is no other.
        return max(rows, key=lambda row: (row.state != SealState.CANCELLED, row.es_id))

    def take(self, name: str, step: Step, reason: str = "", **changes: Any) -> SealRow:
        """Take one step with a seal; ``changes`` are fields of its row."""
        row = self.find(name)
        if step in REASONED and not reason.strip():
            raise Rejected(
                Text(f"{step} 必须写明理由", f"{step} needs a reason"),
                hint=Text("用 --reason 给出理由", "give it with --reason"),
            )
        if row.version == 0:
            move(_state(row), step, name)  # refused before anything is written
            row = self._save(row, Step.ADOPT, "named by the settings")
        return self._move(row, step, reason, **changes)

    def request(self, name: str, reason: str = "", number: str = "") -> SealRow:
        """Note that a department asks for a seal; it gets its number now."""
        there = [
            row for row in self.rows() if row.name == name and row.state != SealState.CANCELLED
        ]
        if there:
            move(_state(there[0]), Step.REQUEST, name)
        row = SealRow(
            es_id=self._next_id(),
            name=name,
            state="",
            apply_no=number,
            applied_at=self.node.clock(),
        )
        return self._move(row, Step.REQUEST, reason)

    def file(self, name: str, number: str, approval: str = "", police_code: str = "") -> SealRow:
        """Note that a seal was approved and filed (备案)."""
        now = self.node.clock()
        changes: dict[str, Any] = {"filing_no": number, "filed_at": now}
        if approval:
            changes |= {"approve_no": approval, "approved_at": now}
        if police_code:
            changes["police_code"] = police_code
        return self.take(name, Step.FILE, f"filing number {number}", **changes)

    # --- making, for tests and pilots ---------------------------------------------------------

    def make(
        self,
        name: str,
        *,
        title: str = "",
        suite_id: str = SM2_SM3.id,
        version: int = WRITTEN_VERSION,
        years: int = SEAL_YEARS,
        folder: Path | None = None,
        password: str = "",
    ) -> tuple[SealRow, Path]:
        """Make key, certificate and seal of a department, for tests and pilots.

        A seal that was requested waits for its filing afterwards; without a request all steps
        up to its use are done at once. ``password`` is a reference; without it one is made and
        kept in the folder. Returns the row and the folder, which is new: where the folder of the
        settings has a seal that was cancelled, it is renamed first, and the new seal takes its
        place.
        """
        node, now = self.node, self.node.clock()
        wanted = (name, SealState.REQUESTED)
        requested = [row for row in self.rows() if (row.name, row.state) == wanted]
        departments = node.catalog.departments
        title = title or (departments[name].name if name in departments else "")
        if folder is None:
            settings = node.settings.seals.get(name)
            folder = settings.folder if settings is not None else Path("seals") / name
            if settings is not None and not password and not _in_folder(settings.password):
                password = settings.password or ""  # the new key opens with what the settings say
            self._set_aside(name, node.settings.resolve(folder))
        place = node.settings.resolve(folder)
        check_free(place)
        secret = read_secret(password, node.settings.folder, node.environ) if password else ""
        root = self._authority(place.parent / AUTHORITY, suite_id)
        row = requested[0] if requested else self.request(name, "pilot")
        signer, eseal = make_unit_seal(
            root,
            title,
            row.es_id,
            now=now,
            entropy=node.entropy,
            years=years,
            version=version,
            suite=suite(suite_id),
            unit=self._unit(name),
        )
        write_seal_folder(
            place,
            key=signer.key,
            certificate=signer.certificate,
            eseal=eseal,
            chain=(),
            root=root.certificate,
            password=secret or password_of(node.entropy),
            keep_password=not password,
        )
        row = self._move(row, Step.MAKE, f"into {folder}", content=eseal)
        if not requested:
            row = self._move(
                row,
                Step.FILE,
                "pilot",
                filing_no=f"TEST-{row.es_id}",
                filed_at=now,
            )
            row = self._move(row, Step.USE, "pilot")
        return row, place

    def _set_aside(self, name: str, place: Path) -> None:
        """Rename the folder of a cancelled seal: its key is kept, and seals no more."""
        rows = {row.es_id: row for row in self.rows()}
        try:
            es_id = read_seal(read_eseal(place)).info.es_id
        except (Misconfigured, Integrity):
            return  # nothing there, or no seal: what is there is never overwritten
        row = rows.get(es_id)
        if row is not None and (row.name, row.state) == (name, SealState.CANCELLED):
            set_aside(place, f"{place.name}.{es_id}")

    def _authority(self, folder: Path, suite_id: str) -> Authority:
        """Open the authority of pilots beside the seals; make it the first time."""
        if not folder.exists():
            root = make_authority(
                "政务电子印章根证书（测试）",
                suite(suite_id),
                now=self.node.clock(),
                entropy=self.node.entropy,
            )
            write_authority(folder, root, password_of(self.node.entropy))
        return open_authority(folder, self.node.environ)

    # --- changing keys ------------------------------------------------------------------------

    def rotate(
        self,
        name: str,
        *,
        at: datetime | None = None,
        folder: Path | None = None,
        address: str = "",
        password: str = "",
        years: int = SEAL_YEARS,
    ) -> tuple[SealRow, Key]:
        """Let a new key of the same department take over at a moment; none is lost or doubled.

        ``folder``: that of a seal that the maker delivered, with the ``address`` of its key and
        the reference of its ``password``; without it a pilot's seal is made, which lists the
        certificates before it too. The old key's batches go on to verify; the running node
        changes over by itself.
        """
        node = self.node
        if name not in node.settings.seals:
            raise Misconfigured(
                Text(f"配置的 seals 中没有 {name}", f"the settings name no seal {name}"),
                hint=Text("在 seals 下登记它", "name its folder under seals:"),
            )
        row = self.find(name)
        move(_state(row) or SealState.IN_USE, Step.ROTATE, name)
        settings = node.settings.seals[name]
        base = node.settings.resolve(settings.folder)
        check_last(read_keys(base), node.clock())
        since = max(at or node.clock() + _ASIDE, node.clock())
        if folder is None:
            place = base / f"key-{since:%Y%m%dT%H%M%S}"
            self._next_key(place, settings, row, years)
            address, password = "file:key.pem", f"file:{PASSWORD}"
        else:
            place = node.settings.resolve(folder)
        key = Key(os.path.relpath(place, base), since, address, password)
        old, new = node.seals.open(settings), self._open(base, settings, key)
        if new.signer.certificate == old.signer.certificate:
            raise Misconfigured(
                Text("新旧证书相同", "the certificate is the one in use"),
                hint=Text("请给出新证书的目录", "name the folder of the new one"),
            )
        if new.details.info.es_id != row.es_id:
            raise Misconfigured(
                Text(
                    f"新印章的标识是 {new.details.info.es_id}，不是 {row.es_id}",
                    f"the new seal has number {new.details.info.es_id}, not {row.es_id}",
                ),
                hint=Text(
                    "换钥时印章标识不变；另一枚印章请改配置中的 folder",
                    "a seal keeps its number; for another seal change `folder` in the settings",
                ),
            )
        # First its line of the audit trail: no key takes over without one.
        row = self.take(name, Step.ROTATE, f"{key.folder} from {since}", content=new.eseal)
        add_key(base, key)
        return row, key

    def _open(self, base: Path, settings: SealSettings, key: Key) -> Any:
        """Try a key before it is needed."""
        return open_sealer(
            base / key.folder,
            key=key.address or settings.key,
            password=key.password or settings.password,
            environ=self.node.environ,
        )

    def _unit(self, name: str) -> str:
        """Return the code of the department that a seal is named after; empty: of none."""
        known = self.node.catalog.departments
        return known[name].code if name in known else ""

    def _next_key(self, place: Path, settings: SealSettings, row: SealRow, years: int) -> None:
        node = self.node
        base = node.settings.resolve(settings.folder)
        before = node.seals.open(settings)
        root = self._authority(base.parent / AUTHORITY, before.suite.id)
        foreign = root.certificate not in read_certificates(base / "root.pem")
        if foreign or not before.signer.software:  # a device is never followed by a file
            raise Misconfigured(
                Text(
                    f"{settings.folder} 的印章不是本节点试点机构制作的，或其密钥在设备中",
                    f"the seal in {settings.folder} was not made by this node's pilot authority, "
                    "or its key is in a device",
                ),
                hint=Text(
                    "请制章机构换发后用 --with 目录",
                    "have its maker renew it, then name the folder: --with FOLDER",
                ),
            )
        info = before.details.info
        signer, eseal = make_unit_seal(
            root,
            info.name,
            row.es_id,
            now=node.clock(),
            entropy=node.entropy,
            years=years,
            version=before.details.version,
            suite=before.suite,
            also=(before.signer.certificate,),
            unit=read_certificate(before.signer.certificate).unit or self._unit(row.name),
        )
        shutil.rmtree(place, ignore_errors=True)  # of a rotation that was killed: not noted yet
        write_seal_folder(
            place,
            key=signer.key,
            certificate=signer.certificate,
            eseal=eseal,
            chain=(),
            root=root.certificate,
            password=password_of(node.entropy),
            keep_password=True,
        )

    # --- the register -------------------------------------------------------------------------

    def _move(self, row: SealRow, step: Step, detail: str, **changes: Any) -> SealRow:
        state = move(_state(row), step, row.name)
        if step in REASONED:
            changes["reason"] = detail
        elif step is Step.RESUME:
            changes["reason"] = ""
        return self._save(replace(row, state=state, **changes), step, detail)

    def _save(self, row: SealRow, step: Step, detail: str) -> SealRow:
        if step is Step.ADOPT:
            row = replace(row, state=move(None, step, row.name))
        show_register(self.node)
        event = self.node.seal_register.append(row, actor=self.actor, step=step, detail=detail)
        show_register(self.node)
        return event.row

    def _unregistered(self) -> Iterator[SealRow]:
        for name, settings in self.node.settings.seals.items():
            folder = self.node.settings.resolve(settings.folder)
            try:
                data = read_eseal(folder / self.node.seals.key(settings).folder)
                seal = read_seal(data)
            except (Misconfigured, Integrity):
                continue  # no seal yet, or a broken one: `exchange doctor` says which
            yield SealRow(es_id=seal.info.es_id, name=name, state="", content=data)

    def _next_id(self) -> str:
        """Give the next number: division and eight digits."""
        area = self.node.catalog.area.code
        ids = [row.es_id.removeprefix(area) for row in self.rows() if row.es_id.startswith(area)]
        numbers = (int(text) for text in ids if text.isascii() and text.isdigit())
        last = max(numbers, default=0)
        return f"{area}{last + 1:08d}"

    def ledger(self) -> list[dict[str, str]]:
        """Return the register as rows of the resource ``eseal_registry`` (电子印章台账).

        Only seals that are made; times are local. What is not known is left empty, and judged
        by the catalog like any other source.
        """
        rows = [replace(r, state=r.state or SealState.IN_USE) for r in self.rows() if r.content]
        return [self._entry(row, read_seal(row.content)) for row in rows]

    def _entry(self, row: SealRow, seal: Seal) -> dict[str, str]:
        info, maker = seal.info, read_certificate(seal.maker)
        signers = [read_certificate(certificate) for certificate in info.certificates]
        catalog, settings = self.node.catalog, self.node.settings.seals.get(row.name)
        owner = catalog.departments.get(row.name)
        device = settings is not None and settings.key.startswith("pkcs11:")
        state = SealState(row.state)
        return {
            "es_id": row.es_id,
            "seal_name": info.name,
            "seal_type": "01",
            "police_code": row.police_code,
            "owner": owner.name if owner else info.name,
            "owner_code": owner.code if owner else "",
            "area_code": catalog.area.code,
            "ses_version": str(seal.version),
            "picture_type": info.picture.type,
            "width_mm": str(info.picture.width),
            "height_mm": str(info.picture.height),
            "picture_sm3": SM2_SM3.digest(info.picture.data).hex(),
            "maker": _common_name(maker.title),
            "maker_cert_serial": f"{maker.serial:x}",
            "maker_cert_issuer": maker.issuer_title,
            "signer_cert_serials": ",".join(f"{signer.serial:x}" for signer in signers),
            "signer_cert_until": _moment(max((s.not_after for s in signers), default=None)),
            "created_at": _moment(info.created),
            "valid_from": _moment(info.valid_from),
            "valid_to": _moment(info.valid_until),
            "alg_oid": seal.algorithm,
            "carrier": "密码机" if device else "软件",
            "apply_no": row.apply_no,
            "apply_date": _moment(row.applied_at)[:10],
            "approve_no": row.approve_no,
            "approve_date": _moment(row.approved_at)[:10],
            "filing_no": row.filing_no,
            "filing_date": _moment(row.filed_at)[:10],
            "status": LEDGER[state],
            "cancel_reason": row.reason if state is SealState.CANCELLED else "",
            "use_log_ref": "",
        }

    def history(self, row: SealRow) -> list[Mapping[str, str]]:
        """List who did what with a seal, oldest first: by the log, before that by the trail."""
        events = self.node.seal_register.history(row.es_id)
        before = row.version  # lines of the trail: one for each step that the log lacks
        if events:
            before = events[0].row.version if events[0].step == CARRIED else 0
        return [
            *(
                {
                    "at": line.at.isoformat(),
                    "actor": line.actor,
                    "action": line.action,
                    "detail": line.detail,
                }
                for line in self.node.store.audit.find(subject=row.es_id, limit=before)
            ),
            *(
                {
                    "at": event.row.updated_at.isoformat() if event.row.updated_at else "",
                    "actor": event.actor,
                    "action": action(event),
                    "detail": detail(event),
                }
                for event in events
                if event.step != CARRIED
            ),
        ]


def _state(row: SealRow) -> SealState | None:
    """Return the state of a row; a seal that only the settings name counts as in use."""
    if row.version == 0:
        return SealState.IN_USE if row.content else None
    return SealState(row.state)


def _in_folder(password: str | None) -> bool:
    """Tell whether a reference names a file in the seal's own folder: a new one is written."""
    return password == f"file:{PASSWORD}"


def _moment(at: datetime | None) -> str:
    return beijing(at) if at is not None else ""


def _common_name(title: str) -> str:
    return next(
        (part.removeprefix("Common Name: ") for part in title.split(", ") if "Common" in part),
        title,
    )
