"""Every format, ours and others': openssl agrees, every byte counts, the right check is named."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from asn1crypto import core

from exchange.errors import Integrity
from exchange.seal.checks import Check, Verification
from exchange.seal.crypto.der import check_der, sequence, to_pem
from exchange.seal.crypto.der import split as cut
from exchange.seal.crypto.suites import SM2_SM3, SUITES, Suite
from exchange.seal.eseal.signature import check_seal, check_signature
from exchange.seal.eseal.stamp_file import verify_seal
from exchange.seal.eseal.structures import (
    Seal,
    Signature,
    read_seal,
    read_signature,
    write_signed,
    write_to_sign,
)
from exchange.seal.eseal.test_authority import ISSUING, STAMPING, issue, make_seal
from exchange.seal.pki.trust import Trust
from exchange.seal.pki.x509 import read_certificate, verify_with
from tests.seal.make_seals import FOLDER, FORMATS, STAMPED_AT, signature
from tests.seal.parties import CONTENT, NAME, NOW, URN, entropy, failed, flip, openssl, parties
from tests.seal.parties import check as parties_check
from tests.support.soak import BITS_OF_A_SEAL, PICTURE_BYTES, REPEATED_BYTES, bits, sample

each_suite = pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
each_format = pytest.mark.parametrize("form", FORMATS)
SHARED = Path(__file__).parents[3] / "shared/vectors/seal"
beside = pytest.mark.skipif(not SHARED.is_dir(), reason="the fixtures are not beside the clone")
DISTID = "distid:1234567812345678"
DAY = timedelta(days=1)


@cache
def vector(suite: Suite) -> dict[str, bytes]:
    parts = json.loads((FOLDER / f"{suite.id}.json").read_text())
    return {name: base64.b64decode(value) for name, value in parts.items()}


def check(
    ses: bytes,
    suite: Suite,
    parts: dict[str, bytes] | None = None,
    *,
    crls: Sequence[str] = ("crl", "root crl"),
) -> list[Check]:
    """Check against the committed vectors' parties, lists included."""
    parts = parts or vector(suite)
    return check_signature(
        ses,
        parts["content"],
        suite=suite,
        property_info=parts["property_info"].decode(),
        chain=[parts["chain"]],
        trust=Trust([parts["root"]], crls=[parts[crl] for crl in crls], require_revocation=True),
    )


# What holds


@each_suite
@each_format
def test_committed_formats_verify(suite: Suite, form: str) -> None:
    """Sealed once and kept: a later release must still accept what this one made."""
    parts = vector(suite)
    ses = parts[f"signature {form}"]
    checks = check(ses, suite)
    assert not failed(checks)
    assert not [entry.name for entry in checks if entry.note]
    result, seal = read_signature(ses), read_seal(parts[f"seal {form}"])
    assert result.eseal == parts[f"seal {form}"]
    assert result.version == seal.version == int(form[1])
    assert bool(seal.digests) == (form == "v5 digests")
    assert (result.stamp is not None) == ("stamped" in form)
    assert (seal.stamp is not None) == (form == "v5 stamped")
    at = STAMPED_AT if "stamped" in form else NOW
    (time,) = [item.found for item in checks if item.name == "signature.time"]
    assert time == at.replace(microsecond=0).isoformat()
    revoked = check(ses, suite, crls=("crl revoked", "root crl"))
    assert failed(revoked) == ["signer.revocation"]


@each_suite
@each_format
def test_openssl_verifies_signer_and_maker(suite: Suite, form: str, tmp_path: Path) -> None:
    """What is signed, by whom: the bytes as received, and nothing else."""
    ses = read_signature(vector(suite)[f"signature {form}"])
    seal = read_seal(ses.eseal)
    for certificate, signed, value in (
        (ses.certificate, ses.signed, ses.value),
        (seal.maker, seal.signed, seal.signature),
    ):
        assert openssl_verifies(tmp_path, suite, certificate, signed, value)
        assert not openssl_verifies(tmp_path, suite, certificate, signed[:-1] + b"\x00", value)


def openssl_verifies(
    folder: Path, suite: Suite, certificate: bytes, signed: bytes, value: bytes
) -> bool:
    key, data, signature = (folder / name for name in ("key.pem", "data", "value"))
    key.write_bytes(to_pem("PUBLIC KEY", read_certificate(certificate).public_key))
    data.write_bytes(signed)
    signature.write_bytes(value)
    options = ["-sigopt", DISTID] if suite is SM2_SM3 else []
    try:
        result = openssl(
            "dgst", f"-{suite.hash_name}", "-verify", key, *options, "-signature", signature, data
        )
    except AssertionError:
        return False
    return "Verified OK" in result


