from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from exchange.evidence.audit import AUDIT_CHECKS, audit
from exchange.evidence.checkpoint import Signed, SignedNote, sign
from exchange.evidence.tiles import EMPTY, pack
from exchange.receipt import issue
from exchange.seal.checks import Verification
from tests.evidence.samples import (
    ORIGIN,
    digest,
    entries,
    entry,
    open_log,
    party,
    trust,
    witness,
)
from tests.receipt.seals import NOW, RECEIPT


def build(
    folder: Path, *, word: str = "", sizes: tuple[int, ...] = (3, 300, 600)
) -> list[SignedNote]:
    """A log with checkpoints, all but the last witnessed."""
    notes: list[SignedNote] = []
    with open_log(folder) as log:
        for number, size in enumerate(sizes):
            log.append(entries(log.size, size, word))
            at = NOW + timedelta(minutes=number)
            note = log.checkpoint(party("node").sealer, at)
            if size != sizes[-1]:
                previous = notes[-1] if notes else None
                note = witness(log, note, previous, province=party("province"), at=at)
            notes.append(note)
    return notes


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[SignedNote]]:
    folder = tmp_path_factory.mktemp("whole") / "log"
    return folder, build(folder)


def look(folder: Path, *known: bytes) -> Verification:
    node, province = trust(party("node")), trust(party("province"))
    return audit(folder, trust=node, witnesses=province, known=known)


def failed(folder: Path, *known: bytes) -> list[str]:
    return [item.name for item in look(folder, *known).failed]


def test_a_good_log_passes_every_check(whole: tuple[Path, list[SignedNote]]) -> None:
    folder, notes = whole
    listing = look(folder, *[note.to_bytes() for note in notes])
    assert listing.ok, listing.failed
    assert [check.name for check in listing.checks] == list(AUDIT_CHECKS)
    assert len(AUDIT_CHECKS) >= 17
    assert {key: listing.facts[key] for key in ("size", "checkpoints", "witnessed", "beyond")} == {
        "size": 600,
        "checkpoints": 3,
        "witnessed": 300,
        "beyond": 0,
    }


def test_an_empty_folder_is_no_log_and_an_empty_log_is_one(tmp_path: Path) -> None:
    assert failed(tmp_path) == list(AUDIT_CHECKS)
    open_log(tmp_path).close()
    assert failed(tmp_path) == []


DISPENSABLE = {
    "checkpoints/003",  # proves nothing that a later one does not
    "tile/0/000.p/3",
    "tile/0/001.p/44",
    "tile/1/000.p/1",
    "tile/entries/000.p/3",
    "tile/entries/001.p/44",
}
"""What may be missing: shorter tiles, of earlier sizes, are there for old readers."""


def test_a_bit_in_any_file_is_noticed_and_the_file_named(
    whole: tuple[Path, list[SignedNote]], tmp_path: Path
) -> None:
    source, _ = whole
    names = [p.relative_to(source) for p in source.rglob("*") if p.is_file() and p.name != "lock"]
    assert len(names) >= 15
    for number, name in enumerate(names):
        folder = tmp_path / str(number)
        shutil.copytree(source, folder)
        data = bytearray((source / name).read_bytes())
        for at in {0, len(data) // 2, len(data) - 1}:
            changed = bytearray(data)
            changed[at] ^= 4
            (folder / name).write_bytes(changed)
            listing = look(folder)
            assert not listing.ok, (name, at)
            assert any(str(name) in item.found for item in listing.failed), (
                name,
                at,
                listing.failed,
            )
        (folder / name).unlink()
        listing = look(folder)
        if str(name) in DISPENSABLE:
            assert listing.ok, name
            continue
        # where the newest kept checkpoint is gone, its copy is named; without a certificate,
        # what it signed
        assert not listing.ok, name
        text = " ".join(item.found for item in listing.failed)
        assert any(word in text for word in (str(name), "checkpoint", "witnessed")), (name, text)


def rewritten(folder: Path) -> None:
    """The operator makes another history from the first entry on, signed with the real key."""
    shutil.rmtree(folder)
    build(folder, word="rewritten", sizes=(3, 300, 700))


def cut(folder: Path) -> None:
    """The operator begins anew with the same entries, and leaves the last ones away."""
    shutil.rmtree(folder)
    build(folder, sizes=(3, 250))


@pytest.mark.parametrize("attack", [rewritten, cut])
def test_another_history_passes_alone_but_not_beside_a_checkpoint_that_others_have(
    whole: tuple[Path, list[SignedNote]], tmp_path: Path, attack: object
) -> None:
    source, notes = whole
    folder = tmp_path / "log"
    shutil.copytree(source, folder)
    assert callable(attack)
    attack(folder)
    assert failed(folder) == []
    assert failed(folder, notes[1].to_bytes()) == ["known"]
    assert failed(folder, notes[0].to_bytes()) == (["known"] if attack is rewritten else [])


def naming(log: str) -> bytes:
    """A receipt of the province that names a checkpoint of the log, or none."""
    receipt = replace(RECEIPT, log=log)
    return issue(receipt, party("province").sealer, NOW)


def test_receipts_that_others_keep_tell_another_history(
    whole: tuple[Path, list[SignedNote]], tmp_path: Path
) -> None:
    source, notes = whole
    heads = [note.checkpoint.head for note in notes]
    receipts = [naming(f"{head.origin} {head.size} {head.root.hex()}") for head in heads]
    assert failed(source, *receipts) == []
    folder = tmp_path / "log"
    shutil.copytree(source, folder)
    cut(folder)
    assert failed(folder, receipts[0]) == []
    (result,) = look(folder, *receipts).failed
    assert (result.name, result.found.count("entries of")) == ("known", 2)
    rewritten(folder)
    (result,) = look(folder, *receipts).failed
    assert (result.name, result.found.count("entries of")) == ("known", 3)


def test_a_receipt_that_names_no_checkpoint_tells_nothing_and_that_is_said(
    whole: tuple[Path, list[SignedNote]],
) -> None:
    listing = look(whole[0], naming(""))
    assert listing.ok
    assert [(note.name, note.found) for note in listing.notes] == [
        ("known", "receipts that name no checkpoint: 1")
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"neither",
        naming(f"{ORIGIN} 0 {'0' * 64}"),
        naming(f"{ORIGIN} 9999999999999999 {'0' * 64}"),
        naming(f"{ORIGIN} 601 {'0' * 64}"),
        naming(f"another 0 {EMPTY}"),
    ],
)
def test_what_the_auditor_brings_must_be_of_this_log(
    whole: tuple[Path, list[SignedNote]], data: bytes
) -> None:
    assert failed(whole[0], data) == ["known"]


