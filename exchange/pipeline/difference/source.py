"""A source that brings what changed: the steps of a pull, and its cursor."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

import polars as pl

from exchange.catalog.model import Resource
from exchange.connect import Note, Pulled, Source
from exchange.errors import Integrity, Transient
from exchange.pipeline.difference.compare import Comparison, changes_of
from exchange.pipeline.difference.decision import (
    DeletionDecision,
    WaitingDeletions,
    forget,
    needs_person,
    refusal,
)
from exchange.pipeline.difference.known import RUN, KnownState, publish
from exchange.text import Text

_PART: Final = ".part"


@dataclass(frozen=True, slots=True)
class _Place:
    """The cursor: the state that was delivered, and the one that is being delivered."""

    known: str | None = None
    rows: int = 0
    """Rows of the state that was delivered."""
    next: str | None = None
    part: int = 0
    """Which part of the changes comes next."""
    decision: DeletionDecision | None = None

    @classmethod
    def read(cls, cursor: Mapping[str, Any] | None) -> Self:
        """Read a cursor; one of another kind (the setting is new) counts as none."""
        if cursor is None or "known" not in cursor:
            return cls()
        rows, part = cursor.get("rows", 0), cursor.get("part", 0)
        return cls(cursor["known"], rows, cursor.get("next"), part, DeletionDecision.of(cursor))

    def cursor(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        out: dict[str, Any] = {"known": self.known, "rows": self.rows}
        if self.next is not None:
            out |= {"next": self.next, "part": self.part}
        return out


def decided(cursor: Mapping[str, Any], decision: DeletionDecision) -> dict[str, Any]:
    """Return a cursor that carries what a person decided; it holds for one comparison."""
    return {**cursor, "decision": {"what": decision.what, "deleted": decision.deleted}}


@dataclass(frozen=True)
class DifferenceSource:
    """Brings the changes of a source that always gives everything."""

    name: str
    source: Source
    resource: Resource
    folder: Path
    share: float
    """Of the rows that were there, how many may be gone without a person's word."""
    entropy: Callable[[int], bytes]
    failpoint: Callable[[str], None] = lambda _name: None
    sorted_rows: int = RUN
    """Rows that are sorted in memory at once."""
    resumable: bool = True

    def pull(
        self, cursor: Mapping[str, Any] | None = None, arrive: Callable[[], None] = lambda: None
    ) -> Generator[Pulled, None, None]:
        """Yield deletions, then new and changed rows; nothing where the source is not whole.

        Raises Rejected while deletions wait for a person, Integrity where a state is lost, and
        what the source raises.
        """
        place = _Place.read(cursor)
        with _disk():
            self._sweep(place)
            if place.next is None or not (self.folder / place.next).is_dir():
                token = self._prepare(place, arrive)
                if token is None:
                    yield Pulled(pl.DataFrame(), _Place(place.known, place.rows).cursor())
                    return
                place = replace(place, next=token, part=0)
            after = KnownState(self.folder / str(place.next))
            contents = after.contents
            for number in range(place.part, len(contents.parts)):
                part = contents.parts[number]
                frame = changes_of(after.folder / part.file)
                place = replace(place, part=number + 1)
                yield Pulled(frame, place.cursor(), part.locator)
                self.failpoint("difference:delivered")
            notes = tuple(Note(**note) for note in contents.notes)
            done = _Place(place.next, contents.rows)
            yield Pulled(pl.DataFrame(), done.cursor(), notes=notes)

    def _sweep(self, place: _Place) -> None:
        """Remove what no cursor names: states that are over, and what a crash left."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in self.folder.iterdir():
            if folder.is_dir() and folder.name not in {place.known, place.next}:
                shutil.rmtree(folder)
        self.failpoint("difference:swept")

    def _prepare(self, place: _Place, arrive: Callable[[], None]) -> str | None:
        """Read the source, and make the folder of its new state and of what leads to it.

        Return None where nothing has changed: the state stays.
        """
        known = None if place.known is None else self._known(place.known)
        token = self.entropy(8).hex()
        part = self.folder / (token + _PART)
        part.mkdir(mode=0o700)
        comparison = Comparison(part, self.resource, known, self.sorted_rows)
        with closing(self.source.pull(None, arrive)) as stream:
            for pulled in stream:
                comparison.take(pulled)
                self.failpoint("difference:read")
        if comparison.is_unchanged:
            shutil.rmtree(part)
            forget(self.folder)
            return None
        keep = self._decide(place, comparison)
        comparison.finish(delete=not keep)
        self.failpoint("difference:written")
        publish(part, self.folder / token)
        forget(self.folder)
        self.failpoint("difference:named")
        return token

    def _decide(self, place: _Place, comparison: Comparison) -> bool:
        """Tell whether records that are gone stay; raises Rejected where nobody has decided."""
        before, now, deleted = comparison.before, comparison.now, comparison.deleted
        if not needs_person(before, now, deleted, self.share):
            return False
        decision = place.decision
        if decision is None or (decision.what == "accept" and deleted > decision.deleted):
            found = WaitingDeletions(str(place.known), before, now, deleted)
            found.write(self.folder)
            raise refusal(self.name, found)
        return decision.what == "refuse"

    def _known(self, token: str) -> KnownState:
        try:
            return KnownState(self.folder / token)
        except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
            raise Integrity(
                Text(
                    f"数据源 {self.name} 上次送出的状态已丢失或损坏：{self.folder / token}",
                    f"what was delivered of the source {self.name} is lost or damaged: "
                    f"{self.folder / token}",
                ),
                hint=Text(
                    f"恢复 state 目录的备份；无备份时用 exchange source rewind {self.name} "
                    "--to-beginning --apply 全部重送，其间被删的记录要另行处理",
                    f"restore the state folder; without a backup `exchange source rewind "
                    f"{self.name} --to-beginning --apply` delivers everything again, without "
                    "the deletions since",
                ),
            ) from error


@contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Transient(
            Text(
                f"无法写入快照比对的文件：原文：{error}", f"a file of the difference fails: {error}"
            ),
            hint=Text("请检查磁盘空间和权限", "look at the disk's space and rights"),
        ) from error
