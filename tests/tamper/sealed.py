"""Cases about what is sealed: batches, receipts, proofs, seals, time stamps."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from exchange.seal.batch.container import Container
from exchange.seal.batch.prove import prove
from exchange.seal.crypto.der import sequence, split
from exchange.seal.eseal.lifecycle import SealState
from exchange.seal.eseal.signature import Sealer
from exchange.seal.eseal.structures import read_seal, write_signed
from exchange.seal.eseal.test_authority import STAMPING, Authority, Revoked
from tests.seal.samples import NOW
from tests.tamper import changes as do
from tests.tamper.cases import YEARS, Row, Show, other
from tests.tamper.hands import Files, Register
from tests.tamper.world import (
    DAY,
    SECOND,
    World,
    a_list,
    build_batch,
    certified,
    make_receipt,
    make_seal,
    named,
    stamper,
)

Change = Callable[..., bytes]

# --- a sealed batch -------------------------------------------------------------------------------


def batch(world: World, data: bytes | None = None, crls: tuple[bytes, ...] = ()) -> Files:
    return Files((data or world.batch.data,), crls or world.crls)


def batch_by(change: Change, *given: Any, **more: Any) -> Show:
    return lambda world: batch(world, change(world, *given, **more))


def part(name: str) -> Show:
    return lambda world: batch(world, do.flip_part(world.batch.data, name))


def altered_seal(world: World, number: int, at: int) -> bytes:
    """Flip a bit in a part of the seal, and seal with that."""
    eseal = world.department.eseal
    return do.resealed(world, eseal=do.flip_in(eseal, [number], at))


def seal_with(world: World, **parts: Any) -> bytes:
    """Put other parts around what the maker signed, and seal with that."""
    return do.resealed(world, eseal=remade(world, **parts))


def by_signer_itself(world: World) -> bytes:
    """Sign the seal with the key that it is for."""
    return world.department.signer.key.sign(read_seal(world.department.eseal).signed)


def remade(world: World, **parts: Any) -> bytes:
    result = read_seal(world.department.eseal)
    values = {
        "certificate": result.maker,
        "algorithm": result.algorithm,
        "value": result.signature,
        **parts,
    }
    return write_signed(result.signed, **values)


def by_impostor(world: World) -> Files:
    result = build_batch(do.impostor(world, "部门").sealer, 2, previous=world.batches[0].digest)
    assert result.statement == world.batch.statement
    return batch(world, result.data)


def another(world: World) -> Authority:
    """Certify another key under the signer's name."""
    return certified(world.department.ca, "部门 signer")


def other_name(world: World) -> bytes:
    schema = Container.from_bytes(world.batch.data).schema
    return do.with_parts(world, schema=schema.replace(b'"secret"', b'"secreu"'))


def both_markers(world: World) -> bytes:
    return do.with_parts(world, sync=bytes(16))


def borrowed(*names: str) -> Show:
    """Take parts from another batch of the same partition."""

    def show(world: World) -> Files:
        result = Container.from_bytes(world.batches[2].data)
        return batch(world, do.with_parts(world, **{name: getattr(result, name) for name in names}))

    return show


def gone(choose: Callable[[World], tuple[Authority, Authority]]) -> Show:
    """Revoke a certificate: the authority that does it, and whose."""
    return lambda world: batch(world, None, do.revoked(world, *choose(world)))


