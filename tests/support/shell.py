"""A shell as a person uses it: for walks through the documentation."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

SECONDS = 600
"""Longest wait for one command."""


def _environ() -> dict[str, str]:
    """Return the environment of a person who has installed `exchange`, and set nothing else."""
    values = {name: os.environ[name] for name in ("HOME", "TMPDIR") if name in os.environ}
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    return values | {"PATH": path, "LANG": "C.UTF-8", "POLARS_MAX_THREADS": "1"}


@dataclass
class Shell:
    """What a person's shell keeps from line to line; every command must end with 0."""

    folder: Path
    environ: dict[str, str] = field(default_factory=_environ)
    said: dict[str, str] = field(default_factory=dict)
    """What each command wrote to stdout."""

    def run(self, line: str) -> str:
        result = subprocess.run(
            ["bash", "-c", line],
            cwd=self.folder,
            env=self.environ,
            check=False,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert result.returncode == 0, f"{line}\n{result.stdout}\n{result.stderr}"
        self.said[line] = result.stdout
        return result.stdout

    @contextmanager
    def background(self, line: str) -> Iterator[None]:
        """Run a command until the end of the block; it ends well on SIGTERM."""
        process = subprocess.Popen(
            ["bash", "-c", f"exec {line}"],
            cwd=self.folder,
            env=self.environ,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            assert "url" in json.loads(process.stdout.readline())
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=SECONDS)
        assert process.returncode == 0
