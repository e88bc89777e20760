"""Java programs from their artifacts: resolved once by Maven into the user's cache."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from exchange.devtools.servers.postgres import failed

_RESOLVE_SECONDS = 900.0

_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>exchange</groupId><artifactId>tool</artifactId><version>1</version>
  <packaging>pom</packaging>
  <dependencies>{}</dependencies>
</project>
"""


def artifacts(cache: Path, name: str, wanted: Sequence[str]) -> Path | None:
    """Return the folder ``name`` of the artifacts, complete; None without Maven.

    ``wanted`` are coordinates (group:artifact:version); what they need comes along. The folder
    appears under its name by one rename, and one process at a time resolves. Raises Transient
    when Maven fails.
    """
    resolved = cache / name
    if resolved.is_dir():
        return resolved
    maven = shutil.which("mvn")
    if maven is None:
        return None
    cache.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(cache):
        if resolved.is_dir():
            return resolved
        with tempfile.TemporaryDirectory(prefix="resolve-", dir=cache) as folder:
            (Path(folder) / "pom.xml").write_text(_POM.format("".join(map(_dependency, wanted))))
            command = [maven, "--batch-mode", "--quiet", "--strict-checksums"]
            command += ["dependency:copy-dependencies", "-DincludeScope=runtime"]
            command += ["-DoutputDirectory=libraries"]
            run(command, cwd=folder, timeout=_RESOLVE_SECONDS)
            (Path(folder) / "libraries").rename(resolved)
    return resolved


def _dependency(coordinates: str) -> str:
    group, artifact, version = coordinates.split(":")
    return (
        f"<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>"
        f"<version>{version}</version></dependency>"
    )


@contextmanager
def one_at_a_time(cache: Path) -> Iterator[None]:
    """Let one process at a time put something into the cache."""
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(command: Sequence[str], *, timeout: float, cwd: str | None = None) -> str:
    """Run a tool to its end and return what it printed; Transient when it fails."""
    try:
        result = subprocess.run(  # noqa: S603 - a program that we looked up
            command, cwd=cwd, capture_output=True, check=True, timeout=timeout
        )
    except subprocess.CalledProcessError as error:
        raise failed(command[0], error.stdout + error.stderr) from error
    except subprocess.TimeoutExpired as error:
        raise failed(command[0], b"it did not end") from error
    return result.stdout.decode()