FILE_BITS: Final[Mapping[str, str]] = {
    "magic": "container",
    "count of the metadata": "container",
    "key avro.schema": "container",
    "key avro.codec": "container",
    "key exchange.statement": "container",
    "key exchange.seal": "container",
    "key exchange.chain": "container",
    "key exchange.salt": "container",
    "key exchange.lengths": "container",
    "value avro.schema": "schema",
    "value avro.codec": "container",
    "value exchange.lengths": "lengths",
    "end of the metadata": "container",
    "first marker": "container",
    "count of the records": "container",
    "length of the payload": "container",
    "payload": "payload",
    "last marker": "container",
}
"""The parts of the file, and what tells a bit in the middle of each."""
SEAL_BITS: Final = [
    ("outer length", "signature.format", (), 3),
    ("version", "signature.value", (0, 0), -1),
    ("embedded seal", "signature.value", (0, 1, 0), 60),
    ("time", "signature.value", (0, 2), 5),
    ("dataHash", "signature.value", (0, 3), -1),
    ("propertyInfo", "signature.value", (0, 4), -1),
    ("signer's certificate", "signer.chain", (1,), -1),
    ("algorithm", "suite", (2,), -1),
    ("value", "signature.value", (3,), 20),
]
"""Parts of SES_Signature by their places, a byte in each, and what tells a bit of it."""
BATCH: list[Row] = [
    *((f"bit flip in the {name}", check, part(name)) for name, check in FILE_BITS.items()),
    *(
        (f"bit flip in the seal's {name}", check, batch_by(do.seal_bit, path, at))
        for name, check, path, at in SEAL_BITS
    ),
    ("bit flip in the signer's key", "signature.value", lambda w: batch(w, do.key_bit(w))),
    ("bit flip in a name of the schema", "schema.fingerprint", lambda w: batch(w, other_name(w))),
    ("bit flip in the statement", "signature.digest", batch_by(do.restated, source="hotlinf")),
    ("bit flip in the salt", "root", batch_by(do.with_parts, salt=b"\1" + bytes(range(1, 16)))),
    ("bit flip in both markers", "sync", lambda w: batch(w, both_markers(w))),
    ("bit flip in the chain", "signer.chain", batch_by(do.chain_bit, -1)),
    ("bit flip in the sealed seal", "seal.signature", batch_by(altered_seal, 0, 40)),
    ("bit flip in the sealed seal's value", "seal.signature", batch_by(altered_seal, 3, -9)),
    ("bit flip in the sealed seal's maker", "seal.maker_chain", batch_by(altered_seal, 1, -1)),
    ("dropped record", "payload", batch_by(do.arranged, 0, 1, 3, 4, 5)),
    ("dropped last record", "payload", batch_by(do.arranged, 0, 1, 2, 3, 4)),
    ("reordered records", "payload", batch_by(do.arranged, 0, 2, 1, 3, 4, 5)),
    ("doubled record", "payload", batch_by(do.arranged, 0, 1, 1, 2, 3, 4, 5)),
    ("replaced record", "payload", batch_by(do.arranged, 0, 1, 1, 3, 4, 5)),
    ("records of another batch", "payload", borrowed("payload", "lengths", "rows", "salt")),
    ("cut tail of the file", "container", lambda w: batch(w, w.batch.data[:-1])),
    ("bytes behind the file", "container", lambda w: batch(w, w.batch.data + b"\0")),
    ("cut inside", "container", lambda w: batch(w, w.batch.data[:500] + w.batch.data[501:])),
    ("statement of another batch", "payload", borrowed("statement")),
    ("seal of another batch", "signature.digest", borrowed("seal")),
    ("swapped key, all names alike", "signer.chain", by_impostor),
    (
        "swapped key under the certificate",
        "signature.value",
        lambda w: batch(w, do.signed_by(w, another(w), keep=True)),
    ),
    (
        "swapped key with a certificate of its own",
        "signer.in_seal",
        lambda w: batch(w, do.signed_by(w, another(w), keep=False)),
    ),
    (
        "swapped key of the seal's maker",
        "seal.signature",
        lambda w: batch(w, seal_with(w, value=by_signer_itself(w))),
    ),
    (
        "seal made by an impostor",
        "seal.maker_chain",
        lambda w: batch(w, do.with_seal(w, maker=do.impostor(w, "部门").maker)),
    ),
    (
        "swapped algorithm id of the signature",
        "suite",
        lambda w: batch(w, do.resigned(w, algorithm=other(w).signature_oid)),
    ),
    (
        "swapped algorithm id of the seal",
        "seal.signature",
        lambda w: batch(w, seal_with(w, algorithm=other(w).signature_oid)),
    ),
    (
        "swapped algorithm id of the statement",
        "payload",
        lambda w: batch(w, do.restated(w, suite=other(w).id)),
    ),
    ("unknown algorithm id", "statement.suite", batch_by(do.restated, suite="rsa-md5")),
    ("expired certificate", "signer.validity", batch_by(do.by_signer, now=NOW - YEARS)),
    ("certificate not yet valid", "signer.validity", batch_by(do.by_signer, now=NOW + 2 * DAY)),
    (
        "revoked certificate",
        "signer.revocation",
        gone(lambda w: (w.department.ca, w.department.signer)),
    ),
    ("revoked issuer", "signer.revocation", gone(lambda w: (w.department.root, w.department.ca))),
    (
        "certificate for another use",
        "signer.usage",
        batch_by(do.by_signer, usage=frozenset({"key_encipherment"})),
    ),
    ("expired maker", "seal.maker_validity", batch_by(do.by_maker, now=NOW - YEARS)),
    ("maker not yet valid", "seal.maker_validity", batch_by(do.by_maker, now=NOW + 2 * DAY)),
    (
        "revoked maker",
        "seal.maker_revocation",
        gone(lambda w: (w.department.ca, w.department.maker)),
    ),
    ("lists that nobody answers for", "signer.revocation", lambda w: batch(w, None, w.crls[2:])),
    (
        "signer not in the list",
        "signer.in_seal",
        lambda w: batch(w, do.with_seal(w, certificates=(w.department.maker.certificate,))),
    ),
    (
        "signer not in the list of digests",
        "signer.in_seal",
        lambda w: batch(
            w,
            do.with_seal(w, certificates=(w.department.maker.certificate,), by_digest=True),
        ),
    ),
    ("expired seal", "signature.time", batch_by(do.with_seal, valid_until=NOW - SECOND)),
    (
        "seal not yet valid",
        "signature.time",
        batch_by(do.with_seal, created=NOW + timedelta(hours=1)),
    ),
    ("seal of a version of no standard", "seal.version", batch_by(do.with_seal, version=6)),
    (
        "signature of a version of no standard",
        "signature.version",
        batch_by(do.resealed, version=6),
    ),
]


