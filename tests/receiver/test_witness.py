"""The witness: one history of a log, whoever shows it and whatever key signs it. Takes 1 s."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations

from exchange.cascade.profiles import Target
from exchange.cascade.signing import Credentials
from exchange.cascade.witness import Cosignature, WitnessedSize, ask, ask_seen
from exchange.errors import Denied, Integrity
from exchange.evidence.checkpoint import Checkpoint, Head, SignedNote
from exchange.evidence.entry import EvidenceEntry
from exchange.evidence.log import EvidenceLog
from exchange.http.transport import Transport
from exchange.node.witness_check import contradiction
from exchange.seal.pki.trust import Trust
from exchange.store.audit import AuditRow
from exchange.store.migrations.versions import r0007_witnessed_logs
from tests.receipt.seals import NOW, Party, make_party
from tests.receiver.province import CREDENTIALS, PREFECTURE, SECRET, Province, make_caller
from tests.receiver.province import province as open_province
from tests.support.receivers import background

ORIGIN = "data.dxal.example/evidence"
OTHER = Credentials("rid-county", CREDENTIALS.sid, SECRET)
ROTATED = make_party("prefecture, next key")


def entry(number: int, digest: str = "0") -> bytes:
    return EvidenceEntry(
        type="statement",
        resource="permits",
        lane=0,
        batch_no=f"20261123{number:05}",
        digest=f"sm3:{digest * 64}",
    ).to_bytes()


def audited(province: Province, action: str) -> list[AuditRow]:
    return [line for line in province.store.audit.find() if line.action == action]


@dataclass
class Caller:
    """Shows histories of one log to the witness."""

    endpoint: str
    folder: Path

    def show(
        self,
        size: int,
        *,
        old: int = 0,
        digest: str = "0",
        party: Party = PREFECTURE,
        by: Credentials = CREDENTIALS,
    ) -> Cosignature | WitnessedSize:
        place = self.folder / f"{size}-{digest}-{time.monotonic_ns()}"
        place.mkdir()
        with EvidenceLog.open(place, origin=ORIGIN) as log, self._transport() as transport:
            log.append([entry(number, digest) for number in range(1, size + 1)])
            note: SignedNote = log.checkpoint(party.sealer, NOW)
            return ask(
                note.to_bytes(),
                old=old,
                proof=log.consistency(old, size) if 0 < old <= size else [],
                certificates=(party.sealer.signer.certificate, *party.sealer.chain),
                target=Target(self.endpoint, by, path="witness"),
                post=transport.post,
                now=lambda: NOW,
            )

    def seen(self, by: Credentials = CREDENTIALS) -> Checkpoint | None:
        with self._transport() as transport:
            target = Target(self.endpoint, by, path="witness")
            text = ask_seen(ORIGIN, target=target, get=transport.get, now=lambda: NOW)
        return None if text is None else Checkpoint.from_bytes(text)

    @contextlib.contextmanager
    def _transport(self) -> Iterator[Transport]:
        with contextlib.closing(Transport(self.endpoint, monotonic=time.monotonic)) as transport:
            yield transport


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Province]:
    trust = Trust((PREFECTURE.root, ROTATED.root))
    callers = {rid: make_caller(rid, trust) for rid in (CREDENTIALS.rid, OTHER.rid)}
    with open_province(tmp_path, callers=callers) as province:
        yield province


@pytest.fixture
def caller(opened: Province, tmp_path: Path) -> Iterator[Caller]:
    with background(opened.app) as endpoint:
        yield Caller(endpoint, tmp_path)


@pytest.mark.parametrize("by", [CREDENTIALS, OTHER])
@pytest.mark.parametrize("party", [PREFECTURE, ROTATED])
def test_a_cut_history_is_refused_whoever_shows_it_under_whatever_key(
    caller: Caller, opened: Province, by: Credentials, party: Party
) -> None:
    assert isinstance(caller.show(6), Cosignature)
    assert caller.show(2, by=by, party=party) == WitnessedSize(6)
    with pytest.raises(Integrity):
        caller.show(2, old=6, by=by, party=party)
    with pytest.raises(Integrity):
        caller.show(7, old=6, digest="1", by=by, party=party)
    seen = caller.seen(by)
    assert seen is not None
    assert seen.head.size == 6
    assert [line.actor for line in audited(opened, "witness.refused")] == [by.rid] * 2


def test_two_callers_show_one_log_in_turn(caller: Caller, opened: Province) -> None:
    assert caller.seen() is None
    assert isinstance(caller.show(2), Cosignature)
    assert isinstance(caller.show(5, old=2, by=OTHER), Cosignature)
    assert isinstance(caller.show(5, old=5), Cosignature)
    assert isinstance(caller.show(6, old=5), Cosignature)
    shown = opened.store.witnessed_checkpoints
    assert [row.size for row in shown.of(CREDENTIALS.rid)] == [6]
    assert [row.size for row in shown.of(OTHER.rid)] == [5], "receipts name what each has shown"


def test_a_new_key_goes_on_and_is_noted(caller: Caller, opened: Province) -> None:
    caller.show(2)
    assert audited(opened, "witness.key") == []
    assert isinstance(caller.show(3, old=2, party=ROTATED), Cosignature)
    (line,) = audited(opened, "witness.key")
    assert line.subject == ORIGIN


def test_what_was_seen_is_for_known_callers_only(caller: Caller) -> None:
    caller.show(2)
    with pytest.raises(Denied):
        caller.seen(replace(CREDENTIALS, secret="guess"))


def test_the_own_log_is_behind_equal_ahead_or_another() -> None:
    roots = {2: b"\x02" * 32, 3: b"\x03" * 32}
    seen = Head(ORIGIN, 2, roots[2])
    assert contradiction(seen, 2, roots.__getitem__) is None
    assert contradiction(seen, 3, roots.__getitem__) is None
    cut = contradiction(Head(ORIGIN, 3, roots[3]), 2, roots.__getitem__)
    assert cut is not None
    assert "3 entries, here are 2" in cut.what.en
    other = contradiction(Head(ORIGIN, 2, roots[3]), 3, roots.__getitem__)
    assert other is not None
    assert "rewritten" in other.what.en


def test_the_longest_that_any_caller_showed_is_taken_over(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'old.db'}")
    with engine.begin() as connection:
        columns = "sender_id, log_origin, log_size, note, seen_at"
        connection.exec_driver_sql(f"CREATE TABLE witnessed ({columns})")
        connection.exec_driver_sql(
            "INSERT INTO witnessed VALUES ('a','x',6,x'06','1'),('b','x',2,x'02','2'),"
            "('b','y',1,x'01','2')"
        )
        with Operations.context(MigrationContext.configure(connection)):
            r0007_witnessed_logs.upgrade()
        rows = connection.exec_driver_sql(
            "SELECT log_origin, log_size, note, sender_id, signer_digest FROM witnessed_logs"
        ).all()
    engine.dispose()
    assert sorted(rows) == [("x", 6, b"\x06", "a", None), ("y", 1, b"\x01", "b", None)]
