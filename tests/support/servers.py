"""Real database servers for tests: brought up on loopback, taken down by process id.

Debian packages: ``postgresql`` and ``mariadb-server``. ``EXCHANGE_TEST_POSTGRES`` and
``EXCHANGE_TEST_MARIADB`` name a server of one's own instead (a database that may be filled).
A server that cannot be had is an error that says how to install it, never a silent skip.
"""

from __future__ import annotations

import os
import shutil
import socket
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from exchange.devtools.servers.ports import taken_port
from exchange.devtools.servers.postgres import Missing, Server, missing, run_tool, server_folder
from exchange.devtools.servers.postgres import postgres as any_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

__all__ = ["Missing", "Server", "free_port", "mariadb", "nobody", "postgres", "taken_port"]

_KEPT = ExitStack()
"""Ports that were given out: nobody else takes them while this process runs."""


def free_port(count: int = 1) -> int:
    """Return a port, or the first of some neighbours, for servers that start later."""
    return _KEPT.enter_context(taken_port(count))


@contextmanager
def nobody() -> Iterator[str]:
    """Yield ``host:port`` where every connection is refused: the port is held, and not served."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


def postgres() -> AbstractContextManager[Server]:
    """Run a PostgreSQL of our own, database ``postgres``, user ``postgres``."""
    return any_postgres("EXCHANGE_TEST_POSTGRES")


@contextmanager
def mariadb() -> Iterator[Server]:
    """Run a MariaDB of our own, database ``test``, user ``exchange``."""
    answer = os.environ.get("EXCHANGE_TEST_MARIADB")
    if answer:
        yield Server(answer)
        return
    daemon = _program("mariadbd", "mariadb-server", extra=("/usr/sbin", "/usr/libexec"))
    install = _program("mariadb-install-db", "mariadb-server")
    with server_folder("mysql") as (folder, user), taken_port() as port:
        data = folder / "data"
        run_tool(
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


def _program(name: str, package: str, extra: tuple[str, ...] = ()) -> str:
    path = os.pathsep.join((os.environ.get("PATH", ""), *extra))
    result = shutil.which(name, path=path)
    if result is None:
        raise missing(name, package, "EXCHANGE_TEST_MARIADB")
    return result