def cancelled(seconds: int) -> Show:
    """Put the signer on the list when its seal was cancelled, so long after the first sealing."""

    def show(world: World) -> Files:
        own, at = world.department, NOW + seconds * SECOND
        entry = Revoked(own.signer.certificate, at, "cessation_of_operation")
        return batch(world, None, (*world.crls, a_list(own.ca, entry)))

    return show


CANCELLED: list[Row] = [("seal cancelled before signing", "signer.revocation", cancelled(1))]
"""The batch was sealed two seconds after ``NOW``: cancelled one second later, it holds."""


def registered(state: SealState) -> Show:
    return lambda _: Register(state)


REGISTER: list[Row] = [
    (f"sealing with one that is {state}", "Denied", registered(state))
    for state in (SealState.CANCELLED, SealState.SUSPENDED, SealState.LOST)
]


# --- several batches ------------------------------------------------------------------------------


def several(world: World, *numbers: int, more: tuple[bytes, ...] = ()) -> Files:
    chosen = tuple(world.batches[number].data for number in numbers)
    return Files((*chosen, *more), world.crls)


def three(world: World) -> Files:
    return several(world, 0, 1, 2)


def rewritten(world: World, **facts: Any) -> bytes:
    """Seal another batch of the same number with the department's own key."""
    values = {"previous": world.batches[0].digest, "rejected": 1, **facts}
    return build_batch(world.department.sealer, 2, **values).data


