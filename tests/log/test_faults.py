"""What the embedded log does when the machine fails under it; each fault is caused, not faked."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exchange.errors import Denied, ExchangeError, Integrity, Misconfigured, Transient
from exchange.log import Fenced, Message, Topic
from exchange.log.embedded.log import EmbeddedLog
from exchange.log.embedded.sqlite import OS_VERDICTS, VERDICTS, map_errors
from exchange.sqlite_codes import CAUSES, Cause
from exchange.store.sql_errors import SQLITE_VERDICTS
from exchange.text import Text
from tests.log.contract import put, take, values

if TYPE_CHECKING:
    from collections.abc import Iterator

RAW, SEALED, CURSORS = "exchange.raw.a", "exchange.sealed.a", "exchange.cursors"
ROOT = Path(__file__).parents[2]
NOBODY = 65534
now = partial(datetime.now, UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.sqlite3"


@contextmanager
def opened(path: Path, *, patience: float = 10.0) -> Iterator[EmbeddedLog]:
    with closing(EmbeddedLog(path, clock=now, patience=patience)) as log:
        log.ensure([Topic(RAW), Topic(SEALED), Topic(CURSORS, compacted=True)])
        yield log


# the error map


def test_every_code_of_sqlite_has_a_verdict() -> None:
    """Result codes 1 to 26 are all primary errors (sqlite.org/rescode.html)."""
    bugs_of_ours = {
        12,  # SQLITE_NOTFOUND, internal to file control
        16,  # SQLITE_EMPTY, not used
        sqlite3.SQLITE_MISUSE,
        sqlite3.SQLITE_RANGE,
    }
    assert set(range(1, 27)) - set(CAUSES) == bugs_of_ours
    assert set(VERDICTS) == set(SQLITE_VERDICTS) == set(Cause) == set(CAUSES.values())
    names = {
        value
        for name, value in vars(sqlite3).items()
        if name.startswith("SQLITE_IOERR_") and isinstance(value, int)
    }
    assert names
    assert {code & 0xFF for code in names} <= set(CAUSES)


def test_verdicts_keep_cause_and_hint(path: Path) -> None:
    for code, verdict in [*VERDICTS.items(), *OS_VERDICTS.items()]:
        error = verdict(path, Text(f"代码 {code}", f"code {code}"))
        assert str(path) in error.what.en
        assert str(path) in error.what.zh
        assert error.hint.zh
        assert error.hint.en

    def fail() -> None:
        with map_errors(path):
            raise OSError(28, "No space left on device")

    with pytest.raises(Transient) as caught:
        fail()
    assert isinstance(caught.value.__cause__, OSError)


def test_a_bug_of_ours_stays_visible(path: Path) -> None:
    def fail() -> None:
        with map_errors(path), closing(sqlite3.connect(":memory:")) as connection:
            connection.execute("SELECT ?", ())

    with pytest.raises(sqlite3.ProgrammingError):
        fail()


# disk


def test_disk_full_is_transient_and_leaves_nothing(path: Path) -> None:
    with opened(path) as log:
        put(log, RAW, b"before")
        connection = log._file._idle[-1]
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(Transient) as caught:
            put(log, RAW, b"small", bytes(900_000))
        assert not isinstance(caught.value, Fenced)
        assert "space" in caught.value.what.en
        # The failed connection is gone; a new one has room again, as after a clean-up.
        put(log, RAW, b"after")
        assert values(log.read(RAW, 0, 0, max_entries=9)) == [b"before", b"after"]


def test_a_write_that_the_system_refuses_leaves_nothing(path: Path) -> None:
    """The process may write files up to 3 MB: the write-ahead log hits the end in mid-commit."""
    with opened(path) as log:
        put(log, RAW, b"before")
    script = f"""
import resource, signal
from tests.log.test_faults import *
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))
with opened(Path({str(path)!r})) as log:
    try:
        put(log, RAW, *[bytes(900_000)] * 5)
    except Transient:
        assert values(log.read(RAW, 0, 0, max_entries=9)) == [b"before"]
        put(log, RAW, b"after")
        print("transient")
