"""What a process does that appends to a log under strace, for ``test_faults.py``.

It opens the log, appends twice, keeps a checkpoint and a witness's line. What is refused as
Transient is tried again in the same process; every success is told in a file beside the log.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import traceback
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from exchange.errors import Transient
from exchange.evidence.log import EvidenceLog
from exchange.seal.crypto.suites import SM2_SM3, Suite
from exchange.seal.eseal.signature import Sealer
from tests.evidence.samples import ORIGIN, entries
from tests.receipt.seals import NOW

START, MIDDLE, END = 255, 258, 260
"""The log is full up to one entry of a tile; the first append crosses its border."""
BEGIN = "begin"
TRIES = 3
_PR_SET_PTRACER, _ANY = 0x59616D61, -1
"""prctl(2): who may trace this process, where Yama restricts that to its parents."""


@dataclass(frozen=True)
class Once:
    """A signer that gives one signature, made before: this process has no key."""

    certificate: bytes
    signature: bytes
    suite: Suite = SM2_SM3
    software: bool = True

    def sign(self, data: bytes) -> bytes:
        assert data
        return self.signature


Tell = Callable[[str], object]


def again(act: Callable[[], Any], tell: Tell) -> Any:
    for _ in range(TRIES):
        try:
            return act()
        except Transient:
            tell("refused")
    raise SystemExit("refused too often")


def _append(folder: Path, given: Path, tell: Tell) -> None:
    parts = {name: b64decode(value) for name, value in json.loads(given.read_text()).items()}
    sealer = Sealer(Once(parts["certificate"], parts["signature"]), parts["eseal"])
    log: EvidenceLog = again(lambda: EvidenceLog.open(folder, origin=ORIGIN), tell)
    for start, end in ((START, MIDDLE), (MIDDLE, END)):
        result = again(partial(log.append, entries(start, end), expected_size=start), tell)
        assert result == tuple(range(start, end))
        tell(f"size {end}")
    again(lambda: log.checkpoint(sealer, NOW), tell)
    tell("checkpoint")
    again(lambda: log.add_witness(END, parts["line"], [parts["witness"]]), tell)
    tell("witness")


def _append_beside(folder: Path, given: Path) -> None:
    """Append to ``folder``/log, tell in ``folder``/told."""
    result = os.open(folder / "told", os.O_WRONLY | os.O_CREAT)
    _append(folder / "log", given, lambda word: os.write(result, f"{word}\n".encode()))


def _fork(folder: Path, given: Path) -> tuple[int, int]:
    """Start a process that waits for a byte before it appends; return its id and where to write."""
    libc = ctypes.CDLL(None)
    (ready, tell_ready), (wait, begin) = os.pipe(), os.pipe()
    process = os.fork()
    if process == 0:
        code = 1
        try:
            os.close(begin)
            libc.prctl(_PR_SET_PTRACER, _ANY)  # strace is no parent of this process
            os.write(tell_ready, b"r")
            assert os.read(wait, 1)
            _append_beside(folder, given)
            code = 0
        except BaseException:  # noqa: BLE001 - told, and the code says it
            traceback.print_exc()
        finally:
            os._exit(code)
    for end in (tell_ready, wait):
        os.close(end)
    assert os.read(ready, 1)
    os.close(ready)
    return process, begin


def main(rehearsal: Path, given: Path) -> None:
    """Append in a process for each folder that a line names; nothing is imported in those.

    Answers with the id of the process, which waits; then to BEGIN with its exit code.
    """
    _append_beside(rehearsal, given)
    for line in sys.stdin:
        process, begin = _fork(Path(line.strip()), given)
        print(process, flush=True)  # noqa: T201 - the answer
        assert sys.stdin.readline().strip() == BEGIN
        os.write(begin, b"b")
        os.close(begin)
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
