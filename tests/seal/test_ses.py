"""Electronic seals: both suites, all three versions, and everything that can be wrong."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from asn1crypto import core
from asn1crypto import x509 as asn1_x509
from hypothesis import given
from hypothesis import strategies as st

from exchange.errors import Misconfigured
from exchange.seal.checks import Verification
from exchange.seal.crypto.der import check_der, moment, sequence
from exchange.seal.crypto.suites import ECDSA_P256_SHA256, SM2_SM3, SUITES, Suite
from exchange.seal.eseal.signature import MAX_CHAIN, Sealer, check_seal, check_signature
from exchange.seal.eseal.structures import (
    MAX_SIGNATURE_BYTES,
    Picture,
    SealInfo,
    read_seal,
    read_signature,
    write_seal_info,
    write_signed,
    write_to_sign,
)
from exchange.seal.eseal.test_authority import ISSUING, Authority, issue, make_authority, make_seal
from exchange.seal.pki.trust import Trust
from exchange.seal.pki.x509 import Certificate, PathBuilder, read_certificate, verify_with
from tests.seal.make_seals import signature_v1, signed_v1
from tests.seal.parties import (
    CONTENT,
    NAME,
    NOW,
    URN,
    Parties,
    check,
    entropy,
    failed,
    flip,
    parties,
    sealed,
)
from tests.support.soak import BITS_OF_A_SEAL, Amount, bits, sample

each_suite = pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
SHARED = Path(__file__).parents[3] / "shared" / "vectors" / "seal"
VECTORS = Path(__file__).parents[1] / "vectors" / "seal"
CHECKS = [
    "signature.format",
    "signature.version",
    "suite",
    "signer.certificate",
    "signature.value",
    "signer.chain",
    "signer.usage",
    "signer.validity",
    "signer.revocation",
    "seal.format",
    "signer.in_seal",
    "signature.digest",
    "signature.range",
    "seal.version",
    "seal.maker",
    "seal.signature",
    "seal.created",
    "seal.maker_chain",
    "seal.maker_usage",
    "seal.maker_validity",
    "seal.maker_revocation",
    "seal.validity",
    "signature.time",
    "chain",
]


# What holds


@each_suite
def test_seals_and_checks_in_the_order_of_the_standard(suite: Suite) -> None:
    checks = check(sealed(suite), suite)
    assert not failed(checks)
    assert [item.name for item in checks] == CHECKS


@each_suite
def test_the_parts_are_as_written(suite: Suite) -> None:
    signature = read_signature(sealed(suite))
    assert signature.version == 4
    assert signature.time == NOW.replace(microsecond=0)
    assert signature.digest == suite.digest(CONTENT)
    assert signature.property_info == URN
    assert signature.certificate == parties(suite).signer.certificate
    assert signature.algorithm == suite.signature_oid
    assert signature.eseal == parties(suite).eseal


@each_suite
def test_a_root_that_travels_along_is_fine_when_trusted(suite: Suite) -> None:
    us = parties(suite)
    chain = [us.ca.certificate, us.root.certificate]
    assert not failed(check(sealed(suite), suite, chain=chain))
    assert failed(check(sealed(suite), suite, chain=chain, anchors=[])) == [
        "signer.chain",
        "seal.maker_chain",
    ]


@each_suite
def test_issuing_ca_as_anchor(suite: Suite) -> None:
    us = parties(suite)
    assert not failed(check(sealed(suite), suite, chain=[], anchors=[us.ca.certificate]))


def test_maker_and_signer_may_be_of_different_suites() -> None:
    sm2, ecdsa = parties(SM2_SM3), parties(ECDSA_P256_SHA256)
    eseal = seal_for(sm2.maker, ecdsa.signer)
    signature = Sealer(ecdsa.signer.signer, eseal).seal(CONTENT, property_info=URN, at=NOW)
    checks = check(
        signature,
        ECDSA_P256_SHA256,
        chain=[ecdsa.ca.certificate, sm2.ca.certificate],
        anchors=[ecdsa.root.certificate, sm2.root.certificate],
    )
    assert not failed(checks)


def seal_for(maker: Authority, signer: Authority) -> bytes:
    return make_seal(
        maker,
        (signer.certificate,),
        name=NAME,
        es_id="1",
        created=NOW,
        valid_until=NOW + timedelta(days=30),
    )


@pytest.mark.parametrize("name", SUITES)
def test_committed_vectors_verify(name: str) -> None:
    """Sealed once and kept: a later release must still accept what this one made."""
    vector = {
        key: base64.b64decode(value)
        for key, value in json.loads((VECTORS / f"{name}.json").read_text()).items()
    }
    checks = check_signature(
        vector["signature"],
        vector["content"],
        suite=SUITES[name],
        property_info=vector["property_info"].decode(),
        chain=[vector["chain"]],
        trust=Trust([vector["root"]]),
    )
    assert [item.name for item in checks] == CHECKS
    assert not failed(checks)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared vectors are not at hand")
@pytest.mark.parametrize(("name", "version"), [("UserV1", 1), ("UserV4", 4), ("UserV5", 5)])
def test_shared_seals_verify(name: str, version: int) -> None:
    data = (SHARED / f"{name}.esl").read_bytes()
    seal = read_seal(data)
    assert seal.version == version
    assert verify_with(read_certificate(seal.maker), seal.algorithm, seal.signed, seal.signature)
    # The root is not among the vectors, and v5 of the fixture outlived its certificates.
    broken = {"seal.maker_chain", "seal.maker_validity"} if version == 5 else {"seal.maker_chain"}
    assert set(failed(check_seal(data, chain=[], trust=Trust([])))) == broken
    # The maker's certificate is vouched for by its own issuer only, who is missing here.
    inside = range(data.index(seal.maker), data.index(seal.maker) + len(seal.maker))
    for at in range(0, len(data), 97):
        if at in inside:
            continue
        assert set(failed(check_seal(flip(data, at, at % 8), chain=[], trust=Trust([])))) - broken


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared vectors are not at hand")
def test_shared_signature_verifies() -> None:
    data = (SHARED / "SignedValueV4.dat").read_bytes()

    def failures(data: bytes) -> set[str]:
        checks = check_signature(
            data,
            b"",
            suite=SM2_SM3,
            property_info="/Doc_0/Signs/Sign_0/Signature.xml",
            chain=[],
            trust=Trust([]),
        )
        return set(failed(checks))

    # Its dataHash is 32 zero bytes, and nobody gave us its root.
    broken = {"signer.chain", "seal.maker_chain", "signature.digest"}
    assert failures(data) == broken
    for at in range(0, len(data), 97):
        assert failures(flip(data, at, at % 8)) - broken


# Versions 1 and 5, made here


def v5_seal(us: Parties, *, digest: bool) -> bytes:
    return make_seal(
        us.maker,
        (us.signer.certificate,),
        name=NAME,
        es_id="1",
        created=NOW,
        valid_until=NOW + timedelta(days=700),
        version=5,
        by_digest=digest,
    )


@each_suite
def test_v5_lists_digests_of_certificates(suite: Suite) -> None:
    us = parties(suite)
    sealer = Sealer(us.signer.signer, v5_seal(us, digest=True))
    assert (sealer.details.version, sealer.details.info.certificates) == (5, ())
    signature = sealer.seal(CONTENT, property_info=URN, at=NOW)
    assert read_signature(signature).version == 5
    checks = check(signature, suite)
    assert not failed(checks)
    assert [item.name for item in checks] == CHECKS
    with pytest.raises(Misconfigured, match="does not list"):
        Sealer(us.maker.signer, sealer.eseal)


STAMPS = {
    "explicit": bytes.fromhex("a006030400616263"),
    "untagged": bytes.fromhex("030400616263"),
}


@pytest.mark.parametrize("stamp", STAMPS.values(), ids=STAMPS)
@each_suite
def test_stamps_that_are_no_tokens_are_read_and_not_believed(suite: Suite, stamp: bytes) -> None:
    us = parties(suite)
    stamped = sequence(core.load(sealed(suite)).contents + stamp)
    assert failed(check(stamped, suite)) == ["signature.stamp"]
    bare = v5_seal(us, digest=False)
    eseal = sequence(core.load(bare).contents + stamp)
    signature = Sealer(us.signer.signer, eseal).seal(CONTENT, property_info=URN, at=NOW)
    assert failed(check(signature, suite)) == ["seal.stamp"]


@each_suite
@pytest.mark.parametrize("kind", [core.UTCTime, core.GeneralizedTime])
def test_v1(suite: Suite, kind: Callable[[datetime], core.Asn1Value]) -> None:
    result = signature_v1(suite, time=kind)
    checks = check(result, suite)
    assert not failed(checks)
    assert [item.name for item in checks] == CHECKS
    for at in range(0, len(result), 7):
        assert failed(check(flip(result, at, at % 8), suite))


@each_suite
def test_v1_with_a_time_stamp_token_has_no_readable_time(suite: Suite) -> None:
    result = signed_v1(suite, b"0\x03token")
    assert failed(check(result, suite)) == ["signer.validity", "signature.time"]


# What is wrong, and which check says so


@each_suite
def test_another_content(suite: Suite) -> None:
    checks = check(sealed(suite), suite, content=CONTENT + b" ")
    assert failed(checks) == ["signature.digest"]
    (bad,) = [item for item in checks if not item.ok]
    assert bad.expected == suite.digest(CONTENT).hex()
    assert bad.found == suite.digest(CONTENT + b" ").hex()


@each_suite
def test_another_range(suite: Suite) -> None:
    other = URN.replace("00001", "00002")
    checks = check(sealed(suite), suite, property_info=other)
    assert [(item.name, item.expected, item.found) for item in checks if not item.ok] == [
        ("signature.range", other, URN)
    ]


@each_suite
def test_another_suite_id(suite: Suite) -> None:
    (other,) = (item for item in SUITES.values() if item is not suite)
    us = parties(suite)
    checks = check_signature(
        sealed(suite),
        CONTENT,
        suite=other,
        property_info=URN,
        chain=[us.ca.certificate],
        trust=Trust([us.root.certificate]),
    )
    assert [(entry.name, entry.expected, entry.found) for entry in checks if not entry.ok] == [
        ("suite", other.id, suite.id)
    ]


@each_suite
def test_another_certificate(suite: Suite) -> None:
    us = parties(suite)
    signature = read_signature(sealed(suite))
    other = issue(us.ca, "别的单位", now=NOW, entropy=entropy("other"))
    signed = write_signed(signature.signed, other.certificate, signature.algorithm, signature.value)
    assert failed(check(signed, suite)) == ["signature.value", "signer.in_seal"]
    by_other = other.key.sign(signature.signed)
    signed = write_signed(signature.signed, other.certificate, signature.algorithm, by_other)
    assert failed(check(signed, suite)) == ["signer.in_seal"]


@each_suite
def test_another_maker(suite: Suite) -> None:
    us = parties(suite)
    stranger = make_authority("假根", suite, now=NOW, entropy=entropy("false"))
    maker = issue(stranger, "假制章机构", now=NOW, entropy=entropy("false maker"))
    signature = Sealer(us.signer.signer, seal_for(maker, us.signer)).seal(
        CONTENT, property_info=URN, at=NOW
    )
    checks = check(signature, suite)
    assert failed(checks) == ["seal.maker_chain"]
    (bad,) = [item for item in checks if not item.ok]
    assert "测试根" in bad.expected
    assert "假制章机构" in bad.found


@each_suite
def test_no_anchor_says_what_is_needed(suite: Suite) -> None:
    checks = check(sealed(suite), suite, anchors=[])
    assert failed(checks) == ["signer.chain", "seal.maker_chain"]
    bad = next(item for item in checks if not item.ok)
    assert "--trust" in bad.text.en
    assert "指纹" in bad.text.zh
    assert "测试根" in bad.expected


@each_suite
def test_without_the_issuing_ca(suite: Suite) -> None:
    assert failed(check(sealed(suite), suite, chain=[])) == ["signer.chain", "seal.maker_chain"]


@each_suite
@pytest.mark.parametrize("extra", ["unused", "double", "junk", "many"])
def test_nothing_travels_along_unverified(suite: Suite, extra: str) -> None:
    us = parties(suite)
    stranger = make_authority("路人", suite, now=NOW, entropy=entropy("by-passer"))
    chains = {
        "unused": [stranger.certificate],
        "double": [us.ca.certificate],
        "junk": [b"junk"],
        "many": [us.signer.certificate, us.maker.certificate] + [b""] * MAX_CHAIN,
    }
    chain = [us.ca.certificate, *chains[extra]]
    assert failed(check(sealed(suite), suite, chain=chain)) == ["chain"]


@each_suite
def test_anchor_that_cannot_be_read(suite: Suite) -> None:
    anchors = [parties(suite).root.certificate, b"no certificate"]
    assert failed(check(sealed(suite), suite, anchors=anchors)) == ["anchors"]


@each_suite
@pytest.mark.parametrize("days", [-1, 701])
def test_outside_the_seals_validity(suite: Suite, days: int) -> None:
    us = parties(suite)
    at = NOW + timedelta(days=days)
    with pytest.raises(Misconfigured, match="is not valid at"):
        us.sealer.seal(CONTENT, property_info=URN, at=at)
    to_sign = write_to_sign(us.eseal, at, suite.digest(CONTENT), URN)
    signed = write_signed(
        to_sign, us.signer.certificate, suite.signature_oid, us.signer.key.sign(to_sign)
    )
    assert failed(check(signed, suite)) == ["signature.time"]


@each_suite
def test_validity_is_counted_in_whole_seconds(suite: Suite) -> None:
    sealer = parties(suite).sealer
    assert sealer.details.info.valid_from.microsecond == 0
    last = sealer.details.info.valid_until + timedelta(milliseconds=999)
    assert not failed(check(sealer.seal(CONTENT, property_info=URN, at=last), suite))


@each_suite
def test_certificate_expired_when_it_signed(suite: Suite) -> None:
    us = parties(suite)
    short = issue(us.ca, "短期", now=NOW, entropy=entropy("short"), years=1)
    eseal = make_seal(
        us.maker,
        (short.certificate,),
        name=NAME,
        es_id="1",
        created=NOW,
        valid_until=NOW + timedelta(days=1000),
    )
    sealer = Sealer(short.signer, eseal)
    for days, names in ((364, []), (366, ["signer.validity"])):
        signature = sealer.seal(CONTENT, property_info=URN, at=NOW + timedelta(days=days))
        assert failed(check(signature, suite)) == names


@each_suite
def test_seal_made_before_its_maker_was_certified(suite: Suite) -> None:
    us = parties(suite)
    late = issue(us.ca, "后来者", now=NOW + timedelta(days=9), entropy=entropy("late"))
    signature = Sealer(us.signer.signer, seal_for(late, us.signer)).seal(
        CONTENT, property_info=URN, at=NOW
    )
    assert failed(check(signature, suite)) == ["seal.maker_validity"]


@each_suite
def test_issuer_expired(suite: Suite) -> None:
    root = make_authority("短命根", suite, now=NOW, entropy=entropy("r"), years=1)
    maker, signer = (issue(root, n, now=NOW, entropy=entropy(n)) for n in ("maker", "signer"))
    eseal = make_seal(
        maker,
        (signer.certificate,),
        name=NAME,
        es_id="1",
        created=NOW,
        valid_until=NOW + timedelta(days=1000),
    )
    at = NOW + timedelta(days=400)
    signature = Sealer(signer.signer, eseal).seal(CONTENT, property_info=URN, at=at)
    anchors = [root.certificate]
    assert failed(check(signature, suite, chain=[], anchors=anchors)) == ["signer.chain"]


@each_suite
@pytest.mark.parametrize("wrong", ["no CA", "no key_cert_sign", "leaf usage", "too long"])
def test_certificates_must_be_used_as_they_allow(suite: Suite, wrong: str) -> None:
    us = parties(suite)
    ca = us.ca
    usage = frozenset({"digital_signature"})
    if wrong == "no CA":
        ca = issue(us.root, "CA", now=NOW, entropy=entropy("ca2"), usage=ISSUING, ca=False)
    if wrong == "no key_cert_sign":
        ca = issue(us.root, "CA", now=NOW, entropy=entropy("ca2"), usage=usage, ca=True)
    if wrong == "leaf usage":
        usage = frozenset({"key_encipherment"})
    chain = [ca]
    if wrong == "too long":
        for number in range(6):
            name = f"CA {number}"
            chain.append(
                issue(chain[-1], name, now=NOW, entropy=entropy(name), usage=ISSUING, ca=True)
            )
    signer = issue(chain[-1], "签章者", now=NOW, entropy=entropy("s"), usage=usage)
    signature = Sealer(signer.signer, seal_for(us.maker, signer)).seal(
        CONTENT, property_info=URN, at=NOW
    )
    travelling = {item.certificate for item in [*chain, us.ca]}
    name = "signer.usage" if wrong == "leaf usage" else "signer.chain"
    assert name in failed(check(signature, suite, chain=sorted(travelling)))


def changed_certificate(
    authority: Authority, issuer: Authority, change: Callable[[asn1_x509.TbsCertificate], None]
) -> Authority:
    """Change a certificate's content and let its issuer sign it anew."""
    old = asn1_x509.Certificate.load(authority.certificate)
    tbs = old["tbs_certificate"]
    change(tbs)
    signed = tbs.dump(force=True)
    algorithm = old["signature_algorithm"].dump()
    value = core.OctetBitString(issuer.key.sign(signed)).dump()
    return replace(authority, certificate=sequence(signed, algorithm, value))


