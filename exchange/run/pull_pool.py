"""Pulls beside each other: a thread for each source that is pulled, at most so many at a time.

A pull reads its source and writes to the log in a thread of its own. The main thread decides
everything else; it hears of the pulls through one queue. A pull goes on when the main thread has
taken what came: a fast source fills neither memory nor disk. A source that brings nothing for
longer than its time limit is given up: its thread can write nothing any more, and is left behind
until it ends by itself. Threads, not processes: a connector waits most of its time, the file
readers are processes already, and the log knows threads.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Protocol

from exchange.errors import Transient
from exchange.log import Fenced
from exchange.pipeline.messages import PullState
from exchange.pipeline.pull import PullGuard
from exchange.text import Text

_AHEAD = 1
"""Transactions of a pull that wait for the main thread, beside the one that it works on."""


class Pulling(Protocol):
    """What is run: :class:`exchange.pipeline.pull.PullStage`."""

    def run(
        self, seen: Callable[[PullState | None], None], guard: PullGuard
    ) -> Generator[int, None, None]:
        """Pull what is new; yield the number of rows each time some are durable."""


@dataclass(frozen=True, slots=True)
class PullJob:
    """One source to pull: ``timeout`` is how many seconds it may bring nothing."""

    source: str
    resource: str
    stage: Pulling
    timeout: float


@dataclass(frozen=True, slots=True)
class PullSeen:
    """The state of a source's pull, before it begins or when it is done."""

    source: str
    state: PullState | None


@dataclass(frozen=True, slots=True)
class PullRows:
    """So many rows of a source are durable; the pull waits for :meth:`PullPool.go_on`."""

    source: str
    rows: int


@dataclass(frozen=True, slots=True)
class PullEnd:
    """A pull is over, with what ended it before its time."""

    source: str
    failure: BaseException | None = None


PullEvent = PullSeen | PullRows | PullEnd


