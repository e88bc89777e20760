"""Make ``tests/vectors/seal/formats`` anew: ``python -m tests.seal.make_seals``.

Per suite one file of seals and signatures in every format that is read: version 1, 4, 5, 5 with
digests of certificates, 4 and 5 with time stamps. Keys and signatures are fresh each time and
then thrown away. Change the vectors only together with the code that reads them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

from asn1crypto import core

from exchange.seal.crypto.der import sequence
from exchange.seal.crypto.suites import SUITES, Suite
from exchange.seal.eseal import structures
from exchange.seal.eseal.signature import Sealer
from exchange.seal.eseal.structures import read_signature
from exchange.seal.eseal.test_authority import Revoked, make_crl, make_seal
from tests.seal.parties import CONTENT, NAME, NOW, URN, parties
from tests.seal.tsa import Stamper, tsa

FOLDER = Path(__file__).parents[1] / "vectors/seal/formats"
STAMPED_AT = NOW + timedelta(seconds=7)
FORMATS = ("v1", "v4", "v4 stamped", "v5", "v5 digests", "v5 stamped")


def signature_v1(
    suite: Suite, *, time: Callable[[datetime], core.Asn1Value] = core.UTCTime
) -> bytes:
    """Build a signature as GM/T 0031-2014 has it, seal and all."""
    return signed_v1(suite, time(NOW.replace(microsecond=0)).dump())


def signed_v1(suite: Suite, time: bytes) -> bytes:
    """Build such a signature with any bytes as its time."""
    us = parties(suite)
    listed = core.OctetString(us.signer.certificate).dump()
    at, until = (core.UTCTime(NOW + timedelta(days=days)).dump() for days in (0, 30))
    info = sequence(
        structures._Header({"ID": "ES", "version": 1, "Vid": "test"}).dump(),
        core.IA5String("1").dump(),
        sequence(
            core.Integer(1).dump(), core.UTF8String(NAME).dump(), sequence(listed), at, at, until
        ),
        structures._Picture({"type": "PNG", "data": b"x", "width": 40, "height": 40}).dump(),
    )
    oid = core.ObjectIdentifier(suite.signature_oid).dump()
    maker = core.OctetString(us.maker.certificate).dump()
    by_maker = core.OctetBitString(us.maker.key.sign(sequence(info, maker, oid))).dump()
    to_sign = sequence(
        core.Integer(1).dump(),
        sequence(info, sequence(maker, oid, by_maker)),
        core.OctetBitString(time).dump(),
        core.OctetBitString(suite.digest(CONTENT)).dump(),
        core.IA5String(URN).dump(),
        listed,
        oid,
    )
    return sequence(to_sign, core.OctetBitString(us.signer.key.sign(to_sign)).dump())


def signature(suite: Suite, name: str) -> bytes:
    """Make a signature over ``CONTENT`` in one of ``FORMATS``."""
    if name == "v1":
        return signature_v1(suite)
    us = parties(suite)
    stamp = Stamper(tsa(suite), clock=lambda: STAMPED_AT).stamp if "stamped" in name else None
    version = int(name[1])
    eseal = make_seal(
        us.maker,
        (us.signer.certificate,),
        name=NAME,
        es_id="23270000000001",
        created=NOW,
        valid_until=NOW + timedelta(days=700),
        version=version,
        by_digest="digests" in name,
        stamp=stamp if version > 4 else None,
    )
    sealer = Sealer(us.signer.signer, eseal)
    return sealer.seal(CONTENT, property_info=URN, at=NOW, stamp=stamp)


def vectors(suite: Suite) -> Iterator[tuple[str, bytes]]:
    """Name every part of a suite's file."""
    us = parties(suite)
    yield "content", CONTENT
    yield "property_info", URN.encode()
    yield "root", us.root.certificate
    yield "chain", us.ca.certificate
    period = (NOW - timedelta(days=1), NOW + timedelta(days=1))
    for name, authority in (("crl", us.ca), ("root crl", us.root)):
        yield name, make_crl(authority, (), this_update=period[0], next_update=period[1])
    revoked = Revoked(us.signer.certificate, NOW - timedelta(hours=1), "key_compromise")
    yield "crl revoked", make_crl(us.ca, [revoked], this_update=period[0], next_update=period[1])
    for name in FORMATS:
        result = signature(suite, name)
        yield f"signature {name}", result
        yield f"seal {name}", read_signature(result).eseal


def main() -> None:
    """Write one file per suite."""
    FOLDER.mkdir(exist_ok=True, parents=True)
    for name, suite in SUITES.items():
        parts = {key: base64.b64encode(value).decode() for key, value in vectors(suite)}
        (FOLDER / f"{name}.json").write_text(json.dumps(parts, indent=1) + "\n")


if __name__ == "__main__":
    main()
