"""SIGTERM at the worst moment: while the main thread holds the event's own lock, or writes."""

from __future__ import annotations

import subprocess
import sys

SIGNALLED = """
import os, signal, sys
from exchange.cli.stop import Stop

said = []
stop = Stop()
stop.on_signals(lambda zh, en: said.append(en))
with stop._cond:  # as in the middle of wait()
    os.kill(os.getpid(), signal.SIGTERM)
    assert said == [], "a handler may interrupt a write: it writes nothing"
assert stop.is_set() and stop.is_set()
assert stop.wait(0)
assert said == ["stopping: finishing what is under way"], said
"""


def test_a_signal_while_the_main_thread_waits_ends_the_wait() -> None:
    """With a handler that sets the event the process hangs for ever."""
    subprocess.run([sys.executable, "-c", SIGNALLED], check=True, timeout=120)