SEVERAL: list[Row] = [
    ("dropped middle batch", "batches.previous", lambda w: several(w, 0, 2)),
    (
        "middle batch rewritten with valid keys",
        "batches.previous",
        lambda w: several(w, 0, 2, more=(rewritten(w),)),
    ),
    (
        "two batches of one number",
        "batches.previous",
        lambda w: several(w, 0, 1, more=(rewritten(w),)),
    ),
    (
        "batch of another chain",
        "batches.previous",
        lambda w: several(w, 0, more=(rewritten(w, previous="0" * 64),)),
    ),
]
"""Each of the files holds: only together do they show it."""


# --- a receipt ------------------------------------------------------------------------------------


def receipt(world: World, data: bytes | None = None, crls: tuple[bytes, ...] = ()) -> Files:
    return Files((data or world.receipt,), crls or world.crls, batch=world.batch.data)


def receipt_edited(*path: Any, change: Callable[[Any], Any] = do.bit_of) -> Show:
    return lambda world: receipt(world, do.edited(world.receipt, do.put(*path, change=change)))


def receipt_that(**changes: Any) -> Show:
    """Have the province say something else, and seal it."""
    return lambda world: receipt(world, receipt_of(world, **changes))


def receipt_of(world: World, sealer: Sealer | None = None, **changes: Any) -> bytes:
    values = {"log": named(world.older), **changes}
    return make_receipt(sealer or world.province.sealer, world.batch.statement, **values)


def receipt_by(**changes: Any) -> Show:
    """Have a certificate that differs in ``changes`` seal the receipt."""

    def show(world: World) -> Files:
        signer = certified(world.province.ca, "省 signer", **changes)
        eseal = make_seal(world.province, world.version, certificates=(signer.certificate,))
        sealer = Sealer(signer.signer, eseal, world.province.sealer.chain)
        return receipt(world, receipt_of(world, sealer))

    return show


def other_resource(world: World) -> bytes:
    """Issue the receipt of a batch of the same number, of another resource."""
    result = build_batch(
        world.department.sealer, 2, previous=world.batches[0].digest, resource="permits"
    )
    return make_receipt(world.province.sealer, result.statement, log=named(world.older))


RECEIPT_MEMBERS: Final[Mapping[str, str]] = {
    "batch_no": "batch",
    "code": "code",
    "format": "format",
    "log": "signature.digest",
    "message": "signature.digest",
    "province": "signature.digest",
    "receipt_no": "signature.digest",
    "resource": "batch",
    "resource_code": "batch",
    "root": "root",
    "rows_accepted": "counts",
    "rows_rejected": "counts",
    "rows_sent": "counts",
    "statement": "statement",
    "suite": "format",
}
RECEIPT: list[Row] = [
    *(
        (f"bit flip in {name}", check, receipt_edited("receipt", name))
        for name, check in RECEIPT_MEMBERS.items()
    ),
    (
        "bit flip in received_at",
        "signature.digest",
        receipt_edited("receipt", "received_at", change=lambda t: t[:-2] + "5Z"),
    ),
    ("bit flip in the format of the envelope", "Rejected", receipt_edited("format")),
    ("bit flip in the seal", "signature.value", receipt_edited("seal", change=do.last_bit)),
    ("bit flip in the chain", "signer.chain", receipt_edited("chain", 0, change=do.last_bit)),
    (
        "dropped log",
        "signature.digest",
        lambda w: receipt(w, do.edited(w.receipt, lambda e: e["receipt"].pop("log"))),
    ),
    ("replayed from another batch", "batch", lambda w: receipt(w, w.receipts[0])),
    (
        "replayed from another resource, same number",
        "batch",
        lambda w: receipt(w, other_resource(w)),
    ),
    (
        "replayed for a rewritten batch",
        "statement",
        lambda w: replace(receipt(w), batch=rewritten(w)),
    ),
    ("of a refused batch", "code", receipt_that(code="500")),
    ("of fewer rows", "counts", receipt_that(rows_accepted=4)),
    ("from before the batch", "time", receipt_that(received_at="2026-11-23T00:02:03.004Z")),
    (
        "swapped key, all names alike",
        "signer.chain",
        lambda w: receipt(w, receipt_of(w, do.impostor(w, "省").sealer)),
    ),
    (
        "sealed by the department",
        "signer.chain",
        lambda w: receipt(w, receipt_of(w, w.department.sealer)),
    ),
    (
        "swapped algorithm id",
        "suite",
        lambda w: receipt(
            w, do.edited(w.receipt, do.put("receipt", "suite", change=lambda _: other(w).id))
        ),
    ),
    ("expired certificate", "signer.validity", receipt_by(now=NOW - YEARS)),
    ("certificate not yet valid", "signer.validity", receipt_by(now=NOW + 2 * DAY)),
    (
        "revoked certificate",
        "signer.revocation",
        lambda w: receipt(w, None, do.revoked(w, w.province.ca, w.province.signer)),
    ),
]
"""Shown with its batch."""


