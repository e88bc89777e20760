"""The cursor of a folder: files taken, files refused, names passed over, the place in a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from exchange.connect import Cursor
from exchange.connectors.files.folder import MAX_BYTES, MAX_FILES, Stat, cursor_bytes
from exchange.connectors.files.refusal import MAX_REFUSALS, Refusal


def _digest(name: str) -> str:
    return sha256(name.encode()).hexdigest()[:12]


@dataclass(slots=True)
class Taken:
    """Files taken (name → size, time, digest), and what else the cursor of a folder holds."""

    files: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    at: dict[str, Any] = field(default_factory=dict)
    """Where the current file stands."""
    passed: list[str] = field(default_factory=list)
    """Digests of the names passed over that were noted."""
    refused: dict[str, Refusal] = field(default_factory=dict)

    @classmethod
    def read(cls, cursor: Cursor | None) -> Taken:
        """Read the cursor back."""
        given: Mapping[str, Any] = cursor or {}
        taken = {name: (s, t, d) for name, (s, t, d) in given.get("files", {}).items()}
        refused = {name: Refusal.read(known) for name, known in given.get("refused", {}).items()}
        return cls(taken, dict(given.get("at", {})), list(given.get("passed", ())), refused)

    def cursor(self) -> Cursor:
        """Return a copy as JSON."""
        out: dict[str, Any] = {"files": {name: list(known) for name, known in self.files.items()}}
        if self.at:
            out["at"] = dict(self.at)
        if self.passed:
            out["passed"] = list(self.passed)
        if self.refused:
            out["refused"] = {name: known.as_dict() for name, known in self.refused.items()}
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
        self.refused.pop(name, None)
        return self.cursor()

    def refuse(self, name: str, refusal: Refusal | None) -> None:
        """Remember a file as refused; nothing of it counts as taken. None: forget that it was."""
        self.refused.pop(name, None)
        if self.at.get("name") == name:
            self.at = {}
        if refusal is not None and len(self.refused) < MAX_REFUSALS:
            self.refused[name] = refusal

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
        names = {_digest(name): name for name in sorted(passed)[:MAX_FILES]}
        known = set(self.passed)
        new = [name for digest, name in names.items() if digest not in known]
        self.passed = list(names)
        return new

    def forget(self, found: Mapping[str, Any]) -> None:
        """Keep the cursor bounded: forget files that are gone, the oldest first."""
        size = sum(map(cursor_bytes, self.files))
        for name in [name for name in self.files if name not in found]:
            if len(self.files) <= MAX_FILES and size <= MAX_BYTES:
                break
            size -= cursor_bytes(name)
            del self.files[name]
        self.refused = {name: known for name, known in self.refused.items() if name in found}
