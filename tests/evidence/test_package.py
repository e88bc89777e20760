from __future__ import annotations

import gzip
import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from exchange.errors import Misconfigured, Rejected
from exchange.evidence.entry import EvidenceEntry
from exchange.evidence.log import LogReader
from exchange.evidence.package import (
    MAX_PACKAGE,
    Package,
    make_package,
    unwrap,
    verify_package,
    wrap,
)
from exchange.receipt import issue
from exchange.seal.batch import jcs
from exchange.seal.batch.prove import prove
from exchange.seal.batch.statement import Statement
from exchange.seal.checks import Verification
from exchange.seal.eseal.structures import read_signature
from exchange.seal.pki.trust import Trust
from tests.evidence.samples import entries, open_log, party, trust, witness
from tests.receipt.seals import receipt_of
from tests.seal.samples import NOW, sealed, sealers
from tests.support.soak import sample

NODE, ROOT = sealers()
PROVINCE = party("province")
LATER = NOW + timedelta(minutes=1)


@dataclass(frozen=True)
class Case:
    folder: Path
    proof: bytes
    receipt: bytes
    statement: Statement
    file: bytes


def issued(batch: Statement, **changes: Any) -> bytes:
    return issue(receipt_of(batch, **changes), PROVINCE.sealer, LATER)


def build(folder: Path, *, rows: int = 300, others: int = 600) -> Case:
    batch = sealed(rows)
    statement = Statement.from_bytes(batch.statement.to_bytes())
    receipt = issued(statement)
    with open_log(folder) as log:
        log.append(entries(0, others))
        log.append([EvidenceEntry.of_statement(statement).to_bytes()])
        log.append([EvidenceEntry.of_receipt(receipt, statement).to_bytes()])
        log.append(entries(others, 2 * others))
        note = log.checkpoint(NODE, LATER)
        witness(log, note, None, province=PROVINCE, at=LATER)
    proof = prove(batch.data, row=3)
    return Case(
        folder,
        proof,
        receipt,
        statement,
        make_package(LogReader.at(folder), proof=proof, receipt=receipt),
    )


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return build(tmp_path_factory.mktemp("package") / "log")


def look(file: bytes, *, own: Trust | None = None, theirs: Trust | None = None) -> Verification:
    return verify_package(file, trust=own or Trust([ROOT]), province=theirs or trust(PROVINCE))


def failed(file: bytes) -> list[str]:
    return [item.name for item in look(file).failed]


def test_a_package_holds_with_nothing_but_the_roots(case: Case) -> None:
    listing = look(case.file)
    assert listing.ok, listing.failed
    names = [check.name for check in listing.checks]
    assert len(names) == len(set(names)) >= 70
    for name in ("root", "signature.value", "log.statement", "log.receipt", "receipt.counts"):
        assert name in names
    for name in ("checkpoint.signature", "witness.signature", "certificates", "revocation"):
        assert name in names
    assert listing.rows == 1
    record = listing.facts["record"]
    assert isinstance(record, dict)
    assert record["order_no"] == "WD000002"
    assert listing.facts["witnesses"] == ["province.example/witness"]
    received = listing.facts["receipt"]
    assert isinstance(received, dict)
    assert received["receipt_no"] == "R-1"


def test_each_party_is_trusted_for_its_own_part(case: Case) -> None:
    own = {item.name for item in look(case.file, own=trust(PROVINCE)).failed}
    assert own == {"signer.chain", "seal.maker_chain", "checkpoint.chain"}
    names = {entry.name for entry in look(case.file, theirs=Trust([ROOT])).failed}
    assert names == {"receipt.signer.chain", "receipt.seal.maker_chain", "witness.chain"}
    strict = replace(Trust([ROOT]), require_revocation=True)
    assert {item.name for item in look(case.file, own=strict).failed} == {
        "signer.revocation",
        "seal.maker_revocation",
        "checkpoint.revocation",
    }


def test_the_package_is_as_small_as_promised(tmp_path: Path) -> None:
    """At most 4 KB, less certificates (seals are such), the record and its schema."""
    case = build(tmp_path, rows=8192, others=2048)
    parts = json.loads(unwrap(case.file))
    parts["certificates"] = []
    parts["proof"] |= {"record": "", "schema": ""}
    for part in (parts["proof"], parts["receipt"]):
        der = b64decode(part["seal"])
        seal = read_signature(der)
        rest = der.replace(seal.eseal, b"").replace(seal.certificate, b"")
        part["seal"] = b64encode(rest).decode()
    assert len(wrap(jcs.encode(parts))) <= 3072  # leaves 9 hashes for each doubling of the log
    assert len(case.file) <= 8192


def test_a_package_is_made_only_of_what_has_been_witnessed(case: Case, tmp_path: Path) -> None:

    def make(log: LogReader) -> bytes:
        return make_package(log, proof=case.proof, receipt=case.receipt)

    with open_log(tmp_path / "log") as log:
        statement = EvidenceEntry.of_statement(case.statement).to_bytes()
        log.append([statement])
        with pytest.raises(Rejected, match="no checkpoint"):
            make(log)
        note = witness(log, log.checkpoint(NODE, LATER), None, province=PROVINCE, at=LATER)
        with pytest.raises(Rejected, match=r"the receipt of .* is not witnessed"):
            make(log)
        log.append([EvidenceEntry.of_receipt(case.receipt, case.statement).to_bytes()])
        log.checkpoint(NODE, LATER)
        with pytest.raises(Rejected, match=r"the receipt of .* is not witnessed"):
            make(log)
        witness(log, log.checkpoint(NODE, LATER), note, province=PROVINCE, at=LATER)
        assert failed(make(log)) == []
        with pytest.raises(Rejected, match="cannot make"):
            make_package(log, proof=b"{}", receipt=case.receipt)
        with pytest.raises(Rejected, match="is not witnessed"):
            make_package(log, proof=case.proof, receipt=b"[]")
    with pytest.raises(Misconfigured, match="no evidence log"):
        LogReader.at(tmp_path / "elsewhere")


