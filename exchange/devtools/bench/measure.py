"""What a run costs: wall and CPU seconds, peak memory, and the machine it ran on.

Other processes are read through /proc, so the bench runs on Linux.
"""

from __future__ import annotations

import os
import platform
import ssl
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

from exchange.errors import Misconfigured
from exchange.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LIBRARIES: Final = (
    "polars",
    "pyarrow",
    "numpy",
    "fastavro",
    "cryptography",
    "pydantic",
    "psycopg",
    "SQLAlchemy",
    "requests",
    "uvicorn",
)
_PROC: Final = Path("/proc")
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process spent: ``wall`` and ``cpu`` in seconds, ``peak_rss`` in bytes."""

    wall: float
    cpu: float
    peak_rss: int


class Stopwatch:
    """Counts this process's wall and CPU seconds from its making on."""

    def __init__(self) -> None:
        """Start counting."""
        self._wall = time.perf_counter()
        self._cpu = time.process_time()

    def usage(self) -> Usage:
        """Return what was spent until now; the peak is the process's whole life's."""
        return Usage(
            wall=time.perf_counter() - self._wall,
            cpu=time.process_time() - self._cpu,
            peak_rss=peak_rss(os.getpid()),
        )


@dataclass(frozen=True, slots=True)
class Machine:
    """Where figures were taken, without names of hosts or people."""

    cpu: str
    cores: int
    memory_mb: int
    system: str
    python: str
    openssl: str
    libraries: dict[str, str]


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds, user and system, of one process, all its threads."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / _TICKS


def tree_cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process with its children, running and waited for.

    That is how a PostgreSQL server counts: one process per session under the one that listens.
    """
    fields = _stat(pid)
    own = sum(int(field) for field in fields[11:15]) / _TICKS
    return own + sum(tree_cpu_seconds(child) for child in _children(pid))


def peak_rss(pid: int) -> int:
    """Return the peak resident memory of a process in bytes (VmHWM)."""
    for line in _read(pid, "status").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise _process_ended(pid)


def median(values: Iterable[float]) -> float:
    """Return the middle value, of an even number the lower one: a figure really measured."""
    ordered = sorted(values)
    return ordered[(len(ordered) - 1) // 2]


def machine() -> Machine:
    """Describe this machine."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)),
        memory_mb=pages // (1024 * 1024),
        system=f"{platform.system()} {platform.machine()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        openssl=ssl.OPENSSL_VERSION,
        libraries=dict(_versions()),
    )


def _versions() -> Iterator[tuple[str, str]]:
    for name in LIBRARIES:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue


def _cpu_model() -> str:
    for line in (_PROC / "cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the third on: the second may hold spaces and brackets."""
    return _read(pid, "stat").rpartition(")")[2].split()


def _children(pid: int) -> list[int]:
    """Return the running children of all threads."""
    children: list[int] = []
    for entry in _PROC.iterdir():
        if entry.name.isdecimal():
            try:
                parent = int(_stat(int(entry.name))[1])
            except Misconfigured:
                # It ended between the listing and the reading; its parent counts it.
                continue
            if parent == pid:
                children.append(int(entry.name))
    return children


def _read(pid: int, name: str) -> str:
    try:
        return (_PROC / str(pid) / name).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise _process_ended(pid) from error


def _process_ended(pid: int) -> Misconfigured:
    return Misconfigured(
        Text(f"读不到进程 {pid} 的用量", f"the usage of process {pid} cannot be read"),
        hint=Text(
            "压测须在 Linux 上运行, 被测进程须仍在运行",
            "run the bench on Linux, while the measured process still runs",
        ),
    )
