"""files: what departments drop into a folder (:mod:`exchange.connectors.files.source`).

Nothing is imported here: the process that reads untrusted files (``child``) is of this package,
and must start quickly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from exchange.connectors.files.source import files as files

__all__ = ["files"]


def __getattr__(name: str) -> Any:
    """Return the connector, which is what the entry point asks for."""
    if name == "files":
        from exchange.connectors.files.source import files

        return files
    raise AttributeError(name)
