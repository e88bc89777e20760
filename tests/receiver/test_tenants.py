"""Two tenants, two roots: no way for one to seal, block, read or witness for the other.

``WEST`` tries, ``EAST`` is tried against; each attempt fails as documented, and what is East's
goes on. Takes 1 s.
"""

from __future__ import annotations

import json
import os
from base64 import b64encode
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from exchange.cascade.witness import FORMAT
from exchange.evidence.checkpoint import Head, sign
from exchange.receiver.callers import Caller, Scope
from exchange.receiver.reception import Reception, Reply
from exchange.receiver.witnessing import Witness
from exchange.seal.batch.build import SealedBatch
from exchange.seal.batch.tree import HASH_SIZE
from exchange.seal.batch.verify import verify_batch
from exchange.seal.pki.trust import Delegation, Trust
from exchange.store.database import Store
from tests.receipt.seals import NOW, Party, make_party
from tests.receiver.batches import make_batch
from tests.receiver.province import PROVINCE, Province

EAST_UNIT, WEST_UNIT = "11232700MB0A12345X", "11232700MB1C531139"
EAST = make_party("east", unit=EAST_UNIT, es_id="E1")
WEST = make_party("west", unit=WEST_UNIT, es_id="W1")
UNNAMED = make_party("west without a unit", es_id="W2")
EAST_LOG, WEST_LOG = "exchange/east", "exchange/west"
BOTH = Trust((EAST.root, WEST.root, UNNAMED.root))
STRICT = {
    "east": Caller(
        rid="east",
        secret="e",
        trust=Trust((EAST.root,)),
        scope=Scope(
            departments=frozenset({EAST_UNIT}),
            resources=frozenset({"permits"}),
            seals=frozenset({"E1"}),
            origins=frozenset({EAST_LOG}),
        ),
    ),
    "west": Caller(
        rid="west",
        secret="w",
        trust=Trust((WEST.root,)),
        scope=Scope(
            departments=frozenset({WEST_UNIT}),
            resources=frozenset({"permits"}),
            seals=frozenset({"W1"}),
            origins=frozenset({WEST_LOG}),
        ),
    ),
}
LOOSE = replace(
    STRICT["west"],
    trust=BOTH,
    scope=Scope(departments="any", resources="any", seals="any", origins="any"),
)
"""West's caller where the province's operator allowed everything."""


def batch(party: Party, department: str, number: int = 1, **facts: Any) -> SealedBatch:
    return make_batch(party.sealer, number, department=department, partition=0, **facts)


@dataclass
class Place:
    reception: Reception
    witness: Witness
    store: Store
    folder: Path

    def deliver(self, data: bytes, caller: Caller, **claimed: str) -> Reply:
        return self.reception.take(data, caller=caller, claimed=claimed)

    def east_goes_on(self, number: int = 1, previous: str = "") -> SealedBatch:
        own = batch(EAST, EAST_UNIT, number, previous=previous)
        reply = self.deliver(own.data, STRICT["east"])
        assert reply.status == 200, reply
        return own

    def show(self, caller: Caller, party: Party, origin: str, root: bytes, size: int = 2) -> Reply:
        note = sign(Head(origin, size, root), party.sealer, NOW)
        certificate = party.sealer.signer.certificate
        request = {
            "certificates": [b64encode(certificate).decode()],
            "format": FORMAT,
            "note": note.to_bytes().decode(),
            "old": 0,
            "proof": [],
        }
        return self.witness.take(json.dumps(request).encode(), caller=caller)

    @property
    def kept(self) -> int:
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        assert len(files) == self.store.received_batches.counts()[0]
        return len(files)


@pytest.fixture
def place(province: Province) -> Place:
    folder, store, clock = province.settings.folder, province.store, province.clock
    reception = Reception(
        folder=folder,
        province="23",
        ahead=timedelta(minutes=1),
        store=store,
        sealer=PROVINCE.sealer,
        clock=clock,
        entropy=os.urandom,
    )
    witness = Witness(name="province", store=store, sealer=PROVINCE.sealer, clock=clock)
    return Place(reception, witness, store, folder)


