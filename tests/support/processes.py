"""The command in processes of their own: started, watched, stopped."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.pipeline.place import Place, records
from tests.support.nodes import make


def wait_for(happened: Callable[[], object], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that is dead and not fetched does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@dataclass
class Parent:
    """The command in a process of its own."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)

    def pids(self) -> list[int]:
        """Name the workers that were started, in order."""
        return [int(m[1]) for line in list(self.lines) if (m := re.search(r"runs \((\d+)\)", line))]

    def said(self, text: str) -> bool:
        return any(text in line for line in list(self.lines))


@contextmanager
def running(folder: Path, *options: object) -> Iterator[Parent]:
    process = subprocess.Popen(
        [sys.executable, "-m", "exchange", "run", *map(str, options)],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "EXCHANGE_LANG": "en"},
    )
    parent = Parent(process)
    reader = threading.Thread(target=parent.read)
    reader.start()
    try:
        yield parent
    except AssertionError as error:
        error.add_note("".join(parent.lines))
        raise
    finally:
        process.kill()
        process.wait()
        for pid in parent.pids():
            wait_for(lambda pid=pid: not alive(pid))  # type: ignore[misc]
        reader.join(30)
        assert process.stderr is not None
        process.stderr.close()


def scheduled(folder: Path, rows: int, extra: str = "", *, name: str = "cases") -> Place:
    place = make(folder, {name: records(rows, dirty=False)})
    path = folder / "exchange.yaml"
    text = path.read_text("utf-8").replace("connector: sql", "connector: sql, every: 1s")
    path.write_text(text + extra, "utf-8")
    return place


def delivered(place: Place) -> int:
    """Count the rows that the province has confirmed; by SQL, for it is asked again and again."""
    store = f"file:{place.folder / 'data' / 'store.db'}?mode=ro"
    question = "SELECT sum(row_count) FROM deliveries WHERE delivery_state = 'receipted'"
    try:
        with contextlib.closing(sqlite3.connect(store, uri=True)) as database:
            return int(database.execute(question).fetchone()[0] or 0)
    except sqlite3.OperationalError as error:
        if "unable to open" in str(error) or "no such table" in str(error):
            return 0  # there is no store yet
        raise
