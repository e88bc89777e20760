"""What a pull remembers of a server's folder, and the same as the folder of copies has it.

The files connector reads copies; it knows a file by its size and time. The time of a copy is
that of its copying, so times are exchanged on the way in and back. No I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from exchange.connect import Cursor
from exchange.connectors.files.folder import MAX_FILES

_KEPT = ("files", "refused")


@dataclass(frozen=True, slots=True)
class Copy:
    """A file of the server and its copy: times in the units of each."""

    size: int
    remote: int
    local: int


class Memory:
    """The cursor of a server's folder: files taken and refused, the place in one, names noted."""

    def __init__(self, cursor: Cursor | None) -> None:
        given: Mapping[str, Any] = cursor or {}
        self.files: dict[str, Any] = dict(given.get("files", {}))
        self.refused: dict[str, Any] = dict(given.get("refused", {}))
        self.at: dict[str, Any] = dict(given.get("at", {}))
        self.passed: list[str] = list(given.get("passed", ()))

    def cursor(self) -> dict[str, Any]:
        """Return a copy as JSON."""
        whole = {"files": self.files, "refused": self.refused, "at": self.at, "passed": self.passed}
        return {name: _copy(part) for name, part in whole.items() if part}

    def is_new(self, name: str, size: int, time: int) -> bool:
        """Whether a file of this size and time was not taken."""
        return list(self.files.get(name, ())[:2]) != [size, time]

    def note(self, names: list[str]) -> list[str]:
        """Remember which names are passed over; return those that are new."""
        new = [name for name in names if name not in self.passed]
        self.passed = names[:MAX_FILES]
        return new

    def forget(self, names: set[str]) -> None:
        """Keep the cursor bounded: forget files that are gone, the oldest first."""
        gone = [name for name in self.files if name not in names]
        for name in gone[: max(0, len(self.files) - MAX_FILES)]:
            del self.files[name]
        self.refused = {name: known for name, known in self.refused.items() if name in names}

    def inner(self, copies: Mapping[str, Copy]) -> dict[str, Any]:
        """Return the cursor with which the copies are read."""
        at = self.at if self.at.get("name") in copies else {}
        return {
            "files": {
                name: [size, _exchange(time, copies[name].remote, copies[name].local), digest]
                for name, (size, time, digest) in self.files.items()
                if name in copies
            },
            "refused": {
                name: _timed(known, copies[name].remote, copies[name].local)
                for name, known in self.refused.items()
                if name in copies
            },
            "at": _timed(at, copies[at["name"]].remote, copies[at["name"]].local) if at else {},
        }

    def take(self, cursor: Mapping[str, Any], copies: Mapping[str, Copy]) -> dict[str, Any]:
        """Take over the cursor behind a frame of the copies; return the whole."""
        for part in _KEPT:
            mine: dict[str, Any] = getattr(self, part)
            theirs: Mapping[str, Any] = cursor.get(part, {})
            for name, copy in copies.items():
                mine.pop(name, None)
                if name not in theirs:
                    continue
                known = theirs[name]
                if part == "files":
                    size, time, digest = known
                    mine[name] = [size, _exchange(time, copy.local, copy.remote), digest]
                else:
                    mine[name] = _timed(known, copy.local, copy.remote)
        at = cursor.get("at") or {}
        self.at = _timed(at, copies[at["name"]].local, copies[at["name"]].remote) if at else {}
        return self.cursor()


def _exchange(time: int, given: int, other: int) -> int:
    """Return the other side's time of the same file; that of an older file stays another."""
    if time == given:
        return other
    return -1 if time == other else time


def _timed(known: Mapping[str, Any], given: int, other: int) -> dict[str, Any]:
    return {**known, "time": _exchange(known["time"], given, other)}


def _copy(part: Any) -> Any:
    return dict(part) if isinstance(part, dict) else list(part)