# --- seal ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "caller", "status", "why"),
    [
        (batch(WEST, EAST_UNIT), STRICT["west"], 422, {"failed": ["seal.owner"]}),
        (batch(UNNAMED, EAST_UNIT), replace(LOOSE, scope=STRICT["west"].scope), 403, "department"),
        (batch(UNNAMED, WEST_UNIT), replace(LOOSE, scope=STRICT["west"].scope), 403, "seal"),
        (batch(WEST, WEST_UNIT, resource="other"), STRICT["west"], 403, "resource"),
        (batch(WEST, EAST_UNIT), LOOSE, 422, {"failed": ["seal.owner"]}),
        (batch(WEST, EAST_UNIT), STRICT["east"], 422, None),
        (batch(EAST, EAST_UNIT), STRICT["west"], 422, None),
        (batch(EAST, EAST_UNIT), replace(LOOSE, scope=Scope()), 403, "department"),
    ],
    ids=[
        "own seal on the other's department",
        "a seal without a unit on the other's department",
        "a seal that was never named",
        "a resource that was never named",
        "own seal where the operator allowed everything",
        "own seal with the other's stolen secret",
        "the other's own batch, copied",
        "a caller of whom nothing is named",
    ],
)
def test_sealing_for_the_other(
    place: Place, data: SealedBatch, caller: Caller, status: int, why: Any
) -> None:
    reply = place.deliver(data.data, caller)
    assert reply.status == status, reply
    if isinstance(why, str):
        assert reply.data == {"scope": why}
    elif why:
        assert reply.data == why
    else:
        assert "signer.chain" in reply.data["failed"]  # type: ignore[operator]
    assert place.kept == 0, "nothing is stored"
    (line,) = place.store.audit.find()
    assert (line.actor, line.action) == (
        caller.rid,
        "receiver.denied" if status == 403 else "receiver.refused",
    )
    place.east_goes_on()


def test_a_stranger_who_trusts_both_roots_is_told() -> None:
    found = verify_batch(batch(WEST, EAST_UNIT).data, trust=BOTH)
    assert [check.name for check in found.failed] == ["seal.owner"]
    assert WEST_UNIT in found.failed[0].found


def test_a_delegation_lets_one_seal_for_the_other_until_its_day(place: Place) -> None:
    delegated = replace(
        BOTH, delegations=[Delegation("W1", EAST_UNIT, NOW - timedelta(days=1), "协议3")]
    )
    data = batch(WEST, EAST_UNIT).data
    assert [each.name for each in verify_batch(data, trust=delegated).failed] == ["seal.owner"]
    later = Delegation("W1", EAST_UNIT, datetime(2027, 1, 1, tzinfo=UTC), "协议3")
    trust = replace(BOTH, delegations=[later])
    found = verify_batch(data, trust=trust)
    assert found.ok
    assert "协议3" in next(each for each in found.notes if each.name == "seal.owner").text.zh
    assert place.deliver(data, replace(LOOSE, trust=trust)).status == 200


def test_an_owner_that_nobody_names_is_a_note_or_a_failure() -> None:
    data = batch(UNNAMED, EAST_UNIT).data
    found = verify_batch(data, trust=BOTH)
    assert found.ok
    assert "seal.owner" in [each.name for each in found.notes]
    strict = verify_batch(data, trust=replace(BOTH, require_owner=True))
    assert [each.name for each in strict.failed] == ["seal.owner"]


# --- block --------------------------------------------------------------------------------


def test_taking_the_others_number_first(place: Place) -> None:
    stolen = batch(UNNAMED, EAST_UNIT)
    assert place.deliver(stolen.data, LOOSE).status == 200, "the operator allowed everything"
    first = place.east_goes_on()
    place.east_goes_on(2, first.digest)
    assert place.deliver(stolen.data, LOOSE).status == 200


def test_going_on_from_the_others_chain(place: Place) -> None:
    first = place.east_goes_on()
    fork = batch(UNNAMED, EAST_UNIT, 2, previous=first.digest)
    assert place.deliver(fork.data, LOOSE).status == 200
    place.east_goes_on(2, first.digest)


def test_beginning_the_chain_anew_with_the_others_secret_and_seal(place: Place) -> None:
    first = place.east_goes_on()
    anew = batch(EAST, EAST_UNIT, 7)
    reply = place.deliver(anew.data, STRICT["east"])
    assert (reply.status, reply.data["chain"]) == (424, "previous")
    place.east_goes_on(2, first.digest)


def test_using_the_others_number_for_another_content_with_its_secret_and_seal(
    place: Place,
) -> None:
    place.east_goes_on()
    reply = place.deliver(batch(EAST, EAST_UNIT, prefix="x").data, STRICT["east"])
    assert reply.status == 409
    place.east_goes_on()


