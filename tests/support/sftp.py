"""A real OpenSSH server for tests: on loopback, with keys of its own, by an ordinary user.

Debian package: ``openssh-server``.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from exchange.devtools.servers.ports import taken_port
from exchange.devtools.servers.postgres import Server, missing, run_tool, server_folder

_CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_ed25519
AuthorizedKeysFile {folder}/user_ed25519.pub
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PidFile none
MaxStartups 100
LogLevel ERROR
Subsystem sftp internal-sftp
"""


@dataclass
class SftpHost:
    """A running server, and the folder that it serves."""

    port: int
    user: str
    host_key: str
    """As a line of ``.pub``."""
    key: str = field(repr=False)
    """The user's private key."""
    other_key: str = field(repr=False)
    """A private key that the server does not know."""
    folder: Path

    def fresh_folder(self, name: str) -> Path:
        """Make a folder to be served."""
        folder = self.folder / name
        folder.mkdir()
        folder.chmod(0o755)
        return folder


@contextmanager
def openssh() -> Iterator[SftpHost]:
    """Run a server until the block ends."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
    program, keygen = shutil.which("sshd", path=path), shutil.which("ssh-keygen")
    if program is None or keygen is None:
        raise missing("sshd", "openssh-server", "PATH")
    with server_folder("sshd") as (folder, account), taken_port() as port:
        user = account or pwd.getpwuid(os.getuid()).pw_name
        for name in ("host", "user", "other"):
            target = str(folder / f"{name}_ed25519")
            run_tool([keygen, "-q", "-t", "ed25519", "-N", "", "-f", target], account, folder)
        config = folder / "config"
        config.write_text(_CONFIG.format(port=port, folder=folder))
        config.chmod(0o644)
        command = [program, "-D", "-e", "-f", str(config)]
        if account is not None:
            # It must not read the shadow file: there the account has no password, and is locked.
            group = grp.getgrgid(pwd.getpwnam(account).pw_gid).gr_name
            drop = ["setpriv", f"--reuid={account}", f"--regid={group}", "--clear-groups"]
            command = [*drop, *command]
        server = Server(f"sftp://{user}@127.0.0.1:{port}/", command, folder)
        server.start()
        try:
            yield SftpHost(
                port,
                user,
                (folder / "host_ed25519.pub").read_text().strip(),
                (folder / "user_ed25519").read_text(),
                (folder / "other_ed25519").read_text(),
                folder,
            )
        finally:
            server.stop()
