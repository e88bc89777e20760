"""What somebody does to a thing: flips a bit, leaves a part out, signs with another key."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np

from exchange.evidence.checkpoint import Role, Signed, SignedNote, key_id, sign
from exchange.evidence.package import Package, unwrap, wrap
from exchange.seal.batch import jcs
from exchange.seal.batch.build import open_batch
from exchange.seal.batch.container import Container, compress, pack_lengths
from exchange.seal.crypto.der import split
from exchange.seal.crypto.suites import Suite
from exchange.seal.eseal.structures import read_signature, write_signed, write_to_sign
from exchange.seal.eseal.test_authority import Authority, Revoked
from exchange.seal.pki.x509 import read_certificate
from tests.seal.parties import Parties
from tests.seal.samples import NOW
from tests.tamper.world import DAY, WITNESS, World, a_list, certified, make_party, make_seal

# --- bits -----------------------------------------------------------------------------------------


def flip(data: bytes, at: int) -> bytes:
    """Flip the lowest bit of one byte."""
    at %= len(data)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def flip_in(data: bytes, path: Sequence[int], at: int) -> bytes:
    """Flip a bit of a part of a DER value, that of part of part …"""
    start, part = 0, data
    for number in path:
        parts = split(part)
        start += len(part) - sum(map(len, parts)) + sum(map(len, parts[:number]))
        part = parts[number]
    return flip(data, start + at % len(part))


def flip64(text: str, at: int) -> str:
    """Flip a bit of what a text holds in Base64."""
    return b64encode(flip(b64decode(text), at)).decode()


def layout(data: bytes) -> dict[str, range]:
    """Say where the parts of a sealed file lie, as docs/sealed-batch.md §5 has them."""
    values = {"magic": range(4)}
    at = 4

    def take(name: str, size: int) -> bytes:
        nonlocal at
        values[name] = range(at, at + size)
        at += size
        return data[at - size : at]

    def long(name: str) -> int:
        size = next(n for n in range(1, 10) if data[at + n - 1] < 0x80)
        groups = (byte & 0x7F for byte in take(name, size))
        return sum(group << 7 * n for n, group in enumerate(groups)) >> 1

    for _ in range(long("count of the metadata")):
        key = take("key", long("length of a key")).decode()
        values[f"key {key}"] = values["key"]
        take(f"value {key}", long(f"length of {key}"))
    long("end of the metadata")
    take("first marker", 16)
    long("count of the records")
    take("payload", long("length of the payload"))
    take("last marker", 16)
    assert at == len(data)
    return values


def flip_part(data: bytes, name: str) -> bytes:
    """Flip a bit in the middle of a part of a sealed file."""
    where = layout(data)[name]
    return flip(data, where[len(where) // 2])


# --- batches --------------------------------------------------------------------------------------


def with_parts(world: World, **parts: Any) -> bytes:
    """Write the batch again with other parts."""
    return replace(Container.from_bytes(world.batch.data), **parts).to_bytes()


def restated(world: World, **facts: Any) -> bytes:
    """Change what the statement says, and leave the seal."""
    return with_parts(world, statement=replace(world.batch.statement, **facts).to_bytes())


def arranged(world: World, *order: int) -> bytes:
    """Put the records in another order, some twice or not at all."""
    opened = open_batch(world.batch.data)
    records = [opened.record(number) for number in order]
    return with_parts(
        world,
        lengths=pack_lengths(np.cumsum([0, *map(len, records)])),
        payload=compress(b"".join(records)),
        rows=len(records),
    )


def seal_bit(world: World, path: Sequence[int], at: int) -> bytes:
    """Flip a bit in a part of the batch's seal."""
    seal = Container.from_bytes(world.batch.data).seal
    return with_parts(world, seal=flip_in(seal, path, at))


def key_bit(world: World) -> bytes:
    """Flip a bit of the public key in the signer's certificate, that beside the signature."""
    seal = Container.from_bytes(world.batch.data).seal
    key = read_certificate(world.department.signer.certificate).public_key
    return with_parts(world, seal=flip(seal, seal.rindex(key) + len(key) - 5))


def chain_bit(world: World, at: int) -> bytes:
    (link,) = world.department.sealer.chain
    return with_parts(world, chain=(flip(link, at),))


def resigned(world: World, **parts: Any) -> bytes:
    """Put other parts around what the seal covers: certificate, algorithm, value."""
    signature = read_signature(Container.from_bytes(world.batch.data).seal)
    values = {
        "certificate": signature.certificate,
        "algorithm": signature.algorithm,
        "value": signature.value,
        **parts,
    }
    return with_parts(world, seal=write_signed(signature.signed, **values))


def signed_by(world: World, authority: Authority, *, keep: bool) -> bytes:
    """Sign what the seal covers with another key; ``keep`` the certificate that is there."""
    signature = read_signature(Container.from_bytes(world.batch.data).seal)
    value = authority.key.sign(signature.signed)
    if keep:
        return resigned(world, value=value)
    return resigned(world, certificate=authority.certificate, value=value)


def resealed(
    world: World,
    *,
    eseal: bytes | None = None,
    signer: Authority | None = None,
    at: datetime = NOW,
    version: int | None = None,
) -> bytes:
    """Seal the batch's statement anew as nobody should, whatever seal and certificate say."""
    statement, own = world.batch.statement, signer or world.department.signer
    to_sign = write_to_sign(
        eseal or make_seal(world.department, world.version, certificates=(own.certificate,)),
        at,
        world.suite.digest(statement.to_bytes()),
        statement.property_info,
        version=version or world.version,
    )
    value = own.key.sign(to_sign)
    seal = write_signed(to_sign, own.certificate, own.suite.signature_oid, value)
    return with_parts(world, seal=seal)


