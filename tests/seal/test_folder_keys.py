"""Folders are written whole or not at all; keys take over one after the other."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.errors import Integrity, Misconfigured
from exchange.seal.eseal.folder import KEYS, Key, add_key, key_at, read_keys, write_folder
from tests.seal.parties import NOW


def test_a_folder_is_there_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "seals" / "data"

    rename = Path.replace

    def full(self: Path, target: Path) -> Path:
        if self.is_file():
            return rename(self, target)
        assert sorted(path.name for path in self.iterdir()) == ["a", "b", "key.pem"]
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(Misconfigured, match="No space left"):
            write_folder(folder, {"a": b"1", "b": b"2"}, {"key.pem": b"3"})
    assert list((tmp_path / "seals").iterdir()) == []
    write_folder(folder, {"a": b"1", "b": b"2"}, {"key.pem": b"3"})
    assert (folder / "key.pem").stat().st_mode & 0o777 == 0o600
    with pytest.raises(Misconfigured, match="File exists"):
        write_folder(folder, {"a": b"4"}, {})
    assert (folder / "a").read_bytes() == b"1"


def test_what_a_killed_run_left_is_in_nobodys_way(tmp_path: Path) -> None:
    part = tmp_path / ".data.part"
    part.mkdir()
    (part / "key.pem").write_bytes(b"half")
    write_folder(tmp_path / "data", {"a": b"1"}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_the_first_key_seals_until_the_next_takes_over(tmp_path: Path) -> None:
    assert read_keys(tmp_path) == [Key()]
    second = Key("key-2", NOW, "file:key.pem", "file:password.txt")
    third = Key("../other", NOW + timedelta(days=1), "pkcs11:token=t", "env:PIN")
    add_key(tmp_path, second)
    add_key(tmp_path, third)
    keys = read_keys(tmp_path)
    assert keys == [Key(), second, third]
    assert key_at(keys, NOW - timedelta(microseconds=1)) == Key()
    assert key_at(keys, NOW) == second
    assert key_at(keys, NOW + timedelta(days=2)) == third
    with pytest.raises(Misconfigured, match="takes over at"):
        add_key(tmp_path, Key("late", NOW))
    assert read_keys(tmp_path) == keys


@given(st.binary(max_size=80) | st.text('[]{}",:0-9TZfolder since', max_size=80).map(str.encode))
def test_a_broken_list_is_never_read_as_no_list(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    folder = tmp_path_factory.mktemp("keys")
    (folder / KEYS).write_bytes(data)
    try:
        assert read_keys(folder) == [Key()]
    except Integrity:
        return
    assert json.loads(data) == []


@pytest.mark.parametrize(
    "since", [["2026-01-01T00:00:00"], ["2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"]]
)
def test_moments_have_a_zone_and_an_order(tmp_path: Path, since: list[str]) -> None:
    items = [{"folder": "a", "since": at, "key": "", "password": ""} for at in since]
    (tmp_path / KEYS).write_text(json.dumps(items))
    with pytest.raises(Integrity, match="out of order"):
        read_keys(tmp_path)
