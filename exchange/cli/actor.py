"""Who gives a command, for the audit trail."""

from __future__ import annotations

import getpass


def actor() -> str:
    """Name the user of this machine; ``cli`` where it has no name, as in a container."""
    try:
        return f"cli:{getpass.getuser()}"[:128]
    except (OSError, KeyError, ImportError):
        return "cli"