# --- the proof of a record ------------------------------------------------------------------------


def proof(world: World, data: bytes | None = None, crls: tuple[bytes, ...] = ()) -> Files:
    return Files((data or world.proof,), crls or world.crls)


def proof_edited(*path: Any, change: Callable[[Any], Any] = do.bit_of) -> Show:
    return lambda world: proof(world, do.edited(world.proof, do.put(*path, change=change)))


def proof_with(name: str, row: int) -> Show:
    """Take a part from the proof of another record."""

    def show(world: World) -> Files:
        from_there = json.loads(prove(world.batch.data, row=row))[name]
        changed = do.put(name, change=lambda _: from_there)
        return proof(world, do.edited(world.proof, changed))

    return show


PROOF: list[Row] = [
    ("bit flip in the record", "root", proof_edited("record", change=lambda t: do.flip64(t, 6))),
    ("bit flip in the salt", "root", proof_edited("salt")),
    ("bit flip in the index", "root", proof_edited("index")),
    ("bit flip in the size", "size", proof_edited("size")),
    ("bit flip in the path", "root", proof_edited("path", 1)),
    ("bit flip in the statement", "signature.digest", proof_edited("statement", "source")),
    ("bit flip in the root", "root", proof_edited("statement", "root")),
    ("bit flip in the seal", "signature.value", proof_edited("seal", change=do.last_bit)),
    ("bit flip in the chain", "signer.chain", proof_edited("chain", 0, change=do.last_bit)),
    (
        "bit flip in the schema",
        "schema.fingerprint",
        proof_edited("schema", change=lambda t: t.replace("secret", "secreu")),
    ),
    ("bit flip in the format", "Rejected", proof_edited("format")),
    ("record of another place", "root", proof_with("record", 2)),
    ("salt of another place", "root", proof_with("salt", 2)),
    ("path of another place", "root", proof_with("path", 2)),
    ("dropped hash", "root", proof_edited("path", change=lambda path: path[:-1])),
    ("doubled hash", "root", proof_edited("path", change=lambda path: [*path, path[-1]])),
    ("reordered hashes", "root", proof_edited("path", change=lambda path: path[::-1])),
    (
        "revoked certificate",
        "signer.revocation",
        lambda w: proof(w, None, do.revoked(w, w.department.ca, w.department.signer)),
    ),
]


# --- an electronic seal by itself -----------------------------------------------------------------


def seal(world: World, data: bytes | None = None, crls: tuple[bytes, ...] = ()) -> Files:
    return Files((data or world.department.eseal,), crls or world.crls)


def seal_bit(number: int, at: int) -> Show:
    def show(world: World) -> Files:
        own = world.department.eseal
        return seal(world, do.flip_in(own, [number], at))

    return show


def seal_by(**changes: Any) -> Show:
    def show(world: World) -> Files:
        maker = certified(world.department.ca, "部门 maker", **changes)
        return seal(world, make_seal(world.department, world.version, maker=maker))

    return show