def by_signer(world: World, **changes: Any) -> bytes:
    """Seal with a certificate that differs in ``changes``, and a seal that lists it."""
    return resealed(world, signer=certified(world.department.ca, "部门 signer", **changes))


def by_maker(world: World, **changes: Any) -> bytes:
    """Seal with a seal whose maker's certificate differs in ``changes``."""
    maker = certified(world.department.ca, "部门 maker", **changes)
    return resealed(world, eseal=make_seal(world.department, world.version, maker=maker))


def with_seal(world: World, **changes: Any) -> bytes:
    """Seal with a seal that differs in ``changes``."""
    return resealed(world, eseal=make_seal(world.department, world.version, **changes))


def impostor(world: World, name: str) -> Parties:
    """Return somebody with all the names of a party, and keys of his own."""
    return make_party(name, world.suite, world.version)


def revoked(world: World, authority: Authority, gone: Authority) -> tuple[bytes, ...]:
    """Return everybody's lists, and one on which a certificate stands since before it signed."""
    return (*world.crls, a_list(authority, Revoked(gone.certificate, NOW - 2 * DAY)))


# --- JSON -----------------------------------------------------------------------------------------


def edited(data: bytes, change: Callable[[Any], None]) -> bytes:
    """Change a value of canonical JSON and write it in the same form."""
    value = json.loads(data)
    change(value)
    return jcs.encode(value)


def put(*path: Any, change: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Change the value at a path."""

    def act(value: Any) -> None:
        for key in path[:-1]:
            value = value[key]
        value[path[-1]] = change(value[path[-1]])

    return act


def bit_of(value: Any) -> Any:
    """Flip a bit of a number, or of the last character of a text."""
    return value ^ 1 if isinstance(value, int) else value[:-1] + chr(ord(value[-1]) ^ 1)


def repacked(world: World, change: Callable[[Any], None]) -> bytes:
    """Change a value inside of the evidence package."""
    return wrap(edited(unwrap(world.package), change))


def with_package(world: World, **parts: Any) -> bytes:
    """Put other parts into the evidence package."""
    return wrap(replace(Package.from_bytes(unwrap(world.package)), **parts).to_bytes())


def last_bit(text: str) -> str:
    """Flip a bit near the end of what a text holds in Base64."""
    return flip64(text, -1)


def first_bit(text: str) -> str:
    """Flip a bit at the beginning of it."""
    return flip64(text, 0)


# --- checkpoints ----------------------------------------------------------------------------------


def line_bit(note: SignedNote, line: int, at: int) -> bytes:
    """Flip a bit of a line of a checkpoint."""
    lines = note.to_bytes().splitlines(keepends=True)
    lines[line] = flip(lines[line].rstrip(b"\n"), at) + b"\n"
    return b"".join(lines)


def separator_bit(note: SignedNote) -> bytes:
    """Flip a bit of the empty line."""
    data = note.to_bytes()
    return flip(data, data.index(b"\n\n") + 1)


def root_bit(note: SignedNote) -> bytes:
    """Flip a bit of the root that a checkpoint names."""
    checkpoint = note.checkpoint
    head = replace(checkpoint.head, root=flip(checkpoint.head.root, 0))
    return replace(note, checkpoint=replace(checkpoint, head=head)).to_bytes()


def signature_bit(note: SignedNote, at: int) -> bytes:
    """Flip a bit of what the log's line holds in Base64."""
    own = note.signature
    raw = flip(own.key_id + own.value, at)
    return replace(note, signature=Signed(own.name, raw[:4], None, raw[4:])).to_bytes()


def witness_bit(note: SignedNote, at: int) -> bytes:
    """Flip a bit of what the witness's line holds in Base64."""
    (line,) = note.witnesses
    raw = flip(line.key_id + (line.at or 0).to_bytes(8) + line.value, at)
    changed = Signed(line.name, raw[:4], int.from_bytes(raw[4:12]), raw[12:])
    return replace(note, witnesses=(changed,)).to_bytes()


def signed_again(world: World, signer: Authority, at: datetime | None = None) -> bytes:
    """Sign the checkpoint with another key under the node's name; the witness's line stays."""
    checkpoint = world.note.checkpoint
    if at is not None:
        checkpoint = sign(checkpoint.head, world.department.sealer, at).checkpoint
    own = replace(
        world.note.signature,
        value=signer.key.sign(checkpoint.to_bytes()),
        key_id=key_of(signer, "log", checkpoint.head.origin),
    )
    return SignedNote(checkpoint, own, world.note.witnesses).to_bytes()


def witnessed_by(world: World, signer: Authority, at: datetime) -> bytes:
    """Sign the checkpoint along with another key under the witness's name."""
    line = Signed(WITNESS, key_of(signer, "witness", WITNESS), int(at.timestamp()), b"")
    value = signer.key.sign(line.message(world.note.checkpoint))
    return replace(world.note, witnesses=(replace(line, value=value),)).to_bytes()


def other_key_id(world: World, suite: Suite) -> bytes:
    """Say that the signature is of another suite."""
    own, key = world.note.signature, read_certificate(world.department.signer.certificate)
    changed = replace(own, key_id=key_id("log", own.name, suite, key.public_key))
    return replace(world.note, signature=changed).to_bytes()


def key_of(signer: Authority, role: Role, name: str) -> bytes:
    """Return the key id that a signature line names."""
    return key_id(role, name, signer.suite, read_certificate(signer.certificate).public_key)
