from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from exchange.errors import Integrity, Misconfigured
from exchange.evidence.checkpoint import (
    Checkpoint,
    Head,
    Signed,
    SignedNote,
    Signers,
    consistent,
    cosign,
    sign,
)
from exchange.evidence.tiles import EMPTY
from exchange.seal.crypto.suites import ECDSA_P256_SHA256, SM2_SM3, Suite
from exchange.seal.pki.trust import Trust
from exchange.seal.pki.x509 import read_certificate, verify_with
from tests.evidence.samples import ORIGIN, digest, entries, mth, open_log, party, proof, trust
from tests.receipt.seals import NOW, Party

NAME = "province.example/witness"
LEAVES = [digest(b"\x00" + entry) for entry in entries(0, 300)]
OTHERS = [digest(b"\x00" + item) for item in entries(0, 300, "another history")]
HEAD = Head(ORIGIN, 300, mth(LEAVES))


def checkpoint(size: int, leaves: Sequence[bytes] = LEAVES, minutes: int = 0) -> Checkpoint:
    head = Head(ORIGIN, size, mth(list(leaves[:size])))
    return sign(head, party("node").sealer, NOW + timedelta(minutes=minutes)).checkpoint


def signed_along(
    previous: Checkpoint | None,
    new: Checkpoint,
    path: Sequence[bytes] = (),
    minutes: int = 0,
    by: Party | None = None,
) -> bytes:
    return cosign(
        previous,
        new,
        path,
        sealer=(by or party("province")).sealer,
        name=NAME,
        at=NOW + timedelta(minutes=minutes),
    )


def signers(
    node: Party, province: Party, *, own: Trust | None = None, theirs: Trust | None = None
) -> Signers:
    return Signers(
        [node.sealer.signer.certificate, province.sealer.signer.certificate],
        trust=own or trust(node),
        witnesses=theirs or trust(province),
    )


def test_the_note_is_the_documented_text() -> None:
    node, province = party("node"), party("province")
    note = sign(HEAD, node.sealer, NOW)
    note = note.with_witness(signed_along(None, note.checkpoint))
    text, _, lines = note.to_bytes().decode().partition("\n\n")
    root = base64.b64encode(HEAD.root).decode()
    assert text == f"{ORIGIN}\n300\n{root}\ntime 2026-11-23T01:02:03.004Z"
    own, theirs = lines.splitlines()
    dash, name, data = own.split(" ")
    assert (dash, name) == ("—", ORIGIN)
    certificate = read_certificate(node.sealer.signer.certificate)
    spki = certificate.public_key
    raw = base64.b64decode(data)
    label = f"{ORIGIN}\n".encode() + b"\xffexchange-log/sm2-sm3\n"
    assert raw[:4] == hashlib.sha256(label + spki).digest()[:4]
    oid = SM2_SM3.signature_oid
    assert verify_with(certificate, oid, f"{text}\n".encode(), raw[4:])
    name, data = theirs.split(" ")[1:]
    raw = base64.b64decode(data)
    certificate = read_certificate(province.sealer.signer.certificate)
    label = f"{NAME}\n".encode() + b"\xffexchange-cosignature/sm2-sm3\n"
    assert (name, raw[:4]) == (
        NAME,
        hashlib.sha256(label + certificate.public_key).digest()[:4],
    )
    assert int.from_bytes(raw[4:12]) == int(NOW.timestamp())
    message = f"cosignature/v1\ntime {int(NOW.timestamp())}\n{text}\n".encode()
    assert verify_with(certificate, oid, message, raw[12:])
    assert SignedNote.from_bytes(note.to_bytes()) == note


@pytest.mark.parametrize("suite", [SM2_SM3, ECDSA_P256_SHA256])
def test_signatures_hold_under_the_right_trust_only(suite: Suite) -> None:
    node, province = party("node", suite), party("province", suite)
    note = sign(HEAD, node.sealer, NOW)
    alone = signers(node, province).check(note)
    assert [item.name for item in alone if not item.ok] == ["witness.signature"]
    note = note.with_witness(signed_along(None, note.checkpoint, by=province))
    checks = signers(node, province).check(note)
    assert [check.name for check in checks if not check.ok] == []
    checks = signers(node, province, own=trust(province)).check(note)
    assert [item.name for item in checks if not item.ok] == ["checkpoint.chain"]
    checks = signers(node, province, theirs=trust(node)).check(note)
    assert [item.name for item in checks if not item.ok] == ["witness.chain"]
    strangers = Signers([], trust=trust(node), witnesses=trust(province)).check(note)
    assert [stranger.name for stranger in strangers if not stranger.ok] == [
        "checkpoint.signature",
        "witness.signature",
    ]


def test_a_bit_in_any_place_is_noticed() -> None:
    node, province = party("node"), party("province")
    note = sign(HEAD, node.sealer, NOW)
    data = note.with_witness(signed_along(None, note.checkpoint)).to_bytes()
    known = signers(node, province)
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        try:
            result = SignedNote.from_bytes(bytes(changed))
        except ValueError:
            continue
        assert not all(item.ok for item in known.check(result)), at


def test_a_key_of_one_role_does_not_sign_in_the_other() -> None:
    node = party("node")
    note = sign(HEAD, node.sealer, NOW)
    line = Signed(NAME, note.signature.key_id, int(NOW.timestamp()), note.signature.value)
    forged = note.with_witness(line.to_bytes())
    checks = signers(node, node).check(forged)
    assert [check.name for check in checks if not check.ok] == ["witness.signature"]


