"""Artifacts of Maven in the user's cache: resolved once, seen whole, one process at a time."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from exchange.devtools.servers.postgres import failed

_RESOLVE_SECONDS = 900.0


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Return where artifacts are kept."""
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gov-exchange"


def artifacts(cache: Path, name: str, pom: str) -> Path | None:
    """Return the folder of what a project file needs at run time, complete; None without Maven.

    It appears under its name by one rename, and one process at a time resolves.
    """
    classes = cache / name
    if classes.is_dir():
        return classes
    maven = shutil.which("mvn")
    if maven is None:
        return None
    cache.mkdir(parents=True, exist_ok=True)
    with alone(cache):
        if classes.is_dir():
            return classes
        with tempfile.TemporaryDirectory(prefix="resolve-", dir=cache) as folder:
            (Path(folder) / "pom.xml").write_text(pom)
            command = [maven, "--batch-mode", "--quiet", "--strict-checksums"]
            command += ["dependency:copy-dependencies", "-DincludeScope=runtime"]
            command += ["-DoutputDirectory=libraries"]
            run(command, cwd=folder, timeout=_RESOLVE_SECONDS)
            (Path(folder) / "libraries").rename(classes)
    return classes


@contextmanager
def alone(cache: Path) -> Iterator[None]:
    """Let one process at a time put something into the cache."""
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(command: Sequence[str], *, timeout: float, cwd: str | None = None) -> str:
    """Run a tool to its end and return what it said; Transient when it fails."""
    try:
        result = subprocess.run(  # noqa: S603 - a program that we found
            command, cwd=cwd, capture_output=True, check=True, timeout=timeout
        )
    except subprocess.CalledProcessError as error:
        raise failed(command[0], error.stdout + error.stderr) from error
    except subprocess.TimeoutExpired as error:
        raise failed(command[0], b"it did not end") from error
    return result.stdout.decode()
