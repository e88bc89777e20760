"""Runs the doors: once, or supervised until a person stops it.

Workers (工作者) are processes that run the same stages: the log shares the partitions of resources
out among them, and the turns of sources, so that a schedule fires once however many there are.

The main thread pulls, checks and seals; a courier thread delivers at the same time, so that
the province's answer is never waited for. One source or resource that fails never stops the
others: its error is kept, and decides the exit code.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Self

from exchange.cascade.delivery import Delivery, Policy, State
from exchange.cascade.delivery import Outcome as Answer
from exchange.cascade.profiles import Batch
from exchange.errors import Denied, ExchangeError, Integrity, Misconfigured, Rejected, Transient
from exchange.evidence.log import Locked
from exchange.log import Fenced
from exchange.node.node import Node, Turns
from exchange.pipeline.deliver import DeliverStage
from exchange.pipeline.evidence import EvidenceStage
from exchange.pipeline.project import ProjectStage
from exchange.pipeline.rebuild import catch_up
from exchange.pipeline.seal import Sealed, SealStage
from exchange.store.node.pulls import PullRow
from exchange.text import BEIJING, Text

ROOMS = ("pull", "seal", "cascade", "evidence")
ATTEMPTS = 3
"""How often ``run --once`` offers a batch before it leaves the batch for the next run."""
_PATIENCE = timedelta(seconds=10)
"""How long ``run --once`` waits for a batch whose time has not come."""
_REST = timedelta(minutes=1)
"""How long a supervised run leaves a resource alone that needs a person."""
_IDLE_SECONDS = 0.02
_SUPERVISED_IDLE_SECONDS = 0.5
_LOOK_CHUNKS = 8
"""Chunks of a pull between two looks at how far the province is behind."""
_SWITCH_SECONDS = 0.001
"""Python's thread switch: the courier's short turns must not wait 5 ms for the sealing loop."""
_WORST = (Integrity, Denied, Misconfigured, Transient, Rejected)

_LOGGER = logging.getLogger(__name__)

Said = Callable[[str, int], None]
"""Progress: what happened (pulled, accepted, quarantined, batches, receipts) and how much."""


@dataclass
class Outcome:
    """What one run did; ``errors`` by room and source or resource: ``pull/x``, ``seal/x``."""

    pulled: int = 0
    accepted: int = 0
    quarantined: int = 0
    notes: int = 0
    """Rows of sources that are no records: titles, group rows. Kept, and shown by quarantine."""
    batches: int = 0
    receipts: int = 0
    refused: int = 0
    waiting: int = 0
    """Batches that still wait for the province."""
    ignored: dict[str, list[str]] = field(default_factory=dict)
    """By resource, columns of its sources that the catalog does not name."""
    coarsened: dict[str, dict[str, int]] = field(default_factory=dict)
    """By resource and field, instants of which only the milliseconds were kept."""
    kept: int = 0
    """Statements and receipts that are new in the evidence log."""
    halted: set[str] = field(default_factory=set)
    """Rooms and resources that wait for a person: ``seal/x``, ``cascade/x``."""
    errors: dict[str, ExchangeError] = field(default_factory=dict)

    def error(self) -> ExchangeError | None:
        """Return the error that decides the exit code: the one that needs a person most."""
        for kind in _WORST:
            for error in list(self.errors.values()):
                if isinstance(error, kind):
                    return error
        return None

    def stopped(self, resource: str) -> bool:
        """Tell whether a resource waits for a person."""
        return not self.halted.isdisjoint({f"seal/{resource}", f"cascade/{resource}"})

    @contextmanager
    def keep(self, where: str, *, beside: type[ExchangeError] | None = None) -> Iterator[None]:
        """Keep what fails with the source or resource it belongs to: the others go on.

        Errors of kind ``beside`` are not kept but passed on.
        """
        try:
            yield
        except ExchangeError as error:
            if beside is not None and isinstance(error, beside):
                raise
            self.errors[where] = error
        except Exception as error:
            _LOGGER.exception("defect in %s", where)
            self.errors[where] = _defect(where, error)
        else:
            self.errors.pop(where, None)


def _defect(where: str, error: Exception) -> Integrity:
    """Describe an error that nobody foresaw; its traceback is in the program's log."""
    name = type(error).__name__
    return Integrity(
        Text(f"{where} 遇到程序缺陷 {name}", f"a defect of the program at {where}: {name}"),
        hint=Text(
            "数据未丢失；请把日志中的出错位置交给维护者",
            "nothing is lost; send the traceback in the log to the maintainers",
        ),
    )


