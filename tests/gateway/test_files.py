from __future__ import annotations

from pathlib import Path

import pytest

from exchange.receiver.folder import remove_parts, write_durably
from tests.support.files import files_at_most


def test_a_file_is_whole_and_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "batch.avro"
    write_durably(path, b"first", token="t")
    write_durably(path, b"second", token="t")
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    with files_at_most(10_000), pytest.raises(OSError, match="File too large"):
        write_durably(tmp_path / "batch.avro", bytes(100_000), token="t")
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_taken_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "batch.avro").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_durably(tmp_path / "batch.avro", b"data", token="t")
    assert [each.name for each in tmp_path.iterdir()] == ["batch.avro"]


def test_no_folder_no_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match=r"exists|directory"):
        write_durably(tmp_path / "file" / "batch.avro", b"data", token="t")


def test_what_a_crash_left_is_removed(tmp_path: Path) -> None:
    kept, part = tmp_path / "d" / "batch.avro", tmp_path / "d" / ".batch.avro.1.part"
    write_durably(kept, b"data", token="t")
    part.write_bytes(b"da")
    remove_parts(tmp_path)
    assert list(kept.parent.iterdir()) == [kept]