def test_a_cut_tail_that_keeps_its_checkpoints_is_noticed_alone(
    whole: tuple[Path, list[SignedNote]], tmp_path: Path
) -> None:
    source, notes = whole
    folder = tmp_path / "log"
    shutil.copytree(source, folder)
    (folder / "head").write_bytes(notes[1].checkpoint.head.to_bytes())
    assert failed(folder) == ["checkpoints.root"]
    (folder / "checkpoints/600").unlink()
    assert failed(folder) == ["checkpoint"]


def test_a_stale_checkpoint_in_the_place_of_the_newest_is_noticed(
    whole: tuple[Path, list[SignedNote]], tmp_path: Path
) -> None:
    source, notes = whole
    folder = tmp_path / "log"
    shutil.copytree(source, folder)
    (folder / "checkpoint").write_bytes(notes[0].to_bytes())
    (folder / "witnessed").write_bytes(notes[0].to_bytes())
    assert failed(folder) == ["checkpoint", "witnessed"]


def test_signatures_of_others_and_times_that_run_backwards_are_noticed(
    whole: tuple[Path, list[SignedNote]], tmp_path: Path
) -> None:
    source, notes = whole
    folder = tmp_path / "log"
    shutil.copytree(source, folder)
    head = notes[1].checkpoint.head
    stranger = sign(head, party("stranger").sealer, NOW + timedelta(minutes=1)).to_bytes()
    (folder / "checkpoints/300").write_bytes(stranger)
    assert failed(folder) == ["checkpoints.signature", "witnessed"]
    early = sign(head, party("node").sealer, NOW - timedelta(minutes=1)).to_bytes()
    (folder / "checkpoints/300").write_bytes(early)
    assert failed(folder) == ["checkpoints.time", "witnessed"]
    line = notes[0].witnesses[0]  # of another checkpoint: replayed
    replayed = SignedNote(notes[1].checkpoint, notes[1].signature, (line,)).to_bytes()
    (folder / "checkpoints/300").write_bytes(replayed)
    (folder / "witnessed").write_bytes(replayed)
    assert failed(folder) == ["checkpoints.witness"]
    assert Signed.from_bytes(line.to_bytes(), witness=True) == line


def test_strangers_files_and_entries_are_noticed(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        log.append([*entries(0, 2), b"no entry", entry(3)])
    assert failed(tmp_path) == ["entries.form"]
    (tmp_path / "tile/0/note.txt").write_text("hello")
    (tmp_path / "other").write_text("hello")
    listing = look(tmp_path)
    assert [item.name for item in listing.failed] == ["files", "entries.form"]
    assert {"tile/0/note.txt", "other"} <= set(listing.failed[0].found.split("; "))


def test_an_entry_that_is_there_twice_is_noticed(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        log.append(entries(0, 2))
        log._commit([entry(1), entry(5)])  # what append never does
    listing = look(tmp_path)
    assert [(item.name, item.found) for item in listing.failed] == [("entries.once", "entry 2")]


def test_what_an_append_in_progress_has_written_is_counted_only(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        log.append(entries(0, 5))
    (tmp_path / "tile/entries/000.p/6").write_bytes(pack(entries(0, 6)))
    (tmp_path / ".part").write_bytes(b"half")
    listing = look(tmp_path)
    assert listing.ok
    assert listing.facts["beyond"] == 1


def test_a_shorter_tile_that_tells_another_story_is_noticed(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        log.append(entries(0, 2))
        log.append(entries(2, 5))
    path = tmp_path / "tile/0/000.p/2"
    path.write_bytes(path.read_bytes()[:32] + digest(b"other"))
    listing = look(tmp_path)
    assert [(item.name, item.found) for item in listing.failed] == [
        ("partial", "tile/0/000.p/2"),
    ]