@dataclass
class Courier:
    """Delivers the batches of many resources in turn; a resource that waits delays no other."""

    node: Node
    outcome: Outcome
    said: Said
    policy: Policy
    attempts: int | None
    """Leave a batch after so many attempts; None: never give up."""
    idle: float

    def __post_init__(self) -> None:
        """Start nothing yet."""
        self._wanted: set[str] = set()
        self._stages: dict[str, DeliverStage] = {}
        self._left: dict[str, datetime] = {}
        """Resources that are left alone, and since when."""
        self._failed: Counter[str] = Counter()
        self._wake = threading.Event()
        self._finish = threading.Event()
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="courier", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def want(self, resource: str) -> None:
        """Say that a resource has or may have something to deliver."""
        self._wanted.add(resource)
        self._wake.set()

    def finish(self) -> None:
        """Wait until everything is delivered, or left for later."""
        self._finish.set()
        self._wake.set()
        self._thread.join()
        self.check()

    def stop(self) -> None:
        """Stop after the delivery that is under way."""
        self._stop.set()
        self._wake.set()
        self._thread.join()

    def check(self) -> None:
        """Raise what ended the thread before its time."""
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            with self.outcome.keep("cascade"):
                self._deliver(self.node.sender())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self._failure = error
        finally:
            for stage in self._stages.values():
                stage.close()

    def _deliver(self, send: Callable[[Batch], Answer]) -> None:
        while not self._stop.is_set():
            finishing = self._finish.is_set()
            busy, pending = False, False
            for resource in sorted(self._wanted):
                if self._stop.is_set() or self._rests(resource):
                    continue
                # Taken off before looking: what is wanted from now on is looked at again.
                self._wanted.discard(resource)
                moved, open_ = self._turn(resource, send)
                if moved or open_:
                    self._wanted.add(resource)
                busy, pending = busy or moved, pending or open_
            if not busy:
                if finishing and not pending:
                    break
                self._wake.wait(self.idle)
                self._wake.clear()

    def _rests(self, resource: str) -> bool:
        """Tell whether a resource is left alone: for this run, or for a while."""
        if resource not in self._left:
            return False
        if self.attempts is None and abs(self.node.clock() - self._left[resource]) >= _REST:
            del self._left[resource]
            return False
        return True

    def _leave(self, resource: str) -> tuple[bool, bool]:
        self._left[resource] = self.node.clock()
        return False, False

    def _turn(self, resource: str, send: Callable[[Batch], Answer]) -> tuple[bool, bool]:
        """Give one resource its turn; return (something moved, something is still open)."""
        where = f"cascade/{resource}"
        delivery: Delivery | None = None
        with self.outcome.keep(where):
            if resource not in self._stages:
                self._stages[resource] = self.node.deliver_stage(resource, send, self.policy)
            delivery = self._stages[resource].step()
        error = self.outcome.errors.get(where)
        if error is None:
            self._failed[resource] = 0
            return (False, False) if delivery is None else self._count(resource, delivery)
        self._failed[resource] += 1
        ever = self.attempts is None  # a supervised run waits for a log or store that is away
        if isinstance(error, Transient) and (ever or self._failed[resource] < ATTEMPTS):
            return False, True
        return self._leave(resource)

    def _count(self, resource: str, delivery: Delivery) -> tuple[bool, bool]:
        where = f"cascade/{resource}"
        self.outcome.halted.discard(where)
        match delivery.state:
            case State.RECEIPTED:
                self.outcome.receipts += 1
                self.said("receipts", 1)
                return True, True
            case State.REFUSED:
                self.outcome.refused += 1
                self.outcome.errors[f"refused/{resource}"] = refused(delivery)
                return True, True
            case State.HALTED:
                self.outcome.halted.add(where)
                self.outcome.errors[where] = wrong_receipt(delivery)
                return self._leave(resource)
        self.outcome.errors[where] = unanswered(delivery)
        return self._leave(resource) if self._gives_up(delivery) else (False, True)

    def _gives_up(self, delivery: Delivery) -> bool:
        """Tell whether this run leaves a batch to the next one."""
        if self.attempts is None:
            return False
        tries = self._stages[delivery.resource].tries
        far = delivery.due is not None and delivery.due - self.node.clock() > _PATIENCE
        ours = delivery.code in {"settings", "401", "403"}
        return far or (ours and tries > 0) or tries >= self.attempts


