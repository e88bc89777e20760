"""The sftp connector against a real OpenSSH server."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import paramiko
import pytest
import xlsxwriter
from hypothesis import given
from hypothesis import strategies as st

from exchange.connect import (
    Denied,
    ExchangeError,
    Misconfigured,
    Pulled,
    Rejected,
    Source,
    Transient,
)
from exchange.connect.conformance import CHECKS, Case, Changes
from exchange.connectors.files.uploads import flag_of, parse_index
from exchange.connectors.sftp import sftp
from exchange.connectors.sftp.memory import Copy, Memory
from exchange.connectors.sftp.session import HostKey
from tests.support.conformity import conform
from tests.support.folder import waits
from tests.support.servers import nobody
from tests.support.sftp import SftpHost, openssh
from tests.support.sockets import listening

NOW = datetime(2026, 11, 1, tzinfo=UTC)
_numbers = count(1)


@pytest.fixture(scope="module")
def host() -> Iterator[SftpHost]:
    with openssh() as server:
        yield server


class Folder:
    """A folder of the server, and sources that read it."""

    def __init__(self, host: SftpHost) -> None:
        self.host = host
        self.path = host.fresh_folder(f"f{next(_numbers)}")
        self.time = 1_790_000_000

    def put(self, name: str, content: str | bytes, *, time: int | None = None) -> Path:
        path = self.path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(0o644)
        self.time += 10
        os.utime(path, (self.time, time or self.time))
        return path

    def source(self, sleep: Callable[[float], None] = lambda _: None, **options: Any) -> Source:
        secrets = {"env:KEY": self.host.key, "env:OTHER": self.host.other_key, "env:PW": "s3cret"}
        given = {
            "host": "127.0.0.1",
            "port": self.host.port,
            "host_key": self.host.host_key,
            "user": self.host.user,
            "key": "env:KEY",
            "folder": str(self.path),
            **options,
        }
        given = {name: value for name, value in given.items() if value is not None}
        return sftp.open(given, secrets.__getitem__, now=lambda: NOW, sleep=sleep)

    def pull(self, cursor: Any = None, **options: Any) -> list[Pulled]:
        return list(self.source(**options).pull(cursor))


@pytest.fixture
def folder(host: SftpHost) -> Folder:
    return Folder(host)


def codes(pulls: list[Pulled]) -> list[str]:
    return [code for p in pulls if p.frame.height for code in p.frame["code"].to_list()]


def until_error(stream: Iterator[Pulled]) -> tuple[list[Pulled], ExchangeError | None]:
    """Return what came, and the error behind it."""
    pulls: list[Pulled] = []
    try:
        pulls.extend(stream)
    except ExchangeError as error:
        return pulls, error
    return pulls, None


def connected(port: int) -> int:
    """Count our open connections to the server."""
    end = f":{port:04X}"
    lines = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    return sum(line[2].endswith(end) and line[3] == "01" for line in lines)


def changes(folder: Folder, rows: list[tuple[str, str]]) -> Changes:
    """Change what lies in the folder."""

    def late() -> list[tuple[str, str]]:
        last = (folder.path / "1.csv").stat().st_mtime
        folder.put("late.csv", "code,name\n999,late\n", time=int(last))
        return [("999", "late")]

    def update() -> list[tuple[str, str]]:
        folder.put("0.csv", "code,name\n000,changed\n")
        return [("000", "changed")]

    def delete() -> list[tuple[str, str]]:
        (folder.path / "0.csv").unlink()
        return rows[:30]

    @contextmanager
    def outage() -> Iterator[None]:
        elsewhere = folder.path.rename(folder.path.with_name(folder.path.name + "-away"))
        yield
        elsewhere.rename(folder.path)

    return Changes(late=late, update=update, delete=delete, outage=outage)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_sftp_conforms(check: Callable[[Case], None], folder: Folder) -> None:
    rows = [(f"{i:03}", f"张三{i}") for i in range(60)]
    for part in range(2):
        lines = [f"{code},{name}" for code, name in rows[part * 30 : part * 30 + 30]]
        folder.put(f"{part}.csv", "\n".join(["code,name", *lines, ""]).encode("gbk"))
    other = HostKey.parse("SHA256:" + "A" * 43).fingerprint()
    with nobody() as nowhere:
        conform(
            "sftp",
            check,
            Case(
                open=lambda: folder.source(read={"block_bytes": 150}),
                changes=changes(folder, rows),
                rows=rows,
                identity=("code", "name"),
                news_only=True,
                open_count=lambda: connected(folder.host.port),
                secret="s3cret",
                broken={
                    "key": lambda: folder.source(key="env:OTHER"),
                    "password": lambda: folder.source(key=None, password="env:PW"),
                    "host key": lambda: folder.source(host_key=other),
                    "folder": lambda: folder.source(folder="/nowhere"),
                    "server": lambda: folder.source(port=int(nowhere.rpartition(":")[2])),
                },
            ),
        )


def test_each_file_is_taken_once_and_a_changed_one_again(folder: Folder) -> None:
    path = folder.put("a.csv", "code,name\n1,甲\n")
    pulls = folder.pull()
    assert codes(pulls) == ["1"]
    assert pulls[0].locator == "a.csv"
    assert folder.pull(pulls[-1].cursor) == []
    os.utime(path, (1, 1_800_000_000))
    same = folder.pull(pulls[-1].cursor)
    assert codes(same) == [], "the same content saved again"
    assert folder.pull(same[-1].cursor) == []
    folder.put("a.csv", "code,name\n1,甲\n2,乙\n")
    changed = folder.pull(same[-1].cursor)
    assert codes(changed) == ["1", "2"]
    path.unlink()
    assert folder.pull(changed[-1].cursor) == []


def test_spreadsheets_and_options_are_those_of_files(folder: Folder, tmp_path: Path) -> None:
    with xlsxwriter.Workbook(tmp_path / "a.xlsx") as book:
        sheet = book.add_worksheet("数据")
        for number, row in enumerate([("标题", ""), ("code", "name"), ("007", "甲")]):
            sheet.write_row(number, 0, row)
    folder.put("a.XLSX", (tmp_path / "a.xlsx").read_bytes())
    folder.put("readme.md", "# no table")
    folder.put(".hidden.csv", "code\n9\n")
    (folder.path / "deep.csv").mkdir()
    pulls = folder.pull(read={"sheet": "数据", "header": 2})
    assert codes(pulls) == ["007"]
    notes = [note.text for p in pulls for note in p.notes if note.kind == "passed over"]
    assert len(notes) == 2
    assert folder.pull(pulls[-1].cursor, read={"sheet": "数据", "header": 2}) == []
    with pytest.raises(Misconfigured, match="haeder is unknown"):
        folder.pull(read={"haeder": 1})
    with pytest.raises(Misconfigured, match="read cannot set settle"):
        folder.pull(read={"settle": 1})


def test_files_are_listed_with_their_columns(folder: Folder, tmp_path: Path) -> None:
    with xlsxwriter.Workbook(tmp_path / "a.xlsx") as book:
        for name in ("甲", "乙"):
            book.add_worksheet(name).write_row(0, 0, ("code", "name"))
            book.get_worksheet_by_name(name).write_row(1, 0, ("1", "x"))
    folder.put("a.xlsx", (tmp_path / "a.xlsx").read_bytes())
    folder.put("b.csv", "code,name\n1,甲\n".encode("gbk"))
    folder.put("c.pdf", "%PDF")
    for number in range(9):
        folder.put(f"more{number}.csv", "code,name\n1,x\n")
    entries = folder.source().discover()
    first, second, text = entries[:3]
    assert [entry["with"] for entry in (first, second, text)] == [
        {"glob": "a.xlsx", "read": {"sheet": "甲"}},
        {"glob": "a.xlsx", "read": {"sheet": "乙"}},
        {"glob": "b.csv"},
    ]
    assert [column["name"] for column in text["columns"]] == ["code", "name"]
    assert sum("columns" not in e for e in entries if e["kind"] == "file") == 3
    assert [e["name"] for e in entries if e["kind"] == "skipped"] == ["c.pdf"]
    chosen = second["with"]
    assert codes(folder.pull(**chosen)) == ["1"]


def test_a_bad_file_does_not_hold_up_the_others(folder: Folder) -> None:
    folder.put("a.xlsx", b"PK\x03\x04 damaged")
    folder.put("b.csv", "code,name\n1,甲\n")
    folder.put("c.csv", "code,name\n2,乙\n" + "x" * (1 << 20))
    secret = folder.put("d.csv", "code,name\n3,丙\n")
    secret.chmod(0)
    taken, error = until_error(folder.source(temp_mib=1).pull())
    assert isinstance(error, Rejected)
    assert error.what.en.startswith("3 files were not read")
    for part in ("a.xlsx", "c.csv has 1 MiB, more than temp_mib 1", "d.csv cannot be read"):
        assert part in error.what.en
    assert codes(taken) == ["1"]
    assert taken[-1].complete
    secret.chmod(0o644)
    taken, error = until_error(folder.source(temp_mib=1).pull(taken[-1].cursor))
    assert isinstance(error, Rejected)
    assert error.what.en.startswith("2 files were not read")
    assert codes(taken) == ["3"]


def test_copies_are_private_and_gone_afterwards(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder.put("a.csv", "code,name\n1,甲\n")
    stream = folder.source().pull()
    next(stream)
    (place,) = tmp_path.iterdir()
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    stream.close()
    assert list(tmp_path.iterdir()) == []


# --- whole uploads only -----------------------------------------------------------------------


def test_a_file_that_is_being_uploaded_waits(folder: Folder) -> None:
    path = folder.put("a.csv", "code,name\n1,甲\n")
    slept: list[float] = []

    def uploading(seconds: float) -> None:
        slept.append(seconds)
        with path.open("a") as stream:
            stream.write("2,乙\n")

    assert waits(folder.source(uploading, settle=7).pull())
    assert slept == [7]
    assert codes(folder.pull()) == ["1", "2"], "it stood still"


@pytest.mark.parametrize(
    ("flag", "name"), [("{name}.ok", "a.csv.ok"), ("{stem}.ok", "a.ok"), ("index.txt", "index.txt")]
)
def test_a_file_waits_for_its_flag(flag: str, name: str, folder: Folder) -> None:
    folder.put("a.csv", "code,name\n1,甲\n", time=1_795_000_000)
    assert waits(folder.pull(flag=flag))
    assert "1 of them wait" in folder.source(flag=flag).check().en
    folder.put(name, "", time=1_794_999_999)
    assert waits(folder.pull(flag=flag)), "the flag of the upload before"
    folder.put(name, "", time=1_795_000_000)
    pulls = folder.pull(flag=flag)
    assert codes(pulls) == ["1"]
    assert [note for p in pulls for note in p.notes] == [], "a flag is no file that is passed over"
    folder.put("a.csv", "code,name\n2,乙\n", time=1_795_000_001)
    assert waits(folder.pull(pulls[-1].cursor, flag=flag)), "a new upload needs a new flag"


def test_only_what_an_index_names_is_read(folder: Folder) -> None:
    """As exchange servers of provinces have it: a list with sizes and digests for each upload."""
    whole, other = b"code,name\n1,a\n", b"code,name\n2,b\n"
    for name in ("a.csv", "md5.csv", "sm3.csv", "cut.csv", "spoilt.csv", "unlisted.csv"):
        folder.put(name, whole if name == "a.csv" else other)
    lines = [
        "文件名|字节数|摘要",
        f"a.csv|{len(whole)}|{hashlib.sha256(whole).hexdigest()}",
        f"{hashlib.md5(other).hexdigest()}  md5.csv",  # noqa: S324 - as md5sum writes
        f"sm3.csv,{hashlib.new('sm3', other).hexdigest()}",
        f"cut.csv\t{len(other) + 1}",
        f"spoilt.csv {hashlib.sha256(whole).hexdigest().upper()}",
        "absent.csv 7",
    ]
    folder.put("1.idx", "\n".join(lines).encode("gbk"))
    options: dict[str, Any] = {"index": "*.IDX", "glob": "*.csv"}
    assert "2 of them wait" in folder.source(**options).check().en
    taken, error = until_error(folder.source(**options).pull())
    assert isinstance(error, Transient)
    assert error.what.en.endswith("spoilt.csv is not the file of the index")
    assert codes(taken) == ["1", "2", "2"]
    notes = [note.text for p in taken for note in p.notes if note.kind == "passed over"]
    (text,) = notes
    assert text.startswith("absent.csv：索引中有，文件夹里没有")
    folder.put("2.idx", f"cut.csv {len(other)}\nspoilt.csv {len(other)}\n")
    assert codes(folder.pull(taken[-1].cursor, **options)) == ["2", "2"], "a later index counts"


@pytest.mark.parametrize(
    "line", ["9f86d081884c7d659a2feaa0c55ad015", "12", "sub/a.csv 3", "/a.csv", "\udcff.csv"]
)
def test_a_file_that_is_no_index_is_told(line: str, folder: Folder) -> None:
    folder.put("a.csv", "code,name\n1,a\n")
    folder.put("list.txt", line.encode("utf-8", "surrogateescape"))
    with pytest.raises(Misconfigured, match=r"list\.txt is no index"):
        folder.pull(index="list.txt")


@given(st.binary(max_size=120))
def test_any_index_is_read_or_refused(data: bytes) -> None:
    with suppress(Misconfigured):
        entries = parse_index(data, "i")
        assert all(name and "/" not in name for name in entries)


@given(st.text(min_size=1), st.sampled_from(["{name}.ok", "{stem}.done", "index.ok"]))
def test_flags_never_break(name: str, flag: str) -> None:
    assert flag_of(flag, name).endswith(flag.rpartition(".")[2])


# --- who it is --------------------------------------------------------------------------------


def test_the_host_key_is_pinned(folder: Folder, host: SftpHost) -> None:
    folder.put("a.csv", "code,name\n1,甲\n")
    shown = HostKey.parse(host.host_key).fingerprint()
    for text in (shown, f"[127.0.0.1]:{host.port} {host.host_key}"):
        assert codes(folder.pull(host_key=text)) == ["1"]
    kind, data = "ssh-ed25519", host.host_key.split()[1]
    other = f"{kind} {data[:-4]}AAAA"
    with pytest.raises(Misconfigured, match="stand in for it") as caught:
        folder.pull(host_key=other)
    assert shown in caught.value.what.en
    rsa = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC"
    with pytest.raises(Misconfigured, match="host key"):
        folder.pull(host_key=rsa + "A" * 5)
    for wrong in ("", "ssh-ed25519", "ssh-ed25519 !", "SHA256:abc", "yes"):
        with pytest.raises(Misconfigured, match="no public key"):
            folder.pull(host_key=wrong)
    with pytest.raises(Misconfigured, match="host_key is missing"):
        folder.source(host_key=None)


def test_a_login_that_fails_is_denied(folder: Folder) -> None:
    with pytest.raises(Denied):
        folder.pull(key="env:OTHER")
    with pytest.raises(Denied, match="private key cannot be used"):
        folder.pull(key="env:PW")
    with pytest.raises(Misconfigured, match="password or key"):
        folder.pull(password="env:PW")


def test_a_server_that_hangs_up_is_away_for_now(folder: Folder) -> None:
    with listening(lambda connection: connection.close()) as address:
        port = int(address.rpartition(":")[2])
        with pytest.raises(Transient):
            folder.pull(port=port)


class Accounts(paramiko.ServerInterface):  # type: ignore[misc] # it has no types
    """Lets one user in, by password."""

    def __init__(self) -> None:
        self.tried: list[tuple[str, str]] = []

    def get_allowed_auths(self, username: str) -> str:
        assert username
        return "password"

    def check_auth_password(self, username: str, password: str) -> int:
        self.tried.append((username, password))
        good = password == "s3cret"
        return int(paramiko.AUTH_SUCCESSFUL if good else paramiko.AUTH_FAILED)


def test_a_password_is_sent_after_the_host_key_was_checked(folder: Folder) -> None:
    """OpenSSH takes passwords of system accounts only: paramiko's own server stands here."""
    accounts, host_key = Accounts(), paramiko.RSAKey.generate(2048)

    def serve(connection: socket.socket) -> None:
        with paramiko.Transport(connection) as transport, suppress(paramiko.SSHException, EOFError):
            transport.add_server_key(host_key)
            transport.start_server(server=accounts)
            transport.join(10)

    line = f"{host_key.get_name()} {host_key.get_base64()}"
    login = {"key": None, "password": "env:PW", "user": "li"}
    with listening(serve) as address:
        port = int(address.rpartition(":")[2])
        with pytest.raises(Misconfigured, match="stand in for it"):
            folder.pull(port=port, host_key="SHA256:" + "A" * 43, **login)
        assert accounts.tried == []
        with pytest.raises(ExchangeError) as caught:
            folder.pull(port=port, host_key=line, **login)
        assert not isinstance(caught.value, Denied), "let in; it has no files"
        assert accounts.tried == [("li", "s3cret")]
        with pytest.raises(Denied):
            folder.pull(port=port, host_key=line, key=None, password="env:OTHER", user="li")


# --- memory -----------------------------------------------------------------------------------

TIMES = st.integers(0, 50)


@given(
    st.dictionaries(st.sampled_from("abcd"), st.tuples(TIMES, TIMES, st.sampled_from("xy"))),
    st.dictionaries(
        st.sampled_from("abcd"), st.builds(Copy, TIMES, TIMES, st.integers(1_000, 2_000))
    ),
)
def test_the_memory_of_copies_is_that_of_the_server(
    files: dict[str, tuple[int, int, str]], copies: dict[str, Copy]
) -> None:
    given_files = {name: list(known) for name, known in files.items()}
    memory = Memory({"files": given_files})
    inner = memory.inner(copies)
    for name, copy in copies.items():
        known = inner["files"].get(name)
        taken = not memory.is_new(name, copy.size, copy.remote)
        assert taken == (known is not None and known[:2] == [copy.size, copy.local])
    assert set(inner["files"]) == set(files) & set(copies)
    assert memory.take(inner, copies).get("files", {}) == given_files
    done = {name: [copy.size, copy.local, "z"] for name, copy in copies.items()}
    memory.take({"files": done, "at": {}}, copies)
    assert not any(memory.is_new(name, copy.size, copy.remote) for name, copy in copies.items())