@beside
@pytest.mark.parametrize("name", ["UserV1", "UserV4", "UserV5"])
def test_openssl_verifies_the_shared_seals(name: str, tmp_path: Path) -> None:
    seal = read_seal((SHARED / f"{name}.esl").read_bytes())
    assert openssl_verifies(tmp_path, SM2_SM3, seal.maker, seal.signed, seal.signature)


@beside
def test_openssl_verifies_the_shared_signature(tmp_path: Path) -> None:
    ses = read_signature((SHARED / "SignedValueV4.dat").read_bytes())
    seal = read_seal(ses.eseal)
    assert openssl_verifies(tmp_path, SM2_SM3, ses.certificate, ses.signed, ses.value)
    assert openssl_verifies(tmp_path, SM2_SM3, seal.maker, seal.signed, seal.signature)


# Every byte


@pytest.mark.soak
@each_suite
@each_format
def test_every_byte_of_every_format_counts(
    suite: Suite, form: str, tell: Callable[[str], None]
) -> None:
    """Signed or not. Of those that stand so in a format before, and of a picture, some will do."""
    ses = vector(suite)[f"signature {form}"]
    picture = inside_picture(ses, read_seal(read_signature(ses).eseal))
    before = neighbourhoods(suite, form)
    places: Sequence[int] = [
        at
        for at in range(len(ses))
        if (around(ses, at) not in before or at % REPEATED_BYTES.now == 0)
        and (at not in picture or at % PICTURE_BYTES.now == 0)
    ]
    places = sample(places, FORMATS.index(form) + list(SUITES).index(suite.id))
    for bit in bits(places, BITS_OF_A_SEAL):
        assert failed(check(flip(ses, *divmod(bit, 8)), suite)), f"byte {bit // 8}, bit {bit % 8}"
    tell(f"{suite.id} {form}: {len(places)} of {len(ses)} bytes changed, all refused")


def around(data: bytes, at: int) -> bytes:
    return data[max(0, at - 32) : at + 33]


def neighbourhoods(suite: Suite, form: str) -> set[bytes]:
    """Return what is around each byte of the formats before, but for v1: another structure."""
    before = FORMATS[1 : FORMATS.index(form)] if form != "v1" else ()
    items = [vector(suite)[f"signature {item}"] for item in before]
    return {around(data, at) for data in items for at in range(len(data))}


def inside_picture(data: bytes, seal: Seal) -> range:
    """Return where the picture of ``seal`` lies, without its first and last bytes."""
    picture = seal.info.picture.data
    start = data.index(picture) + 16
    return range(start, start + max(len(picture) - 32, 0))


@beside
@pytest.mark.soak
@pytest.mark.parametrize("name", ["UserV1.esl", "UserV4.esl", "UserV5.esl", "SignedValueV4.dat"])
def test_every_byte_of_the_shared_fixtures_counts(name: str) -> None:
    """Signed bytes, by the signatures alone: the fixtures come without their root.

    Every one of them but for the picture in the middle, 15 of 17 KB.
    """
    good = (SHARED / name).read_bytes()
    assert holds(good)
    signed = read(good).signed
    # v1 signs its two parts under a header of its own, not of the file.
    body = signed if signed in good else cut(signed)[0]
    start = good.index(body)
    items = read(good)
    seal = items if isinstance(items, Seal) else read_seal(items.eseal)
    picture = inside_picture(body, seal)
    for at in range(start, start + len(body)):
        if at - start in picture and at % PICTURE_BYTES.now:
            continue
        assert not holds(flip(good, at, at % 8)), f"byte {at}"


def read(data: bytes) -> Seal | Signature:
    try:
        return read_seal(data)
    except Integrity:
        return read_signature(data)


def holds(data: bytes) -> bool:
    """Whether the outermost signature holds for the bytes received."""
    try:
        items = read(data)
        if isinstance(items, Seal):
            return verify_with(
                read_certificate(items.maker), items.algorithm, items.signed, items.signature
            )
        return verify_with(
            read_certificate(items.certificate), items.algorithm, items.signed, items.value
        )
    except Integrity:
        return False


# What is wrong, and which check says so


def resealed(suite: Suite, eseal: bytes, *, version: int = 4, at: datetime = NOW) -> bytes:
    """Sign as a careless signer would, whatever the seal says."""
    us = parties(suite)
    to_sign = write_to_sign(eseal, at, suite.digest(CONTENT), URN, version=version)
    return write_signed(
        to_sign, us.signer.certificate, suite.signature_oid, us.signer.key.sign(to_sign)
    )


def ours(suite: Suite, ses: bytes) -> list[str]:
    return failed(parties_check(ses, suite))


def seal_of(suite: Suite, **fields: object) -> bytes:
    us = parties(suite)
    values: dict[str, object] = {
        "maker": us.maker,
        "certificates": (us.signer.certificate,),
        "name": NAME,
        "es_id": "1",
        "created": NOW,
        "valid_until": NOW + 30 * DAY,
        **fields,
    }
    return make_seal(**values)  # type: ignore[arg-type] # the fields of a table