class _Dense(PathBuilder):
    """Believes that everybody issued everybody, and counts how often it is asked."""

    asked = 0

    def _issued(self, issuer: Certificate, subject: Certificate) -> bool:
        self.asked += 1
        return issuer is not subject


def test_a_tangle_of_certificates_is_searched_once() -> None:
    """Certificates of one name and key can all issue each other; no path is tried twice."""
    us = parties(ECDSA_P256_SHA256)
    pool = [
        read_certificate(issue(us.ca, "同名", now=NOW, entropy=entropy(str(n))).certificate)
        for n in range(16)
    ]
    builder = _Dense(pool, [])
    path = builder.build(read_certificate(us.signer.certificate), NOW)
    assert path.problem is not None
    assert builder.asked <= 17 * 16


@each_suite
def test_path_length(suite: Suite) -> None:
    us = parties(suite)

    def limit(tbs: asn1_x509.TbsCertificate) -> None:
        for extension in tbs["extensions"]:
            if extension["extn_id"].native == "basic_constraints":
                extension["extn_value"] = asn1_x509.BasicConstraints(
                    {"ca": True, "path_len_constraint": 0}
                )

    root = changed_certificate(us.root, us.root, limit)
    checks = check(sealed(suite), suite, anchors=[root.certificate])
    assert failed(checks) == ["signer.chain", "seal.maker_chain"]
    assert any("longer than its issuer allows" in item.text.en for item in checks)


