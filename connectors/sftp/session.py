"""A session with an SFTP server whose key is pinned (owner of ``paramiko``)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import logging
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from exchange.connect import Denied, Misconfigured, Rejected, Secret, Text, Transient

MAX_ENTRIES = 65_536
"""Entries of a folder that are looked at."""
_PIECE = 256 * 1024
_AHEAD = 64
"""Requests under way while a file is read."""
_TYPES = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}
"""Signatures of a kind of key, where they have other names."""


@dataclass(frozen=True, slots=True)
class HostKey:
    """The server's key as it must be: its type and bytes, or their SHA-256."""

    kind: str
    data: bytes
    digest: bytes

    @classmethod
    def parse(cls, text: str) -> HostKey:
        """Read ``ssh-ed25519 AAAA…`` (also as a line of known_hosts) or ``SHA256:…``."""
        try:
            if text.startswith("SHA256:"):
                digest = base64.b64decode(text[7:] + "=" * (-len(text[7:]) % 4), validate=True)
                if len(digest) == hashlib.sha256().digest_size:
                    return cls("", b"", digest)
            words = text.split()
            place = next(i for i, word in enumerate(words) if word.startswith(("ssh-", "ecdsa-")))
            data = base64.b64decode(words[place + 1], validate=True)
            if data:
                return cls(words[place], data, hashlib.sha256(data).digest())
        except (StopIteration, IndexError, binascii.Error, ValueError):
            pass
        raise Misconfigured(
            Text("host_key 不是 SSH 公钥", "host_key is no public key of SSH"),
            hint=Text(
                "向对方管理员索取，或核对 ssh-keyscan 的输出：ssh-ed25519 AAAA…",
                "ask the server's administrator, or compare with ssh-keyscan: ssh-ed25519 AAAA…",
            ),
        )

    def fingerprint(self) -> str:
        """Return it as ssh-keygen shows it."""
        return fingerprint(self.digest)


def fingerprint(digest: bytes) -> str:
    """Write the SHA-256 of a key as ssh-keygen does."""
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class SftpServer:
    """Where the server is, and who asks."""

    host: str
    port: int
    host_key: HostKey
    user: str
    password: Secret | None = field(repr=False)
    key: Secret | None = field(repr=False)
    passphrase: Secret | None = field(repr=False)
    connect_seconds: float = 10
    read_seconds: float = 60

    def __post_init__(self) -> None:
        """Refuse none or two ways to log in; raises Misconfigured."""
        if (self.password is None) == (self.key is None):
            raise Misconfigured(
                Text("password 和 key 要写一个", "password or key is needed, and not both"),
                hint=Text("请修改该数据源的配置", "edit the settings of this source"),
            )


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """An entry of the folder: a regular file has its size and time (s), others a reason."""

    name: str
    size: int = 0
    time: int = 0
    is_file: bool = True


class SftpSession:
    """An open session; one folder."""

    def __init__(self, client: Any, folder: str) -> None:
        self._client = client
        self._folder = folder

    def listing(self) -> list[RemoteFile]:
        """Return what lies in the folder, in order of names; hidden entries are left out."""
        entries: list[RemoteFile] = []
        try:
            for entry in self._client.listdir_iter(self._folder, read_aheads=8):
                name = str(entry.filename)
                if "/" in name or "\0" in name or name.startswith((".", "~$")):
                    continue
                mode, size, time = entry.st_mode, entry.st_size, entry.st_mtime
                known = mode is not None and size is not None and time is not None
                is_file = known and stat.S_ISREG(mode)
                entries.append(RemoteFile(name, size or 0, int(time or 0), is_file))
                if len(entries) > MAX_ENTRIES:
                    raise _too_many(self._folder)
        except FileNotFoundError as error:
            raise Misconfigured(
                Text(f"服务器上没有文件夹 {self._folder}", f"there is no folder {self._folder}"),
                hint=Text("请检查 folder", "check folder"),
            ) from error
        except UnicodeDecodeError as error:
            raise Misconfigured(
                Text("有文件名不是 UTF-8", "a file name is not UTF-8"),
                hint=Text(
                    "请在服务器上改名，或改用 UTF-8 文件名",
                    "rename it on the server",
                ),
            ) from error
        return sorted(entries, key=lambda entry: entry.name)

    def stat(self, name: str) -> RemoteFile:
        """Return a file as it is now."""
        found = self._client.lstat(f"{self._folder}/{name}")
        regular = found.st_mode is not None and stat.S_ISREG(found.st_mode)
        return RemoteFile(name, found.st_size or 0, int(found.st_mtime or 0), regular)

    def fetch(self, file: RemoteFile, target: Path) -> None:
        """Copy a file; raises Transient when it is not the file of the listing any more."""
        with target.open("xb") as stream:
            copied = self._copy(file, stream)
        if copied != file.size or self.stat(file.name) != file:
            raise Transient(
                Text(f"下载时 {file.name} 被改动", f"{file.name} changed while it was fetched"),
                hint=Text("下次拉取会重新下载", "the next pull fetches it again"),
            )

    def _copy(self, file: RemoteFile, stream: BinaryIO) -> int:
        copied = 0
        with self._client.open(f"{self._folder}/{file.name}", "rb") as source:
            source.prefetch(file.size, max_concurrent_requests=_AHEAD)
            # A file that grows without end is left at the size it had.
            while copied < file.size:
                data = source.read(min(_PIECE, file.size - copied))
                if not data:
                    break
                stream.write(data)
                copied += len(data)
        return copied