SEAL: list[Row] = [
    ("bit flip in its name", "seal.signature", seal_bit(0, 60)),
    ("bit flip in its picture", "seal.signature", seal_bit(0, -40)),
    ("bit flip in the maker's certificate", "seal.maker_chain", seal_bit(1, -1)),
    ("bit flip in the algorithm", "seal.signature", seal_bit(2, -1)),
    ("bit flip in the value", "seal.signature", seal_bit(3, -9)),
    ("cut tail", "seal.format", lambda w: seal(w, w.department.eseal[:-1])),
    (
        "swapped key, all names alike",
        "seal.maker_chain",
        lambda w: seal(w, do.impostor(w, "部门").eseal),
    ),
    (
        "swapped algorithm id",
        "seal.signature",
        lambda w: seal(w, remade(w, algorithm=other(w).signature_oid)),
    ),
    ("expired maker", "seal.maker_validity", seal_by(now=NOW - YEARS)),
    ("maker not yet valid", "seal.maker_validity", seal_by(now=NOW + 2 * DAY)),
    (
        "revoked maker",
        "seal.maker_revocation",
        lambda w: seal(w, None, do.revoked(w, w.department.ca, w.department.maker)),
    ),
    ("expired", "seal.time", lambda w: replace(seal(w), at=NOW + 366 * DAY)),
    ("not yet valid", "seal.time", lambda w: replace(seal(w), at=NOW - 2 * DAY)),
]


# --- a time stamp ---------------------------------------------------------------------------------


def stamped(world: World, data: bytes | None = None, crls: tuple[bytes, ...] = ()) -> Files:
    return Files((data or world.stamped,), crls or world.crls)


def stamped_by(**changes: Any) -> Show:
    """Have an authority stamp whose certificate differs in ``changes``."""

    def show(world: World) -> Files:
        values = {"purposes": STAMPING, **changes}
        return restamped(
            world, stamper(world, certified(world.tsa.ca, "时间戳 maker", **values)).stamp
        )

    return show


def restamped(world: World, stamp: Callable[[bytes], bytes]) -> Files:
    sealer = replace(world.department.sealer, stamp=stamp)
    return stamped(world, build_batch(sealer, 2, previous=world.batches[0].digest).data)


def stamp_bit(at: int) -> Show:
    return lambda w: restamped(w, lambda value: do.flip(stamper(w).stamp(value), at))


def false_stamp(world: World) -> Files:
    return restamped(world, stamper(replace(world, tsa=do.impostor(world, "时间戳"))).stamp)


def broken_off(token: bytes) -> bytes:
    """Let the identifier of the token's type break off within a number."""
    kind, content = split(token)
    return sequence(kind[:1] + bytes([kind[1] + 1]) + kind[2:] + b"\xc1", content)


STAMP: list[Row] = [
    ("bit flip in the signature", "signature.stamp_signature", stamp_bit(-9)),
    ("bit flip in the header", "signature.stamp", stamp_bit(1)),
    (
        "byte behind the type",
        "signature.stamp",
        lambda w: restamped(w, lambda value: broken_off(stamper(w).stamp(value))),
    ),
    (
        "of another signature",
        "signature.stamp_imprint",
        lambda w: restamped(w, lambda _: stamper(w).stamp(b"another signature")),
    ),
    ("swapped key, all names alike", "signature.stamp_chain", false_stamp),
    ("expired certificate", "signature.stamp_validity", stamped_by(now=NOW - YEARS)),
    ("certificate not yet valid", "signature.stamp_validity", stamped_by(now=NOW + 2 * DAY)),
    ("certificate for another use", "signature.stamp_usage", stamped_by(purposes=frozenset())),
    (
        "revoked certificate",
        "signature.stamp_revocation",
        lambda w: stamped(w, None, do.revoked(w, w.tsa.ca, w.tsa.maker)),
    ),
    (
        "from before the signature",
        "signature.stamp_time",
        lambda w: restamped(w, stamper(w, at=NOW - timedelta(minutes=6)).stamp),
    ),
]