def test_delivering_the_others_batches_first(place: Place) -> None:
    """The owner's chain goes on with its own batches, whoever has brought them."""
    first = place.east_goes_on()
    second = batch(EAST, EAST_UNIT, 2, previous=first.digest)
    third = batch(EAST, EAST_UNIT, 3, previous=second.digest)
    theirs = [place.deliver(one.data, LOOSE) for one in (second, third)]
    assert [reply.status for reply in theirs] == [200, 200]
    fourth = batch(EAST, EAST_UNIT, 4, previous=third.digest)
    gap = place.deliver(fourth.data, STRICT["east"])
    assert (gap.status, gap.data["chain"]) == (424, "previous")
    own = [place.deliver(one.data, STRICT["east"]) for one in (second, third, second, fourth)]
    assert [reply.status for reply in own] == [200] * 4
    assert [reply.data for reply in own[:3]] == [theirs[0].data, theirs[1].data, theirs[0].data]


def test_delivering_one_of_the_others_batches_out_of_order(place: Place) -> None:
    first = place.east_goes_on()
    second = batch(EAST, EAST_UNIT, 2, previous=first.digest)
    third = batch(EAST, EAST_UNIT, 3, previous=second.digest)
    assert place.deliver(third.data, LOOSE).status == 200
    assert place.deliver(third.data, STRICT["east"]).status == 424, "it waits for the second"
    assert place.deliver(second.data, STRICT["east"]).status == 200
    assert place.deliver(third.data, STRICT["east"]).status == 200
    place.east_goes_on(4, third.digest)


def test_another_content_under_the_others_next_number(place: Place) -> None:
    first = place.east_goes_on()
    forged = batch(UNNAMED, EAST_UNIT, 2, previous=first.digest, prefix="x")
    assert place.deliver(forged.data, LOOSE).status == 200
    second = place.east_goes_on(2, first.digest)
    place.east_goes_on(3, second.digest)


# --- read ---------------------------------------------------------------------------------


def test_asking_for_the_others_receipt_with_its_batch(place: Place) -> None:
    own = place.east_goes_on()
    reply = place.deliver(own.data, replace(LOOSE, scope=STRICT["west"].scope))
    assert (reply.status, reply.data) == (403, {"scope": "department"})
    assert place.deliver(own.data, STRICT["west"]).status == 422


def test_claiming_to_be_the_other_in_the_headers(place: Place) -> None:
    data = batch(WEST, WEST_UNIT).data
    assert place.deliver(data, STRICT["west"], department=EAST_UNIT).status == 400
    assert place.kept == 0


def test_asking_what_the_witness_saw_of_the_others_log(place: Place) -> None:
    place.show(STRICT["east"], EAST, EAST_LOG, bytes(HASH_SIZE))
    assert place.witness.seen(EAST_LOG, caller=STRICT["west"]).status == 403
    seen = place.witness.seen(EAST_LOG, caller=STRICT["east"])
    assert EAST_LOG in str(seen.data["checkpoint"])


def test_asking_for_the_others_log_where_nothing_was_shown_yet(place: Place) -> None:
    for origin in (EAST_LOG, "exchange/nobody", EAST_LOG.upper()):
        assert place.witness.seen(origin, caller=STRICT["west"]).status == 403


def test_reading_the_others_receipt_by_its_number_alone(place: Place) -> None:
    place.east_goes_on()
    reply = place.deliver(batch(WEST, WEST_UNIT, 1).data, STRICT["west"])
    assert reply.status == 200, "it is a number of its own"
    assert EAST_UNIT not in json.dumps(reply.data)


# --- witness ------------------------------------------------------------------------------


@pytest.mark.parametrize("party", [EAST, WEST])
def test_showing_a_log_under_the_others_name(place: Place, party: Party) -> None:
    reply = place.show(STRICT["west"], party, EAST_LOG, b"w" * HASH_SIZE)
    assert (reply.status, reply.data) == (403, {"scope": "origin"})
    assert place.show(STRICT["east"], EAST, EAST_LOG, bytes(HASH_SIZE)).status == 200


def test_showing_a_log_that_the_others_seal_signs(place: Place) -> None:
    reply = place.show(STRICT["west"], EAST, WEST_LOG, bytes(HASH_SIZE))
    assert reply.status == 422, "not under West's root"
    assert place.show(STRICT["west"], WEST, WEST_LOG, bytes(HASH_SIZE)).status == 200


def test_showing_another_history_where_the_operator_allowed_everything(place: Place) -> None:
    assert place.show(STRICT["east"], EAST, EAST_LOG, bytes(HASH_SIZE)).status == 200
    reply = place.show(LOOSE, WEST, EAST_LOG, b"w" * HASH_SIZE)
    assert (reply.status, reply.data) == (409, {"size": 2})
    assert place.store.witnessed_checkpoints.get(EAST_LOG) is not None
