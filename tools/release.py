"""What a release is handed over with, into dist/: wheels, lists of components, licences.

Run by `make release`. There is a wheel for any machine, which hashes in Python, and one with the
compiled kernel for each platform that has a compiler here. Each is built twice, from two copies
of the commit, and must be the same to the byte. A site without internet compares what it was
brought with these files.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCKS = ("verifier", "node", "receiver", "postgres", "mysql", "kafka", "metrics", "sftp", "soap")
"""The files of pinned requirements for production, one for each extra."""
PLATFORMS = {
    "off": "",
    "manylinux_2_17_x86_64": "x86_64-linux-gnu-gcc",
    "manylinux_2_17_aarch64": "aarch64-linux-gnu-gcc",
}
"""What `EXCHANGE_HASH_KERNEL` says to tools/build_kernel.py, and the compiler that it takes."""
OLDEST_GLIBC = 17
"""Minor version of the glibc 2 that manylinux_2_17 stands for."""
_GLIBC = re.compile(rb"GLIBC_2\.(\d+)")
_PINNED = re.compile(r"^([a-z0-9-]+)==(\S+)", re.MULTILINE)


def wheel(folder: Path, copy: str, platform: str) -> Path:
    """Build a wheel of the commit in a new copy of it; returns its path."""
    source, target = folder / copy, folder / f"{copy}-out"
    with tarfile.open(fileobj=io.BytesIO(_output("git", "archive", "HEAD"))) as tar:
        tar.extractall(source, filter="data")
    committed = _output("git", "log", "-1", "--format=%ct").decode().strip()
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)],
        cwd=source,
        check=True,
        capture_output=True,
        env={
            **os.environ,
            "SOURCE_DATE_EPOCH": committed,
            "EXCHANGE_HASH_KERNEL": platform,
            "CC": PLATFORMS[platform],
        },
    )
    (built,) = target.iterdir()
    return built


def _output(*command: str) -> bytes:
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout


def platforms() -> list[str]:
    """Return the platforms that this machine can build for."""
    return [name for name, cc in PLATFORMS.items() if not cc or shutil.which(cc)]


def newest_glibc(built: Path) -> int:
    """Return the minor version of the newest glibc 2 that the kernel in a wheel needs."""
    with zipfile.ZipFile(built) as archive:
        (kernel,) = [name for name in archive.namelist() if name.endswith(".so")]
        return max(map(int, _GLIBC.findall(archive.read(kernel))), default=0)


def reproducible_wheel(target: Path, platform: str) -> Path:
    """Build twice, compare, keep one; raises SystemExit when they differ."""
    with tempfile.TemporaryDirectory() as name:
        one, other = (wheel(Path(name), copy, platform) for copy in ("a", "b"))
        if one.read_bytes() != other.read_bytes():
            raise SystemExit(f"{one.name}: two builds of one commit differ")
        if platform != "off" and newest_glibc(one) > OLDEST_GLIBC:
            raise SystemExit(f"{one.name}: the kernel needs a newer glibc than the name says")
        target.mkdir(exist_ok=True)
        kept = target / one.name
        kept.write_bytes(one.read_bytes())
    return kept


def pinned(lock: str) -> dict[str, str]:
    """Return the versions that a file of requirements pins, by package."""
    return dict(_PINNED.findall((ROOT / "requirements" / f"{lock}.txt").read_text("utf-8")))


def licence(package: str) -> str:
    """Return the licence that an installed package states (SPDX where it has one)."""
    stated = metadata.metadata(package)
    classifiers = [
        line.rpartition(" :: ")[2]
        for line in stated.get_all("Classifier") or []
        if line.startswith("License :: ") and line.rpartition(" :: ")[2] != "OSI Approved"
    ]
    text = stated.get("License-Expression") or " · ".join(classifiers) or stated.get("License", "")
    return str(text).strip().partition("\n")[0]


def licences() -> str:
    """Write the table of licences of everything that production installs."""
    used: dict[str, list[str]] = {}
    for lock in LOCKS:
        for package in pinned(lock):
            used.setdefault(package, []).append(lock)
    lines = ["| package | version | licence | for |", "|---|---|---|---|"]
    for package, names in sorted(used.items()):
        try:
            version, text = metadata.version(package), licence(package)
        except metadata.PackageNotFoundError:
            version, text = pinned(names[0])[package], "not installed on this platform"
        lines.append(f"| {package} | {version} | {text or 'not stated'} | {', '.join(names)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Fill dist/."""
    target = ROOT / "dist"
    built = [reproducible_wheel(target, platform) for platform in platforms()]
    for platform in PLATFORMS.keys() - platforms():
        sys.stdout.write(f"no wheel for {platform}: no {PLATFORMS[platform]} here\n")
    (target / "licences.md").write_text(licences(), encoding="utf-8")
    tool = ROOT / ".venv-release" / "bin" / "cyclonedx-py"
    for lock in LOCKS:
        subprocess.run(
            [
                str(tool),
                "requirements",
                str(ROOT / "requirements" / f"{lock}.txt"),
                "--pyproject",
                str(ROOT / "pyproject.toml"),
                "--output-reproducible",
                "--spec-version",
                "1.6",
                "--output-file",
                str(target / f"{lock}.cdx.json"),
            ],
            check=True,
        )
    for path in sorted(target.iterdir()):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        sys.stdout.write(f"{digest}  {path.name}{' (built twice)' if path in built else ''}\n")


if __name__ == "__main__":
    main()
