"""SIGTERM at the worst moment: while the main thread holds the event's own lock, or writes."""

from __future__ import annotations

import signal
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
assert said == ["stopping: finishing what is under way; ask again to end at once"], said
"""

AGAIN = """
import os, signal, time
from exchange.cli.stop import Stop

Stop().on_signals(lambda zh, en: None)
os.kill(os.getpid(), signal.SIGTERM)
os.kill(os.getpid(), signal.SIGTERM)  # of a service manager and a supervisor: one wish
while True:
    time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGTERM)
"""


def test_who_asks_again_is_obeyed_at_once() -> None:
    """A source that hangs must not make the process immortal."""
    ended = subprocess.run([sys.executable, "-c", AGAIN], check=False, timeout=120)
    assert ended.returncode == -signal.SIGTERM


def test_a_signal_while_the_main_thread_waits_ends_the_wait() -> None:
    """With a handler that sets the event the process hangs for ever."""
    subprocess.run([sys.executable, "-c", SIGNALLED], check=True, timeout=120)
