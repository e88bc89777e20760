"""Real database servers for tests: brought up on loopback, taken down by process id.

Debian packages: ``postgresql`` and ``mariadb-server``. ``EXCHANGE_TEST_POSTGRES`` and
``EXCHANGE_TEST_MARIADB`` name a server of one's own instead (a database that may be filled).
A server that cannot be had is an error that says how to install it, never a silent skip.
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
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_START_SECONDS = 60.0


class Missing(Exception):  # noqa: N818 - read as a sentence in the test report
    """A program that the tests need is not on this machine."""


@dataclass
class Server:
    """A running server; ``url`` is an address with user and password."""

    url: str
    _command: Sequence[str] = ()
    _folder: Path = Path()
    _user: str | None = None
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def owned(self) -> bool:
        """Whether it is ours to stop and start."""
        return bool(self._command)

    def start(self) -> None:
        """Start and wait until the port answers."""
        port = int(self.url.rpartition(":")[2].partition("/")[0])
        log = self._folder / "server.log"
        with log.open("ab") as out:
            self._process = subprocess.Popen(
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
        raise RuntimeError(f"the server did not start: {log.read_text(errors='replace')[-2000:]}")

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
def postgres() -> Iterator[Server]:
    """Run a PostgreSQL of our own, database ``postgres``, user ``postgres``."""
    given = os.environ.get("EXCHANGE_TEST_POSTGRES")
    if given:
        yield Server(given)
        return
    binaries = _postgres_binaries()
    with _folder("postgres") as (folder, user):
        data = folder / "data"
        secret = folder / "password"
        secret.write_text("p@ss:w/rd")
        secret.chmod(0o644)
        _run(
            [
                *(str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "-E", "UTF8"),
                *("--locale=C", "-A", "scram-sha-256", f"--pwfile={secret}", "-N"),
            ],
            user,
            folder,
        )
        port = free_port()
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
def mariadb() -> Iterator[Server]:
    """Run a MariaDB of our own, database ``test``, user ``exchange``."""
    given = os.environ.get("EXCHANGE_TEST_MARIADB")
    if given:
        yield Server(given)
        return
    daemon = _program("mariadbd", "mariadb-server", extra=("/usr/sbin", "/usr/libexec"))
    install = _program("mariadb-install-db", "mariadb-server")
    with _folder("mysql") as (folder, user):
        data = folder / "data"
        _run(
            [
                *(install, "--no-defaults", f"--datadir={data}", "--skip-test-db"),
                "--auth-root-authentication-method=normal",
            ],
            user,
            folder,
        )
        start = folder / "start.sql"
        start.write_text(
            "CREATE DATABASE IF NOT EXISTS test CHARACTER SET utf8mb4;\n"
            "CREATE USER IF NOT EXISTS exchange@'127.0.0.1' IDENTIFIED BY 'secret';\n"
            "GRANT ALL ON *.* TO exchange@'127.0.0.1';\n"
        )
        start.chmod(0o644)
        port = free_port()
        command = [daemon, "--no-defaults", f"--datadir={data}", f"--port={port}"]
        command += ["--bind-address=127.0.0.1", f"--socket={folder / 's'}"]
        command += [f"--init-file={start}", "--innodb-flush-log-at-trx-commit=0"]
        command += [f"--pid-file={folder / 'pid'}", "--skip-name-resolve"]
        server = Server(
            f"mysql+pymysql://exchange:secret@127.0.0.1:{port}/test", command, folder, user
        )
        server.start()
        try:
            yield server
        finally:
            server.stop()


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _folder(account: str) -> Iterator[tuple[Path, str | None]]:
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


def _account(wanted: str) -> str:
    for name in (wanted, "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise Missing(f"servers do not run as root and there is no account {wanted} or nobody")


def _postgres_binaries() -> Path:
    found: list[Path] = []
    config = shutil.which("pg_config")
    if config:
        found.append(Path(subprocess.check_output([config, "--bindir"], text=True).strip()))
    versions = Path("/usr/lib/postgresql").glob("*/bin")
    found += sorted(versions, key=lambda p: int(p.parent.name), reverse=True)
    found += [Path(part) for part in os.environ.get("PATH", "").split(os.pathsep) if part]
    for folder in found:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise Missing(
        "PostgreSQL is missing: apt-get install postgresql, "
        "or name a server with EXCHANGE_TEST_POSTGRES=postgresql://user:password@host:port/db"
    )


def _program(name: str, package: str, extra: tuple[str, ...] = ()) -> str:
    path = os.pathsep.join((os.environ.get("PATH", ""), *extra))
    found = shutil.which(name, path=path)
    if found is None:
        raise Missing(
            f"{name} is missing: apt-get install {package}, or name a server with "
            "EXCHANGE_TEST_MARIADB=mysql+pymysql://user:password@host:port/db"
        )
    return found


def _run(command: list[str], user: str | None, folder: Path) -> None:
    done = subprocess.run(command, user=user, cwd=folder, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stderr.decode(errors='replace')[-2000:]}")


def _wait_ready(binaries: Path, port: int, folder: Path) -> None:
    """Wait until it takes sessions: it listens a moment before."""
    end = time.monotonic() + _START_SECONDS
    probe = [str(binaries / "pg_isready"), "-h", "127.0.0.1", "-p", str(port), "-q"]
    while subprocess.run(probe, cwd=folder, check=False).returncode:
        if time.monotonic() > end:
            raise RuntimeError("PostgreSQL does not take sessions")
        time.sleep(0.05)
