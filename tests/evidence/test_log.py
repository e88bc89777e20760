from __future__ import annotations

import errno
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.errors import Integrity, Misconfigured, Transient
from exchange.evidence.entry import (
    EvidenceEntry,
    MessagesEntry,
    PullEntry,
    RetentionEntry,
    TrailEntry,
    messages_digest,
    read_entry,
    well_formed,
)
from exchange.evidence.log import EvidenceLog
from tests.evidence.samples import ORIGIN, digest, entries, entry, mth, open_log

LEAVES = [digest(b"\x00" + item) for item in entries(0, 1200)]


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_what_is_appended_is_there_for_the_next_process(tmp_path: Path) -> None:
    with open_log(tmp_path / "log") as log:
        assert (log.size, log.root) == (0, mth([]))
        assert log.append(entries(0, 3)) == (0, 1, 2)
        assert log.append([]) == ()
        assert log.append(entries(3, 600), expected_size=3) == tuple(range(3, 600))
        assert log.find(entry(400)) == 400
        assert log.find(entry(600)) is None
    with open_log(tmp_path / "log") as log:
        assert (log.size, log.root) == (600, mth(LEAVES[:600]))
        assert [log.entry(index) for index in range(600)] == entries(0, 600)
        assert [log.find(entry(n)) for n in (0, 255, 256, 599, 600)] == [0, 255, 256, 599, None]


