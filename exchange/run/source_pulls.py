"""What the main thread does about the pulls: starts them, seals along the way, keeps how they end.

In: names of sources whose time has come. Out: a result for each. Errors stay with their source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from exchange.errors import ExchangeError, Transient
from exchange.log import Fenced
from exchange.node.node import Node
from exchange.pipeline.failure import PullFailure, failure_key
from exchange.pipeline.messages import PullState, pull_key
from exchange.pipeline.pause import Pause, pause_key
from exchange.run.outcome import RunOutcome, Where
from exchange.run.pull_pool import PullEnd, PullJob, PullPool, PullRows, PullSeen
from exchange.store.node.pulls import PullRow
from exchange.text import Text

_LOOK_TRANSACTIONS = 8
"""Transactions of a pull between two looks at how far the province is behind."""
_PATIENCE_SECONDS = 2.0
"""A source that has brought nothing for so long lets the others of its resource go first."""


@dataclass(frozen=True, slots=True)
class PullReport:
    """What one pull of a source did, for the log of a run."""

    source: str
    resource: str
    rows: int
    accepted: int
    """Records of this pull that are sealed so far, those before a restart among them."""
    quarantined: int
    seconds: float
    waiting: int | None = None
    """Batches of the resource that wait for the province; None: there is none."""
    error: ExchangeError | None = None
    next: datetime | None = None
    """When the source is pulled next; None: nobody has planned it."""


@dataclass(frozen=True, slots=True)
class PullResult:
    """How the pull of a source ended."""

    source: str
    failed: bool = False
    taken_over: bool = False
    """Whether another worker has taken the source over meanwhile."""
    unfinished: bool = False
    """Whether it goes on at its next permitted time."""
    report: PullReport | None = None


@dataclass
class _Work:
    """What is known of a pull under way."""

    began: float
    rows: int = 0
    transactions: int = 0
    stopped: ExchangeError | None = None
    """Why we end it before its time."""
    unfinished: bool = False


class SourcePulls:
    """The pulls of one run. Of the main thread alone."""

    def __init__(
        self,
        node: Node,
        outcome: RunOutcome,
        pool: PullPool,
        *,
        seal: Callable[[str], None],
        progress: Callable[[str, int], None],
        permits: Callable[[str], bool],
    ) -> None:
        """Pull nothing yet; ``seal`` checks and seals what waits of a resource.

        ``permits`` tells whether a source may be pulled now.
        """
        assert node.context.recent  # noqa: S101 - opened here, before two threads want it
        self._node = node
        self._outcome = outcome
        self._pool = pool
        self._seal = seal
        self._progress = progress
        self._permits = permits
        self._requests: dict[str, None] = {}
        """Sources that wait for their turn, in their order."""
        self._work: dict[str, _Work] = {}
        self._closing = False

    @property
    def busy(self) -> bool:
        """Whether a source is pulled, or waits for it."""
        return bool(self._requests or self._pool.sources)

    def request(self, source: str) -> None:
        """Have a source pulled; it may wait for its turn, or be under way already."""
        if source not in self._pool.sources:
            self._requests[source] = None

    def withdraw(self, keep: Callable[[str], bool]) -> None:
        """Forget the sources that wait for their turn and are not to be kept."""
        self._requests = {name: None for name in self._requests if keep(name)}

    def wait(self, timeout: float) -> None:
        """Return when something has happened, or after ``timeout`` seconds."""
        self._pool.wait(timeout)

    def step(self) -> Iterator[PullResult]:
        """Take in what happened, start what may start; yield how pulls ended."""
        yield from self._take(self._pool.take())
        for source in list(self._requests):
            resource = self._node.source_settings(source).resource
            if not self._pool.has_room(resource, _PATIENCE_SECONDS):
                continue
            del self._requests[source]
            result = self._start(source, resource)
            if result is not None:
                yield result

    def close(self, grace: float) -> None:
        """End what is under way; nothing is lost."""
        self._requests.clear()
        self._closing = True
        for _ in self._take(self._pool.close(grace)):
            pass

    def _take(self, events: Iterator[PullSeen | PullRows | PullEnd]) -> Iterator[PullResult]:
        for event in events:
            match event:
                case PullSeen(source, state):
                    with self._outcome.keep(Where("store")):
                        self._record(source, state)
                case PullRows(source, rows):
                    self._take_rows(source, rows)
                case PullEnd(source, failure):
                    yield self._end(source, failure)

    def _start(self, source: str, resource: str) -> PullResult | None:
        """Start a pull; a result when it cannot begin."""
        self._seal(resource)
        if self._outcome.is_halted(resource):
            return PullResult(source)
        pause = Pause.of(self._node.context.latest(pause_key(source)))
        if pause is not None:
            self._outcome.errors[Where("pull", source)] = pause.refusal(source)
            return PullResult(source, failed=True)
        self._work[source] = _Work(self._pool.monotonic())
        if self._pool.hangs(source):
            return self._end(source, _hangs(source))
        try:
            self._check_backlog(resource)
            timeout = self._node.source_settings(source).timeout.total_seconds()
            self._pool.start(PullJob(source, resource, self._node.pull_stage(source), timeout))
        except Exception as error:  # noqa: BLE001 - kept with its source, as any other end
            return self._end(source, error)
        return None

    def _take_rows(self, source: str, rows: int) -> None:
        outcome, resource = self._outcome, self._node.source_settings(source).resource
        work = self._work[source]
        outcome.pulled += rows
        work.rows += rows
        self._progress("pulled", rows)
        if not self._closing:
            self._seal(resource)
        work.transactions += 1
        work.unfinished = not self._permits(source)
        if work.unfinished or outcome.is_halted(resource):
            self._pool.end(source)
        elif work.transactions % _LOOK_TRANSACTIONS == 0:
            try:
                self._check_backlog(resource)
            except ExchangeError as error:
                work.stopped = error
                self._pool.end(source)
        self._pool.go_on(source)

    def _end(self, source: str, failure: BaseException | None) -> PullResult:
        work = self._work[source]
        failure = failure or work.stopped
        if isinstance(failure, Fenced):
            return PullResult(source, taken_over=True)
        with self._outcome.keep(Where("pull", source)):
            if failure is not None:
                raise failure
        error = self._outcome.errors.get(Where("pull", source))
        report = self._conclude(source, work, error)
        unfinished = work.unfinished and error is None
        return PullResult(source, error is not None, unfinished=unfinished, report=report)

    def _conclude(self, source: str, work: _Work, error: ExchangeError | None) -> PullReport | None:
        """Show how a pull ended, in the store and to those who ask the log."""
        outcome, resource = self._outcome, self._node.source_settings(source).resource
        with outcome.keep(Where("store")):
            state = self._node.context.pull_state(source)
            self._record(source, state, error)
            for drift, columns in (
                (outcome.absent, state.absent if state is not None else ()),
                (outcome.appeared, state.appeared if state is not None else ()),
            ):
                drift.pop(source, None)
                if columns:
                    drift[source] = list(columns)
            self._note_failure(source, error)
            row = self._node.store.pulls.get(state.pull) if state and work.rows else None
            upstream = self._node.settings.upstream
            return PullReport(
                source,
                resource,
                work.rows,
                row.accepted if row is not None else 0,
                row.quarantined if row is not None else 0,
                self._pool.monotonic() - work.began,
                self._node.topics.backlog(resource) if upstream is not None else None,
                error,
            )
        return None

    def _note_failure(self, name: str, error: ExchangeError | None) -> None:
        """Note in the log why a source failed, or that it does no more: status and doctor ask."""
        log, key = self._node.context.log, failure_key(name)
        known = PullFailure.of(self._node.context.latest(key))
        failure = PullFailure()
        if error is not None:
            since = self._node.clock().isoformat(timespec="seconds")
            failure = PullFailure(type(error).__name__, error.what, error.hint, since)
        if not failure.is_same(known):
            # As an owner of its own below the pull's: the rights of who pulls are enough.
            with log.transaction(f"{pull_key(name)}/failure") as tx:
                tx.append(failure.to_message(name))

    def _check_backlog(self, resource: str) -> None:
        """Pull no more while the province is far behind: the log must not fill the disk."""
        upstream = self._node.settings.upstream
        if upstream is None:
            return
        if (behind := self._node.topics.backlog(resource)) > upstream.backlog:
            raise Transient(
                Text(
                    f"资源 {resource} 有 {behind} 个批次等待上级平台，暂停拉取",
                    f"{behind} batches of {resource} wait for the province: no more is pulled",
                ),
                hint=Text(
                    "上级平台恢复后自动继续；上限见 upstream.backlog",
                    "it goes on when the province does; see upstream.backlog",
                ),
            )

    def _record(
        self, name: str, state: PullState | None, error: ExchangeError | None = None
    ) -> None:
        """Show a pull in the store, also one whose process was killed before it could."""
        if state is None or state.rows == 0:
            return
        if state.done:
            error = None  # it is that of a pull that did not begin
        row = PullRow(
            pull=state.pull,
            source=name,
            resource=self._node.source_settings(name).resource,
            started_at=state.began,
            state="done" if state.done else "open",
            ended_at=self._node.clock(),
            pulled=state.rows,
            code=type(error).__name__ if error is not None else "",
            error=str(error) if error is not None else "",
        )
        recorded = self._node.store.pulls.get(row.pull)
        if recorded is None or (recorded.state, recorded.pulled, recorded.error) != (
            row.state,
            row.pulled,
            row.error,
        ):
            self._node.store.pulls.save(row)


def _hangs(source: str) -> Transient:
    return Transient(
        Text(
            f"数据源 {source} 上一次拉取仍无回应",
            f"the last pull of source {source} still waits for an answer",
        ),
        hint=Text(
            "它有回应后自动继续；长时间无回应时请检查对方系统，或重新启动 exchange run",
            "it goes on when there is one; look at the other system, or start `exchange run` again",
        ),
    )