def test_a_witness_that_signed_before_the_checkpoint_was_made_is_refused() -> None:
    node, province = party("node"), party("province")
    late = sign(HEAD, node.sealer, NOW + timedelta(minutes=30))
    early = Signed(NAME, b"", int(NOW.timestamp()), b"")
    honest = Signed.from_bytes(signed_along(None, late.checkpoint, minutes=30), witness=True)
    value = province.sealer.signer.sign(early.message(late.checkpoint))
    line = Signed(NAME, honest.key_id, early.at, value).to_bytes()
    checks = signers(node, province).check(late.with_witness(line))
    assert [check.name for check in checks if not check.ok] == ["witness.time"]


def test_a_checkpoint_is_not_signed_outside_the_certificate() -> None:
    for at in (NOW - timedelta(days=30), NOW + timedelta(days=9999)):
        with pytest.raises(Misconfigured, match="not valid"):
            sign(HEAD, party("node").sealer, at)


# --- the witness ------------------------------------------------------------------------


def test_a_witness_follows_a_log_that_only_grows() -> None:
    previous = None
    for size in (0, 1, 1, 7, 256, 300):
        new = checkpoint(size, minutes=size)
        old = previous.head.size if previous else 0
        path = proof(old, LEAVES[:size]) if old else []
        line = signed_along(previous, new, path, minutes=size)
        assert Signed.from_bytes(line, witness=True).at
        previous = new


SEEN = checkpoint(200)
REFUSED = {
    "cut tail": (checkpoint(199), proof(199, LEAVES[:200])),
    "cut to nothing": (checkpoint(0), []),
    "split view": (checkpoint(200, OTHERS), []),
    "full rewrite with valid keys": (checkpoint(300, OTHERS), proof(200, OTHERS)),
    "one entry changed": (
        checkpoint(300, [*LEAVES[:9], OTHERS[9], *LEAVES[10:]]),
        proof(200, [*LEAVES[:9], OTHERS[9], *LEAVES[10:]]),
    ),
    "no proof": (checkpoint(300), []),
    "proof of another size": (checkpoint(300), proof(199, LEAVES)),
    "proof too long": (checkpoint(300), [*proof(200, LEAVES), LEAVES[0]]),
    "proof not needed": (SEEN, [LEAVES[0]]),
    "stale checkpoint": (checkpoint(150), []),
    "time runs backwards": (checkpoint(300, minutes=-1), proof(200, LEAVES)),
    "made in the future": (checkpoint(300, minutes=11), proof(200, LEAVES)),
    "another log": (
        Checkpoint(Head("another", 300, mth(LEAVES)), SEEN.at),
        proof(200, LEAVES),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_witness_refuses(case: str) -> None:
    new, path = REFUSED[case]
    with pytest.raises(Integrity, match="witness refuses"):
        signed_along(SEEN, new, path)
    assert signed_along(SEEN, checkpoint(300), proof(200, LEAVES))


def test_nothing_but_the_empty_log_is_continued_without_proof() -> None:
    assert consistent(checkpoint(0).head, HEAD, [])
    assert not consistent(checkpoint(0).head, HEAD, [LEAVES[0]])
    with pytest.raises(Integrity):
        signed_along(None, SEEN, [LEAVES[0]])


def test_the_log_keeps_checkpoints_and_witnesses_lines(tmp_path: Path) -> None:
    node, province = party("node"), party("province")
    with open_log(tmp_path) as log:
        log.append(entries(0, 10))
        first = log.checkpoint(node.sealer, NOW)
        assert log.checkpoint(node.sealer, NOW + timedelta(hours=1)) == first
        log.append(entries(10, 20))
        second = log.checkpoint(node.sealer, NOW)
        assert log.witnessed() is None
        line = signed_along(None, first.checkpoint)
        note = log.add_witness(10, line, [province.sealer.signer.certificate])
        assert log.witnessed() == log.kept(10) == note == first.with_witness(line)
        assert log.newest() == second
        # signed again: the line of one witness stands once
        again = signed_along(first.checkpoint, first.checkpoint, minutes=1)
        assert log.add_witness(10, again, [province.sealer.signer.certificate]) == (
            first.with_witness(again)
        )
        for wrong in (line[:-1], line.replace(b" ", b"  ", 1), b"", signed_along(None, SEEN)):
            with pytest.raises(Integrity, match="witness"):
                log.add_witness(20, wrong, [province.sealer.signer.certificate])
        with pytest.raises(Integrity, match="witness"):
            log.add_witness(10, line, [node.sealer.signer.certificate])
        with pytest.raises(Integrity, match="missing"):
            log.add_witness(11, line, [province.sealer.signer.certificate])
    with open_log(tmp_path) as log:
        assert (log.newest(), log.kept(11)) == (second, None)
        assert len(log.certificates()) == 2


@pytest.mark.parametrize(
    "text",
    [
        f"{ORIGIN}\n0\n{base64.b64encode(bytes(32)).decode()}\n",
        f"{ORIGIN}\n-1\n{base64.b64encode(bytes(32)).decode()}\n",
        f"{ORIGIN}\n1\n{base64.b64encode(bytes(31)).decode()}\n",
        f"{ORIGIN}\n9007199254740992\n{base64.b64encode(bytes(32)).decode()}\n",
        f"a+b\n0\n{base64.b64encode(bytes.fromhex(EMPTY)).decode()}\n",
        f"\n0\n{base64.b64encode(bytes.fromhex(EMPTY)).decode()}\n",
    ],
)
def test_a_head_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not|root"):
        Head.from_bytes(text.encode())