def refused(delivery: Delivery) -> Rejected:
    """Say that the province refused a batch."""
    name = f"{delivery.resource}/{delivery.batch_no}"
    return Rejected(
        Text(
            f"省级平台退回批次 {name}：{delivery.code} {delivery.reason}",
            f"the province refused batch {name}: {delivery.code} {delivery.reason}",
        ),
        hint=Text(
            "查看 exchange cascade list --state refused；解决后用 exchange cascade retry 重发",
            "see `exchange cascade list --state refused`; send again with `exchange cascade retry`",
        ),
    )


def wrong_receipt(delivery: Delivery) -> Integrity:
    """Say that a receipt contradicts its batch."""
    name = f"{delivery.resource}/{delivery.batch_no}"
    return Integrity(
        Text(
            f"批次 {name} 的回执不成立：{delivery.reason}；该资源已停止投递",
            f"the receipt of batch {name} is wrong: {delivery.reason}; the resource is halted",
        ),
        hint=Text(
            "请与省级平台核对后用 exchange cascade retry 继续；其他资源不受影响",
            "settle it with the province, then `exchange cascade retry`; other resources go on",
        ),
    )


def _taken(name: str) -> Transient:
    return Transient(
        Text(f"另一个进程正在拉取 {name}", f"another process pulls {name}"),
        hint=Text("让它继续，或先停止它", "let it go on, or stop it first"),
    )


def unanswered(delivery: Delivery) -> ExchangeError:
    """Say that a batch still waits, and whether a person can help."""
    name = f"{delivery.resource}/{delivery.batch_no}"
    what = Text(
        f"批次 {name} 尚未送达（{delivery.attempts} 次）：{delivery.code} {delivery.reason}",
        f"batch {name} is not delivered ({delivery.attempts} attempts): "
        f"{delivery.code} {delivery.reason}",
    )
    if delivery.code in {"401", "403"}:
        hint = Text("请检查 upstream 的 rid、sid、secret", "check rid, sid and secret of upstream")
        return Denied(what, hint=hint)
    if delivery.code == "settings":
        return Misconfigured(what, hint=Text("请检查 upstream 配置", "check the upstream settings"))
    hint = Text(
        "数据未丢失；恢复后再次运行即可继续", "nothing is lost; it goes on with the next run"
    )
    return Transient(what, hint=hint)


