"""Files are there whole, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from exchange.durable import read_file, remove_parts, replacing, write_file
from tests.support.files import files_at_most


def test_a_file_is_whole_and_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "batch.avro"
    write_file(path, b"first")
    write_file(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    with files_at_most(10_000), pytest.raises(OSError, match="File too large"):
        write_file(tmp_path / "batch.avro", bytes(100_000))
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_taken_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "batch.avro").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_file(tmp_path / "batch.avro", b"data")
    assert [path.name for path in tmp_path.iterdir()] == ["batch.avro"]


def test_no_folder_no_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match=r"exists|directory"):
        write_file(tmp_path / "file" / "batch.avro", b"data")
    with pytest.raises(FileNotFoundError):
        write_file(tmp_path / "typed" / "batch.avro", b"data", make_folders=False)
    assert not (tmp_path / "typed").exists()


def test_what_a_crash_left_is_removed(tmp_path: Path) -> None:
    kept, part = tmp_path / "d" / "batch.avro", tmp_path / "d" / ".batch.avro.1.part"
    write_file(kept, b"data")
    part.write_bytes(b"da")
    remove_parts(tmp_path)
    assert list(kept.parent.iterdir()) == [kept]


def test_a_secret_is_for_its_owner_alone_from_the_first_byte(tmp_path: Path) -> None:
    with replacing(tmp_path / "secret", mode=0o600) as stream:
        stream.write(b"s")
        (part,) = tmp_path.iterdir()
        assert part.name.endswith(".part")
        assert part.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


def test_a_block_that_raises_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "batch.avro"
    write_file(path, b"first")
    writer = replacing(path)
    writer.__enter__().write(b"sec")
    stopped = KeyboardInterrupt()
    assert not writer.__exit__(KeyboardInterrupt, stopped, None)
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_part_of_a_process_that_was_killed_is_in_nobodys_way(tmp_path: Path) -> None:
    part = tmp_path / ".part"
    part.write_bytes(b"longer than what follows")
    write_file(tmp_path / "head", b"data", part=part)
    assert (tmp_path / "head").read_bytes() == b"data"
    assert not part.exists()


def test_a_link_stays_a_link_and_a_pipe_a_pipe(tmp_path: Path) -> None:
    file, link, pipe = tmp_path / "file", tmp_path / "link", tmp_path / "pipe"
    file.write_bytes(b"first")
    link.symlink_to(file)
    write_file(link, b"second")
    assert link.is_symlink()
    assert file.read_bytes() == b"second"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_file(pipe, b"third")
        assert os.read(reader, 10) == b"third"
    finally:
        os.close(reader)
    assert pipe.is_fifo()


def test_only_a_regular_file_of_bounded_size_is_read(tmp_path: Path) -> None:
    """A pipe that nobody writes to would hang, a device would never end."""
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_file(path, 5) == b"12345"
    os.mkfifo(tmp_path / "pipe")
    for place, limit in ((path, 4), (tmp_path / "pipe", 5), (Path("/dev/zero"), 5), (tmp_path, 5)):
        with pytest.raises(OSError, match=r"regular|more than|directory"):
            read_file(place, limit)
