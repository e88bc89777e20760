"""Every step of an append may be killed or fail: strace does it to each call, one by one.

A dry run lists the calls that change something in the log's folder. Then, for each of them, one
process is killed as it enters the call, and one gets EIO or ENOSPC from it. After each, another
process (this one) opens the log, appends again, and audits it completely.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from itertools import cycle
from pathlib import Path

import pytest

from exchange.evidence.audit import audit
from exchange.evidence.checkpoint import Head, cosign, sign
from tests.evidence.samples import ORIGIN, digest, entries, mth, open_log, party, trust
from tests.evidence.writer import END, START
from tests.receipt.seals import NOW

ROOT = Path(__file__).parents[2]
CHANGING = (
    "openat,write,pwrite64,writev,fsync,fdatasync,rename,renameat,renameat2,link,linkat,"
    "mkdir,mkdirat,unlink,unlinkat,rmdir,ftruncate,truncate,flock"
)
HELP = (
    "this test needs strace and the right to trace its own children: install it "
    "(tools/servers.py, or apt-get install strace), and in a container allow ptrace "
    "(docker run --cap-add=SYS_PTRACE); it is never skipped, because without it nobody "
    "knows whether an append survives a crash"
)
LEAVES = [digest(b"\x00" + each) for each in entries(0, END)]


@dataclass(frozen=True)
class Call:
    """The ``when``-th call of its name in the process; ``text`` as strace shows it."""

    name: str
    when: int
    text: str


@dataclass(frozen=True)
class Run:
    told: list[str]
    trace: str
    code: int


@dataclass(frozen=True)
class Stage:
    """A log before the append, and what the writer is given."""

    log: Path
    given: Path

    def run(self, folder: Path, *, inject: str | None = None) -> Run:
        shutil.copytree(self.log, folder / "log")
        trace = folder / "trace"
        strace = ["strace", "-qq", "-y", "-s", "0", "-o", str(trace)]
        strace += ["-e", f"trace={CHANGING}"]  # with --seccomp-bpf signals are not delivered
        if inject:
            strace += ["-e", f"inject={inject}"]
        python = [sys.executable, "-B", "-m", "tests.evidence.writer"]
        done = subprocess.run(
            [*strace, *python, str(folder / "log"), str(self.given)],
            cwd=ROOT,
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )
        if not trace.exists() or "Operation not permitted" in done.stderr:
            pytest.fail(f"{HELP}\n{done.stderr}")
        return Run(done.stdout.split("\n")[:-1], trace.read_text(), done.returncode)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    if shutil.which("strace") is None:
        pytest.fail(HELP)
    folder = tmp_path_factory.mktemp("stage")
    node, province = party("node").sealer, party("province").sealer
    with open_log(folder / "log") as log:
        log.append(entries(0, 3))
        log.checkpoint(node, NOW - timedelta(minutes=1))
        log.append(entries(3, START))
    # what a killed append left behind, with other entries
    (folder / "log/tile/entries/001.p").mkdir()
    (folder / "log/tile/entries/001.p/9").write_bytes(b"left behind")
    (folder / "log/.part").write_bytes(b"left behind")
    note = sign(Head(ORIGIN, END, mth(LEAVES)), node, NOW)
    line = cosign(None, note.checkpoint, [], sealer=province, name="province", at=NOW)
    given = {
        "certificate": node.signer.certificate,
        "eseal": node.eseal,
        "signature": note.signature.value,
        "line": line,
        "witness": province.signer.certificate,
    }
    path = folder / "given.json"
    path.write_text(json.dumps({name: b64encode(data).decode() for name, data in given.items()}))
    return Stage(folder / "log", path)


def changes(trace: str, log: Path) -> Iterator[Call]:
    """Yield the calls that change something in the log's folder, numbered as strace counts."""
    seen: Counter[str] = Counter()
    for line in trace.splitlines():
        found = re.match(r"(\w+)\(", line)
        if found is None:
            continue
        name = found[1]
        seen[name] += 1
        reading = name == "openat" and "O_CREAT" not in line and "O_DIRECTORY" not in line
        if str(log) in line and not reading:
            yield Call(name, seen[name], line)


def check_after(run: Run, folder: Path) -> None:
    """Open the log in another process than the writer, append again, audit all of it."""
    sizes = [int(word.removeprefix("size ")) for word in run.told if word.startswith("size")]
    acknowledged = max(sizes, default=START)
    node, province = trust(party("node")), trust(party("province"))
    with open_log(folder / "log") as log:
        assert log.size >= acknowledged
        assert log.root == mth(LEAVES[: log.size])
        assert ("checkpoint" in run.told) <= (log.kept(END) is not None)
        witnessed = log.witnessed()
        assert ("witness" in run.told) <= (witnessed is not None)
        assert audit(folder / "log", trust=node, witnesses=province).ok
        added = log.append(entries(0, END), expected_size=acknowledged)
        assert added == tuple(range(END))
        log.checkpoint(party("node").sealer, NOW)
    found = audit(folder / "log", trust=node, witnesses=province)
    assert found.ok, found.failed
    assert (found.facts["size"], found.facts["root"]) == (END, mth(LEAVES).hex())
    assert found.facts["beyond"] == 0


def test_every_step_of_an_append_survives_a_kill_and_an_io_error(
    stage: Stage, tmp_path: Path
) -> None:
    for name in ("warm", "dry"):
        (tmp_path / name).mkdir()
        dry = stage.run(tmp_path / name)
        assert dry.code == 0, dry.told
        assert dry.told == ["size 258", "size 260", "checkpoint", "witness"]
        check_after(dry, tmp_path / name)
    calls = list(changes(dry.trace, tmp_path / "dry" / "log"))
    kinds = {call.name for call in calls}
    assert {"openat", "write", "fsync", "rename", "mkdir", "unlink", "flock"} <= kinds
    errors = cycle(("EIO", "ENOSPC"))
    faults = [(call, fault) for call in calls for fault in ("signal=KILL", f"error={next(errors)}")]

    def inject(number: int) -> None:
        call, fault = faults[number]
        folder = tmp_path / str(number)
        folder.mkdir()
        run = stage.run(folder, inject=f"{call.name}:{fault}:when={call.when}")
        lines = [line for line in run.trace.splitlines() if str(folder) in line or "+++" in line]
        where = "\n".join([f"{fault} at {call.text}: {run.code} {run.told}", *lines[-20:]])
        if "KILL" in fault:
            assert "killed by SIGKILL" in run.trace, where
        else:
            (hit,) = [line for line in run.trace.splitlines() if "(INJECTED)" in line]
            assert str(folder / "log") in hit, where
            assert run.code == 0, where
            assert run.told[-1] == "witness", where
        try:
            check_after(run, folder)
        except Exception as error:
            raise AssertionError(where) from error
        shutil.rmtree(folder)

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(inject, range(len(faults))))
    sys.stdout.write(
        f"{len(done)} injections at {len(calls)} calls: {Counter(c.name for c in calls)}\n"
    )
    assert len(done) >= 100