@dataclass
class Runner:
    """Runs the doors of a node."""

    node: Node
    said: Said = lambda _what, _count: None
    policy: Policy = field(default_factory=Policy)
    rooms: Collection[str] = ROOMS
    turned: Callable[[Outcome], None] = lambda _outcome: None
    """Called with each turn of a supervised run: how everything stands."""

    def once(self, sources: Sequence[str] | None = None) -> Outcome:
        """Pull every source, check and seal what is in the log, deliver it; then return."""
        outcome = Outcome()
        names = list(self.node.settings.sources) if sources is None else list(sources)
        resources = {self.node.source_settings(name).resource for name in names}
        with (
            self._courier(outcome, attempts=ATTEMPTS, idle=_IDLE_SECONDS) as courier,
            _Seals(self.node, outcome, self.said, courier) as seals,
        ):
            for name in names if "pull" in self.rooms else ():
                if not (self._pull(name, outcome, seals) or self._pull(name, outcome, seals)):
                    outcome.errors[f"pull/{name}"] = _taken(name)
            for resource in self.node.resources() if sources is None else sorted(resources):
                self._seal(resource, seals, courier)
            self._dropped(outcome)
            if courier is not None:
                courier.finish()
            with closing(_Keeper(self.node, outcome)) as keeper:
                if "evidence" in self.rooms:
                    keeper.turn()
        outcome.waiting = _open_batches(self.node)
        return outcome

    def forever(self, stop: threading.Event, report: Callable[[str, ExchangeError], None]) -> None:
        """Run by the sources' schedules until ``stop`` is set; everything under way ends well."""
        outcome = Outcome()
        schedule = Schedule(self.node)
        told: dict[str, str] = {}
        with (
            self._turns() as turns,
            closing(_Keeper(self.node, outcome, stop)) as keeper,
            self._courier(outcome, attempts=None, idle=_SUPERVISED_IDLE_SECONDS) as courier,
            _Seals(self.node, outcome, self.said, courier, stop) as seals,
        ):
            while not stop.is_set():
                if courier is not None:
                    courier.check()
                with outcome.keep("log"):  # which does not answer now, but will
                    if turns is not None:
                        schedule.own(turns.sources(), self.node.clock())
                        for name in schedule.due(self.node.clock()):
                            if stop.is_set():
                                break
                            if self._pull(name, outcome, seals, stop):
                                failed = f"pull/{name}" in outcome.errors
                                schedule.done(name, self.node.clock(), failed=failed)
                            else:
                                schedule.forget(name)
                    for resource in self.node.resources():
                        self._seal(resource, seals, courier)
                    if "evidence" in self.rooms:
                        keeper.turn()
                    self._dropped(outcome)
                now = {where: str(error) for where, error in list(outcome.errors.items())}
                for where in now.keys() - {w for w in told if told[w] == now.get(w)}:
                    report(where, outcome.errors[where])
                told = now
                self.turned(outcome)
                stop.wait(_SUPERVISED_IDLE_SECONDS)

    @contextmanager
    def _turns(self) -> Iterator[Turns | None]:
        """Join those who share the sources; who does not pull takes nobody's turn."""
        if "pull" not in self.rooms:
            yield None
            return
        with closing(self.node.turns()) as turns:
            yield turns

    @contextmanager
    def _courier(
        self, outcome: Outcome, *, attempts: int | None, idle: float
    ) -> Iterator[Courier | None]:
        if "cascade" not in self.rooms or self.node.settings.upstream is None:
            yield None
            return
        assert self.node.store  # noqa: S101 - opened here, before two threads want it
        courier = Courier(self.node, outcome, self.said, self.policy, attempts, idle)
        before = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_SECONDS)
        courier.start()
        try:
            yield courier
        finally:
            sys.setswitchinterval(before)
            courier.stop()

    def _dropped(self, outcome: Outcome) -> None:
        """Tell of resources that are gone from the catalog, but not from the log."""
        for resource in self.node.dropped():
            with outcome.keep(f"catalog/{resource}"):
                self.node.context.resource(resource)

    def _seal(self, resource: str, seals: _Seals, courier: Courier | None) -> None:
        if "seal" in self.rooms:
            seals.drain(resource)
        elif courier is not None:
            courier.want(resource)

    def _pull(
        self, name: str, outcome: Outcome, seals: _Seals, stop: threading.Event | None = None
    ) -> bool:
        """Pull one source and seal along the way, so that memory stays small.

        Return False when another worker has taken the source over meanwhile.
        """
        where, resource = f"pull/{name}", self.node.source_settings(name).resource
        if "seal" in self.rooms:
            seals.drain(resource)
            if outcome.stopped(resource):
                return True

        def seen(state: Mapping[str, Any]) -> None:
            with outcome.keep("store"):
                self._record(name, state)

        try:
            with outcome.keep(where, beside=Fenced):
                self._check_backlog(resource)
                with closing(self.node.pull_stage(name).run(seen)) as pulling:
                    for chunk, rows in enumerate(pulling, start=1):
                        outcome.pulled += rows
                        self.said("pulled", rows)
                        if "seal" in self.rooms:
                            seals.drain(resource)
                        if (stop is not None and stop.is_set()) or outcome.stopped(resource):
                            break
                        if chunk % _LOOK_CHUNKS == 0:
                            self._check_backlog(resource)
        except Fenced:
            return False
        with outcome.keep("store"):
            state = self.node.context.state(f"pull/{name}")
            self._record(name, state, outcome.errors.get(where))
        return True

    def _check_backlog(self, resource: str) -> None:
        """Pull no more while the province is far behind: the log must not fill the disk."""
        upstream = self.node.settings.upstream
        if upstream is not None and (behind := self.node.backlog(resource)) > upstream.backlog:
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
        self, name: str, state: Mapping[str, Any], error: ExchangeError | None = None
    ) -> None:
        """Show a pull in the store, also one whose process was killed before it could."""
        if not state or state["rows"] == 0:
            return
        if state["done"]:
            error = None  # it is that of a pull that did not begin
        row = PullRow(
            pull=state["pull"],
            source=name,
            resource=self.node.source_settings(name).resource,
            started_at=datetime.fromisoformat(state["began"]),
            state="done" if state["done"] else "open",
            ended_at=self.node.clock(),
            pulled=state["rows"],
            code=type(error).__name__ if error is not None else "",
            error=str(error) if error is not None else "",
        )
        known = self.node.store.pulls.get(row.pull)
        if known is None or (known.state, known.pulled, known.error) != (
            row.state,
            row.pulled,
            row.error,
        ):
            self.node.store.pulls.save(row)


