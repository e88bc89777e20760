"""A seal's folder: key, certificate, seal, chain and root, and the keys that follow.

============ ====================================================================
key.pem      private key, PKCS#8, encrypted when there is a password; mode 0600
cert.pem     certificate of that key (签章者证书)
seal.esl     electronic seal (电子印章), DER SESeal
chain.pem    certificates between them and the root; may be empty
root.pem     trust anchor (信任根) for those who verify; the sealing side does not use it
password.txt password of the key, mode 0600: pilots only
keys.json    the keys that took over (换钥), each a folder like this one and a moment
============ ====================================================================
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from exchange.durable import PART, make_folder, read_file, replacing, sync_folder, write_file
from exchange.errors import Misconfigured
from exchange.foreign import os_reason
from exchange.seal.crypto.der import from_pem, reading, to_pem
from exchange.seal.crypto.keys import PrivateKey
from exchange.seal.eseal.signature import Sealer
from exchange.seal.pki.signers import KeyPlace, open_signer
from exchange.secrets import read_secret
from exchange.text import Text

KEY, CERTIFICATE, SEAL, CHAIN, ROOT = "key.pem", "cert.pem", "seal.esl", "chain.pem", "root.pem"
PASSWORD, KEYS = "password.txt", "keys.json"
_MAX_BYTES: Final = 1024 * 1024
_MAX_KEYS: Final = 1000


def write_seal_folder(
    folder: Path,
    *,
    key: PrivateKey,
    certificate: bytes,
    eseal: bytes,
    chain: Sequence[bytes],
    root: bytes,
    password: str | None,
    keep_password: bool = False,
) -> None:
    """Write a folder that is new or empty, whole or not at all.

    ``keep_password``: a random one, into the folder too, for the reference
    ``file:password.txt``. Raises Misconfigured when there is something already, or the folder
    cannot be made.
    """
    pkcs8 = key.to_pkcs8(password.encode() if password else None, random=keep_password)
    label = "ENCRYPTED PRIVATE KEY" if password else "PRIVATE KEY"
    files = {
        CERTIFICATE: to_pem("CERTIFICATE", certificate),
        SEAL: eseal,
        CHAIN: b"".join(to_pem("CERTIFICATE", each) for each in chain),
        ROOT: to_pem("CERTIFICATE", root),
    }
    secrets = {KEY: to_pem(label, pkcs8)}
    if password and keep_password:
        secrets[PASSWORD] = f"{password}\n".encode()
    write_folder(folder, files, secrets)


def write_folder(folder: Path, files: Mapping[str, bytes], secrets: Mapping[str, bytes]) -> None:
    """Write a new or empty folder at once: after a kill it is there whole, or not at all.

    ``secrets`` are never readable by others. Raises Misconfigured.
    """
    part = folder.with_name(f".{folder.name}{PART}")
    try:
        _check_free(folder)
        make_folder(folder.parent)
        shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
        part.mkdir()
        for names, mode in ((files, 0o644), (secrets, 0o600)):
            for name, data in names.items():
                with replacing(part / name, mode=mode) as stream:
                    stream.write(data)
        sync_folder(part)
        part.replace(folder)
        sync_folder(folder.parent)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise _unwritable(folder, error) from error


def check_free(folder: Path) -> None:
    """Refuse a folder that has something in it already; raises Misconfigured."""
    try:
        _check_free(folder)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _check_free(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


def _unwritable(folder: Path, error: OSError) -> Misconfigured:
    return Misconfigured(
        Text(
            f"无法写入印章目录 {folder}：{os_reason(error).zh}",
            f"cannot write the seal folder {folder}: {os_reason(error).en}",
        ),
        hint=Text(
            "已有的密钥不会被覆盖；请换一个目录，或检查权限",
            "a key is never overwritten; name another folder, or check its permissions",
        ),
    )


# --- the keys that follow -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Key:
    """Which key seals from a moment on; ``folder`` as seen from the seal's own.

    ``address`` and ``password`` are seen from ``folder``; empty: as the settings say.
    """

    folder: str = ""
    since: datetime | None = None
    address: str = ""
    password: str = ""


def read_keys(folder: Path) -> list[Key]:
    """Read the keys of a seal, oldest first; raises Integrity when the list is broken."""
    if not (folder / KEYS).exists():
        return [Key()]
    data = _read(folder / KEYS)
    with reading(Text(f"{folder / KEYS} ", f"list {folder / KEYS}")):
        found = [
            Key(one["folder"], datetime.fromisoformat(one["since"]), one["key"], one["password"])
            for one in json.loads(data)
        ]
        moments = [key.since for key in found if key.since is not None]
        if any(at.tzinfo is None for at in moments) or moments != sorted(moments):
            msg = "moments without zone, or out of order"
            raise ValueError(msg)
        return [Key(), *found]


def key_at(keys: Sequence[Key], at: datetime) -> Key:
    """Return the key that seals at a moment."""
    return [key for key in keys if key.since is None or key.since <= at][-1]


def check_last(keys: Sequence[Key], at: datetime) -> None:
    """Refuse another key while the last one has not taken over ``at`` that time."""
    last = keys[-1].since
    if (last is not None and last >= at) or len(keys) > _MAX_KEYS:
        raise Misconfigured(
            Text(
                f"已登记的密钥要到 {last} 才启用",
                f"a key is noted already that takes over at {last}",
            ),
            hint=Text("请等它启用之后再换", "wait until it has, then change it again"),
        )


def add_key(folder: Path, key: Key) -> None:
    """Let another key take over from its moment on; the list is replaced at once.

    Raises Misconfigured as :func:`check_last` does, or when the list cannot be written.
    """
    keys = read_keys(folder)
    if key.since is None:
        msg = "a key that takes over has its moment"
        raise ValueError(msg)
    check_last(keys, key.since)
    listed = [
        {
            "folder": each.folder,
            "since": each.since.isoformat() if each.since else None,
            "key": each.address,
            "password": each.password,
        }
        for each in [*keys[1:], key]
    ]
    try:
        write_file(folder / KEYS, json.dumps(listed, indent=1).encode() + b"\n")
    except OSError as error:
        raise Misconfigured(
            Text(
                f"无法写入 {folder / KEYS}：{os_reason(error).zh}", f"cannot write {folder / KEYS}"
            ),
            hint=Text("请检查目录权限和磁盘", "check the folder's rights and the disk"),
        ) from error


# --- opening ------------------------------------------------------------------------------------


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
        raise _unreadable(
            folder / CERTIFICATE, Text("应恰好有一个证书", "one certificate is wanted")
        )
    return Sealer(
        signer=open_signer(
            key,
            certificates[0],
            place=KeyPlace(folder, environ),
            password=read_secret(password, folder, environ) if password else None,
        ),
        eseal=read_eseal(folder),
        chain=tuple(read_certificates(folder / CHAIN)),
    )


def modified(folder: Path) -> int:
    """Return when the seal of a folder was written, in nanoseconds; 0 where there is none."""
    try:
        return (folder / SEAL).stat().st_mtime_ns
    except OSError:
        return 0


def set_aside(folder: Path, name: str) -> Path:
    """Rename the folder of a seal that is done with, key and all; raises Misconfigured."""
    aside = folder.with_name(name)
    try:
        _check_free(aside)
        folder.rename(aside)
        sync_folder(folder.parent)
    except OSError as error:
        raise _unwritable(aside, error) from error
    return aside


def read_eseal(folder: Path) -> bytes:
    """Read the seal of a folder, without its key; raises Misconfigured."""
    return _read(folder / SEAL)


def read_certificates(path: Path) -> list[bytes]:
    """Read the certificates of a PEM file (or one in DER) as DER; raises Misconfigured."""
    data = _read(path)
    if not data.strip():
        return []
    try:
        return from_pem(data)
    except ValueError as error:
        raise _unreadable(path, Text("不是 PEM", "no PEM")) from error


def _read(path: Path) -> bytes:
    try:
        return read_file(path, _MAX_BYTES)
    except OSError as error:
        raise _unreadable(path, os_reason(error)) from error


def _unreadable(path: Path, why: Text) -> Misconfigured:
    return Misconfigured(
        Text(f"读不到 {path}：{why.zh}", f"cannot read {path}: {why.en}"),
        hint=Text(
            "请检查印章目录，或用 exchange init 新建带测试印章的节点",
            "check the seal's folder, or make a node with test seals: `exchange init`",
        ),
    )