@each_suite
@pytest.mark.parametrize(
    ("seal", "signature", "names"),
    [
        (4, 4, []),
        (5, 5, []),
        (4, 5, []),
        (5, 4, ["seal.version"]),
        (4, 1, ["signature.version", "seal.version"]),
        (4, 6, ["signature.version"]),
        (6, 5, ["seal.version"]),
        (1, 4, ["seal.version"]),
    ],
)
def test_versions(suite: Suite, seal: int, signature: int, names: list[str]) -> None:
    assert ours(suite, resealed(suite, seal_of(suite, version=seal), version=signature)) == names


@each_suite
def test_a_signer_who_is_not_in_the_list(suite: Suite) -> None:
    us = parties(suite)
    for by_digest in (False, True):
        eseal = seal_of(suite, certificates=(us.maker.certificate,), by_digest=by_digest)
        assert ours(suite, resealed(suite, eseal)) == ["signer.in_seal"]


@each_suite
def test_an_expired_seal(suite: Suite) -> None:
    eseal = seal_of(suite)
    for days, names in ((30, []), (31, ["signature.time"]), (-1, ["signature.time"])):
        at = NOW.replace(microsecond=0) + days * DAY
        assert ours(suite, resealed(suite, eseal, at=at)) == names


@each_suite
def test_a_seal_whose_dates_contradict_each_other(suite: Suite) -> None:
    eseal = seal_of(suite, valid_until=NOW - DAY)
    assert ours(suite, resealed(suite, eseal)) == [
        "seal.created",
        "seal.validity",
        "signature.time",
    ]


@each_suite
@pytest.mark.parametrize("part", ["signature", "seal"])
def test_a_swapped_algorithm(suite: Suite, part: str) -> None:
    (other,) = (item for item in SUITES.values() if item is not suite)
    good = signature(suite, "v4")
    result, seal = read_signature(good), read_seal(read_signature(good).eseal)
    if part == "signature":
        bad = write_signed(result.signed, result.certificate, other.signature_oid, result.value)
        assert ours(suite, bad) == ["suite", "signature.value"]
    else:
        eseal = write_signed(seal.signed, seal.maker, other.signature_oid, seal.signature)
        assert ours(suite, resealed(suite, eseal)) == ["seal.signature"]
        eseal = write_signed(seal.signed, seal.maker, "1.2.840.10045.4.3.4", seal.signature)
        assert ours(suite, resealed(suite, eseal)) == ["seal.signature"]


@each_suite
def test_a_swapped_key(suite: Suite) -> None:
    us = parties(suite)
    result = read_signature(signature(suite, "v4"))
    value = us.maker.key.sign(result.signed)
    bad = write_signed(result.signed, result.certificate, result.algorithm, value)
    assert ours(suite, bad) == ["signature.value"]
    seal = read_seal(result.eseal)
    value = us.signer.key.sign(seal.signed)
    eseal = write_signed(seal.signed, seal.maker, seal.algorithm, value)
    assert ours(suite, resealed(suite, eseal)) == ["seal.signature"]


@each_suite
def test_a_key_for_something_else(suite: Suite) -> None:
    us = parties(suite)
    cases = (
        ({"usage": frozenset({"key_encipherment", "data_encipherment"})}, "seal.maker_usage"),
        ({"usage": ISSUING}, "seal.maker_usage"),
        ({"purposes": STAMPING}, "seal.maker_usage"),
    )
    for fields, name in cases:
        maker = issue(us.ca, "制章", now=NOW, entropy=entropy(str(fields)), **fields)  # type: ignore[arg-type] # a table
        assert ours(suite, resealed(suite, seal_of(suite, maker=maker))) == [name]


@each_suite
@pytest.mark.parametrize("days", [-400, 400])
def test_a_maker_whose_certificate_was_not_valid(suite: Suite, days: int) -> None:
    us = parties(suite)
    maker = issue(us.ca, "制章", now=NOW + days * DAY, entropy=entropy("m"), years=1)
    names = ours(suite, resealed(suite, seal_of(suite, maker=maker)))
    assert names == ["seal.maker_validity"]


@each_suite
@pytest.mark.parametrize("days", [-400, 400])
def test_a_signer_whose_certificate_was_not_valid(suite: Suite, days: int) -> None:
    us = parties(suite)
    signer = issue(us.ca, "签章", now=NOW + days * DAY, entropy=entropy("s"), years=1)
    eseal = seal_of(suite, certificates=(signer.certificate,))
    to_sign = write_to_sign(eseal, NOW, suite.digest(CONTENT), URN)
    signed = write_signed(
        to_sign, signer.certificate, suite.signature_oid, signer.key.sign(to_sign)
    )
    assert ours(suite, signed) == ["signer.validity"]


