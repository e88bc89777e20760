"""Seals for tests and pilots (试点): an authority of one's own, units' seals, round pictures.

The authority lies in a folder beside the seals and issues certificates of departments and of
the seal maker. None of it is fit for production: there, certificates come from a licensed
authority, seals from a filed maker, and keys never leave a certified device.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from exchange.errors import Misconfigured, Rejected
from exchange.seal.crypto.der import to_pem
from exchange.seal.crypto.suites import Suite
from exchange.seal.eseal.drawing import MAX_NAME, draw_round
from exchange.seal.eseal.folder import CERTIFICATE, KEY, PASSWORD, read_certificates, write_folder
from exchange.seal.eseal.structures import WRITTEN_VERSION, Picture
from exchange.seal.eseal.test_authority import Authority, Entropy, issue, make_seal
from exchange.seal.pki.signers import KeyPlace, SoftwareSigner, open_signer
from exchange.secrets import read_secret
from exchange.text import Text

AUTHORITY: Final = "authority"
"""Name of the authority's folder beside the seals."""
SEAL_YEARS: Final = 5
_MILLIMETRES: Final = 40


def password_of(entropy: Entropy) -> str:
    """Make a password of 144 random bits."""
    return base64.b64encode(entropy(18)).decode()


def write_authority(folder: Path, authority: Authority, password: str) -> None:
    """Keep an authority for the next seals; the password is one of :func:`password_of`.

    Raises Misconfigured when there is one.
    """
    write_folder(
        folder,
        {CERTIFICATE: to_pem("CERTIFICATE", authority.certificate)},
        {
            KEY: to_pem(
                "ENCRYPTED PRIVATE KEY", authority.key.to_pkcs8(password.encode(), random=True)
            ),
            PASSWORD: f"{password}\n".encode(),
        },
    )


def open_authority(folder: Path, environ: Mapping[str, str]) -> Authority:
    """Open a kept authority; raises Misconfigured."""
    (certificate,) = read_certificates(folder / CERTIFICATE)
    password = read_secret(f"file:{PASSWORD}", folder, environ)
    place = KeyPlace(folder, environ)
    signer = open_signer(f"file:{KEY}", certificate, place=place, password=password)
    if not isinstance(signer, SoftwareSigner):  # pragma: no cover - file: opens no other
        raise TypeError(type(signer).__name__)
    return Authority(signer.suite, certificate, signer.key)


def make_unit_seal(
    root: Authority,
    name: str,
    es_id: str,
    *,
    now: datetime,
    entropy: Entropy,
    years: int = SEAL_YEARS,
    version: int = WRITTEN_VERSION,
    suite: Suite | None = None,
    picture: bytes | None = None,
    also: tuple[bytes, ...] = (),
    unit: str = "",
) -> tuple[Authority, bytes]:
    """Make a unit's key, certificate and seal; returns the signer and the SESeal.

    ``suite`` is the authority's unless given. ``also`` are certificates that the seal lists
    beside the new one: those of the keys before. ``picture`` is a PNG; without it a round
    picture with the name is drawn. ``unit`` is the unit's 统一社会信用代码, which its certificate
    names. Raises Rejected for a name that does not fit.
    """
    if not name or len(name) > MAX_NAME:
        raise Rejected(
            Text(f"印章名称应为 1–{MAX_NAME} 个字", f"a seal's name has 1-{MAX_NAME} characters"),
            hint=Text("用 --name 给出法定名称", "give the legal name with --name"),
        )
    if not 1 <= years <= SEAL_YEARS * 2:
        raise Misconfigured(
            Text(f"印章有效期不能是 {years} 年", f"a seal is not valid for {years} years"),
            hint=Text("1 到 10 年", "1 to 10 years"),
        )
    maker = issue(root, "制章机构（测试）", now=now, entropy=entropy, years=years, suite=suite)
    signer = issue(root, name, now=now, entropy=entropy, years=years, suite=suite, unit=unit)
    drawn = (
        Picture(picture, _MILLIMETRES, _MILLIMETRES)
        if picture is not None
        else Picture(draw_round(name), _MILLIMETRES, _MILLIMETRES, "SVG")
    )
    eseal = make_seal(
        maker,
        (signer.certificate, *also),
        name=name,
        es_id=es_id,
        created=now,
        valid_until=now + timedelta(days=365 * years - 1),
        picture=drawn,
        version=version,
    )
    return signer, eseal