@each_suite
def test_unknown_critical_extension(suite: Suite) -> None:
    us = parties(suite)

    def add(tbs: asn1_x509.TbsCertificate) -> None:
        tbs["extensions"].append(
            {"extn_id": "1.2.3.4", "critical": True, "extn_value": core.Null().dump()}
        )

    signer = changed_certificate(us.signer, us.ca, add)
    signature = Sealer(signer.signer, seal_for(us.maker, signer)).seal(
        CONTENT, property_info=URN, at=NOW
    )
    checks = check(signature, suite)
    assert failed(checks) == ["signer.chain"]
    assert any("1.2.3.4" in item.found for item in checks)


def test_name_must_be_ascii() -> None:
    with pytest.raises(Misconfigured, match="ASCII"):
        parties(SM2_SM3).sealer.seal(CONTENT, property_info="urn:批次", at=NOW)


# Every bit


def outer_bits(ses: bytes, amount: Amount) -> list[tuple[int, int]]:
    """Bits of every byte around the signed part, and one bit of every third byte in it."""
    start = ses.index(read_signature(ses).signed)
    end = start + len(read_signature(ses).signed)
    around = [*range(start), *range(end, len(ses))]
    within = [(at, at % 8) for at in range(start, end, 3)]
    return [divmod(bit, 8) for bit in bits(sample(around), amount)] + within


