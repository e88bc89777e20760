"""Cases about the evidence log: checkpoints, packages, the folder, the witness."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from exchange.evidence.checkpoint import Head, SignedNote, sign
from exchange.evidence.log import EvidenceLog, LogReader
from exchange.evidence.package import make_package
from exchange.evidence.tiles import pack, unpack
from tests.evidence.samples import ORIGIN, entries
from tests.seal.samples import NOW
from tests.tamper import changes as do
from tests.tamper.cases import YEARS, Row, Show, other
from tests.tamper.hands import CosigningRequest, Files, Folder, Requests
from tests.tamper.sealed import receipt_of
from tests.tamper.world import (
    DAY,
    LATER,
    OLDER,
    SECOND,
    World,
    certified,
    evidence,
    grow,
    signers,
)

Change = Callable[..., bytes]

# --- a checkpoint ---------------------------------------------------------------------------------


def checkpoint(world: World, data: bytes | None = None, crls: tuple[bytes, ...] = ()) -> Files:
    return Files((data or world.note.to_bytes(),), crls or world.crls)


def checkpoint_by(change: Change, *given: Any, **more: Any) -> Show:
    return lambda w: checkpoint(w, change(w.note, *given, **more))


def signed_by(**changes: Any) -> Show:
    """Have a certificate that differs in ``changes`` sign, and show it."""

    def show(world: World) -> Files:
        signer = certified(world.department.ca, "部门 signer", **changes)
        data = do.signed_again(world, signer)
        return replace(checkpoint(world, data), chain=(signer.certificate,))

    return show


def witnessed_by(*, at: datetime = LATER, **changes: Any) -> Show:
    """Have a certificate that differs in ``changes`` sign along, and show it."""

    def show(world: World) -> Files:
        signer = certified(world.province.ca, "省 signer", **changes)
        data = do.witnessed_by(world, signer, at)
        return replace(checkpoint(world, data), chain=(signer.certificate,))

    return show


def by_false_node(world: World) -> Files:
    false = do.impostor(world, "部门")
    data = do.signed_again(world, false.signer)
    return replace(checkpoint(world, data), chain=tuple(signers(false)))


def by_false_witness(world: World) -> Files:
    false = do.impostor(world, "省")
    data = do.witnessed_by(world, false.signer, LATER)
    return replace(checkpoint(world, data), chain=tuple(signers(false)))


CHECKPOINT: list[Row] = [
    ("bit flip in the origin", "checkpoint", checkpoint_by(do.line_bit, 0, 3)),
    ("bit flip in the size", "checkpoint.signature", checkpoint_by(do.line_bit, 1, -1)),
    ("bit flip in the root", "checkpoint.signature", checkpoint_by(do.root_bit)),
    ("bit flip in the time", "checkpoint.signature", checkpoint_by(do.line_bit, 3, -2)),
    ("bit flip in the empty line", "Rejected", checkpoint_by(do.separator_bit)),
    ("bit flip in the log's name", "checkpoint", checkpoint_by(do.line_bit, 5, 6)),
    ("bit flip in the log's key id", "checkpoint.signature", checkpoint_by(do.signature_bit, 0)),
    (
        "bit flip in the log's signature",
        "checkpoint.signature",
        checkpoint_by(do.signature_bit, -1),
    ),
    ("bit flip in the witness's name", "witness.signature", checkpoint_by(do.line_bit, 6, 6)),
    ("bit flip in the witness's key id", "witness.signature", checkpoint_by(do.witness_bit, 0)),
    ("bit flip in the witness's time", "witness.signature", checkpoint_by(do.witness_bit, 11)),
    ("bit flip in the witness's signature", "witness.signature", checkpoint_by(do.witness_bit, -1)),
    (
        "witness's line of another checkpoint",
        "witness.signature",
        lambda w: checkpoint(w, replace(w.note, witnesses=w.older.witnesses).to_bytes()),
    ),
    ("swapped key, all names alike", "checkpoint.chain", by_false_node),
    ("swapped key of the witness", "witness.chain", by_false_witness),
    (
        "swapped algorithm id",
        "checkpoint.signature",
        lambda w: checkpoint(w, do.other_key_id(w, other(w))),
    ),
    ("expired certificate", "checkpoint.validity", signed_by(now=NOW - YEARS)),
    ("certificate not yet valid", "checkpoint.validity", signed_by(now=NOW + 2 * DAY)),
    (
        "revoked certificate",
        "checkpoint.revocation",
        lambda w: checkpoint(w, None, do.revoked(w, w.department.ca, w.department.signer)),
    ),
    ("expired witness", "witness.validity", witnessed_by(now=NOW - YEARS)),
    ("witness not yet valid", "witness.validity", witnessed_by(now=NOW + 2 * DAY)),
    (
        "revoked witness",
        "witness.revocation",
        lambda w: checkpoint(w, None, do.revoked(w, w.province.ca, w.province.signer)),
    ),
    (
        "witnessed before it was made",
        "witness.time",
        witnessed_by(at=LATER - timedelta(minutes=11)),
    ),
]


# --- an evidence package --------------------------------------------------------------------------


def package(world: World, data: bytes | None = None, crls: tuple[bytes, ...] = ()) -> Files:
    return Files((data or world.package,), crls or world.crls)


def package_edited(*path: Any, change: Callable[[Any], Any] = do.bit_of) -> Show:
    return lambda world: package(world, do.repacked(world, do.put(*path, change=change)))


def package_with(make: Callable[[World], dict[str, Any]]) -> Show:
    return lambda world: package(world, do.with_package(world, **make(world)))


def stale_package(world: World) -> Files:
    """Pack the record with a checkpoint that is older than the statement that it has."""
    with TemporaryDirectory() as name:
        folder, early = Path(name), NOW - timedelta(minutes=30)
        own = evidence(world.batch, world.receipt)
        grow(folder, own, world.department, world.province, at=early)
        log = LogReader.at(folder)
        return package(world, make_package(log, proof=world.proof, receipt=world.receipt))


PACKAGE: list[Row] = [
    ("bit flip in the gzip header", "package", lambda w: package(w, do.flip(w.package, 9))),
    ("bit flip in the compressed bytes", "package", lambda w: package(w, do.flip(w.package, -9))),
    ("cut tail", "package", lambda w: package(w, w.package[:-1])),
    ("bytes behind the file", "package", lambda w: package(w, w.package + b"\0")),
    ("bit flip in the format", "package", package_edited("format")),
    (
        "bit flip in the record",
        "root",
        package_edited("proof", "record", change=lambda t: do.flip64(t, 6)),
    ),
    ("bit flip in the salt", "root", package_edited("proof", "salt")),
    ("bit flip in the index", "root", package_edited("proof", "index")),
    ("bit flip in the path", "root", package_edited("proof", "path", change=do.last_bit)),
    (
        "bit flip in the statement",
        "signature.digest",
        package_edited("proof", "statement", "source"),
    ),
    (
        "bit flip in the seal",
        "signature.value",
        package_edited("proof", "seal", change=do.last_bit),
    ),
    (
        "bit flip in the schema",
        "schema.fingerprint",
        package_edited("proof", "schema", change=lambda t: t.replace("secret", "secreu")),
    ),
    (
        "bit flip in a certificate",
        "signer.chain",
        package_edited("certificates", 0, change=do.last_bit),
    ),
    ("bit flip in the receipt", "log.receipt", package_edited("receipt", "receipt", "message")),
    (
        "bit flip in the receipt's seal",
        "log.receipt",
        package_edited("receipt", "seal", change=do.last_bit),
    ),
    (
        "bit flip in the statement's index",
        "log.statement",
        package_edited("statement_leaf", "index"),
    ),
    (
        "bit flip in the statement's path",
        "log.statement",
        package_edited("statement_leaf", "path", change=do.first_bit),
    ),
    ("bit flip in the receipt's index", "log.receipt", package_edited("receipt_leaf", "index")),
    (
        "bit flip in the receipt's path",
        "log.receipt",
        package_edited("receipt_leaf", "path", change=do.first_bit),
    ),
    ("bit flip in the shared hashes", "log.receipt", package_edited("receipt_leaf", "shared")),
    (
        "bit flip in the checkpoint",
        "log.statement",
        package_with(lambda w: {"note": SignedNote.from_bytes(do.root_bit(w.note))}),
    ),
    ("bit flip in the checkpoint's chain", "package", package_edited("checkpoint_chain", 0)),
    (
        "bit flip in the revocation",
        "revocation",
        package_edited("revocation", 0, change=do.last_bit),
    ),
    (
        "without its witness",
        "witness.signature",
        package_with(lambda w: {"note": replace(w.note, witnesses=())}),
    ),
    ("stale checkpoint", "log.time", stale_package),
    (
        "receipt doubled under another number",
        "log.receipt",
        package_with(lambda w: {"receipt": receipt_of(w, receipt_no="R-2")}),
    ),
    (
        "replayed receipt of another batch",
        "log.receipt",
        package_with(lambda w: {"receipt": w.receipts[0]}),
    ),
    (
        "checkpoint of another history",
        "log.statement",
        package_with(lambda w: {"note": history(w).note}),
    ),
    (
        "revoked certificate of the department",
        "signer.revocation",
        lambda w: package(w, None, do.revoked(w, w.department.ca, w.department.signer)),
    ),
    (
        "revoked certificate of the province",
        "receipt.signer.revocation",
        lambda w: package(w, None, do.revoked(w, w.province.ca, w.province.signer)),
    ),
    (
        "swapped key of the province",
        "log.receipt",
        package_with(lambda w: {"receipt": receipt_of(w, do.impostor(w, "省").sealer)}),
    ),
]


# --- the folder of an evidence log ----------------------------------------------------------------


@dataclass(frozen=True)
class History:
    """Another log of the same name, signed with the node's own key."""

    folder: Folder
    note: SignedNote
    """Its checkpoint of as many entries as the world's."""
    proof: tuple[bytes, ...]
    """That it continues what was there before."""