"""
    assert run(script).stdout == "transient\n"
    with opened(path) as log:
        assert values(log.read(RAW, 0, 0, max_entries=9)) == [b"before", b"after"]


@contextmanager
def unprivileged() -> Iterator[None]:
    """Drop root's right to write anywhere."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_read_only_folder_is_denied() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "log.sqlite3"
        folder.chmod(0o555)
        with unprivileged(), pytest.raises(Denied) as caught:
            EmbeddedLog(path, clock=now)
        assert str(folder) in caught.value.hint.en

        folder.chmod(0o755)
        with opened(path) as log:
            put(log, RAW, b"a")
        path.chmod(0o444)
        folder.chmod(0o555)
        with unprivileged(), pytest.raises(Denied):
            EmbeddedLog(path, clock=now)
        folder.chmod(0o755)


def test_a_missing_folder_is_misconfigured(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured):
        EmbeddedLog(tmp_path / "missing" / "log.sqlite3", clock=now)


# locks


def test_a_locked_file_is_transient_after_bounded_patience(path: Path) -> None:
    with opened(path, patience=0.1) as log:
        put(log, RAW, b"before")
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            begun = time.monotonic()
            with pytest.raises(Transient):
                put(log, RAW, b"refused")
            assert time.monotonic() - begun < 5
            assert values(log.read(RAW, 0, 0, max_entries=9)) == [b"before"]
            other.execute("ROLLBACK")
        put(log, RAW, b"after")
        assert values(log.read(RAW, 0, 0, max_entries=9)) == [b"before", b"after"]


def test_a_thread_that_holds_the_lock_is_waited_for_with_bounded_patience(path: Path) -> None:
    with opened(path, patience=0.1) as log:
        put(log, RAW, b"before")
        with log._file.write(), pytest.raises(Transient):
            put(log, RAW, b"refused")
        put(log, RAW, b"after")


# damage


def patch(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)


@pytest.mark.parametrize("what", ["value", "key", "header"])
def test_a_changed_byte_is_found_and_named(path: Path, what: str) -> None:
    with opened(path) as log:
        put(log, RAW, b"good")
        with log.transaction("writer") as transaction:
            transaction.append(
                Message(RAW, b"value0".ljust(50_000, b"."), key="key0", headers={"h": "header0"})
            )
        put(log, RAW, b"good")
    at = path.read_bytes().index(f"{what}0".encode())
    patch(path, at + len(what), b"1")
    with opened(path) as log:
        assert values(log.read(RAW, 0, 0, max_entries=1)) == [b"good"]
        consumer = log.consumer("group", [RAW])
        take(consumer, 1)
        with pytest.raises(Integrity, match=rf"checksum at {RAW}/0/1"):
            consumer.poll(max_entries=1, max_bytes=1)
        with pytest.raises(Integrity):
            log.read(RAW, 0, 0, max_entries=3)
        with pytest.raises(Integrity):
            log.read(RAW, 0, 1, max_entries=1)


@pytest.mark.parametrize("lost", [1, 2])
def test_a_missing_entry_is_found(path: Path, lost: int) -> None:
    with opened(path) as log:
        put(log, RAW, b"a", b"b", b"c")
        with log._file.write() as rows:
            rows.execute("DELETE FROM entry WHERE value = ?", (b"abc"[lost : lost + 1],))
        with pytest.raises(Integrity, match=f"missing at {RAW}/0/{lost}"):
            log.read(RAW, 0, lost, max_entries=1)
        consumer = log.consumer("group", [RAW])
        take(consumer, lost)
        with pytest.raises(Integrity, match=f"missing at {RAW}/0/{lost}"):
            consumer.poll(max_entries=9, max_bytes=9)


def test_a_damaged_file_is_an_integrity_error(path: Path) -> None:
    with opened(path) as log:
        put(log, RAW, *(bytes(300_000) for _ in range(5)))
    whole = path.read_bytes()

    patch(path, 0, b"no database any more")
    with pytest.raises(Integrity):
        EmbeddedLog(path, clock=now)

    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Integrity), opened(path) as log:
        log.read(RAW, 0, 0, max_entries=9)

    path.write_bytes(whole[:32_768] + b"\xff" * (len(whole) - 32_768))
    with pytest.raises(Integrity), opened(path) as log:
        log.read(RAW, 0, 0, max_entries=9)