@pytest.mark.soak
def test_every_flipped_bit_is_noticed(tell: Callable[[str], None]) -> None:
    suite = ECDSA_P256_SHA256
    ses = sealed(suite)
    outer = outer_bits(ses, BITS_OF_A_SEAL)
    for at, bit in outer:
        assert failed(check(flip(ses, at, bit), suite)), f"bit {bit} of byte {at} went unnoticed"
    chain = parties(suite).ca.certificate
    # Of its headers and signature as many, one bit of every byte in between.
    ends = [*range(8), *range(len(chain) - 90, len(chain))]
    links = [divmod(bit, 8) for bit in bits(ends, BITS_OF_A_SEAL)]
    links += [(at, at % 8) for at in sample(range(8, len(chain) - 90))]
    for at, bit in links:
        checks = check(ses, suite, chain=[flip(chain, at, bit)])
        assert failed(checks), f"bit {bit} of byte {at} of the chain went unnoticed"
    tell(f"{len(outer)} bits of a seal and {len(links)} of a chain flipped: all noticed")


@pytest.mark.soak
def test_flipped_bits_are_noticed_with_sm2() -> None:
    ses = sealed(SM2_SM3)
    for at, bit in outer_bits(ses, BITS_OF_A_SEAL):
        assert failed(check(flip(ses, at, bit), SM2_SM3)), f"bit {bit} of byte {at}"


