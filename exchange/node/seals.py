"""The seals of a node (电子印章): opened, admitted by the register, with their time stamps."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from exchange.errors import Integrity, Misconfigured
from exchange.seal.batch.owner import find_delegation
from exchange.seal.eseal.folder import (
    Key,
    key_at,
    modified,
    open_sealer,
    read_certificates,
    read_eseal,
    read_keys,
)
from exchange.seal.eseal.lifecycle import SealState, admit
from exchange.seal.eseal.signature import Sealer
from exchange.seal.eseal.structures import read_seal
from exchange.seal.pki.signers import GuardedSigner
from exchange.seal.pki.trust import Delegation
from exchange.seal.pki.x509 import read_certificate
from exchange.text import Text

if TYPE_CHECKING:
    from exchange.catalog.model import Catalog, Department, Resource
    from exchange.seal.pki.stamping import Stamping
    from exchange.seal.pki.trust import Trust
    from exchange.settings import SealSettings, Settings
    from exchange.settings.sections import DelegationSettings

_LOGGER = logging.getLogger(__name__)


@dataclass
class NodeSeals:
    """The seals that the settings name, each opened on first use.

    ``state`` reads the state of a seal from the register in the log, by its number.
    """

    settings: Settings
    environ: Mapping[str, str] = field(repr=False)
    clock: Callable[[], datetime]
    entropy: Callable[[int], bytes]
    state: Callable[[str], str | None]
    resources: ExitStack
    """Closes what was opened."""

    def __post_init__(self) -> None:
        """Open nothing yet."""
        self._sealers: dict[str, tuple[tuple[Key, int], Sealer]] = {}
        """By name; with the key, and when its seal was written: a new one may take its place."""

    def of(self, resource: Resource) -> Sealer:
        """Return the seal of the resource's department, or the node's ``default`` one.

        Its key is the one of this moment. It asks the register before every signature. Raises
        Misconfigured for a seal that belongs to somebody else, unless a delegation says it may.
        """
        sealer = self.by_name(self.name_of(resource.department.id))
        self._require_owner(sealer, resource.department)
        return sealer

    def by_name(self, name: str) -> Sealer:
        """Return a seal by the name that the settings have for it."""
        settings = self.settings.seals[name]
        key = self.key(settings)
        written = modified(self.settings.resolve(settings.folder) / key.folder)
        stamp, sealer = self._sealers.get(name, (None, None))
        if sealer is None or stamp != (key, written):
            sealer = self._guarded(name, self.open(settings, key))
            self._sealers[name] = (key, written), sealer
        return sealer

    def ready(self, resource: Resource) -> Sealer:
        """Return the seal when it may seal now.

        Raises Denied when the register does not let it, Transient when the patience with the
        time-stamping authority is used up.
        """
        sealer = self.of(resource)
        if self.stamping is not None:
            self.stamping.ready()
        self._admit(self.name_of(resource.department.id), sealer.details.info.es_id)
        return sealer

    def _require_owner(self, sealer: Sealer, department: Department) -> None:
        """Refuse a seal that is not the department's: by the certificate, else by its name."""
        info, unit = sealer.details.info, read_certificate(sealer.signer.certificate).unit
        if unit == department.code or (not unit and info.name == department.name):
            return
        known = delegations(self.settings.delegations)
        if find_delegation(known, info.es_id, department.code, self.clock()) is not None:
            return
        owner = unit or f"“{info.name}”"
        raise Misconfigured(
            Text(
                f"印章 {info.es_id} 属于 {owner}，不是部门 {department.name}（{department.code}）",
                f"seal {info.es_id} belongs to {owner}, not to {department.name} "
                f"({department.code})",
            ),
            hint=Text(
                "为该部门配置自己的印章；确属委托代章的，登记 delegations: "
                f'[{{seal: "{info.es_id}", department: {department.code}, until: 截止日, '
                "reason: 依据}]",
                "give the department its own seal; where it is sealed by delegation, name it: "
                f'delegations: [{{seal: "{info.es_id}", department: {department.code}, '
                "until: LAST-DAY, reason: TEXT}]",
            ),
        )

    def of_evidence(self) -> Sealer:
        """Return the seal whose key signs the checkpoints of the evidence log."""
        seals = self.settings.seals
        usual = "default" if "default" in seals else next(iter(seals), "-")
        name = self.settings.evidence.seal or usual
        if name not in seals:
            raise Misconfigured(
                Text(f"没有名为 {name} 的印章", f"there is no seal {name}"),
                hint=Text("请检查 evidence.seal 与 seals", "check evidence.seal and seals"),
            )
        return self.by_name(name)

    def key(self, settings: SealSettings) -> Key:
        """Return the key of a seal that signs now."""
        return key_at(read_keys(self.settings.resolve(settings.folder)), self.clock())

    def open(self, settings: SealSettings, key: Key | None = None) -> Sealer:
        """Open a seal folder, with the key of this moment or another."""
        folder = self.settings.resolve(settings.folder)
        key = key or self.key(settings)
        return open_sealer(
            folder / key.folder,
            key=key.address or settings.key,
            password=key.password or settings.password,
            environ=self.environ,
        )

    @property
    def patience_file(self) -> Path:
        """Where it stands for how long the time-stamping authority has been away."""
        return self.settings.resolve(self.settings.state) / "tsa.json"

    @cached_property
    def stamping(self) -> Stamping | None:
        """What gets time stamps for seals; None when no authority is configured."""
        section = self.settings.tsa
        if section is None:
            return None
        from exchange.http.timestamps import post_to
        from exchange.http.transport import Transport
        from exchange.seal.pki.stamping import Stamping
        from exchange.seal.pki.timestamp import MAX_TOKEN_BYTES

        transport = Transport(
            section.url,
            monotonic=time.monotonic,
            timeouts=section.timeouts,
            max_answer=MAX_TOKEN_BYTES,
            ca=self.settings.resolve(section.ca) if section.ca else None,
            insecure_http=section.insecure_http,
        )
        self.resources.callback(transport.close)
        return Stamping(
            post=post_to(section.url, transport.post),
            trust=trust(self.settings, section.trust),
            entropy=self.entropy,
            clock=self.clock,
            path=self.patience_file,
            allowed=section.patience,
            say=lambda text: _LOGGER.warning("%s · %s", text.zh, text.en),
        )

    def name_of(self, department: str) -> str:
        """Return the name that the settings have for a department's seal."""
        seals = self.settings.seals
        name = department if department in seals else "default"
        if name not in seals:
            raise Misconfigured(
                Text(f"部门 {department} 没有电子印章", f"department {department} has no seal"),
                hint=Text(
                    f"在 seals 下登记 {department} 或 default",
                    f"name a folder for {department} or default under seals:",
                ),
            )
        return name

    def numbers(self, catalog: Catalog) -> Iterator[tuple[str, str]]:
        """Yield name and number of each seal that a department of the catalog seals with.

        One that cannot be read is left out.
        """
        departments = sorted({resource.department.id for resource in catalog.resources.values()})
        seals = self.settings.seals
        for name in dict.fromkeys(d if d in seals else "default" for d in departments):
            with suppress(Misconfigured, Integrity, KeyError):
                folder = self.settings.resolve(seals[name].folder)
                seal = read_seal(read_eseal(folder / self.key(seals[name]).folder))
                yield name, seal.info.es_id

    def _guarded(self, name: str, sealer: Sealer) -> Sealer:
        es_id = sealer.details.info.es_id
        guard = GuardedSigner(sealer.signer, lambda: self._admit(name, es_id))
        stamping = self.stamping
        stamp = partial(stamping.stamp, suite=sealer.suite) if stamping is not None else None
        return replace(sealer, signer=guard, stamp=stamp)

    def _admit(self, name: str, es_id: str) -> None:
        state = self.state(es_id)
        admit(SealState(state) if state is not None else None, name)


def delegations(sections: Iterable[DelegationSettings]) -> tuple[Delegation, ...]:
    """Take delegations from the settings."""
    return tuple(
        Delegation(section.seal, section.department, section.ends, section.reason)
        for section in sections
    )


def trust(settings: Settings, paths: tuple[Path, ...]) -> Trust:
    """Read trust anchors (信任根)."""
    from exchange.seal.pki.trust import Trust

    files = (read_certificates(settings.resolve(path)) for path in paths)
    return Trust(tuple(certificate for certificates in files for certificate in certificates))