@each_suite
def test_extensions_are_listed_and_critical_ones_refused(suite: Suite) -> None:
    """In the seal untagged, in the signature tagged in any of the three ways seen."""
    us = parties(suite)
    info = cut(seal_of(suite))[0]
    for critical in (False, True):
        flag = [core.Boolean(True).dump()] if critical else []  # noqa: FBT003 - a value
        value = core.OctetString(b"x").dump()
        entry = sequence(core.ObjectIdentifier("1.2.3").dump(), *flag, value)
        signed = sequence(*cut(info), sequence(entry))
        eseal = write_signed(
            signed, us.maker.certificate, suite.signature_oid, us.maker.key.sign(signed)
        )
        assert read_seal(eseal).extensions[0].id == "1.2.3"
        assert ours(suite, resealed(suite, eseal)) == (["seal.extensions"] if critical else [])
        plain = write_to_sign(seal_of(suite), NOW, suite.digest(CONTENT), URN)
        implicit = b"\xa0" + sequence(entry)[1:]
        explicit = b"\xa0" + sequence(sequence(entry))[1:]
        for tagged in (sequence(entry), implicit, explicit):
            to_sign = sequence(*cut(plain), tagged)
            result = write_signed(
                to_sign, us.signer.certificate, suite.signature_oid, us.signer.key.sign(to_sign)
            )
            assert ours(suite, result) == (["signature.extensions"] if critical else [])
            assert [extension.id for extension in read_signature(result).extensions] == ["1.2.3"]


# Seals that stand alone


def alone(data: bytes, suite: Suite, at: datetime = NOW, **lists: bytes) -> Verification:
    parts = vector(suite)
    return verify_seal(
        data,
        trust=Trust(
            [parts["root"]],
            crls=[parts["crl"], parts["root crl"], *lists.values()],
            require_revocation=True,
        ),
        chain=[parts["chain"]],
        at=at,
    )


@each_suite
@each_format
def test_a_seal_file_is_verified(suite: Suite, form: str) -> None:
    result = alone(vector(suite)[f"seal {form}"], suite)
    assert result.ok
    assert result.notes == ()
    facts = json.loads(json.dumps(result.as_dict()))["facts"]
    assert (facts["version"], facts["name"], facts["type"]) == (int(form[1]), NAME, 1)
    assert "测试制章机构" in facts["maker"]["subject"]
    assert "测试签发机构" in facts["maker"]["issuer"]
    if form == "v5 digests":
        assert facts["certificates"] == []
        assert facts["digests"][0]["hash"] == suite.hash_oid
    else:
        assert "大兴安岭地区市场监督管理局" in facts["certificates"][0]["subject"]
    picture = facts["picture"]
    assert (picture["type"], picture["width"]) == ("PNG", 40)
    data = base64.b64decode(picture["data"])
    assert data == read_seal(vector(suite)[f"seal {form}"]).info.picture.data
    assert facts["created"].startswith("2026-11-23")
    assert facts["stamped"] == (form == "v5 stamped")


@each_suite
def test_a_seal_file_out_of_its_time(suite: Suite) -> None:
    seal = vector(suite)["seal v4"]
    for days in (-1, 701):
        assert [item.name for item in alone(seal, suite, NOW + days * DAY).failed] == ["seal.time"]


def test_what_is_no_seal_has_a_failed_check_and_no_facts() -> None:
    for data in (b"", b"junk", vector(SM2_SM3)["signature v4"]):
        result = alone(data, SM2_SM3)
        assert [item.name for item in result.failed] == ["seal.format"]
        assert result.facts == {}


@beside
@pytest.mark.parametrize(("name", "version"), [("UserV1", 1), ("UserV4", 4), ("UserV5", 5)])
def test_shared_seal_files(name: str, version: int) -> None:
    data = (SHARED / f"{name}.esl").read_bytes()
    seal = read_seal(data)
    verification = verify_seal(data, trust=Trust([seal.maker]), at=seal.info.valid_until)
    # The maker is trusted here directly; the one of v5 signed after its certificate's end.
    assert [item.name for item in verification.failed] == (
        ["seal.maker_validity"] if version == 5 else []
    )
    assert verification.facts["version"] == version
    assert "测试用印章" in str(verification.facts["name"])


# Other spellings


def mutated(seal: bytes) -> Iterator[bytes]:
    yield seal[:-1]
    yield seal + b"\0"
    yield b"\x30\x80" + seal[4:] + b"\0\0"


def test_other_spellings_of_a_seal_are_refused() -> None:
    for bad in mutated(vector(SM2_SM3)["seal v5"]):
        checks = check_seal(bad, chain=[], trust=Trust([]))
        assert failed(checks) == ["seal.format"]
    check_der(vector(SM2_SM3)["seal v5"], 10_000)