class _Turns:
    """Who writes to a resource: one pull at a time, from its first transaction to its end.

    The limits of a resource count one pull after the other.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._writers: dict[str, _PullThread] = {}

    def take(self, pull: _PullThread) -> None:
        """Wait until the pull may write; raises Fenced when it is to end."""
        resource = pull.job.resource
        with self._changed:
            self._changed.wait_for(lambda: pull.ending or self._writers.get(resource, pull) is pull)
            if self._writers.get(resource, pull) is not pull:
                raise _given_up(pull.job.source)
            self._writers[resource] = pull

    def free(self, pull: _PullThread) -> None:
        """Let another pull write, if this one could."""
        with self._changed:
            if self._writers.get(pull.job.resource) is pull:
                del self._writers[pull.job.resource]
            self._changed.notify_all()

    def wake(self) -> None:
        """Let who waits look again whether it is to end."""
        with self._changed:
            self._changed.notify_all()


class _PullThread:
    """One pull under way, and its guard."""

    def __init__(
        self,
        job: PullJob,
        turns: _Turns,
        put: Callable[[PullEvent], None],
        monotonic: Callable[[], float],
    ) -> None:
        self.job = job
        self.ending = False
        """Whether it is to end with the transaction that it works on."""
        self.wrote = False
        self._turns = turns
        self._put = put
        self._monotonic = monotonic
        self._credit = threading.Semaphore(_AHEAD)
        self._lock = threading.Lock()
        """Held while it writes: it is given up before or behind a transaction."""
        self._over = False
        """Whether it has ended or was given up: nobody hears of it any more."""
        self._waits_since: float | None = monotonic()
        """Since when the source is waited for; None while it is not."""
        self._thread = threading.Thread(target=self._run, name=f"pull {job.source}", daemon=True)

    # --- for the main thread --------------------------------------------------------------

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def go_on(self) -> None:
        """Let it take the next frame."""
        self._credit.release()

    def end(self) -> None:
        """Let it end with the transaction that it works on."""
        self.ending = True
        self._credit.release()
        self._turns.wake()

    def waited(self) -> float:
        """Return for how many seconds its source has been waited for."""
        since = self._waits_since
        return 0.0 if since is None else self._monotonic() - since

    def give_up(self) -> bool:
        """Let it write nothing more; False when it is writing just now, or has ended."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if self._over:
                return False
            self._over = self.ending = True
        finally:
            self._lock.release()
        self._credit.release()
        self._turns.free(self)
        return True

    @property
    def is_alive(self) -> bool:
        """Whether its thread still runs."""
        return self._thread.is_alive()

    # --- the thread -----------------------------------------------------------------------

    def _run(self) -> None:
        failure: BaseException | None = None
        try:
            with closing(self.job.stage.run(self._saw, self)) as pulling:
                for rows in pulling:
                    self._waits_since = None
                    self._tell(PullRows(self.job.source, rows))
                    self._credit.acquire()
                    self._waits_since = self._monotonic()
                    if self.ending:
                        break
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            failure = error
        self._turns.free(self)
        self._tell(PullEnd(self.job.source, failure))

    def _saw(self, state: PullState | None) -> None:
        self._tell(PullSeen(self.job.source, state))

    def _tell(self, event: PullEvent) -> None:
        with self._lock:
            if not self._over:
                self._over = isinstance(event, PullEnd)
                self._put(event)

    # --- its guard ------------------------------------------------------------------------

    def arrive(self) -> None:
        """Hear that the source has brought something; raises Fenced when it was given up."""
        if self._over:
            raise _given_up(self.job.source)
        self._waits_since = self._monotonic()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Surround a transaction; raises Fenced when the pull was given up."""
        self._waits_since = None
        self._turns.take(self)
        with self._lock:
            if self._over:
                self._turns.free(self)
                raise _given_up(self.job.source)
            yield
            self.wrote = True
        self._waits_since = self._monotonic()


class PullPool:
    """The pulls under way; every method is the main thread's."""

    def __init__(self, limit: int, monotonic: Callable[[], float]) -> None:
        """Start nothing yet; ``limit``: how many sources are pulled beside each other."""
        self._limit = limit
        self.monotonic = monotonic
        self._turns = _Turns()
        self._events: queue.SimpleQueue[PullEvent] = queue.SimpleQueue()
        self._early: deque[PullEvent] = deque()
        """What came while the main thread waited for anything at all."""
        self._running: dict[str, _PullThread] = {}
        self._left: dict[str, _PullThread] = {}
        """Threads that were given up and have not ended."""

    @property
    def sources(self) -> frozenset[str]:
        """The sources that are pulled now."""
        return frozenset(self._running)

    def has_room(self, resource: str, patience: float) -> bool:
        """Tell whether a source of a resource may be pulled now.

        Sources of one resource come one after the other. One that has brought nothing for
        ``patience`` seconds lets the others go first.
        """
        if len(self._running) >= self._limit:
            return False
        others = (pull for pull in self._running.values() if pull.job.resource == resource)
        return all(not pull.wrote and pull.waited() > patience for pull in others)

    def hangs(self, source: str) -> bool:
        """Tell whether a pull of the source was given up and has not ended."""
        if source in self._left and not self._left[source].is_alive:
            del self._left[source]
        return source in self._left

    def start(self, job: PullJob) -> None:
        """Pull a source."""
        pull = _PullThread(job, self._turns, self._events.put, self.monotonic)
        self._running[job.source] = pull
        pull.start()

    def go_on(self, source: str) -> None:
        """Let a pull take the next frame: what it told of is sealed."""
        if source in self._running:
            self._running[source].go_on()

    def end(self, source: str) -> None:
        """Let a pull end with the transaction that it works on."""
        if source in self._running:
            self._running[source].end()

    def wait(self, timeout: float) -> None:
        """Return when there is something to take, or after ``timeout`` seconds."""
        try:
            self._early.append(self._events.get(timeout=timeout))
        except queue.Empty:
            return

    def take(self) -> Iterator[PullEvent]:
        """Yield what happened; a source that is over its time limit is given up."""
        while self._early or not self._events.empty():  # this thread alone takes from it
            event = self._early.popleft() if self._early else self._events.get()
            if isinstance(event, PullEnd):
                self._running.pop(event.source, None)
            yield event
        for source, pull in list(self._running.items()):
            seconds = pull.job.timeout
            if pull.waited() > seconds and pull.give_up():
                self._leave(pull)
                yield PullEnd(source, _silent(source, seconds))

    def close(self, grace: float) -> Iterator[PullEvent]:
        """End every pull; one that does not within ``grace`` seconds is given up.

        Nothing is lost: what is not written is pulled again.
        """
        for pull in self._running.values():
            pull.end()
        end = self.monotonic() + grace
        while self._running:
            self.wait(min(0.05, max(0.0, end - self.monotonic())))
            yield from self.take()
            if self.monotonic() >= end:
                for source, pull in list(self._running.items()):
                    if pull.give_up():
                        self._leave(pull)
                        yield PullEnd(source)

    def _leave(self, pull: _PullThread) -> None:
        del self._running[pull.job.source]
        self._left[pull.job.source] = pull


def _given_up(source: str) -> Fenced:
    return Fenced(
        Text(f"对 {source} 的拉取已放弃", f"the pull of {source} was given up"),
        hint=Text("下次拉取重新开始", "the next pull takes it up"),
    )


def _silent(source: str, seconds: float) -> Transient:
    return Transient(
        Text(
            f"数据源 {source} 在 {seconds:g} 秒内没有给出任何数据，已放弃本次拉取",
            f"source {source} brought nothing for {seconds:g} s: this pull is given up",
        ),
        hint=Text(
            f"请检查对方系统和网络；确实需要更久的，提高 sources.{source}.timeout",
            "look at the other system and the line; where it needs longer, raise"
            f" sources.{source}.timeout",
        ),
    )
