"""A seal's folder: key, certificate, seal, chain and root, as `exchange init` writes it.

========== ======================================================================
key.pem    private key, PKCS#8, encrypted when there is a password; mode 0600
cert.pem   certificate of that key (签章者证书)
seal.esl   electronic seal (电子印章), DER SESeal
chain.pem  certificates between them and the root; may be empty
root.pem   trust anchor (信任根) for those who verify; the sealing side does not use it
========== ======================================================================
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from exchange.errors import Misconfigured
from exchange.seal.der import from_pem, to_pem
from exchange.seal.keys import PrivateKey
from exchange.seal.ses import Sealer
from exchange.seal.signers import Place, open_signer
from exchange.settings import read_secret
from exchange.text import Text

KEY, CERTIFICATE, SEAL, CHAIN, ROOT = "key.pem", "cert.pem", "seal.esl", "chain.pem", "root.pem"
_MAX_BYTES: Final = 1024 * 1024


def write_seal_folder(
    folder: Path,
    *,
    key: PrivateKey,
    certificate: bytes,
    eseal: bytes,
    chain: Sequence[bytes],
    root: bytes,
    password: str | None,
) -> None:
    """Write a new folder; raises Misconfigured when it has a key already, or cannot be made."""
    pkcs8 = key.to_pkcs8(password.encode() if password else None)
    label = "ENCRYPTED PRIVATE KEY" if password else "PRIVATE KEY"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # The key is never readable by others, not even for a moment, and never overwritten.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(os.open(folder / KEY, flags, 0o600), "wb") as stream:
            stream.write(to_pem(label, pkcs8))
        (folder / CERTIFICATE).write_bytes(to_pem("CERTIFICATE", certificate))
        (folder / SEAL).write_bytes(eseal)
        (folder / CHAIN).write_bytes(b"".join(to_pem("CERTIFICATE", each) for each in chain))
        (folder / ROOT).write_bytes(to_pem("CERTIFICATE", root))
    except OSError as error:
        raise Misconfigured(
            Text(
                f"无法写入印章目录 {folder}：{error.strerror}",
                f"cannot write the seal folder {folder}: {error.strerror}",
            ),
            hint=Text(
                "已有的密钥不会被覆盖；请换一个目录，或检查权限",
                "a key is never overwritten; name another folder, or check its permissions",
            ),
        ) from error


def open_sealer(
    folder: Path,
    *,
    key: str = f"file:{KEY}",
    password: str | None = None,
    environ: Mapping[str, str],
) -> Sealer:
    """Open the seal in ``folder``; ``password`` is a reference (``env:NAME``, ``file:path``).

    Raises Misconfigured when a file is missing or key, certificate and seal do not belong
    together, Integrity when one of them is broken.
    """
    certificates = read_certificates(folder / CERTIFICATE)
    if len(certificates) != 1:
        raise _unreadable(folder / CERTIFICATE, "one certificate is wanted")
    return Sealer(
        signer=open_signer(
            key,
            certificates[0],
            place=Place(folder, environ),
            password=read_secret(password, folder, environ) if password else None,
        ),
        eseal=_read(folder / SEAL),
        chain=tuple(read_certificates(folder / CHAIN)),
    )


def read_certificates(path: Path) -> list[bytes]:
    """Read the certificates of a PEM file (or one in DER) as DER; raises Misconfigured."""
    data = _read(path)
    if not data.strip():
        return []
    try:
        return from_pem(data)
    except ValueError as error:
        raise _unreadable(path, "no PEM") from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise _unreadable(path, error.strerror or "cannot read") from error
    if len(data) > _MAX_BYTES:
        raise _unreadable(path, f"more than {_MAX_BYTES} bytes")
    return data


def _unreadable(path: Path, why: str) -> Misconfigured:
    return Misconfigured(
        Text(f"读不到 {path}：{why}", f"cannot read {path}: {why}"),
        hint=Text(
            "请检查印章目录，或用 exchange init 新建带测试印章的节点",
            "check the seal's folder, or make a node with test seals: `exchange init`",
        ),
    )