class _Seals:
    """The seal and view doors of a run, opened when they are needed."""

    def __init__(
        self,
        node: Node,
        outcome: Outcome,
        said: Said,
        courier: Courier | None,
        stop: threading.Event | None = None,
    ) -> None:
        self._node = node
        self._outcome = outcome
        self._said = said
        self._courier = courier
        self._stop = stop
        self._stages: dict[str, tuple[SealStage, ProjectStage]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for seal, view in self._stages.values():
            seal.close()
            view.close()

    def drain(self, resource: str) -> None:
        """Check and seal everything that waits; an error stays with its resource."""
        where = f"seal/{resource}"
        with self._outcome.keep(where):
            if resource not in self._stages:
                node = self._node
                catch_up(node.context, node.store, resource)
                self._stages[resource] = (node.seal_stage(resource), node.project_stage(resource))
            seal, view = self._stages[resource]
            self._show(view, resource)
            self._outcome.halted.discard(where)
            while (self._stop is None or not self._stop.is_set()) and (done := seal.step()):
                self._count(done)
                if seal.ignored:
                    self._outcome.ignored[resource] = sorted(seal.ignored)
                if seal.coarsened:
                    self._outcome.coarsened[resource] = dict(seal.coarsened)
                self._show(view, resource)
                if done.halted is not None:
                    self._outcome.halted.add(where)
                    raise _over_limits(resource, done.halted)

    def _count(self, done: Sealed) -> None:
        outcome = self._outcome
        outcome.accepted += done.accepted
        outcome.quarantined += done.quarantined
        outcome.batches += done.batches
        self._said("accepted", done.accepted)
        self._said("quarantined", done.quarantined)
        self._said("batches", done.batches)

    def _show(self, view: ProjectStage, resource: str) -> None:
        before = view.notes
        while view.step():
            pass
        self._outcome.notes += view.notes - before
        if self._courier is not None:
            self._courier.want(resource)


class _Keeper:
    """Keeps the evidence log up with the log, and shows it to the witness now and then.

    Another process that has the log open is left to it. While the province does not answer, it
    is not asked: what is missing is told by its deliveries.
    """

    def __init__(self, node: Node, outcome: Outcome, stop: threading.Event | None = None) -> None:
        self._node = node
        self._outcome = outcome
        self._stop = stop
        self._stage: EvidenceStage | None = None
        self._resources: list[str] = []
        self._shown: datetime | None = None
        """When the witness was asked last."""

    def close(self) -> None:
        """Give the evidence log free."""
        if self._stage is not None:
            self._stage.close()
            self._stage = None

    def turn(self) -> None:
        """Append what is new; then have it witnessed when that is due."""
        with self._outcome.keep("evidence"):
            try:
                self._append()
            except Locked:
                return
        away = any(where.startswith("cascade") for where in list(self._outcome.errors))
        if self._stage is not None and self._due() and not away:
            with self._outcome.keep("evidence/witness"):
                self._shown = self._node.clock()
                self._stage.witness()

    def _append(self) -> None:
        resources = self._node.resources()
        if resources != self._resources:  # a new one may have come: its topics are read too
            self.close()
        if self._stage is None:
            self._stage, self._resources = self._node.evidence_stage(), resources
        while self._stop is None or not self._stop.is_set():
            if (new := self._stage.step()) is None:
                break
            self._outcome.kept += new

    def _due(self) -> bool:
        if self._shown is None or self._stop is None:
            return True
        return abs(self._node.clock() - self._shown) >= self._node.settings.evidence.every


def _over_limits(resource: str, why: Text) -> Rejected:
    return Rejected(
        Text(f"资源 {resource} 已停止：{why.zh}", f"resource {resource} is halted: {why.en}"),
        hint=Text(
            f"查看 exchange quarantine list；确认后用 exchange release {resource} 继续",
            f"see `exchange quarantine list`, then `exchange release {resource}` to go on",
        ),
    )


class Schedule:
    """When each source of this worker runs next.

    It goes on from when the source's last pull began, which stands in the log: neither a restart
    nor another worker's take-over makes a source run twice, or not at all.
    """

    _RETRY = timedelta(minutes=1)

    def __init__(self, node: Node) -> None:
        self._context = node.context
        self._settings = {
            name: source
            for name, source in node.settings.sources.items()
            if source.every is not None or source.cron is not None
        }
        self._next: dict[str, datetime] = {}

    def own(self, names: Collection[str], now: datetime) -> None:
        """Plan for these sources and no others: the log has given this worker their turns."""
        for name in self._next.keys() - set(names):
            self.forget(name)
        for name in self._settings:
            if name not in names or name in self._next:
                continue
            last = self._context.state(f"pull/{name}")
            if last.get("done"):
                self._next[name] = self._planned(name, datetime.fromisoformat(last["began"]))
            else:  # it never ran, or was left in the middle
                first = last or self._settings[name].every is not None
                self._next[name] = now if first else self._planned(name, now)

    def forget(self, name: str) -> None:
        """Plan a source anew: another worker had it meanwhile."""
        self._next.pop(name, None)

    def due(self, now: datetime) -> list[str]:
        """List the sources whose time has come.

        None waits longer than from now to its next time: the clock may have been set back.
        """
        self._next = {name: min(at, self._planned(name, now)) for name, at in self._next.items()}
        return [name for name in self._settings if name in self._next and self._next[name] <= now]

    def done(self, name: str, now: datetime, *, failed: bool) -> None:
        """Plan the next run; sooner after a failure."""
        planned = self._planned(name, now)
        self._next[name] = min(planned, now + self._RETRY) if failed else planned

    def _planned(self, name: str, now: datetime) -> datetime:
        source = self._settings[name]
        return now + source.every if source.every is not None else self._cron(source.cron, now)

    @staticmethod
    def _cron(expression: str | None, now: datetime) -> datetime:
        from croniter import croniter

        following: datetime = croniter(expression, now.astimezone(BEIJING)).get_next(datetime)
        return following


def _open_batches(node: Node) -> int:
    settled = {State.RECEIPTED, State.REFUSED}
    counts: Mapping[tuple[str, str], int] = node.store.deliveries.counts()
    return sum(count for (_, state), count in counts.items() if state not in settled)
