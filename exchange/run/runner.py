"""Runs the stages of a node: once, or supervised until a person stops it.

Workers (工作者) are processes that run the same stages. The log shares out among them the
partitions of resources, and the sources, so that a schedule fires once however many there are.

The main thread checks and seals. Sources are pulled beside each other, each in a thread of its
own, so that a slow one delays no other. The delivery loop has a thread, too: the province's answer
is never waited for. One source or resource that fails never stops the others: its error is kept,
and decides the exit code.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from exchange.cascade.delivery import SETTLED, Policy, State
from exchange.errors import ExchangeError, Rejected, Transient
from exchange.evidence.log import Locked
from exchange.node.lost_log import check_log
from exchange.node.node import Node
from exchange.node.part_marks import check_marks, check_witness, exchange_marks
from exchange.node.seal_projection import show_register
from exchange.node.topics import SourceAssignment
from exchange.pipeline.evidence import EvidenceStage
from exchange.pipeline.pause import Pause, pause_key
from exchange.pipeline.project import ProjectStage
from exchange.pipeline.rebuild import catch_up
from exchange.pipeline.seal import Sealed, SealStage
from exchange.run.audit_schedule import ScheduledAudit
from exchange.run.delivery_loop import ATTEMPTS, DeliveryLoop
from exchange.run.notice_loop import NoticeLoop
from exchange.run.notices import problems_of
from exchange.run.outcome import DeliveryReport, RunOutcome, Where
from exchange.run.pull_pool import PullPool
from exchange.run.schedule import Schedule, permitted
from exchange.run.source_pulls import PullReport, SourcePulls
from exchange.text import Text

STAGES = ("pull", "seal", "cascade", "evidence")
_IDLE_SECONDS = 0.02
_SUPERVISED_IDLE_SECONDS = 0.5
_NOTICE_SECONDS = 1.0
"""Between two decisions on notices."""
_MARKS_EVERY = timedelta(minutes=1)
"""How often log and store write down each other's newest state."""
_SWITCH_SECONDS = 0.001
"""Python's thread switch: the short steps of delivery must not wait 5 ms for sealing."""

ProgressHook = Callable[[str, int], None]
"""Hears what happened (pulled, accepted, quarantined, batches, receipts) and how much."""


