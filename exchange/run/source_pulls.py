"""What the main thread does about the pulls: starts them, seals along the way, keeps how they end.

In: names of sources whose time has come. Out: a result for each. Errors stay with their source.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from exchange.errors import ExchangeError, Transient
from exchange.log import Fenced
from exchange.node.node import Node
from exchange.pipeline.failure import PullFailure, failure_key
from exchange.pipeline.messages import PullState
from exchange.run.outcome import RunOutcome, Where
from exchange.run.pull_pool import PullEnd, PullJob, PullPool, PullRows, PullSeen
from exchange.store.node.pulls import PullRow
from exchange.text import Text

_LOOK_TRANSACTIONS = 8
"""Transactions of a pull between two looks at how far the province is behind."""
_PATIENCE_SECONDS = 2.0
"""A source that has brought nothing for so long lets the others of its resource go first."""


@dataclass(frozen=True, slots=True)
class PullResult:
    """How the pull of a source ended."""

    source: str
    failed: bool = False
    taken_over: bool = False
    """Whether another worker has taken the source over meanwhile."""


class SourcePulls:
    """The pulls of one run. Of the main thread alone."""

    def __init__(
        self,
        node: Node,
        outcome: RunOutcome,
        pool: PullPool,
        seal: Callable[[str], None],
        progress: Callable[[str, int], None],
    ) -> None:
        """Pull nothing yet; ``seal`` checks and seals what waits of a resource."""
        assert node.context.recent  # noqa: S101 - opened here, before two threads want it
        self._node = node
        self._outcome = outcome
        self._pool = pool
        self._seal = seal
        self._progress = progress
        self._requests: dict[str, None] = {}
        """Sources that wait for their turn, in their order."""
        self._transactions: Counter[str] = Counter()
        self._stopped: dict[str, ExchangeError] = {}
        """Why we end pulls before their time."""
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
        error: ExchangeError | None = None
        with self._outcome.keep(Where("pull", source)):
            self._check_backlog(resource)
            if self._pool.hangs(source):
                raise _hangs(source)
            timeout = self._node.source_settings(source).timeout.total_seconds()
            stage = self._node.pull_stage(source)
            self._transactions[source] = 0
            self._pool.start(PullJob(source, resource, stage, timeout))
            return None
        error = self._outcome.errors.get(Where("pull", source))
        self._conclude(source, error)
        return PullResult(source, failed=True)

    def _take_rows(self, source: str, rows: int) -> None:
        outcome, resource = self._outcome, self._node.source_settings(source).resource
        outcome.pulled += rows
        self._progress("pulled", rows)
        if not self._closing:
            self._seal(resource)
        self._transactions[source] += 1
        if outcome.is_halted(resource):
            self._pool.end(source)
        elif self._transactions[source] % _LOOK_TRANSACTIONS == 0:
            try:
                self._check_backlog(resource)
            except ExchangeError as error:
                self._stopped[source] = error
                self._pool.end(source)
        self._pool.go_on(source)

    def _end(self, source: str, failure: BaseException | None) -> PullResult:
        stopped = self._stopped.pop(source, None)
        failure = failure or stopped
        if isinstance(failure, Fenced):
            return PullResult(source, taken_over=True)
        with self._outcome.keep(Where("pull", source)):
            if failure is not None:
                raise failure
        error = self._outcome.errors.get(Where("pull", source))
        self._conclude(source, error)
        return PullResult(source, failed=error is not None)

    def _conclude(self, source: str, error: ExchangeError | None) -> None:
        """Show how a pull ended, in the store and to those who ask the log."""
        outcome = self._outcome
        with outcome.keep(Where("store")):
            state = self._node.context.pull_state(source)
            self._record(source, state, error)
            outcome.absent.pop(source, None)
            if state is not None and state.absent:
                outcome.absent[source] = list(state.absent)
            self._note_failure(source, error)

    def _note_failure(self, name: str, error: ExchangeError | None) -> None:
        """Note in the log why a source failed, or that it does no more: status and doctor ask."""
        log, key = self._node.context.log, failure_key(name)
        known = PullFailure.of(self._node.context.latest(key))
        failure = PullFailure()
        if error is not None:
            since = self._node.clock().isoformat(timespec="seconds")
            failure = PullFailure(type(error).__name__, error.what, error.hint, since)
        if not failure.is_same(known):
            with log.transaction(key) as tx:
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