@each_suite
def test_other_spellings_of_the_same_are_refused(suite: Suite) -> None:
    ses = sealed(suite)
    signature, contents = read_signature(ses), core.load(ses).contents
    bits = core.OctetBitString(signature.value).dump()
    spellings = {
        "trailing": ses + b"\x00",
        "indefinite length": b"\x30\x80" + contents + b"\x00\x00",
        "long length": b"\x30\x83\x00" + len(contents).to_bytes(2) + contents,
        "unused bits": sequence(contents[: -len(bits)] + bits[:2] + b"\x01" + bits[3:]),
        "constructed": sequence(contents[: -len(bits)] + b"\x23" + (len(bits)).to_bytes(1) + bits),
        "six parts": sequence(contents + STAMPS["explicit"] + STAMPS["explicit"]),
        "three parts": sequence(contents[: -len(bits)]),
        "empty": b"",
    }
    for name, data in spellings.items():
        assert failed(check(data, suite)) == ["signature.format"], name


def test_sizes_are_bounded() -> None:
    big = sequence(core.OctetString(b"\x00" * MAX_SIGNATURE_BYTES).dump())
    (only,) = check(big, SM2_SM3)
    assert not only.ok
    assert "at most" in only.found
    nested = b""
    for _ in range(60):
        nested = sequence(nested)
    assert failed(check(nested, SM2_SM3)) == ["signature.format"]


