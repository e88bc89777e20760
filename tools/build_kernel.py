"""Compile the hash kernel where there is a C compiler; part of every build of the package.

Without a compiler, or when it fails, the package is built all the same and hashes in Python.
``EXCHANGE_HASH_KERNEL`` says otherwise: ``off`` builds a wheel for any machine, without the
kernel; a platform such as ``manylinux_2_17_aarch64`` names the machine that ``CC`` compiles for,
and then a kernel that does not compile is an error.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("exchange/seal/crypto")
SOURCE, LIBRARY = FOLDER / "hash_kernel.c", FOLDER / "libhashkernel.so"
# The same source gives the same bytes, wherever it stands: no debug information, no build id.
FLAGS = ("-std=c11", "-O3", "-fPIC", "-fvisibility=hidden", "-fstack-protector-strong", "-g0")
LINUX = ("-Wl,--build-id=none", "-Wl,-z,relro,-z,now", "-Wl,-z,noexecstack")


def compiler() -> list[str]:
    """Return the command of the C compiler: ``$CC``, or the first that is there; or nothing."""
    if stated := os.environ.get("CC"):
        return shlex.split(stated)
    return [path for name in ("cc", "gcc", "clang") if (path := shutil.which(name))][:1]


def compile_kernel(command: list[str], root: Path, target: Path, *more: str) -> None:
    """Compile into ``target``; raises OSError or CalledProcessError, and leaves nothing then."""
    flags = [*FLAGS, *(LINUX if sys.platform == "linux" else ()), *more]
    part = target.with_suffix(f".{os.getpid()}")
    try:
        subprocess.run(
            [*command, *flags, "-shared", "-o", str(part), str(SOURCE)],
            cwd=root,
            check=True,
            capture_output=True,
            text=True,
            timeout=300,
        )
        part.replace(target)  # whoever has the old one open keeps it
    finally:
        part.unlink(missing_ok=True)


class KernelHook(BuildHookInterface):
    """Puts the library into the package, and the platform into the wheel's name."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; an editable installation takes the library from where it is compiled."""
        platform = os.environ.get("EXCHANGE_HASH_KERNEL", "")
        if self.target_name != "wheel" or platform == "off":
            return
        root = Path(self.root)
        target = root / LIBRARY
        command = compiler()
        try:
            if not command:
                raise FileNotFoundError("no C compiler")
            compile_kernel(command, root, target)
        except (OSError, subprocess.SubprocessError) as error:
            target.unlink(missing_ok=True)
            if platform:
                raise
            self.app.display_warning(f"no hash kernel, hashing in Python: {error}")
            return
        if version == "editable":
            return
        here = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["artifacts"].append(str(LIBRARY))
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform or here}"
