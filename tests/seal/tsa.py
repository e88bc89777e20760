"""A time-stamping authority for tests: tokens of both suites, and an HTTP server on loopback."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import Request, urlopen

from asn1crypto import core, tsp, x509

from exchange.seal.crypto.der import sequence
from exchange.seal.crypto.suites import Suite
from exchange.seal.eseal.test_authority import STAMPING, Authority, issue
from exchange.seal.pki.timestamp import HASHES
from tests.seal.parties import NOW, entropy, parties

MAX_REQUEST = 64 * 1024
CONTENT_TYPES = ("application/timestamp-query", "application/timestamp-reply")


@cache
def tsa(suite: Suite) -> Authority:
    """Return the TSA under the root of ``parties``."""
    return issue(
        parties(suite).root,
        "测试时间戳机构",
        now=NOW,
        entropy=entropy("tsa"),
        usage=frozenset({"digital_signature"}),
        purposes=STAMPING,
    )


@dataclass(frozen=True)
class Stamper:
    """Makes tokens; every field is one thing that a test may want to be wrong."""

    authority: Authority
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    named: bytes = b""
    """The certificate that the signed attributes name, when not the authority's."""
    certificates: tuple[bytes, ...] | None = None
    content_type: str = "1.2.840.113549.1.9.16.1.4"
    digest_of: Callable[[bytes], bytes] = lambda content: content
    """What of the content the message digest is taken of."""
    nonce: Callable[[int | None], int | None] = lambda nonce: nonce
    key_oid: bool = False
    """Put the key's OID beside the signature instead of the signature algorithm's."""
    outer_type: str = "1.2.840.113549.1.7.2"

    def token(self, imprint: tsp.MessageImprint, nonce: int | None = None) -> bytes:
        """Stamp an imprint: TimeStampToken, DER."""
        suite = self.authority.suite
        fields = {
            "version": "v1",
            "policy": "1.2.3.4.1",
            "message_imprint": imprint,
            "serial_number": 1,
            "gen_time": core.GeneralizedTime(self.clock().replace(microsecond=0)),
            "nonce": self.nonce(nonce),
        }
        content = tsp.TSTInfo({k: v for k, v in fields.items() if v is not None}).dump()
        named = self.named or self.authority.certificate
        digest = sequence(core.ObjectIdentifier(suite.hash_oid).dump())
        essential = sequence(
            sequence(sequence(digest, core.OctetString(suite.digest(named)).dump()))
        )
        attributes = [
            ("1.2.840.113549.1.9.3", core.ObjectIdentifier(self.content_type).dump()),
            (
                "1.2.840.113549.1.9.4",
                core.OctetString(suite.digest(self.digest_of(content))).dump(),
            ),
            ("1.2.840.113549.1.9.16.2.47", essential),
        ]
        encoded = sorted(
            sequence(core.ObjectIdentifier(name).dump(), _tagged(0x31, value))
            for name, value in attributes
        )
        signed = _tagged(0x31, *encoded)
        value = self.authority.key.sign(signed)
        certificate = x509.Certificate.load(self.authority.certificate)
        oid = suite.signature_oid
        if self.key_oid:
            oid = certificate.public_key["algorithm"]["algorithm"].dotted
        signer = sequence(
            core.Integer(1).dump(),
            sequence(certificate.issuer.dump(), core.Integer(certificate.serial_number).dump()),
            digest,
            b"\xa0" + signed[1:],
            sequence(core.ObjectIdentifier(oid).dump()),
            core.OctetString(value).dump(),
        )
        carried = self.certificates
        if carried is None:
            carried = (self.authority.certificate,)
        data = sequence(
            core.Integer(3).dump(),
            _tagged(0x31, digest),
            sequence(
                core.ObjectIdentifier("1.2.840.113549.1.9.16.1.4").dump(),
                _tagged(0xA0, core.OctetString(content).dump()),
            ),
            *([_tagged(0xA0, *carried)] if carried else []),
            _tagged(0x31, signer),
        )
        return sequence(core.ObjectIdentifier(self.outer_type).dump(), _tagged(0xA0, data))

    def stamp(self, value: bytes) -> bytes:
        """Stamp a signature value directly."""
        suite = self.authority.suite
        return self.token(
            tsp.MessageImprint(
                {
                    "hash_algorithm": {"algorithm": suite.hash_oid},
                    "hashed_message": suite.digest(value),
                }
            )
        )

    def answer(self, request: bytes) -> bytes:
        """Answer TimeStampReq with TimeStampResp."""
        asked = tsp.TimeStampReq.load(request, strict=True)
        imprint = asked["message_imprint"]
        known = HASHES.get(imprint["hash_algorithm"]["algorithm"].dotted)
        if known is None:
            return refusal("rejection", "bad_alg")
        if len(imprint["hashed_message"].native) != hashlib.new(known).digest_size:
            return refusal("rejection", "bad_data_format")
        token = self.token(imprint, asked["nonce"].native)
        return sequence(tsp.PKIStatusInfo({"status": "granted"}).dump(), token)


def refusal(status: str, failure: str, said: str = "") -> bytes:
    """Make a TimeStampResp without a token."""
    info = {"status": status, "fail_info": {failure}}
    return sequence(
        tsp.PKIStatusInfo({**info, **({"status_string": [said]} if said else {})}).dump()
    )


def _tagged(tag: int, *parts: bytes) -> bytes:
    return bytes([tag]) + sequence(*parts)[1:]


@dataclass
class Tsa:
    """A running server; ``answer`` may be replaced while it runs."""

    answer: Callable[[bytes], bytes]
    url: str = ""
    asked: list[bytes] = field(default_factory=list)

    def post(self, request: bytes) -> bytes:
        """Ask it as a client would."""
        query, _ = CONTENT_TYPES
        asking = Request(self.url, request, {"Content-Type": query})  # noqa: S310 - loopback
        with urlopen(asking, timeout=10) as response:  # noqa: S310 - loopback
            body: bytes = response.read(MAX_REQUEST)
        return body


@contextmanager
def serving(stamper: Stamper) -> Iterator[Tsa]:
    """Run a TSA on a free port of the loopback interface, and stop it."""
    running = Tsa(stamper.answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query, reply = CONTENT_TYPES
            size = int(self.headers["Content-Length"])
            if self.headers["Content-Type"] != query or size > MAX_REQUEST:
                self.send_error(400)
                return
            request = self.rfile.read(size)
            running.asked.append(request)
            body = running.answer(request)
            self.send_response(200)
            self.send_header("Content-Type", reply)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - its name there
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        running.url = f"http://127.0.0.1:{server.server_port}/"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield running
        finally:
            server.shutdown()
            thread.join()