@dataclass
class Runner:
    """Runs the stages of a node."""

    node: Node
    progress: ProgressHook = lambda _what, _count: None
    policy: Policy = field(default_factory=Policy)
    stages: Collection[str] = STAGES
    audits: ScheduledAudit | None = None
    """None: no audit is made by schedule."""
    heartbeat: Callable[[RunOutcome], None] = lambda _outcome: None
    """Called in each round of a supervised run: how everything stands."""
    report_pull: Callable[[PullReport], None] = lambda _report: None
    """Called when a pull has ended."""
    grace: float = 2.0
    """Seconds that a pull has to end when the run does; what it has not written comes again."""

    def once(self, sources: Sequence[str] | None = None) -> RunOutcome:
        """Pull every source, check and seal what is in the log, deliver it; then return."""
        settings = self.node.settings.sources
        names = list(settings) if sources is None else list(sources)
        resources = {self.node.source_settings(name).resource for name in names}
        with self._open(None) as run:
            if "pull" in self.stages:
                run.pull_all(names, named=sources is not None)
            run.seal_all(self.node.topics.resources() if sources is None else sorted(resources))
            if run.delivery is not None:
                run.add(run.delivery.finish())
            run.append_evidence()
        run.outcome.waiting = _open_batches(self.node)
        return run.outcome

    def forever(
        self, stop: threading.Event, report: Callable[[Where, ExchangeError], None]
    ) -> None:
        """Run by the sources' schedules until ``stop`` is set; everything under way ends well."""
        reported: dict[Where, str] = {}
        with (
            self._audited(),
            self._assignment() as assignment,
            self._open(stop) as run,
            self._notices() as notices,
        ):
            outcome = run.outcome
            if run.unasked is not None:
                report(Where("evidence", "start"), run.unasked)
            while not stop.is_set():
                run.take_reports()
                with outcome.keep(Where("log")):  # which does not answer now, but will
                    if assignment is not None:
                        run.pull_due(assignment.sources())
                    run.seal_all(self.node.topics.resources())
                    run.append_evidence()
                if self.audits is not None and run.keeps_evidence:
                    with outcome.keep(Where("audit")):
                        self.audits.look()
                if notices is not None:
                    sources = frozenset[str]() if assignment is None else assignment.sources()
                    notices.show(problems_of(outcome), sources)
                    if run.has_news():
                        notices.look_again()
                    run.take_notice_errors(notices.errors())
                    run.exchange_marks(every=_MARKS_EVERY)
                errors = {where: str(error) for where, error in outcome.errors.items()}
                for where, text in errors.items():
                    if reported.get(where) != text:
                        report(where, outcome.errors[where])
                reported = errors
                self.heartbeat(outcome)
                if not stop.is_set():
                    run.wait(_SUPERVISED_IDLE_SECONDS)

    @contextmanager
    def _audited(self) -> Iterator[None]:
        """End an audit that is under way with the run."""
        try:
            yield
        finally:
            if self.audits is not None:
                self.audits.close()

    @contextmanager
    def _assignment(self) -> Iterator[SourceAssignment | None]:
        """Join those who share the sources; who does not pull takes none from the others."""
        if "pull" not in self.stages:
            yield None
            return
        with closing(self.node.topics.source_assignment()) as assignment:
            yield assignment

    @contextmanager
    def _notices(self) -> Iterator[NoticeLoop | None]:
        """Send notices while a supervised run goes on, when the settings ask for them."""
        settings = self.node.settings.notify
        if settings is None:
            yield None
            return
        notices = NoticeLoop(self.node, settings, pause=_NOTICE_SECONDS)
        notices.start()
        try:
            yield notices
        finally:
            notices.stop()

    @contextmanager
    def _open(self, stop: threading.Event | None) -> Iterator[_Run]:
        unasked = self._check_parts()
        outcome = RunOutcome(unasked=None if unasked is None else unasked.what)
        with self._delivery(supervised=stop is not None) as delivery:
            run = _Run(self, outcome, delivery, stop)
            run.unasked = unasked
            with closing(run):
                yield run
            run.exchange_marks()

    def _check_parts(self) -> ExchangeError | None:
        """Raise Integrity for a part that is lost, older or foreign.

        Returns why the witness was not asked.
        """
        node, stages = self.node, self.stages
        check_log(node)
        check_marks(node, stages)
        unasked = None
        local = node.settings.log.driver != "kafka"
        if "evidence" in stages or (local and not {"pull", "seal"}.isdisjoint(stages)):
            unasked = check_witness(node)
        if "seal" in stages:
            show_register(node)
            exchange_marks(node)
        return unasked

    @contextmanager
    def _delivery(self, *, supervised: bool) -> Iterator[DeliveryLoop | None]:
        if "cascade" not in self.stages or self.node.settings.upstream is None:
            yield None
            return
        assert self.node.store  # noqa: S101 - opened here, before two threads want them
        assert self.node.context  # noqa: S101
        delivery = DeliveryLoop(
            self.node,
            self.policy,
            attempts=None if supervised else ATTEMPTS,
            idle=_SUPERVISED_IDLE_SECONDS if supervised else _IDLE_SECONDS,
        )
        before = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_SECONDS)
        delivery.start()
        try:
            yield delivery
        finally:
            sys.setswitchinterval(before)
            delivery.stop()


