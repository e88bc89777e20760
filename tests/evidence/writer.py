"""What a process does that appends to a log under strace, for ``test_faults.py``.

It opens the log, appends twice, keeps a checkpoint and a witness's line. What is refused as
Transient is tried again in the same process; every success is told in a file beside the log.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
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


def append(folder: Path, given: Path, begin: Connection) -> None:
    """Wait for the word to begin, append to ``folder``/log; tells in ``folder``/told."""
    sys.dont_write_bytecode = True
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANY)  # strace is no parent of this process
    told = os.open(folder / "told", os.O_WRONLY | os.O_CREAT)
    begin.recv_bytes()
    _append(folder / "log", given, lambda word: os.write(told, f"{word}\n".encode()))


def _append(folder: Path, given: Path, tell: Tell) -> None:
    parts = {name: b64decode(value) for name, value in json.loads(given.read_text()).items()}
    sealer = Sealer(Once(parts["certificate"], parts["signature"]), parts["eseal"])
    log: EvidenceLog = again(lambda: EvidenceLog.open(folder, origin=ORIGIN), tell)
    for start, end in ((START, MIDDLE), (MIDDLE, END)):
        told = again(partial(log.append, entries(start, end), expected_size=start), tell)
        assert told == tuple(range(start, end))
        tell(f"size {end}")
    again(lambda: log.checkpoint(sealer, NOW), tell)
    tell("checkpoint")
    again(lambda: log.add_witness(END, parts["line"], [parts["witness"]]), tell)
    tell("witness")
