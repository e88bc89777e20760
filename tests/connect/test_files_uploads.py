"""A folder of an exchange server: only whole uploads are read, as flags and indexes say."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from exchange.connect import ExchangeError, Misconfigured, Pulled, Transient
from tests.support.folder import Folder, waits

WHOLE, OTHER = b"code,name\n1,a\n", b"code,name\n2,b\n"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def codes(pulls: list[Pulled]) -> list[str]:
    return [code for p in pulls if p.frame.height for code in p.frame["code"].to_list()]


@pytest.mark.parametrize("flag", ["{name}.ok", "{stem}.done", "ready.txt"])
def test_a_file_waits_for_its_flag(flag: str, folder: Folder) -> None:
    options: dict[str, Any] = {"flag": flag, "glob": "**/*"}
    name = flag.replace("{name}", "a.csv").replace("{stem}", "a")
    folder.put(f"in/{name}", "")
    folder.put("in/a.csv", WHOLE)
    assert waits(folder.pull(**options)), "the flag of the upload before"
    folder.put(f"in/{name}", "ok")
    pulls = folder.pull(**options)
    assert codes(pulls) == ["1"]
    assert [note for p in pulls for note in p.notes] == [], "a flag is no file that is passed over"
    assert folder.slept == []
    folder.put("in/a.csv", OTHER)
    assert waits(folder.pull(pulls[-1].cursor, **options)), "a new upload needs a new flag"


def test_only_what_an_index_names_is_read(folder: Folder) -> None:
    for name in ("a.csv", "cut.csv", "spoilt.csv", "unlisted.csv", "in/b.csv"):
        folder.put(name, WHOLE if name == "a.csv" else OTHER)
    folder.put(
        "1.idx",
        f"a.csv,{len(WHOLE)}\ncut.csv,{len(OTHER) + 1}\nabsent.csv,1\n"
        f"spoilt.csv,{len(OTHER)},{hashlib.sha256(WHOLE).hexdigest()}\n",
    )
    folder.put("in/2.idx", f"{hashlib.sha256(OTHER).hexdigest()}  b.csv\n")
    options: dict[str, Any] = {"index": "**/*.idx", "glob": "**/*"}
    taken: list[Pulled] = []
    with pytest.raises(Transient, match=r"spoilt\.csv is not the file of the index"):
        taken.extend(folder.source(**options).pull())
    pulls: list[Pulled] = []
    try:
        pulls.extend(folder.source(**options).pull())
    except ExchangeError as error:
        assert type(error) is Transient  # noqa: PT017 - what came before it is looked at
    assert sorted(codes(pulls)) == ["1", "2"]
    notes = [note.text for p in pulls for note in p.notes]
    assert len(notes) == 1
    assert notes[0].startswith("absent.csv：索引中有，文件夹里没有")
    folder.put("3.idx", f"cut.csv {len(OTHER)}\nspoilt.csv {len(OTHER)}\n")
    assert codes(folder.pull(pulls[-1].cursor, **options)) == ["2", "2"], "a later index counts"


def test_an_index_that_is_none_and_a_flag_that_is_a_path_are_told(folder: Folder) -> None:
    folder.put("a.csv", WHOLE)
    folder.put("list.txt", "../a.csv 3\n")
    with pytest.raises(Misconfigured, match=r"list\.txt is no index"):
        folder.pull(index="list.txt")
    with pytest.raises(Misconfigured, match="flag is a name"):
        folder.pull(flag="done/{name}")
    with pytest.raises(Misconfigured):
        folder.pull(index="../*.idx")