@contextmanager
def session(server: SftpServer, folder: str) -> Iterator[SftpSession]:
    """Log in; raises Transient, Denied, or Misconfigured for a key that is not the pinned one."""
    try:
        import paramiko
    except ModuleNotFoundError as error:
        raise Misconfigured(
            Text("缺少 paramiko", "paramiko is not installed"),
            hint=Text("pip install 'gov-exchange[sftp]'", "pip install 'gov-exchange[sftp]'"),
        ) from error

    # Its threads would print their errors, which are raised here as well.
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    connection = socket.create_connection((server.host, server.port), server.connect_seconds)
    transport = paramiko.Transport(connection)
    try:
        transport.banner_timeout = transport.auth_timeout = server.connect_seconds
        if server.host_key.kind:
            kinds = _TYPES.get(server.host_key.kind, (server.host_key.kind,))
            transport.get_security_options().key_types = kinds
        transport.start_client(timeout=server.connect_seconds)
        _check_key(server, transport.get_remote_server_key().asbytes())
        _log_in(server, transport)
        client = paramiko.SFTPClient.from_transport(transport)
        if client is None:
            raise _no_sftp()
        client.get_channel().settimeout(server.read_seconds)
        yield SftpSession(client, folder.rstrip("/") or "/")
    except paramiko.ssh_exception.IncompatiblePeer as error:
        raise _other_key(server, "") from error
    finally:
        # A thread that waits for the socket would keep the connection open for a moment.
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        transport.close()
        connection.close()


def _check_key(server: SftpServer, data: bytes) -> None:
    digest = hashlib.sha256(data).digest()
    if digest != server.host_key.digest:
        raise _other_key(server, fingerprint(digest))


def _log_in(server: SftpServer, transport: Any) -> None:
    if server.key is not None:
        transport.auth_publickey(server.user, _private_key(server))
    elif server.password is not None:
        transport.auth_password(server.user, server.password.reveal(), fallback=False)
    if not transport.is_authenticated():
        raise Denied(
            Text("服务器要求更多的登录步骤", "the server asks for more steps of a login"),
            hint=Text("请改用密钥登录", "use a key"),
        )


def _private_key(server: SftpServer) -> Any:
    import paramiko

    assert server.key is not None  # noqa: S101 - asked by the caller
    text = server.key.reveal()
    password = server.passphrase.reveal() if server.passphrase else None
    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        try:
            return kind.from_private_key(io.StringIO(text), password)
        except paramiko.PasswordRequiredException as error:
            raise _no_private_key("需要 passphrase", "it needs passphrase") from error
        except (paramiko.SSHException, ValueError):
            continue
    raise _no_private_key("格式或口令不对", "its format or the passphrase is wrong")


def _no_private_key(zh: str, en: str) -> Denied:
    return Denied(
        Text(f"私钥无法使用：{zh}", f"the private key cannot be used: {en}"),
        hint=Text(
            "key 指向 OpenSSH 私钥：Ed25519、ECDSA 或 RSA",
            "key names a private key of OpenSSH: Ed25519, ECDSA or RSA",
        ),
    )


def _other_key(server: SftpServer, shown: str) -> Misconfigured:
    return Misconfigured(
        Text(
            f"{server.host} 的主机密钥不是配置的 {server.host_key.fingerprint()}"
            f"{shown and '，而是 ' + shown}",
            f"the host key of {server.host} is not {server.host_key.fingerprint()} of the settings"
            f"{shown and ', but ' + shown}",
        ),
        hint=Text(
            "可能有人冒充：先向对方管理员核实，再改 host_key",
            "somebody may stand in for it: ask its administrator before you change host_key",
        ),
    )


def _no_sftp() -> Rejected:
    return Rejected(
        Text("服务器没有提供 SFTP", "the server does not offer SFTP"),
        hint=Text("请对方开通 SFTP", "ask for the subsystem sftp"),
    )


def _too_many(folder: str) -> Misconfigured:
    return Misconfigured(
        Text(
            f"文件夹 {folder} 有超过 {MAX_ENTRIES} 个条目",
            f"the folder {folder} has more than {MAX_ENTRIES} entries",
        ),
        hint=Text("请把已处理的文件移走", "move files away that were processed"),
    )
