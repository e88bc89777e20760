"""Every step of an append may be killed or fail: strace does it to each call, one by one.

Each process is forked from one that has appended before, so that nothing is left to import, and
waits until strace watches it.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import cycle
from pathlib import Path

import pytest

from exchange.evidence.audit import audit
from exchange.evidence.checkpoint import Head, cosign, sign
from tests.evidence.samples import ORIGIN, digest, entries, mth, open_log, party, trust
from tests.evidence.writer import BEGIN, END, START
from tests.receipt.seals import NOW
from tests.support.soak import STEPS

ROOT = Path(__file__).parents[2]
CHANGING = (
    "openat,write,pwrite64,writev,fsync,fdatasync,rename,renameat,renameat2,link,linkat,"
    "mkdir,mkdirat,unlink,unlinkat,rmdir,ftruncate,truncate,flock"
)
HELP = (
    "this test needs strace and the right to trace processes of the same user: install it "
    "(tools/servers.py, or apt-get install strace), and in a container allow ptrace "
    "(docker run --cap-add=SYS_PTRACE); it is never skipped, because without it nobody "
    "knows whether an append survives a crash"
)
LEAVES = [digest(b"\x00" + entry) for entry in entries(0, END)]


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
    writer: subprocess.Popen[str]

    def ask(self, line: object) -> int:
        """Give the writer its next line; return the number that it answers."""
        assert self.writer.stdin is not None
        assert self.writer.stdout is not None
        self.writer.stdin.write(f"{line}\n")
        self.writer.stdin.flush()
        return int(self.writer.stdout.readline())

    def run(self, folder: Path, *, inject: str | None = None) -> Run:
        """Append in a process of its own."""
        shutil.copytree(self.log, folder / "log")
        strace = ["strace", "-y", "-s", "0", "-o", str(folder / "trace")]
        strace += ["-e", f"trace={CHANGING}"]  # with --seccomp-bpf signals are not delivered
        if inject:
            strace += ["-e", f"inject={inject}"]
        process = self.ask(folder)
        with attached([*strace, "-p", str(process)]):
            code = self.ask(BEGIN)
        result, trace = ((folder / name).read_text() for name in ("told", "trace"))
        return Run(result.split("\n")[:-1], trace, code)


@contextmanager
def attached(strace: list[str]) -> Iterator[None]:
    """Trace a process that waits; the trace is whole when this ends."""
    with subprocess.Popen(strace, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        first = tracer.stderr.readline()
        if "attached" not in first:
            pytest.fail(f"{HELP}\n{first}{tracer.stderr.read()}")
        yield
        tracer.communicate(timeout=120)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
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
    values = {
        "certificate": node.signer.certificate,
        "eseal": node.eseal,
        "signature": note.signature.value,
        "line": line,
        "witness": province.signer.certificate,
    }
    path = folder / "given.json"
    path.write_text(json.dumps({name: b64encode(data).decode() for name, data in values.items()}))
    shutil.copytree(folder / "log", folder / "rehearsal/log")
    with subprocess.Popen(
        [sys.executable, "-m", "tests.evidence.writer", folder / "rehearsal", path],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as writer:
        yield Stage(folder / "log", writer)
    assert writer.returncode == 0


def changes(trace: str, log: Path) -> Iterator[Call]:
    """Yield the calls that change something in the log's folder, numbered as strace counts."""
    counter: Counter[str] = Counter()
    for line in trace.splitlines():
        match = re.match(r"(\w+)\(", line)
        if match is None:
            continue
        name = match[1]
        counter[name] += 1
        reading = name == "openat" and "O_CREAT" not in line and "O_DIRECTORY" not in line
        if str(log) in line and not reading:
            yield Call(name, counter[name], line)


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
    counts = audit(folder / "log", trust=node, witnesses=province)
    assert counts.ok, counts.failed
    assert (counts.facts["size"], counts.facts["root"]) == (END, mth(LEAVES).hex())
    assert counts.facts["beyond"] == 0


@pytest.mark.soak
def test_every_step_of_an_append_survives_a_kill_and_an_io_error(
    stage: Stage, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    (tmp_path / "dry").mkdir()
    dry = stage.run(tmp_path / "dry")
    assert dry.code == 0, dry.told
    assert dry.told == ["size 258", "size 260", "checkpoint", "witness"]
    check_after(dry, tmp_path / "dry")
    calls = list(changes(dry.trace, tmp_path / "dry" / "log"))
    kinds = {call.name for call in calls}
    assert {"openat", "write", "fsync", "rename", "mkdir", "unlink", "flock"} <= kinds
    errors = cycle(("EIO", "ENOSPC"))
    faults = [(call, fault) for call in calls for fault in ("signal=KILL", f"error={next(errors)}")]
    # Killed at one call, failing at the next: in the long run both at each.
    faults = [pair for number, pair in enumerate(faults) if STEPS.now == 1 or number % 4 in {0, 3}]

    for number, (call, fault) in enumerate(faults):
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

    tell(
        f"append to the log: {len(faults)} faults at {len(calls)} calls survived:"
        f" {dict(Counter(call.name for call in calls))}"
    )
    assert len(faults) >= 100
