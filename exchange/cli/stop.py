"""A person's wish to stop a command that runs on and on: Ctrl-C or SIGTERM."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

_AGAIN_SECONDS = 1.0


class Stop(threading.Event):
    """A person's wish to stop.

    The main loop looks at it in every step and calls ``heartbeat``: so the loop is known alive.
    Whoever waits for it waits for a second at most, as a signal ends no wait.
    """

    def __init__(self) -> None:
        """Begin without a wish."""
        super().__init__()
        self.heartbeat: Callable[[], None] = lambda: None
        self._notify: Callable[[str, str], None] = lambda _zh, _en: None
        self._signalled = False

    def is_set(self) -> bool:
        """Tell whether to stop; the main thread says once that a signal asked for it."""
        if threading.current_thread() is threading.main_thread():
            self.heartbeat()
            if self._signalled and not super().is_set():
                self.set()
                self._notify(
                    "正在停止：完成手头的工作；再次要求则立即结束",
                    "stopping: finishing what is under way; ask again to end at once",
                )
        return self._signalled or super().is_set()

    def on_signals(self, notify: Callable[[str, str], None]) -> None:
        """Set it with SIGTERM and SIGINT; the same signal a second later ends the process at once.

        Nothing is lost by that. A service manager and our supervisor may both send the first one.

        A handler interrupts the main thread anywhere, so it takes no lock and writes nothing:
        setting the event would wait for ever for a lock that this thread holds in ``wait``.
        """
        self._notify = notify
        first: dict[int, float] = {}

        def ask(number: int, _frame: FrameType | None) -> None:
            self._signalled = True
            now = time.monotonic()
            if now - first.setdefault(number, now) >= _AGAIN_SECONDS:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, ask)
