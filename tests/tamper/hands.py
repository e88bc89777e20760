"""Whoever is to notice: a stranger with files, an auditor of a log's folder, the witness.

Each holds what it is shown, and says the first thing that tells it is not right: the name of a
check, or of the error that is raised; nothing where all is well.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from exchange.cascade.profiles import Target
from exchange.cascade.witness import Cosignature, ask
from exchange.errors import ExchangeError
from exchange.evidence.audit import audit
from exchange.evidence.checkpoint import SignedNote
from exchange.evidence.files import Circumstances, FileVerdict, Verifier
from exchange.http.transport import Transport
from exchange.seal.eseal.lifecycle import SealState, admit
from exchange.seal.pki.signers import GuardedSigner
from exchange.seal.pki.trust import Trust
from tests.receipt.seals import Party
from tests.receiver.province import CREDENTIALS
from tests.receiver.province import province as open_province
from tests.seal.samples import NOW
from tests.support.receivers import background
from tests.tamper.world import LATER, World, signers


class Hand(Protocol):
    def told_by(self, world: World) -> str:
        """Name what fails first, or return nothing."""


@dataclass(frozen=True)
class Files:
    """What a stranger has: files, as `exchange verify` takes them, with lists that must answer."""

    files: tuple[bytes, ...]
    crls: tuple[bytes, ...]
    batch: bytes | None = None
    proof: tuple[bytes, ...] | None = None
    chain: tuple[bytes, ...] = ()
    at: datetime = NOW

    def told_by(self, world: World) -> str:
        try:
            failed = [
                check.name
                for verdict in self.verdicts(world)
                for check in verdict.verification.failed
            ]
        except ExchangeError as error:
            return type(error).__name__
        return failed[0] if failed else ""

    def verdicts(self, world: World) -> list[FileVerdict]:
        ours, theirs, tsa = (
            [item.root.certificate] for item in (world.department, world.province, world.tsa)
        )
        trust = Trust(ours, self.crls, tsa, require_revocation=True)
        verifier = Verifier(
            Circumstances(
                trust=trust,
                province=replace(trust, anchors=theirs),
                at=self.at,
                chain=(*signers(world.department, world.province), *self.chain),
                consistency=() if self.proof is None else (self.proof,),
            )
        )
        for file in self.files:
            verifier.learn(file)
        items = [verifier.verify(str(n), data, self.batch) for n, data in enumerate(self.files)]
        together = verifier.together()
        return [*items, together] if together else items


@dataclass(frozen=True)
class Folder:
    """What an auditor has: a log's folder, and what he knows of it from others."""

    files: Mapping[str, bytes]
    known: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, folder: Path, *known: bytes) -> Folder:
        """Read a folder but for its lock."""
        paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
        files = {str(path.relative_to(folder)): path.read_bytes() for path in paths}
        files.pop("lock", None)
        return cls(files, known)

    def told_by(self, world: World) -> str:
        with TemporaryDirectory() as name:
            self.write(Path(name))
            counts = audit(
                Path(name),
                trust=Trust([world.department.root.certificate]),
                witnesses=Trust([world.province.root.certificate]),
                known=self.known,
            )
        return counts.failed[0].name if counts.failed else ""

    def write(self, folder: Path) -> None:
        for path, data in self.files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)


@dataclass(frozen=True)
class CosigningRequest:
    """One request to sign a checkpoint along: with the proof from ``old`` entries."""

    note: SignedNote
    old: int = 0
    proof: tuple[bytes, ...] = ()
    certificates: tuple[bytes, ...] = field(default=())


@dataclass(frozen=True)
class Requests:
    """What the witness is asked, one after the other, over HTTP by the node's own client."""

    asked: tuple[CosigningRequest, ...]

    def told_by(self, world: World) -> str:
        with _receiver(world) as endpoint:
            for item in self.asked:
                try:
                    result = _ask(world, endpoint, item)
                except ExchangeError as error:
                    return type(error).__name__
                if not isinstance(result, Cosignature):
                    return type(result).__name__
        return ""


def _ask(world: World, endpoint: str, asked: CosigningRequest) -> object:
    transport = Transport(endpoint, monotonic=time.monotonic)
    with contextlib.closing(transport):
        return ask(
            asked.note.to_bytes(),
            old=asked.old,
            proof=asked.proof,
            certificates=asked.certificates or signers(world.department),
            target=Target(endpoint, CREDENTIALS, path="witness"),
            post=transport.post,
            now=lambda: LATER,
        )


@contextlib.contextmanager
def _receiver(world: World) -> Iterator[str]:
    """Run the province's receiver on loopback; it has seen no log yet."""
    trusted = (world.department.root.certificate,)
    with TemporaryDirectory() as name, open_province(Path(name), trust=Trust(trusted)) as province:
        province.party = Party(world.province.root.certificate, world.province.sealer)
        province.clock.now = LATER
        with background(province.app) as endpoint:
            yield endpoint


@dataclass(frozen=True)
class Register:
    """A node about to seal: it asks the register of seals first."""

    state: SealState

    def told_by(self, world: World) -> str:
        own = world.department.sealer
        guard = GuardedSigner(own.signer, lambda: admit(self.state, "data"))
        try:
            replace(own, signer=guard).seal(b"{}", property_info="urn:gds:test", at=NOW)
        except ExchangeError as error:
            return type(error).__name__
        return ""
