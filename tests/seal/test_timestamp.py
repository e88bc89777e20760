"""Time stamps: ours and OpenSSL's, every way to be wrong, and how long to go without."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from asn1crypto import core
from hypothesis import given
from hypothesis import strategies as st

from exchange.errors import ExchangeError, Integrity, Misconfigured, Transient
from exchange.seal.checks import Check
from exchange.seal.crypto.der import from_pem, integer, oid, sequence, to_pem
from exchange.seal.crypto.suites import ECDSA_P256_SHA256, SM2_SM3, SUITES, Suite
from exchange.seal.eseal.signature import Sealer, check_signature
from exchange.seal.eseal.structures import read_seal, read_signature, write_signed
from exchange.seal.eseal.test_authority import (
    SIGNING,
    STAMPING,
    Authority,
    Revoked,
    issue,
    make_authority,
    make_crl,
    make_seal,
)
from exchange.seal.pki.timestamp import (
    Decision,
    TsaPatience,
    check_stamp,
    decide,
    read_token,
    stamp,
    write_request,
)
from exchange.seal.pki.trust import Trust, TrustChecker
from tests.seal.parties import CONTENT, NAME, NOW, URN, entropy, failed, flip, openssl, parties
from tests.seal.tsa import Stamper, refusal, serving, tsa
from tests.support.soak import BITS_OF_A_STAMP, bits, sample

each_suite = pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
DAY = timedelta(days=1)
LATER = NOW + timedelta(seconds=7)


def stamper(suite: Suite, at: datetime = LATER, **fields: Any) -> Stamper:
    return replace(Stamper(tsa(suite), clock=lambda: at), **fields)


def stamped(suite: Suite, by: Stamper, *, sealer: Sealer | None = None) -> bytes:
    sealer = sealer or parties(suite).sealer
    return sealer.seal(CONTENT, property_info=URN, at=NOW, stamp=by.stamp)


def check(ses: bytes, suite: Suite, *, now: datetime | None = None, **trust: Any) -> list[Check]:
    us = parties(suite)
    own = Trust(**{"anchors": [us.root.certificate], **trust})
    chain = [us.ca.certificate]
    return check_signature(
        ses, CONTENT, suite=suite, property_info=URN, chain=chain, trust=own, now=now
    )


def names(checks: Sequence[Check]) -> list[str]:
    return [item.name for item in checks if item.name.startswith("signature.stamp")]


STEPS = ["", "_imprint", "_attributes", "_signature", "_chain", "_usage", "_validity"]
STEPS += ["_revocation", "_certificates", "_time"]


# What holds


@each_suite
def test_a_stamp_is_the_time_of_signing(suite: Suite) -> None:
    checks = check(stamped(suite, stamper(suite)), suite)
    assert not failed(checks)
    assert names(checks) == [f"signature.stamp{step}" for step in STEPS]
    times = {item.name: item.found for item in checks}
    assert times["signature.time"] == LATER.replace(microsecond=0).isoformat()
    assert times["signer.validity"] == times["signature.time"]


@each_suite
def test_the_key_may_be_named_beside_the_signature(suite: Suite) -> None:
    """As authorities write it: id-ecPublicKey, or the OID of SM2 itself."""
    assert not failed(check(stamped(suite, stamper(suite, key_oid=True)), suite))


def test_the_structure_of_gbt_35275_is_read() -> None:
    by = stamper(SM2_SM3, outer_type="1.2.156.10197.6.1.4.2.2")
    assert not failed(check(stamped(SM2_SM3, by), SM2_SM3))


@each_suite
def test_a_seal_of_version_5_is_stamped(suite: Suite) -> None:
    us = parties(suite)

    def made(at: datetime) -> bytes:
        eseal = make_seal(
            us.maker,
            (us.signer.certificate,),
            name=NAME,
            es_id="1",
            created=NOW,
            valid_until=NOW + 30 * DAY,
            version=5,
            stamp=stamper(suite, at).stamp,
        )
        return stamped(suite, stamper(suite), sealer=Sealer(us.signer.signer, eseal))

    checks = check(made(NOW), suite)
    assert not failed(checks)
    assert [item.name for item in checks if item.name.startswith("seal.stamp")] == [
        f"seal.stamp{step}" for step in STEPS
    ]
    assert failed(check(made(NOW - timedelta(seconds=2)), suite)) == ["seal.stamp_time"]


@each_suite
def test_a_stamp_without_a_tag_is_read(suite: Suite) -> None:
    signature = read_signature(stamped(suite, stamper(suite)))
    assert signature.stamp is not None
    bare = write_signed(
        signature.signed, signature.certificate, signature.algorithm, signature.value
    )
    untagged = sequence(core.load(bare).contents + core.OctetBitString(signature.stamp).dump())
    assert not failed(check(untagged, suite))


@each_suite
def test_authorities_of_time_may_have_roots_of_their_own(suite: Suite) -> None:
    root = make_authority("时间根", suite, now=NOW, entropy=entropy("time root"))
    other = issue(
        root, "国家授时", now=NOW, entropy=entropy("time"), usage=SIGNING, purposes=STAMPING
    )
    result = stamped(suite, stamper(suite, authority=other))
    assert failed(check(result, suite)) == ["signature.stamp_chain"]
    assert not failed(check(result, suite, tsa_anchors=[root.certificate]))
    assert failed(check(result, suite, tsa_anchors=[parties(suite).root.certificate])) == [
        "signature.stamp_chain"
    ]
    assert failed(check(result, suite, tsa_anchors=[root.certificate, b"junk"])) == ["tsa_anchors"]
    # A root for time vouches for no signer.
    plain = parties(suite).sealer.seal(CONTENT, property_info=URN, at=NOW)
    chains = failed(check(plain, suite, anchors=[], tsa_anchors=[parties(suite).root.certificate]))
    assert chains == ["signer.chain", "seal.maker_chain"]


# What is wrong, and which check says so


def with_purposes(suite: Suite, *purposes: str) -> Authority:
    seed = entropy(f"purposes {purposes}")
    return issue(parties(suite).root, "TSA", now=NOW, entropy=seed, purposes=frozenset(purposes))


def wrong_stampers(suite: Suite) -> dict[str, tuple[Stamper, list[str]]]:
    us, good = parties(suite), stamper(suite)
    stranger = make_authority("路人", suite, now=NOW, entropy=entropy("by-passer"))
    alien = issue(stranger, "TSA", now=NOW, entropy=entropy("alien"), purposes=STAMPING)
    own = tsa(suite).certificate
    late = NOW + 6 * 365 * DAY
    return {
        "another certificate is named": (
            replace(good, named=us.signer.certificate),
            ["_attributes"],
        ),
        "digest of another content": (replace(good, digest_of=lambda _: b""), ["_attributes"]),
        "another type of content": (replace(good, content_type="1.2.3"), ["_attributes"]),
        "no purpose": (replace(good, authority=with_purposes(suite)), ["_usage"]),
        "another purpose": (
            replace(good, authority=with_purposes(suite, "code_signing")),
            ["_usage"],
        ),
        "one purpose too many": (
            replace(good, authority=with_purposes(suite, "code_signing", "time_stamping")),
            ["_usage"],
        ),
        "unknown authority": (replace(good, authority=alien), ["_chain"]),
        "expired authority": (stamper(suite, late), ["_validity"]),
        "certificate missing": (replace(good, certificates=()), ["_attributes", "_signature"]),
        "useless certificate": (
            replace(good, certificates=(own, stranger.certificate)),
            ["_certificates"],
        ),
        "certificate twice": (replace(good, certificates=(own, own)), ["_certificates"]),
        "older than the signature": (stamper(suite, NOW - timedelta(minutes=6)), ["_time"]),
        "within the clocks' skew": (stamper(suite, NOW - timedelta(minutes=4)), []),
    }


@pytest.mark.parametrize("wrong", wrong_stampers(ECDSA_P256_SHA256))
@each_suite
def test_a_wrong_stamp_fails_its_check(suite: Suite, wrong: str) -> None:
    by, steps = wrong_stampers(suite)[wrong]
    # A seal that was in use before, so that only the stamp's own time matters.
    us = parties(suite)
    eseal = make_seal(
        us.maker,
        (us.signer.certificate,),
        name=NAME,
        es_id="1",
        created=NOW - timedelta(hours=1),
        valid_until=NOW + 30 * DAY,
    )
    checks = check(stamped(suite, by, sealer=Sealer(us.signer.signer, eseal)), suite)
    assert failed(checks) == [f"signature.stamp{step}" for step in steps]


@each_suite
def test_a_stamp_of_another_signature(suite: Suite) -> None:
    by = stamper(suite)
    result, other = (read_signature(stamped(suite, by)) for _ in range(2))
    moved = write_signed(
        result.signed, result.certificate, result.algorithm, result.value, other.stamp
    )
    assert failed(check(moved, suite)) == ["signature.stamp_imprint"]


@each_suite
def test_the_time_of_the_stamp_judges_the_signer(suite: Suite) -> None:
    us = parties(suite)
    short = issue(us.ca, "短期", now=NOW - 364 * DAY, entropy=entropy("short"), years=1)
    eseal = make_seal(
        us.maker,
        (short.certificate,),
        name=NAME,
        es_id="1",
        created=NOW,
        valid_until=NOW + 30 * DAY,
    )
    sealer = Sealer(short.signer, eseal)
    for days, bad in (
        (0.5, []),
        (2, ["signer.validity"]),
        (31, ["signer.validity", "signature.time"]),
    ):
        result = stamped(suite, stamper(suite, NOW + days * DAY), sealer=sealer)
        assert failed(check(result, suite)) == bad


@each_suite
def test_a_stamp_settles_when_a_lost_key_had_signed(suite: Suite) -> None:
    us = parties(suite)
    revoked = Revoked(us.signer.certificate, NOW + DAY, "key_compromise")
    period: dict[str, Any] = {"this_update": NOW + 3 * DAY, "next_update": NOW + 9 * DAY}
    crls = [make_crl(us.ca, [revoked], **period), make_crl(us.root, (), **period)]

    def told(ses: bytes) -> tuple[list[str], list[str]]:
        checks = check(ses, suite, crls=crls, require_revocation=True)
        return failed(checks), [item.name for item in checks if item.note]

    assert told(stamped(suite, stamper(suite))) == ([], [])
    # Back-dated by a thief: only the signer's word stands for the time.
    plain = us.sealer.seal(CONTENT, property_info=URN, at=NOW)
    assert told(plain) == ([], ["signer.revocation"])
    # The stamp tells when the thief really signed.
    assert told(stamped(suite, stamper(suite, NOW + 2 * DAY))) == (["signer.revocation"], [])


@each_suite
def test_a_revoked_authority_of_time(suite: Suite) -> None:
    us = parties(suite)
    period: dict[str, Any] = {"this_update": NOW - DAY, "next_update": NOW + DAY}
    revoked = Revoked(tsa(suite).certificate, NOW - DAY)
    crls = [make_crl(us.ca, (), **period), make_crl(us.root, [revoked], **period)]
    result = stamped(suite, stamper(suite))
    assert failed(check(result, suite, crls=crls)) == ["signature.stamp_revocation"]
    assert "signature.stamp_revocation" in failed(check(result, suite, require_revocation=True))


def test_the_readers_clock_refuses_the_future() -> None:
    result = stamped(SM2_SM3, stamper(SM2_SM3))
    for minutes, bad in ((0, []), (-4, []), (-6, ["signature.clock"])):
        checks = check(result, SM2_SM3, now=NOW + timedelta(minutes=minutes))
        assert failed(checks) == bad


@pytest.mark.soak
def test_every_byte_of_a_stamp_counts(tell: Callable[[str], None]) -> None:
    suite = ECDSA_P256_SHA256
    result = stamped(suite, stamper(suite))
    token = read_signature(result).stamp
    assert token is not None
    start = result.index(token)
    places = list(bits(sample(range(start, start + len(token))), BITS_OF_A_STAMP))
    for place in places:
        at, bit = divmod(place, 8)
        assert failed(check(flip(result, at, bit), suite)), f"bit {bit} of byte {at} unnoticed"
    tell(f"{len(places)} bits of a time stamp flipped: all noticed")


# Asking for stamps


def ask(suite: Suite, post: Callable[[bytes], bytes], value: bytes = b"value") -> bytes:
    trust = Trust([parties(suite).root.certificate])
    return stamp(value, suite=suite, post=post, nonce=2**63 + 1, trust=trust)


@each_suite
def test_a_stamp_is_got_over_http(suite: Suite) -> None:
    us = parties(suite)
    with serving(stamper(suite)) as server:
        signature = us.sealer.seal(
            CONTENT,
            property_info=URN,
            at=NOW,
            stamp=lambda value: ask(suite, server.post, value),
        )
        assert len(server.asked) == 1
        assert not failed(check(signature, suite))
        server.answer = lambda _: refusal("rejection", "unaccepted_policy", "换个策略")
        with pytest.raises(Misconfigured, match="unaccepted_policy"):
            ask(suite, server.post)


def test_what_goes_wrong_is_told_apart() -> None:
    suite = SM2_SM3
    good = stamper(suite)
    other = write_request(b"another value", suite, 2**63 + 1)
    stranger = make_authority("路人", suite, now=NOW, entropy=entropy("by-passer"))
    alien = issue(stranger, "TSA", now=NOW, entropy=entropy("alien"), purposes=STAMPING)
    cases: list[tuple[Callable[[bytes], bytes], type[ExchangeError], str]] = [
        (lambda _: refusal("rejection", "system_failure"), Transient, "system_failure"),
        (lambda _: refusal("rejection", "time_not_available"), Transient, "time_not"),
        (lambda _: refusal("waiting", "add_info_not_available"), Transient, "waiting"),
        (lambda _: refusal("rejection", "bad_alg"), Misconfigured, "bad_alg"),
        (lambda _: b"<html>", Integrity, "malformed"),
        (lambda _: b"", Integrity, "malformed"),
        (lambda _: good.answer(other), Integrity, "stamp_imprint"),
        (replace(good, nonce=lambda _: 5).answer, Integrity, "nonce"),
        (replace(good, nonce=lambda _: None).answer, Integrity, "nonce"),
        (replace(good, authority=alien).answer, Integrity, "stamp_chain"),
        (replace(good, authority=with_purposes(suite)).answer, Integrity, "stamp_usage"),
    ]
    for post, kind, item in cases:
        with pytest.raises(kind, match=item):
            ask(suite, post)
    assert read_token(ask(suite, good.answer)).nonce == 2**63 + 1


def test_a_broken_anchor_is_said() -> None:
    trust = Trust([parties(SM2_SM3).root.certificate, b"junk"])
    with pytest.raises(Integrity, match="anchors"):
        stamp(b"v", suite=SM2_SM3, post=stamper(SM2_SM3).answer, nonce=1, trust=trust)


# OpenSSL

CONFIG = """[tsa]
default_tsa = own
[own]
serial = {folder}/serial
signer_cert = {folder}/tsa.pem
signer_key = {folder}/tsa.key
signer_digest = {digest}
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512, sm3
accuracy = secs:1
ordering = yes
tsa_name = yes
ess_cert_id_chain = no
ess_cert_id_alg = {ess}
[ext]
keyUsage = critical,digitalSignature
extendedKeyUsage = critical,timeStamping
subjectKeyIdentifier = hash
[ca]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
"""


@dataclass(frozen=True)
class OpensslAuthority:
    folder: Path
    root: bytes

    def answer(self, request: bytes) -> bytes:
        (self.folder / "request").write_bytes(request)
        openssl(
            "ts", "-reply", "-config", self.folder / "tsa.cnf",
            "-queryfile", self.folder / "request", "-out", self.folder / "answer",
        )  # fmt: skip
        return (self.folder / "answer").read_bytes()


@pytest.fixture(
    scope="module",
    params=[
        ("rsa:2048", "sha256", "sha256"),
        ("rsa:3072", "sha512", "sha1"),
        ("ec:P-256", "sha256", "sha256"),
        ("ec:P-384", "sha384", "sha384"),
    ],
    ids="-".join,
)
def authority(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> OpensslAuthority:
    """An authority as they are in the field: RSA or ECDSA."""
    kind, digest, ess = request.param
    folder = tmp_path_factory.mktemp("tsa")
    (folder / "serial").write_text("01")
    config = folder / "tsa.cnf"
    config.write_text(CONFIG.format(folder=folder, digest=digest, ess=ess))
    algorithm, _, size = kind.partition(":")
    new = ["-newkey", kind] if algorithm == "rsa" else []
    if not new:
        new = ["-newkey", "ec", "-pkeyopt", f"ec_paramgen_curve:{size}"]
    ca, key = folder / "ca.pem", folder / "tsa.key"
    openssl(
        "req", "-x509", "-nodes", *new, f"-{digest}", "-subj", "/CN=root", "-days", "30",
        "-config", config, "-extensions", "ca", "-keyout", folder / "ca.key", "-out", ca,
    )  # fmt: skip
    openssl(
        "req", "-x509", "-nodes", *new, f"-{digest}", "-subj", "/CN=tsa", "-days", "30",
        "-config", config, "-extensions", "ext", "-CA", ca, "-CAkey", folder / "ca.key",
        "-keyout", key, "-out", folder / "tsa.pem",
    )  # fmt: skip
    (root,) = from_pem(ca.read_bytes())
    return OpensslAuthority(folder, root)


@each_suite
def test_stamps_of_openssl_verify(suite: Suite, authority: OpensslAuthority) -> None:
    """Over the imprint of our suite."""
    value = parties(suite).signer.key.sign(b"content")
    answer = authority.answer(write_request(value, suite, 77))
    trust = Trust([], tsa_anchors=[authority.root])
    token = stamp(value, suite=suite, post=lambda _: answer, nonce=77, trust=trust)
    _, at = check_stamp("s", token, stamped=value, checker=TrustChecker(trust, ()), claimed=None)
    assert at == read_token(token).time
    assert at is not None
    # Nothing of OpenSSL's token is free either.
    for place in range(0, len(token), 3):
        bad = flip(token, place, place % 8)
        _, at = check_stamp("s", bad, stamped=value, checker=TrustChecker(trust, ()), claimed=None)
        assert at is None, f"byte {place}"


def test_openssl_verifies_our_stamp(tmp_path: Path) -> None:
    suite = ECDSA_P256_SHA256
    us = parties(suite)
    at = datetime.now(UTC)
    root = make_authority("root", suite, now=at, entropy=entropy("r"))
    own = issue(root, "tsa", now=at, entropy=entropy("t"), usage=SIGNING, purposes=STAMPING)
    value = us.signer.key.sign(b"content")
    (tmp_path / "value").write_bytes(value)
    (tmp_path / "token").write_bytes(Stamper(own).stamp(value))
    (tmp_path / "root.pem").write_bytes(to_pem("CERTIFICATE", root.certificate))
    result = openssl(
        "ts", "-verify", "-data", tmp_path / "value", "-in", tmp_path / "token", "-token_in",
        "-CAfile", tmp_path / "root.pem",
    )  # fmt: skip
    assert "Verification: OK" in result


@pytest.mark.parametrize(
    "other", ["0604 2a0304c1", "0604 2a800304", "0600", "0602 8003"], ids=["cut", "long", "no", "0"]
)
def test_an_identifier_has_one_form(other: str) -> None:
    assert oid(bytes.fromhex("06032a0304")) == "1.2.3.4"
    with pytest.raises(ValueError, match=r"."):
        oid(bytes.fromhex(other))


def test_a_number_has_one_form() -> None:
    assert integer(bytes.fromhex("020180")) == -128
    for other in ("02020003", "0202ff80", "0200"):
        with pytest.raises(ValueError, match=r"."):
            integer(bytes.fromhex(other))


# Going without


ALLOWED = timedelta(hours=4)
MINUTE = timedelta(minutes=1)


def test_patience_runs_out_and_a_restart_does_not_reset_it() -> None:
    state, decision = decide(TsaPatience(), NOW, ALLOWED)
    assert (state.since, decision) == (NOW, Decision.PROCEED)
    for minutes, expected in (
        (60, Decision.PROCEED),
        (239, Decision.PROCEED),
        (240, Decision.HOLD),
    ):
        state = TsaPatience.from_json(state.to_json())  # the process dies and starts again
        state, decision = decide(state, NOW + minutes * MINUTE, ALLOWED)
        assert decision is expected
    assert state.since == NOW
    # Only an answer helps.
    assert decide(TsaPatience(), NOW + 240 * MINUTE, ALLOWED)[1] is Decision.PROCEED


def test_no_patience_at_all_holds_at_once() -> None:
    assert decide(TsaPatience(), NOW, timedelta())[1] is Decision.HOLD


def test_a_clock_set_back_gives_nothing() -> None:
    state, _ = decide(TsaPatience(), NOW, ALLOWED)
    state, decision = decide(state, NOW + 239 * MINUTE, ALLOWED)
    assert decision is Decision.PROCEED
    state, decision = decide(state, NOW - 30 * DAY, ALLOWED)
    assert (decision, state.spent) == (Decision.PROCEED, 239 * MINUTE)
    state, decision = decide(state, NOW - 30 * DAY + MINUTE, ALLOWED)
    assert decision is Decision.HOLD
    assert decide(state, NOW - 60 * DAY, ALLOWED)[1] is Decision.HOLD


@given(st.lists(st.integers(-(10**7), 10**7), min_size=1, max_size=30), st.integers(0, 10**6))
def test_patience_never_comes_back(steps: list[int], allowed: int) -> None:
    """Whatever the clock does: once held it stays held, and no more than allowed goes by."""
    state, clock, forward = TsaPatience(), NOW, 0
    held = False
    for n, step in enumerate(steps):
        clock += timedelta(seconds=step)
        forward += max(step, 0) if n else 0
        before = state
        state, decision = decide(state, clock, timedelta(seconds=allowed))
        assert TsaPatience.from_json(state.to_json()) == state
        assert state.spent >= before.spent
        assert state.spent == timedelta(seconds=forward)
        assert (decision is Decision.HOLD) == (forward >= allowed)
        assert not held or decision is Decision.HOLD
        held = decision is Decision.HOLD


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=30), st.data())
def test_a_state_that_was_not_kept_costs_nothing(steps: list[int], data: st.DataObject) -> None:
    """A kill between two failures loses the later state: the next one counts from the earlier."""
    state, clock = decide(TsaPatience(), NOW, ALLOWED)[0], NOW
    for step in steps:
        clock += timedelta(seconds=step)
        after, _ = decide(state, clock, ALLOWED)
        if data.draw(st.booleans()):
            state = after
    assert decide(state, clock, ALLOWED)[0].spent == clock - NOW


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{}",
        '{"since":null,"seen":null,"spent":5}',
        '{"since":null,"seen":"2026-11-23T01:02:03+00:00","spent":0}',
        '{"since":"2026-11-23T01:02:03","seen":"2026-11-23T01:02:03","spent":0}',
        '{"since":"2026-11-23T01:02:03+00:00","seen":"2026-11-23T01:02:03+00:00","spent":-1}',
        '{"since":"x","seen":"x","spent":0}',
        '{"since":null,"seen":null,"spent":0,"more":1}',
        '{"since":null,"seen":null,"spent":1e400}',
    ],
)
def test_a_spoiled_state_is_not_a_fresh_one(text: str) -> None:
    with pytest.raises(Integrity):
        TsaPatience.from_json(text)


def test_seals_of_others_keep_their_stamp_as_received() -> None:
    us = parties(SM2_SM3)
    eseal = make_seal(
        us.maker,
        (us.signer.certificate,),
        name=NAME,
        es_id="1",
        created=NOW,
        valid_until=NOW + DAY,
        version=5,
        stamp=stamper(SM2_SM3).stamp,
    )
    seal = read_seal(eseal)
    assert seal.stamp is not None
    assert read_token(seal.stamp).time == LATER.replace(microsecond=0)