# Values


@given(
    st.text(min_size=1, max_size=30),
    st.text(st.characters(max_codepoint=127), max_size=20),
    st.integers(-5, 300),
    st.lists(st.binary(max_size=40), max_size=3),
    st.datetimes(min_value=datetime(1950, 1, 1), max_value=datetime(2099, 1, 1)),  # noqa: DTZ001
    st.binary(max_size=50),
)
def test_seal_info_round_trip(  # noqa: PLR0917 - Hypothesis fills them in
    name: str, text: str, kind: int, certificates: list[bytes], at: datetime, data: bytes
) -> None:
    at = at.replace(microsecond=0, tzinfo=UTC)
    info = SealInfo(text, text, kind, name, tuple(certificates), at, at, at, Picture(data, 40, 30))
    eseal = write_signed(write_seal_info(info), b"maker", SM2_SM3.signature_oid, b"value")
    check_der(eseal, 10_000)
    seal = read_seal(eseal)
    assert (seal.info, seal.maker, seal.signature) == (info, b"maker", b"value")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (core.UTCTime(contents=b"491231235959Z"), "2049-12-31T23:59:59+00:00"),
        (core.UTCTime(contents=b"500101000000Z"), "1950-01-01T00:00:00+00:00"),
        (core.GeneralizedTime(contents=b"20261123010203.004Z"), "2026-11-23T01:02:03+00:00"),
        (core.GeneralizedTime(contents=b"20261123010203+0800"), None),
        (core.GeneralizedTime(contents=b"20261123010203"), None),
        (core.GeneralizedTime(contents=b"20261323010203Z"), None),
        (core.GeneralizedTime(contents=b"00000101000000Z"), None),
        (core.UTCTime(contents=b""), None),
        (core.Integer(5), None),
    ],
)
def test_times(value: core.Asn1Value, expected: str | None) -> None:
    if expected:
        assert moment(value).isoformat() == expected
    else:
        with pytest.raises(ValueError, match=r"."):
            moment(value)


def test_verification_as_json() -> None:
    verification = Verification(
        tuple(check(sealed(SM2_SM3), SM2_SM3, content=b"other")), rows=7, facts={"suite": "sm2-sm3"}
    )
    assert not verification.ok
    assert [item.name for item in verification.failed] == ["signature.digest"]
    document = json.loads(json.dumps(verification.as_dict()))
    assert (document["ok"], document["rows"], document["facts"]) == (False, 7, {"suite": "sm2-sm3"})
    assert [entry["number"] for entry in document["checks"]] == list(range(1, len(CHECKS) + 1))
    assert document["checks"][0]["text"]["zh"] == "电子签章数据格式"
    assert not Verification(()).ok