def test_another_file_is_refused(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE entry (id INTEGER)")
    with pytest.raises(Misconfigured):
        EmbeddedLog(path, clock=now)


def test_a_newer_schema_is_refused(path: Path) -> None:
    with opened(path):
        pass
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 2")
    with pytest.raises(Misconfigured, match="schema 2"):
        EmbeddedLog(path, clock=now)


# time


def test_time_never_falls_when_the_clock_is_set_back(path: Path) -> None:
    moment = datetime(2026, 11, 23, 8, tzinfo=UTC)
    moments = [moment, moment - timedelta(days=1), moment + timedelta(seconds=1)]
    with closing(EmbeddedLog(path, clock=lambda: moments[0])) as log:
        log.ensure([Topic(RAW)])
        for _ in range(3):
            put(log, RAW, b"x")
            moments.append(moments.pop(0))
        start = int(moment.timestamp() * 1000)
        times = [entry.time for entry in log.read(RAW, 0, 0, max_entries=3)]
        assert times == [start, start, start + 1000]


# processes


def run(script: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        check=check,
        capture_output=True,
        text=True,
        timeout=120,
    )


KILLED = """
import os, signal
from tests.log.test_faults import *
with opened(Path({path!r})) as log:
    consumer = log.consumer("group", [RAW])
    (entry,) = take(consumer, 1)
    with log.transaction("seal") as transaction:
        transaction.append(Message(SEALED, bytes(300_000)))
        transaction.append(Message(CURSORS, b"2", key="batch"))
        transaction.commit(consumer, RAW, 0, entry.offset + 1)
        seen = []
        def die(statement):
            seen.append(statement)
            if len(seen) == {step}:
                print(statement.split("(")[0], flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
        for connection in log._file._idle:
            connection.set_trace_callback(die)
    print("after", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_kill_at_every_statement_leaves_all_or_nothing(path: Path) -> None:
    with opened(path) as log:
        put(log, RAW, b"record")
        with log.transaction("seal") as transaction:
            transaction.append(Message(CURSORS, b"1", key="batch"))
    steps: list[str] = []
    while steps[-1:] != ["after"]:
        killed = run(KILLED.format(path=str(path), step=len(steps) + 1), check=False)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        steps.append(killed.stdout.strip())
        with opened(path) as log:
            newest = log.latest(CURSORS, "batch")
            assert newest
            seen = (newest.value, log.bounds(SEALED, 0), log.position("group", RAW, 0))
        done = steps[-1] == "after"
        assert seen == ((b"2", (0, 1), 1) if done else (b"1", (0, 0), 0)), steps[-1]
    assert steps[-2] == "COMMIT"
    assert len(steps) > 8


RACING = """
from tests.log.test_faults import *
with opened(Path({path!r})) as log:
    consumer = log.consumer("group", [RAW])
    fenced = 0
    while log.position("group", RAW, 0) < 60:
        if log.bounds(RAW, 0)[1] < 60:
            put(log, RAW, b"{name}", owner="{name}")
        entries = consumer.poll(max_entries=2, max_bytes=1000, timeout=0.01)
        if not entries:
            continue
        try:
            with log.transaction("{name}") as transaction:
                for entry in entries:
                    transaction.append(Message(SEALED, str(entry.offset).encode()))
                transaction.commit(consumer, RAW, 0, entries[-1].offset + 1)
        except Fenced:
            consumer.rewind()
            fenced += 1
    print(fenced)
"""


def test_processes_race_from_the_making_of_the_file_on(path: Path) -> None:
    """Three processes make, fill and work off one log: each entry is processed once."""
    workers = [
        subprocess.Popen([sys.executable, "-c", RACING.format(path=str(path), name=name)], cwd=ROOT)
        for name in ("a", "b", "c")
    ]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0, 0]
    with opened(path) as log:
        end = log.bounds(RAW, 0)[1]
        left = end - log.position("group", RAW, 0)
        sealed = values(log.read(SEALED, 0, 0, max_entries=1000))
    assert sealed == [str(offset).encode() for offset in range(end - left)]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_errors_are_ours(path: Path) -> None:
    with opened(path) as log:
        consumer = log.consumer("group", [RAW])
        with pytest.raises(ExchangeError), log.transaction("w") as transaction:
            transaction.commit(consumer, RAW, 0, 1)
        put(log, RAW, b"a")
        take(consumer, 1)
        with pytest.raises(ExchangeError), log.transaction("w") as transaction:
            transaction.commit(consumer, RAW, 0, 2)