def history(world: World, word: str = "rewritten", batches: Iterable[int] = (0, 1, 2)) -> History:
    """Make another history: with older entries of another ``word``, or without some batches."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        grow(folder, entries(0, OLDER, word), world.department, world.province, at=NOW)
        pairs = [evidence(world.batches[number], world.receipts[number]) for number in batches]
        own = [entry for pair in pairs for entry in pair]
        note = grow(folder, own, world.department, world.province, at=LATER)
        proof = LogReader.at(folder).consistency(OLDER, note.checkpoint.head.size)
        return History(Folder.of(folder), note, tuple(proof))


def folder(world: World, *known: bytes) -> Folder:
    return Folder.of(world.folder, *(known or (world.older.to_bytes(), world.receipt)))


def file_bit(path: str, at: int) -> Show:
    def show(world: World) -> Folder:
        whole = folder(world)
        return replace(whole, files={**whole.files, path: do.flip(whole.files[path], at)})

    return show


def file_of(path: str, change: Callable[[World, bytes], bytes | None]) -> Show:
    """Change a file of the log, or take it away."""

    def show(world: World) -> Folder:
        files = dict(folder(world).files)
        new = change(world, files.pop(path))
        return Folder(files if new is None else {**files, path: new}, folder(world).known)

    return show


def bundle(change: Callable[[list[bytes]], list[bytes]]) -> Show:
    return file_of("tile/entries/000", lambda _, data: pack(change(unpack(data))))


def cut(world: World, *known: bytes) -> Folder:
    """Begin anew with the same entries, sign, and leave the last ones away."""
    with TemporaryDirectory() as name:
        grow(Path(name), entries(0, OLDER), world.department, world.province, at=NOW)
        return Folder.of(Path(name), *known)


def doubled_entry(world: World) -> Folder:
    """Append an entry again, as no appending of ours would."""
    with TemporaryDirectory() as name:
        folder(world).write(Path(name))
        with EvidenceLog.open(Path(name), origin=ORIGIN) as log:
            log._commit([log.entry(7)])
        return Folder.of(Path(name))


def rewritten_log(world: World, *known: bytes) -> Folder:
    return replace(history(world).folder, known=known)


def other_head(world: World) -> bytes:
    head = world.newest.checkpoint.head
    return replace(head, root=do.flip(head.root, 0)).to_bytes()


def certificate_bit(world: World) -> Folder:
    path = max(path for path in folder(world).files if path.startswith("certificates/"))
    result = file_bit(path, -1)(world)
    assert isinstance(result, Folder)
    return result


LOG: list[Row] = [
    ("bit flip in the head", "root", file_of("head", lambda w, _: other_head(w))),
    ("bit flip in an entry", "entries.form", file_bit("tile/entries/000", 4)),
    ("bit flip in an entry's digest", "tiles", file_bit("tile/entries/000", 60)),
    ("bit flip in a tile", "tiles", file_bit("tile/0/000", 33)),
    ("bit flip in a tile above", "tiles", file_bit("tile/1/000.p/1", 0)),
    ("bit flip in a shorter tile", "partial", file_bit("tile/0/001.p/14", 0)),
    (
        "bit flip in a kept checkpoint",
        "checkpoints.signature",
        file_of("checkpoints/276", lambda w, _: do.signature_bit(w.note, -1)),
    ),
    (
        "bit flip in a kept witness's line",
        "checkpoints.witness",
        file_of("checkpoints/276", lambda w, _: do.witness_bit(w.note, -1)),
    ),
    ("bit flip in the newest checkpoint", "checkpoint", file_bit("checkpoint", -2)),
    ("bit flip in the newest witnessed", "witnessed", file_bit("witnessed", -2)),
    ("bit flip in a certificate", "certificates", certificate_bit),
    ("dropped entry", "entries", bundle(lambda own: own[:5] + own[6:])),
    ("reordered entries", "tiles", bundle(lambda own: [own[1], own[0], *own[2:]])),
    ("doubled entry in its place", "tiles", bundle(lambda own: [own[0], own[0], *own[2:]])),
    ("doubled entry", "entries.once", doubled_entry),
    ("dropped tile", "tiles", file_of("tile/0/000", lambda *_: None)),
    ("dropped bundle", "entries", file_of("tile/entries/000", lambda *_: None)),
    ("dropped checkpoint", "checkpoint", file_of("checkpoints/286", lambda *_: None)),
    (
        "cut tail that keeps its checkpoints",
        "checkpoints.root",
        file_of("head", lambda w, _: w.note.checkpoint.head.to_bytes()),
    ),
    (
        "stale checkpoint as the newest",
        "checkpoint",
        file_of("checkpoint", lambda w, _: w.older.to_bytes()),
    ),
    (
        "swapped key",
        "checkpoints.signature",
        file_of("checkpoints/276", lambda w, _: do.signed_again(w, do.impostor(w, "部门").signer)),
    ),
    ("cut tail, told by a witnessed checkpoint", "known", lambda w: cut(w, w.note.to_bytes())),
    (
        "full rewrite with valid keys, told by a witnessed checkpoint",
        "known",
        lambda w: rewritten_log(w, w.older.to_bytes()),
    ),
    (
        "full rewrite with valid keys, told by a receipt",
        "known",
        lambda w: rewritten_log(w, w.receipt),
    ),
    (
        "dropped middle batch, told by a witnessed checkpoint",
        "known",
        lambda w: replace(history(w, "", (0, 2)).folder, known=(w.note.to_bytes(),)),
    ),
    (
        "split view, told by the other's checkpoint",
        "known",
        lambda w: rewritten_log(w, w.note.to_bytes()),
    ),
]


# --- two parties with a checkpoint each -----------------------------------------------------------


def two(
    world: World, one: SignedNote, other: SignedNote, proof: Iterable[bytes] | None = None
) -> Files:
    files = (one.to_bytes(), other.to_bytes())
    return Files(files, world.crls, proof=None if proof is None else tuple(proof))


def grown(world: World) -> Files:
    log = LogReader.at(world.folder)
    return two(
        world, world.older, world.note, log.consistency(OLDER, world.note.checkpoint.head.size)
    )


def signed_late(world: World) -> SignedNote:
    """Sign the shorter log after the longer one."""
    return sign(world.older.checkpoint.head, world.department.sealer, LATER + SECOND)


TWO: list[Row] = [
    ("split view, two of one size", "log.consistent", lambda w: two(w, w.note, history(w).note)),
    (
        "split view, the longer does not continue the shorter",
        "log.consistent",
        lambda w: two(w, w.older, history(w).note, history(w).proof),
    ),
    (
        "stale checkpoint as the newest",
        "log.order",
        lambda w: replace(grown(w), files=(signed_late(w).to_bytes(), w.note.to_bytes())),
    ),
]


# --- the witness ----------------------------------------------------------------------------------


def asked(world: World, *more: CosigningRequest) -> Requests:
    """Ask for the first checkpoint, then the next."""
    return Requests((CosigningRequest(world.older), *(more or (continued(world),))))


def continued(world: World, **changes: Any) -> CosigningRequest:
    size = world.note.checkpoint.head.size
    values = {"proof": tuple(LogReader.at(world.folder).consistency(OLDER, size)), **changes}
    return CosigningRequest(**{"note": world.note, "old": OLDER, **values})


def shorter(world: World) -> SignedNote:
    """Sign a log that has the first entries only."""
    root = LogReader.at(world.folder)._tiles.root(OLDER - 1)
    return sign(Head(ORIGIN, OLDER - 1, root), world.department.sealer, LATER)


def early(world: World) -> SignedNote:
    return sign(world.note.checkpoint.head, world.department.sealer, NOW - SECOND)


def flipped_proof(world: World) -> tuple[bytes, ...]:
    first, *others = continued(world).proof
    return (do.flip(first, 0), *others)


def false_node(world: World) -> CosigningRequest:
    false = do.impostor(world, "部门")
    note = SignedNote.from_bytes(do.signed_again(world, false.signer))
    return continued(world, note=note, certificates=tuple(signers(false)))


def renamed_note(world: World) -> SignedNote:
    """Show the checkpoint under another log's name, with the signature that it has."""
    note = world.note
    head = replace(note.checkpoint.head, origin="another/evidence")
    own = replace(note.signature, name=head.origin)
    return SignedNote(replace(note.checkpoint, head=head), own)


