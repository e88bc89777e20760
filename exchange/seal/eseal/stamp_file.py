"""Verify an electronic seal that stands alone, a ``.esl`` file, offline and step by step.

In: the bytes of an SESeal of version 1, 4 or 5, the reader's trust, the time asked
about. Out: a ``Verification`` with the checks ``seal.*`` in the standard's order and, as facts,
what the seal says about itself, its picture included. Nothing is raised for bad input.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime

from exchange.errors import Integrity
from exchange.seal.checks import Verification
from exchange.seal.eseal.signature import check_seal
from exchange.seal.eseal.structures import Seal, read_seal
from exchange.seal.pki.trust import Trust
from exchange.seal.pki.x509 import read_certificate


def verify_seal(
    data: bytes,
    *,
    trust: Trust,
    at: datetime,
    chain: Sequence[bytes] = (),
) -> Verification:
    """Make all checks of a seal, and whether it may be used ``at`` that time (aware).

    ``chain`` has certificates between maker and root (DER). The facts:
    ``version``, ``id``, ``vendor``, ``name``, ``type``, ``created``, ``valid_from``,
    ``valid_until``, ``maker`` and ``certificates`` (subject, issuer, validity, SHA-256),
    ``digests``, ``extensions``, ``stamped``, ``picture`` (type, millimetres, Base64).
    """
    checks = check_seal(data, chain=chain, trust=trust, at=at)
    try:
        seal = read_seal(data)
    except Integrity:
        return Verification(tuple(checks))
    return Verification(tuple(checks), facts=_facts(seal))


def _facts(seal: Seal) -> Mapping[str, object]:
    info, picture = seal.info, seal.info.picture
    return {
        "version": seal.version,
        "id": info.es_id,
        "vendor": info.vendor,
        "name": info.name,
        "type": info.kind,
        "created": info.created.isoformat(),
        "valid_from": info.valid_from.isoformat(),
        "valid_until": info.valid_until.isoformat(),
        "maker": _certificate(seal.maker),
        "certificates": [_certificate(each) for each in info.certificates],
        "digests": [{"hash": kind, "value": value.hex()} for kind, value in seal.digests],
        "extensions": [each.id for each in seal.extensions],
        "stamped": seal.stamp is not None,
        "picture": {
            "type": picture.type,
            "width": picture.width,
            "height": picture.height,
            "data": base64.b64encode(picture.data).decode(),
        },
    }


def _certificate(data: bytes) -> Mapping[str, object]:
    """Describe a certificate; of one that cannot be read there is only the digest."""
    digest = hashlib.sha256(data).hexdigest()
    try:
        found = read_certificate(data)
    except Integrity:
        return {"sha256": digest}
    return {
        "subject": found.title,
        "issuer": found.issuer_title,
        "not_before": found.not_before.isoformat(),
        "not_after": found.not_after.isoformat(),
        "sha256": digest,
    }
