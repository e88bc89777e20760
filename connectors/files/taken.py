"""The cursor of a folder: which files were taken, where the current one stands, what was told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from exchange.connect import Cursor
from exchange.connectors.files.folder import MAX_FILES, Stat


@dataclass(slots=True)
class Taken:
    """Files taken (name → size, time, digest), where the current one stands, names told."""

    files: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    at: dict[str, Any] = field(default_factory=dict)
    passed: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, cursor: Cursor | None) -> Taken:
        """Read the cursor back."""
        given: Mapping[str, Any] = cursor or {}
        taken = {name: (s, t, d) for name, (s, t, d) in given.get("files", {}).items()}
        return cls(taken, dict(given.get("at", {})), list(given.get("passed", ())))

    def cursor(self) -> Cursor:
        """Return a copy as JSON."""
        out: dict[str, Any] = {"files": {name: list(known) for name, known in self.files.items()}}
        if self.at:
            out["at"] = dict(self.at)
        if self.passed:
            out["passed"] = list(self.passed)
        return out

    def is_new(self, name: str, stat: Stat) -> bool:
        """Whether size or time are not the ones taken."""
        known = self.files.get(name)
        return known is None or known[:2] != stat

    def resume(self, name: str, stat: Stat) -> dict[str, Any]:
        """Return where reading stopped, if this is still the same file."""
        at = self.at
        same = at.get("name") == name and (at.get("size"), at.get("time")) == stat
        return at if same else {}

    def stop(self, name: str, stat: Stat, **where: Any) -> Cursor:
        """Remember where reading stands within a file."""
        self.at = {"name": name, "size": stat[0], "time": stat[1], **where}
        return self.cursor()

    def done(self, name: str, stat: Stat, digest: str) -> Cursor:
        """Remember a file as taken."""
        self.at = {}
        self.files.pop(name, None)
        self.files[name] = (*stat, digest)
        return self.cursor()

    def forget_file(
        self, name: str, known: tuple[int, int, str] | None, at: Mapping[str, Any]
    ) -> None:
        """Return to what was known before a file that was refused."""
        self.at = dict(at)
        self.files.pop(name, None)
        if known is not None:
            self.files[name] = known

    def told(self, passed: Iterable[str]) -> list[str]:
        """Remember which names are passed over; return those that were not told before."""
        names = sorted(passed)[:MAX_FILES]
        new = [name for name in names if name not in self.passed]
        self.passed = names
        return new

    def forget(self, found: Mapping[str, Any]) -> None:
        """Keep the cursor bounded: forget files that are gone, the oldest first."""
        gone = [name for name in self.files if name not in found]
        for name in gone[: max(0, len(self.files) - MAX_FILES)]:
            del self.files[name]
