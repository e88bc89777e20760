"""One call of the command: its language, its environment, and what these lead to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from exchange.cli.output import Output, screen_width

if TYPE_CHECKING:
    from exchange.node.node import Node
    from exchange.settings import Settings


@dataclass(frozen=True)
class Invocation:
    """What a command is called with; commands take it from their context's ``obj``."""

    lang: str
    environ: Mapping[str, str] = field(repr=False)

    def output(self, *, as_json: bool = False) -> Output:
        """Return where the command writes."""
        return Output(self.lang, as_json, screen_width(self.environ))

    def settings_path(self) -> Path:
        """Find the settings; raises Misconfigured when there are none."""
        from exchange.settings import find

        return find(Path.cwd(), self.environ)

    def settings(self) -> Settings:
        """Read the settings that are named, or found from the current folder."""
        from exchange.settings import load

        return load(self.settings_path())

    def open_node(self, worker: str = "") -> Node:
        """Open the node of those settings."""
        from exchange.node.node import Node

        return Node(self.settings(), environ=self.environ, worker=worker)


def actor() -> str:
    """Name who gives the command, for the audit trail; ``cli`` where the user has no name."""
    import getpass

    try:
        return f"cli:{getpass.getuser()}"[:128]
    except (OSError, KeyError, ImportError):
        return "cli"