class _Run:
    """One run: its outcome, and the stages that it has opened. Of the main thread alone."""

    def __init__(
        self,
        runner: Runner,
        outcome: RunOutcome,
        delivery: DeliveryLoop | None,
        stop: threading.Event | None,
    ) -> None:
        self._node = runner.node
        self._stages = runner.stages
        self._progress = runner.progress
        self._grace = runner.grace
        self.outcome = outcome
        self.delivery = delivery
        self._stop = stop
        """None: the run ends by itself."""
        self._schedule = Schedule(
            self._node.settings.sources,
            self._node.context.pull_state,
            outcome.keep,
            lambda: self._node.working_days,
        )
        self._report_pull = runner.report_pull
        self._news: tuple[object, ...] = ()
        self._ended = 0
        """How many pulls have ended that brought something, or failed."""
        self._bound = True
        """Whether sources are pulled at their permitted times only."""
        self._pulls = SourcePulls(
            self._node,
            outcome,
            PullPool(self._node.settings.pull.parallel, time.monotonic),
            seal=self._seal_pulled,
            progress=self._progress,
            permits=self._permits,
        )
        self._seals: dict[str, tuple[SealStage, ProjectStage]] = {}
        self._evidence: EvidenceStage | None = None
        self._evidence_resources: list[str] = []
        self._witness_asked_at: datetime | None = None
        """When the witness was asked last."""
        self.unasked: ExchangeError | None = None
        """Why the witness was not asked before the run."""
        self._marked_at = self._node.clock()
        """When log and store wrote down each other's newest state."""

    def close(self) -> None:
        """End what is under way, and close the stages."""
        self._pulls.close(self._grace)
        if self._evidence is not None:
            self._evidence.close()
            self._evidence = None
        for seal, project in self._seals.values():
            seal.close()
            project.close()

    def exchange_marks(self, every: timedelta = timedelta()) -> None:
        """Let log and store write down each other's newest state, not more often than ``every``."""
        if "seal" not in self._stages or abs(self._node.clock() - self._marked_at) < every:
            return
        with self.outcome.keep(Where("store", "marks")):
            exchange_marks(self._node)
        self._marked_at = self._node.clock()

    def _stopping(self) -> bool:
        return self._stop is not None and self._stop.is_set()

    # --- delivery -------------------------------------------------------------------------

    def add(self, reports: Iterable[DeliveryReport]) -> None:
        """Take over what the delivery loop reports."""
        for report in reports:
            self.outcome.add(report)
            if report.state is State.RECEIPTED:
                self._progress("receipts", 1)

    def take_reports(self) -> None:
        """Take over what was reported meanwhile; raises what ended the delivery loop."""
        if self.delivery is not None:
            self.add(self.delivery.reports())

    def has_news(self) -> bool:
        """Tell whether a pull has ended, or something fails or does no more, since last asked."""
        outcome = self.outcome
        news = self._ended, outcome.refused, *outcome.halted, *outcome.errors
        before, self._news = self._news, news
        return self._news != before

    def take_notice_errors(self, errors: Mapping[Where, ExchangeError]) -> None:
        """Take over which channels of the notices fail."""
        for where in [where for where in self.outcome.errors if where.stage == "notify"]:
            if where not in errors:
                del self.outcome.errors[where]
        self.outcome.errors |= errors

    # --- pull -----------------------------------------------------------------------------

    def pull_all(self, names: Iterable[str], *, named: bool) -> None:
        """Pull these sources, beside each other, and seal along the way.

        Those that a person has ``named`` are pulled at any time; of the others the paused ones,
        and those whose time is not permitted, are left alone.
        """
        again: set[str] = set()
        self._bound = not named
        for name in names:
            with self.outcome.keep(Where("schedule", name)):
                if named or not self._rests(name):
                    self._pulls.request(name)
        while self._pulls.busy:
            for result in self._pulls.step():
                if result.report is not None:
                    self._report_pull(result.report)
                if not result.taken_over:
                    continue
                if result.source in again:
                    self.outcome.errors[Where("pull", result.source)] = _pulled_elsewhere(
                        result.source
                    )
                else:
                    again.add(result.source)
                    self._pulls.request(result.source)
            self.take_reports()
            self._pulls.wait(_IDLE_SECONDS)

    def pull_due(self, assigned: Collection[str]) -> None:
        """Begin to pull those of the sources whose time has come; take in what has come."""
        schedule, clock = self._schedule, self._node.clock
        schedule.assign(assigned, clock())
        self._pulls.withdraw(lambda name: name in assigned)
        for name in schedule.due(clock()):
            if self._pause(name) is None:
                self._pulls.request(name)
        for result in self._pulls.step():
            if result.taken_over or result.unfinished:
                schedule.forget(result.source)
            else:
                schedule.finish(result.source, clock(), failed=result.failed)
            if result.report is not None:
                self._ended += bool(result.report.rows or result.failed)
                following = schedule.planned(result.source)
                self._report_pull(replace(result.report, next=following))

    def _pause(self, name: str) -> Pause | None:
        return Pause.of(self._node.context.latest(pause_key(name)))

    def _rests(self, name: str) -> bool:
        """Tell whether a source is left alone now, and why in the outcome."""
        pause = self._pause(name)
        if pause is not None:
            self.outcome.resting[name] = pause.describe()
        elif not self._permits(name):
            self.outcome.resting[name] = Text("现在不是允许拉取的时间", "its time is not permitted")
        return name in self.outcome.resting

    def _permits(self, name: str) -> bool:
        """Tell whether a source may be pulled now; one that a person has named always may."""
        source = self._node.source_settings(name)
        if not self._bound or (source.hours is None and source.days == "all"):
            return True
        return permitted(source, lambda: self._node.working_days).allows(self._node.clock())

    def wait(self, timeout: float) -> None:
        """Return when something has happened to a pull, or after ``timeout`` seconds."""
        self._pulls.wait(timeout)

    def _seal_pulled(self, resource: str) -> None:
        """Check and seal what waits while a source of the resource is pulled."""
        if "seal" in self._stages:
            self._seal(resource)
        self.take_reports()

    # --- check, seal, show ----------------------------------------------------------------

    def seal_all(self, resources: Iterable[str]) -> None:
        """Check and seal what waits of these resources; tell of those that the catalog lost."""
        for resource in resources:
            if "seal" in self._stages:
                self._seal(resource)
            elif self.delivery is not None:
                self.delivery.offer(resource)
        for resource in self._node.topics.dropped():
            with self.outcome.keep(Where("catalog", resource)):
                self._node.context.resource(resource)

    def _seal(self, resource: str) -> None:
        """Check and seal everything that waits; an error stays with its resource."""
        outcome, where = self.outcome, Where("seal", resource)
        with outcome.keep(where):
            seal, project = self._seal_stages(resource)
            self._project(project, resource)
            outcome.halted.discard(where)
            while not self._stopping() and (progress := seal.step()):
                self._count(progress)
                if seal.ignored:
                    outcome.ignored[resource] = sorted(seal.ignored)
                if seal.coarsened:
                    outcome.coarsened[resource] = dict(seal.coarsened)
                self._project(project, resource)
                if progress.halted is not None:
                    outcome.halted.add(where)
                    raise _over_limits(resource, progress.halted)

    def _seal_stages(self, resource: str) -> tuple[SealStage, ProjectStage]:
        if resource not in self._seals:
            node = self._node
            catch_up(node.context, node.store, resource)
            self._seals[resource] = (node.seal_stage(resource), node.project_stage(resource))
        return self._seals[resource]

    def _count(self, progress: Sealed) -> None:
        outcome = self.outcome
        outcome.accepted += progress.accepted
        outcome.quarantined += progress.quarantined
        outcome.batches += progress.batches
        self._progress("accepted", progress.accepted)
        self._progress("quarantined", progress.quarantined)
        self._progress("batches", progress.batches)

    def _project(self, project: ProjectStage, resource: str) -> None:
        before = project.notes
        while project.step():
            pass
        self.outcome.notes += project.notes - before
        if self.delivery is not None:
            self.delivery.offer(resource)

    # --- evidence -------------------------------------------------------------------------

    def append_evidence(self) -> None:
        """Append to the evidence log what is new; then have it witnessed when that is due.

        Another process that has the log open is left to it. While the province is away,
        it is not asked: its deliveries tell what is missing.
        """
        if "evidence" not in self._stages:
            return
        with self.outcome.keep(Where("evidence")):
            try:
                self._append()
            except Locked:
                return
        if self._evidence is None:
            return
        with self.outcome.keep(Where("evidence", "checkpoint")):
            self._evidence.first_checkpoint()
        if self._witness_is_due() and not self.outcome.silent:
            with self.outcome.keep(Where("evidence", "witness")):
                self._witness_asked_at = self._node.clock()
                self._evidence.witness()

    @property
    def keeps_evidence(self) -> bool:
        """Whether this process writes the evidence log of its machine."""
        return self._evidence is not None

    def _append(self) -> None:
        resources = self._node.topics.resources()
        if self._evidence is not None and resources != self._evidence_resources:
            self._evidence.close()  # a new one may have come: its topics are read too
            self._evidence = None
        if self._evidence is None:
            self._evidence, self._evidence_resources = self._node.evidence_stage(), resources
        while not self._stopping() and (new := self._evidence.step()) is not None:
            self.outcome.kept += new

    def _witness_is_due(self) -> bool:
        if self._witness_asked_at is None or self._stop is None:
            return True
        return (
            abs(self._node.clock() - self._witness_asked_at) >= self._node.settings.evidence.every
        )


def _pulled_elsewhere(name: str) -> Transient:
    return Transient(
        Text(f"另一个进程正在拉取 {name}", f"another process pulls {name}"),
        hint=Text("让它继续，或先停止它", "let it go on, or stop it first"),
    )


def _over_limits(resource: str, why: Text) -> Rejected:
    return Rejected(
        Text(f"资源 {resource} 已停止：{why.zh}", f"resource {resource} is halted: {why.en}"),
        hint=Text(
            f"查看 exchange quarantine list；确认后用 exchange release {resource} 继续",
            f"see `exchange quarantine list`, then `exchange release {resource}` to go on",
        ),
    )


def _open_batches(node: Node) -> int:
    counts: Mapping[tuple[str, str], int] = node.store.deliveries.counts()
    return sum(count for (_, state), count in counts.items() if state not in SETTLED)