def test_what_is_in_is_not_doubled(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        log.append(entries(0, 10))
        assert log.append([entry(12), entry(3), entry(12), entry(11)]) == (10, 3, 10, 11)
        assert log.size == 12
    with open_log(tmp_path) as log:
        assert log.append(entries(0, 10), expected_size=10) == tuple(range(10))
        assert log.append([entry(12), entry(13)]) == (10, 12)
        assert log.size == 13


def test_partial_tiles_stay_until_the_full_one_is_there(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        for number in range(255):
            log.append([entry(number)])
        assert len(list((tmp_path / "tile/0/000.p").iterdir())) == 255
        log.append([entry(255)])
        assert {name for name in tree(tmp_path) if name.startswith("tile/")} == {
            "tile/0/000",
            "tile/1/000.p/1",
            "tile/entries/000",
        }
        log.append([entry(256)])
        assert log.root == mth(LEAVES[:257])


@settings(max_examples=15)
@given(steps=st.lists(st.integers(0, 300), max_size=4), reopen=st.booleans())
def test_any_steps_give_the_tree_of_the_rfc(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], *, reopen: bool
) -> None:
    folder = tmp_path_factory.mktemp("log")
    size = 0
    log = open_log(folder)
    for step in steps:
        assert log.append(entries(size, size + step)) == tuple(range(size, size + step))
        size += step
        assert (log.size, log.root) == (size, mth(LEAVES[:size]))
        if reopen:
            log.close()
            log = open_log(folder)
    log.close()


def test_only_one_process_writes(tmp_path: Path) -> None:
    with open_log(tmp_path):
        code = (
            "import sys, pathlib\n"
            "from exchange.errors import Transient\n"
            "from exchange.evidence.log import EvidenceLog\n"
            "try: EvidenceLog.open(pathlib.Path(sys.argv[1]), origin=sys.argv[2])\n"
            "except Transient: print('locked')"
        )
        command = [sys.executable, "-c", code, str(tmp_path), ORIGIN]
        result = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
        assert result.stdout == "locked\n"
        with pytest.raises(Transient, match="open"):
            open_log(tmp_path)
    open_log(tmp_path).close()


def test_another_log_is_not_continued(tmp_path: Path) -> None:
    open_log(tmp_path).close()
    with pytest.raises(Misconfigured, match="is the evidence log"):
        EvidenceLog.open(tmp_path, origin="another")
    with pytest.raises(Misconfigured, match="cannot name"):
        EvidenceLog.open(tmp_path / "new", origin="with space")
    open_log(tmp_path).close()  # the lock was given back


def test_a_log_shorter_than_was_acknowledged_is_refused(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        log.append(entries(0, 5))
        with pytest.raises(Integrity, match="acknowledged"):
            log.append([entry(9)], expected_size=6)
        assert log.size == 5


@pytest.mark.parametrize("damage", ["gone", "other root", "longer", "garbage"])
def test_a_head_that_is_not_that_of_the_tiles_stops_the_writer(tmp_path: Path, damage: str) -> None:
    with open_log(tmp_path) as log:
        log.append(entries(0, 300))
    head = tmp_path / "head"
    origin, size, root, _ = head.read_text().split("\n")
    new = {
        "gone": None,
        "other root": f"{origin}\n299\n{root}\n",
        "longer": f"{origin}\n301\n{root}\n",
        "garbage": f"{origin}\n0{size}\n{root}\n",
    }[damage]
    head.unlink() if new is None else head.write_text(new)
    before = tree(tmp_path)
    with pytest.raises(Integrity):
        open_log(tmp_path)
    assert tree(tmp_path) == before


def test_what_an_interrupted_append_left_is_cleared_away(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        log.append(entries(0, 250))
    old = (tmp_path / "head").read_bytes()
    with open_log(tmp_path) as log:
        log.append(entries(250, 1000, "never acknowledged"))
    for path in tmp_path.glob("tile/*/000"):  # as the append left it before its last step
        path.with_name("000.p").mkdir(exist_ok=True)
    (tmp_path / "head").write_bytes(old)
    for name, width in (("entries", 250), ("0", 250)):
        full = (tmp_path / "tile" / name / "000").read_bytes()
        part = full[: 32 * width] if name == "0" else b""
        for item in entries(0, width) if name == "entries" else ():
            part += len(item).to_bytes(2) + item
        (tmp_path / "tile" / name / "000.p" / str(width)).write_bytes(part)
    (tmp_path / ".part").write_bytes(b"half")
    with open_log(tmp_path) as log:
        assert log.size == 250
        assert {name for name in tree(tmp_path) if name.startswith((".", "tile/"))} == {
            "tile/0/000.p/250",
            "tile/entries/000.p/250",
        }
        log.append(entries(250, 600))
        assert log.root == mth(LEAVES[:600])


class FullDisk:
    """The disk of a log; fails with an errno from the n-th file on, until it is freed."""

    def __init__(self, log: EvidenceLog, after: int) -> None:
        self.after = after
        self.disk = log._disk
        self.real = log._disk._write

    def __call__(self, path: str, data: bytes) -> Path:
        self.after -= 1
        if self.after < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.real(path, data)


@pytest.mark.parametrize("after", range(5))
def test_a_full_disk_is_transient_and_the_same_log_goes_on(tmp_path: Path, after: int) -> None:
    with open_log(tmp_path) as log:
        log.append(entries(0, 250))
        disk = FullDisk(log, after)
        log._disk._write = disk  # type: ignore[method-assign]
        for _ in range(2):
            with pytest.raises(Transient, match="No space left"):
                log.append(entries(250, 260))
            disk.after = min(disk.after, 0)
        disk.after = 99
        assert log.append(entries(250, 260), expected_size=250) == tuple(range(250, 260))
        assert log.root == mth(LEAVES[:260])


def test_entries_are_of_one_form() -> None:
    data = entry(1)
    assert EvidenceEntry.from_bytes(data).to_bytes() == data
    for wrong in (
        b"",
        data + b"\n",
        data.replace(b'"lane":1', b'"lane":01'),
        data.replace(b'"lane":1', b'"lane": 1'),
        data.replace(b"receipt", b"recept"),
        data.replace(b"sm3:", b"md5:"),
        data.replace(b"permits", b"Permits"),
    ):
        with pytest.raises(ValueError, match="not an entry"):
            EvidenceEntry.from_bytes(wrong)
    with pytest.raises(ValueError, match="not an entry"):
        EvidenceEntry(
            type="receipt", resource="a b", lane=0, batch_no="0" * 13, digest="sm3:" + "0" * 64
        )


MESSAGES = MessagesEntry(
    log="0" * 32,
    topic="exchange.quarantine.permits",
    lane=0,
    first=0,
    next=2,
    count=2,
    digest="sm3:" + "a" * 64,
)
PULL = PullEntry(
    log="f" * 32,
    source="permits",
    pull="20261123T010203-00ff00ff.2",
    rows=300,
    done=1,
    offset=7,
    digest="sm3:" + "b" * 64,
)
TRAIL = TrailEntry(trail="sm3:" + "c" * 64, number=12, digest="sha256:" + "d" * 64)


RETENTION = RetentionEntry(
    log="f" * 32,
    topic="exchange.raw.permits",
    lane=0,
    first=0,
    next=12,
    pull="20261123T010203-00ff00ff",
    count=12,
    rows=300,
    digest="sm3:" + "a" * 64,
)


@pytest.mark.parametrize("leaf", [MESSAGES, PULL, TRAIL, RETENTION], ids=lambda leaf: leaf.TYPE)
def test_entries_of_version_2_are_of_one_form_each(leaf: MessagesEntry | PullEntry) -> None:
    data = leaf.to_bytes()
    assert well_formed(data)
    assert read_entry(data) == leaf
    assert type(leaf).from_bytes(data) == leaf
    for wrong in (
        data + b"\n",
        data[:-1],
        data.replace(b'"version":2', b'"version":3'),
        data.replace(b'"digest":"s', b'"digest": "s'),
        data.replace(leaf.TYPE.encode() + b'","v', b'receipt","v'),
        data.replace(b'digest":"', b'digest":"X'),
        data.replace(b":12,", b":012,").replace(b":7,", b":07,").replace(b":0,", b":00,"),
    ):
        assert wrong != data
        assert not well_formed(wrong)
        with pytest.raises(ValueError, match="not an entry"):
            read_entry(wrong)


def test_the_digest_of_messages_is_as_documented() -> None:
    def h(data: bytes) -> bytes:
        return hashlib.new("sm3", data).digest()

    heads = [
        b'{"headers":{"a":"1","b":"\\u540d"},"key":"","offset":4}',
        b'{"headers":{},"key":"k","offset":9}',
    ]
    expected = h(
        b"".join(h(head) + h(value) for head, value in zip(heads, (b"v", b""), strict=True))
    )
    messages = [(4, "", {"b": "名", "a": "1"}, b"v"), (9, "k", {}, b"")]
    assert messages_digest(messages) == f"sm3:{expected.hex()}"
    assert messages_digest(messages[:1]) != messages_digest(messages)


def test_entries_that_no_tile_can_hold_are_refused(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        for wrong in ([b""], [bytes(65_536)]):
            with pytest.raises(ValueError, match="bytes"):
                log.append(wrong)
        assert log.append([bytes(65_535)]) == (0,)