WITNESS: list[Row] = [
    ("cut tail", "Integrity", lambda w: asked(w, CosigningRequest(shorter(w), OLDER))),
    (
        "full rewrite with valid keys",
        "Integrity",
        lambda w: asked(w, CosigningRequest(history(w).note, OLDER, history(w).proof)),
    ),
    (
        "split view, another tree of one size",
        "Integrity",
        lambda w: asked(w, continued(w), CosigningRequest(history(w).note, 276)),
    ),
    (
        "stale checkpoint",
        "Integrity",
        lambda w: asked(w, continued(w), CosigningRequest(w.older, 276)),
    ),
    (
        "rewrite as if nothing was seen",
        "WitnessedSize",
        lambda w: asked(w, CosigningRequest(history(w).note)),
    ),
    ("without proof", "Integrity", lambda w: asked(w, continued(w, proof=()))),
    (
        "bit flip in the proof",
        "Integrity",
        lambda w: asked(w, continued(w, proof=flipped_proof(w))),
    ),
    ("time that runs backwards", "Integrity", lambda w: asked(w, continued(w, note=early(w)))),
    ("swapped key, all names alike", "Rejected", lambda w: asked(w, false_node(w))),
    (
        "replayed by another log's name",
        "Rejected",
        lambda w: asked(w, continued(w, note=renamed_note(w))),
    ),
]
