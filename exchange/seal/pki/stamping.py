"""Time stamps on what a node seals, and how long it goes without them.

While the authority (TSA) does not answer, sealing goes on without stamps until the patience of
the settings is used up; from then on nothing is sealed until it answers. How much is used up
stands in a file, so that neither a restart nor another worker on this machine gives more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from exchange.durable import write_file
from exchange.errors import Misconfigured, Transient
from exchange.foreign import os_reason
from exchange.seal.crypto.suites import Suite
from exchange.seal.pki.timestamp import (
    CLOCK_SKEW,
    Decision,
    TsaPatience,
    decide,
    read_token,
    stamp,
)
from exchange.seal.pki.trust import Trust
from exchange.text import Text

REST: Final = timedelta(seconds=30)
"""While it is away the authority is asked so often: not each batch waits for no answer."""


@dataclass
class Stamping:
    """Gets stamps; ``post`` sends a request and returns the answer's body.

    ``path`` is the file that keeps the patience, ``allowed`` how much there is of it; ``say``
    hears when the authority goes away and comes back.
    """

    post: Callable[[bytes], bytes] = field(repr=False)
    trust: Trust = field(repr=False)
    entropy: Callable[[int], bytes] = field(repr=False)
    clock: Callable[[], datetime] = field(repr=False)
    path: Path
    allowed: timedelta
    say: Callable[[Text], None] = field(repr=False)
    _told: bool = field(default=False, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def stamp(self, value: bytes, suite: Suite) -> bytes | None:
        """Return a token for a signature value; None: go without, the patience allows it.

        Raises Transient when the patience is used up, Misconfigured when the authority refuses
        or its clock is far from ours, Integrity for an answer that is not to be trusted.
        """
        with self._lock:
            before = read_patience(self.path)
            if self._rests(before):
                self._check_patience(before)
                return None
            try:
                token = stamp(
                    value,
                    suite=suite,
                    post=self.post,
                    nonce=int.from_bytes(self.entropy(8)),
                    trust=self.trust,
                )
            except Transient as error:
                after, _ = decide(before, self.clock(), self.allowed)
                _keep(self.path, after)
                self._tell_away(error)
                self._check_patience(after)
                return None
            self._check_clock(token)
            if before != TsaPatience():
                _keep(self.path, TsaPatience())
                self._tell_back()
            return token

    def ready(self) -> None:
        """Raise Transient when :meth:`stamp` would, without asking anybody."""
        state = read_patience(self.path)
        if self._rests(state):
            self._check_patience(state)

    def _rests(self, state: TsaPatience) -> bool:
        """Tell whether the authority was away a moment ago."""
        return state.seen is not None and timedelta() <= self.clock() - state.seen < REST

    def _check_patience(self, state: TsaPatience) -> None:
        """Refuse to go without a stamp any longer."""
        if state.spent < self.allowed:
            return
        raise Transient(
            Text(
                f"时间戳服务自 {state.since} 起没有应答，等待期限 {self.allowed} 已用完：暂停封签",
                f"the TSA is away since {state.since}, the patience of {self.allowed} is used up: "
                f"{Decision.HOLD}",
            ),
            hint=Text(
                "数据未丢失；时间戳服务恢复后自动继续",
                "nothing is lost; it goes on when the TSA answers again",
            ),
        )

    def _tell_away(self, error: Transient) -> None:
        if self._told:
            return
        self._told = True
        self.say(
            Text(
                f"时间戳服务没有应答（{error.what.zh}）：不带时间戳继续封签，最长 {self.allowed}",
                f"the TSA does not answer ({error.what.en}): sealing goes on without stamps, "
                f"for {self.allowed} at most",
            )
        )

    def _tell_back(self) -> None:
        self._told = False
        self.say(Text("时间戳服务已恢复", "the TSA answers again"))

    def _check_clock(self, token: bytes) -> None:
        """Refuse a stamp that no verifier would accept beside our signing time."""
        now, at = self.clock(), read_token(token).time
        if abs(now - at) > CLOCK_SKEW:
            raise Misconfigured(
                Text(
                    f"时间戳的时间是 {at}，本机时钟是 {now}",
                    f"the time stamp says {at}, this clock {now}",
                ),
                hint=Text("请用 NTP 校准时钟", "set the clock by NTP"),
            )


def read_patience(path: Path) -> TsaPatience:
    """Read what is used up; raises Integrity for a broken file."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return TsaPatience()
    except OSError as error:
        raise _unkept(path, error) from error
    return TsaPatience.from_json(data.decode(errors="replace"))


def _keep(path: Path, state: TsaPatience) -> None:
    """Write the state before it is acted on, whole or not at all."""
    try:
        write_file(path, state.to_json().encode())
    except OSError as error:
        raise _unkept(path, error) from error


def _unkept(path: Path, error: OSError) -> Transient:
    return Transient(
        Text(
            f"无法读写 {path}：{os_reason(error).zh}", f"cannot use {path}: {os_reason(error).en}"
        ),
        hint=Text("请检查磁盘和权限", "check the disk and its rights"),
    )
