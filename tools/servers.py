"""Make sure the servers and tools that the tests run against are installed; as root, install them.

Debian packages only. Without root it prints the one command to run and stops.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGES = {
    "postgresql": "postgres",
    "mariadb-server": "mariadbd",
    "openssl": "openssl",
    "default-jre-headless": "java",  # Kafka; 17 up
    "maven": "mvn",
    "kcat": "kcat",
    "openssh-server": "sshd",
    "softhsm2": "softhsm2-util",
    "strace": "strace",
}
PLACES = ("/usr/sbin", "/usr/local/sbin", "/usr/local/bin")


def installed(program: str) -> bool:
    """Tell whether ``program`` is on the path or where Debian puts servers."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    path = os.pathsep.join([os.environ.get("PATH", ""), *PLACES, *map(str, versions)])
    return shutil.which(program, path=path) is not None


def main() -> int:
    """Install what is missing and return the exit code."""
    missing = [package for package, program in PACKAGES.items() if not installed(program)]
    if not missing:
        return 0
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        sys.stderr.write(
            f"missing: {', '.join(missing)}. Run: sudo apt-get install -y {' '.join(missing)}\n"
        )
        return 1
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends"]):
        packages = missing if arguments[0] == "install" else []
        command = ["apt-get", *arguments, *packages]
        subprocess.run(command, check=True, env=environment, stdout=sys.stderr, timeout=1800)
    # Debian starts the services at once; the tests start their own on free ports.
    return 0


if __name__ == "__main__":
    sys.exit(main())