# --- tampering --------------------------------------------------------------------------


@pytest.mark.soak
def test_a_bit_in_any_place_is_noticed(case: Case) -> None:
    plain = unwrap(case.file)
    for at in sample(range(0, len(plain), 11)):
        changed = bytearray(plain)
        changed[at] ^= 1 << at % 7
        assert failed(wrap(bytes(changed))), at


def altered(case: Case, change: Callable[[dict[str, Any]], None]) -> bytes:
    parts = json.loads(unwrap(case.file))
    change(parts)
    return wrap(jcs.encode(parts))


def flip(text: str) -> str:
    data = bytearray(b64decode(text))
    data[len(data) // 2] ^= 1
    return b64encode(data).decode()


def another_record(parts: dict[str, Any]) -> None:
    parts["proof"]["record"] = flip(parts["proof"]["record"])


def another_salt(parts: dict[str, Any]) -> None:
    parts["proof"]["salt"] = "00" * 16


def another_place(parts: dict[str, Any]) -> None:
    parts["proof"]["index"] += 1


def statement_elsewhere(parts: dict[str, Any]) -> None:
    parts["statement_leaf"]["index"] += 1


def receipt_elsewhere(parts: dict[str, Any]) -> None:
    parts["receipt_leaf"]["index"] -= 1


def shorter_path(parts: dict[str, Any]) -> None:
    data = b64decode(parts["statement_leaf"]["path"])
    parts["statement_leaf"]["path"] = b64encode(data[32:]).decode()


def no_witness(parts: dict[str, Any]) -> None:
    parts["checkpoint"] = "".join(parts["checkpoint"].splitlines(keepends=True)[:-1])


def certificates_swapped(parts: dict[str, Any]) -> None:
    parts["certificates"].reverse()


def later_checkpoint(parts: dict[str, Any]) -> None:
    parts["checkpoint"] = parts["checkpoint"].replace("01:03:03", "01:04:03")


def a_list_of_nobody(parts: dict[str, Any]) -> None:
    parts["revocation"] = [b64encode(b"no list").decode()]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (another_record, "root"),
        (another_salt, "root"),
        (another_place, "root"),
        (statement_elsewhere, "log.statement"),
        (receipt_elsewhere, "log.receipt"),
        (shorter_path, "log.statement"),
        (no_witness, "witness.signature"),
        (certificates_swapped, "chain"),
        (later_checkpoint, "checkpoint.signature"),
        (a_list_of_nobody, "revocation"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_change_is_named(case: Case, change: Callable[[dict[str, Any]], None], name: str) -> None:
    assert name in failed(altered(case, change))


def test_a_receipt_of_another_batch_or_of_other_counts_is_noticed(case: Case) -> None:
    package = Package.from_bytes(unwrap(case.file))
    wrong: dict[str, dict[str, Any]] = {
        "receipt.batch": {"batch_no": "2026112399999"},
        "receipt.statement": {"statement": "0" * 64},
        "receipt.counts": {"rows_accepted": 1},
        "receipt.code": {"code": "500"},
    }
    for name, changes in wrong.items():
        other = replace(package, receipt=issued(case.statement, **changes))
        assert failed(wrap(other.to_bytes())) == ["log.receipt", name]


def test_what_was_never_in_the_log_is_noticed(case: Case) -> None:
    package = Package.from_bytes(unwrap(case.file))
    again = replace(package, receipt=issued(case.statement, receipt_no="R-2"))
    assert failed(wrap(again.to_bytes())) == ["log.receipt"]
    other = sealed(301)
    batch = Statement.from_bytes(other.statement.to_bytes())
    proof = replace(
        package,
        proof=type(package.proof).from_bytes(prove(other.data, row=1)),
        receipt=issued(batch),
    )
    assert failed(wrap(proof.to_bytes())) == ["log.statement", "log.receipt"]


def test_a_checkpoint_from_before_the_seal_is_noticed(case: Case, tmp_path: Path) -> None:
    early = NOW - timedelta(minutes=30)
    with open_log(tmp_path) as log:
        log.append([EvidenceEntry.of_statement(case.statement).to_bytes()])
        log.append([EvidenceEntry.of_receipt(case.receipt, case.statement).to_bytes()])
        witness(log, log.checkpoint(NODE, early), None, province=PROVINCE, at=NOW)
        file = make_package(log, proof=case.proof, receipt=case.receipt)
    assert failed(file) == ["log.time"]


def test_a_statement_with_a_time_in_no_calendar_is_not_passed_over(case: Case) -> None:
    def change(parts: dict[str, Any]) -> None:
        parts["proof"]["statement"]["sealed_at"] = "2026-13-23T01:02:03.004Z"

    result = failed(altered(case, change))
    assert {"log.statement", "log.receipt", "log.time", "receipt"} <= set(result)


# --- the wrapper ------------------------------------------------------------------------


def test_only_one_plain_gzip_member_is_read(case: Case) -> None:
    plain = unwrap(case.file)
    assert gzip.decompress(case.file) == plain
    for wrong in (
        plain,
        gzip.compress(plain),  # with a time
        case.file[:-1],
        case.file + b"\x00",
        case.file + case.file,
        case.file[:10],
        b"",
    ):
        assert failed(wrong) == ["package"]


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = wrap(bytes(MAX_PACKAGE + 1))
    assert len(bomb) < 20_000
    assert failed(bomb) == ["package"]
    with pytest.raises(ValueError, match="more than"):
        unwrap(bomb)
