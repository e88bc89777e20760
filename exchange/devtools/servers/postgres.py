"""A PostgreSQL of one's own for the bench and the tests: on loopback, taken down by process id.

Debian package: ``postgresql``. A server that cannot be had is an error that says how to install
it, never a silent skip.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from exchange.devtools.servers.ports import taken_port
from exchange.errors import Misconfigured, Transient
from exchange.text import Text

INSTALLED = Path("/usr/lib/postgresql")
"""Where Debian keeps each version's binaries."""
_START_SECONDS = 60.0


class Missing(Misconfigured):
    """A program that is needed is not on this machine."""


def missing(program: str, package: str, variable: str) -> Missing:
    """Say how to get a program, or how to do without."""
    return Missing(
        Text(f"本机没有 {program}", f"{program} is missing"),
        hint=Text(
            f"apt-get install {package}，或用环境变量 {variable} 指定一个可写的数据库",
            f"apt-get install {package}, or name a database that may be filled in {variable}",
        ),
    )


@dataclass
class Server:
    """A running server; ``url`` is an address with user and password."""

    url: str = field(repr=False)
    _command: Sequence[str] = ()
    _folder: Path = Path()
    _user: str | None = None
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def owned(self) -> bool:
        """Whether it is ours to stop and start."""
        return bool(self._command)

    @property
    def pid(self) -> int | None:
        """The process id of a running server of our own."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start and wait until the port answers."""
        port = int(self.url.rpartition(":")[2].partition("/")[0])
        log = self._folder / "server.log"
        with log.open("ab") as out:
            self._process = subprocess.Popen(  # noqa: S603 - a path that we found
                self._command, user=self._user, stdout=out, stderr=out, cwd=self._folder
            )
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end:
            if self._process.poll() is not None:
                break
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.05)
        raise failed(self._command[0], log.read_bytes())

    def kill(self) -> None:
        """Stop it at once, as a crash would."""
        self._end(signal.SIGQUIT)

    def stop(self) -> None:
        """Stop it in order."""
        self._end(signal.SIGINT if "postgres" in self.url else signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        process = self._process
        if process is None:
            return
        self._process = None
        process.send_signal(how)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def postgres(variable: str) -> Iterator[Server]:
    """Run a PostgreSQL of our own, database ``postgres``, user ``postgres``.

    The environment's ``variable`` names another one instead. Raises :class:`Missing`.
    """
    variable_value = os.environ.get(variable)
    if variable_value:
        yield Server(variable_value)
        return
    binaries = _postgres_binaries(variable)
    with server_folder("postgres") as (folder, user), taken_port() as port:
        data = folder / "data"
        secret = folder / "password"
        secret.write_text("p@ss:w/rd")
        secret.chmod(0o644)
        run_tool(
            [
                *(str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "-E", "UTF8"),
                *("--locale=C", "-A", "scram-sha-256", f"--pwfile={secret}", "-N"),
            ],
            user,
            folder,
        )
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": "",
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "max_wal_size": "4GB",
        }
        command = [str(binaries / "postgres"), "-D", str(data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        address = f"postgresql://postgres:p%40ss%3Aw%2Frd@127.0.0.1:{port}/postgres"
        server = Server(address, command, folder, user)
        server.start()
        try:
            _wait_ready(binaries, port, folder)
            yield server
        finally:
            server.stop()


@contextmanager
def server_folder(account: str) -> Iterator[tuple[Path, str | None]]:
    """Make a folder that the server may write; as root it belongs to a lesser account."""
    user = _account(account) if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="exchange-"))
    try:
        if user is not None:
            shutil.chown(folder, user)
        folder.chmod(0o755)
        yield folder, user
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _account(default: str) -> str:
    for name in (default, "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise Missing(
        Text(
            f"数据库服务器不以 root 运行，而本机没有账户 {default} 或 nobody",
            f"servers do not run as root, and there is no account {default} or nobody",
        ),
        hint=Text("请以普通用户运行", "run it as an ordinary user"),
    )


def _postgres_binaries(variable: str) -> Path:
    folders: list[Path] = []
    config = shutil.which("pg_config")
    if config:
        answer = subprocess.check_output([config, "--bindir"], text=True)  # noqa: S603
        folders.append(Path(answer.strip()))
    versions = INSTALLED.glob("*/bin")
    folders += sorted(versions, key=lambda p: int(p.parent.name), reverse=True)
    folders += [Path(part) for part in os.environ.get("PATH", "").split(os.pathsep) if part]
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise missing("PostgreSQL", "postgresql", variable)


def run_tool(command: Sequence[str], user: str | None, folder: Path) -> None:
    """Run a server's own tool to its end; raises Transient with what it said."""
    result = subprocess.run(  # noqa: S603 - a path that we found
        command, user=user, cwd=folder, capture_output=True, check=False
    )
    if result.returncode:
        raise failed(command[0], result.stderr)


def _wait_ready(binaries: Path, port: int, folder: Path) -> None:
    """Wait until it takes sessions: it listens a moment before."""
    end = time.monotonic() + _START_SECONDS
    probe = [str(binaries / "pg_isready"), "-h", "127.0.0.1", "-p", str(port), "-q"]
    while subprocess.run(probe, cwd=folder, check=False).returncode:  # noqa: S603 - as above
        if time.monotonic() > end:
            raise failed("postgres", b"it listens, but takes no sessions")
        time.sleep(0.05)


def failed(program: str, answer: bytes) -> Transient:
    """Make the error of a program that did not start, with the end of what it said."""
    text = answer.decode(errors="replace").strip()[-2000:]
    return Transient(
        Text(f"{program} 没有启动：{text}", f"{program} did not start: {text}"),
        hint=Text("请查看以上信息并检查磁盘空间", "read the above, and check the disk's space"),
    )
