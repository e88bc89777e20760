"""Delivers sealed batches in a thread of its own, while the main thread pulls and seals.

In: names of resources that may have something to deliver, through a queue. Out: reports through
another queue. The two threads share nothing else.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from exchange.cascade.delivery import SETTLED, Delivery, Policy, State
from exchange.cascade.delivery import Outcome as Answer
from exchange.cascade.profiles import EARLY, GAP, OutgoingBatch
from exchange.errors import Denied, ExchangeError, Integrity, Misconfigured, Rejected, Transient
from exchange.node.node import Node
from exchange.pipeline.deliver import DeliverStage
from exchange.run.outcome import DeliveryReport, Where, exchange_error
from exchange.text import Text

ATTEMPTS = 3
"""How often ``run --once`` offers a batch before it leaves the batch for the next run."""
_PATIENCE = timedelta(seconds=10)
"""How long ``run --once`` waits for a batch whose time has not come."""
_ALIVE = frozenset({str(GAP), EARLY})
"""Codes of troubles of a batch with a province that is well: its witness answers."""
_REST = timedelta(minutes=1)
"""How long a supervised run leaves alone what needs a person."""


@dataclass(frozen=True, slots=True)
class _End:
    """The last report: what ended the thread before its time, if anything did."""

    failure: BaseException | None


@dataclass
class _Work:
    """What the thread knows; no other thread sees it."""

    resources: set[str] = field(default_factory=set)
    """Resources that have or may have something to deliver."""
    complete: bool = False
    """No more resources come: end when nothing is open."""
    stages: dict[str, DeliverStage] = field(default_factory=dict)
    resting: dict[str, datetime] = field(default_factory=dict)
    """Resources that are left alone, and since when."""
    failures: Counter[str] = field(default_factory=Counter)
    """Errors in a row, by resource."""
    summaries: dict[str, tuple[State | None, str]] = field(default_factory=dict)
    """What was reported last, by resource."""


@dataclass
class DeliveryLoop:
    """Delivers the batches of many resources (投递循环); one that waits delays no other."""

    node: Node
    policy: Policy
    attempts: int | None
    """Leave a batch after so many attempts; None: never give up."""
    idle: float
    """Seconds between two looks when nothing moves."""
    rest: timedelta = _REST

    def __post_init__(self) -> None:
        """Start nothing yet."""
        self._inbox: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        """Names of resources; None: no more come."""
        self._reports: queue.SimpleQueue[DeliveryReport | _End] = queue.SimpleQueue()
        self._work = _Work()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="delivery", daemon=True)

    # --- for the main thread --------------------------------------------------------------

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def offer(self, resource: str) -> None:
        """Say that a resource has or may have something to deliver."""
        self._inbox.put(resource)

    def reports(self) -> Iterator[DeliveryReport]:
        """Give what was reported meanwhile; raises what ended the thread before its time."""
        while not self._reports.empty():  # this thread alone takes from it
            report = self._reports.get()
            if isinstance(report, _End):
                self._end(report)
                return
            yield report

    def finish(self) -> Iterator[DeliveryReport]:
        """Give the reports until everything is delivered, or left for later."""
        self._inbox.put(None)
        while not isinstance(report := self._reports.get(), _End):
            yield report
        self._end(report)

    def stop(self) -> None:
        """Stop after the delivery that is under way."""
        self._stop.set()
        self._inbox.put(None)
        self._thread.join()

    def _end(self, end: _End) -> None:
        self._reports.put(end)  # asked again, it is told again
        if end.failure is not None:
            raise end.failure

    # --- the thread -----------------------------------------------------------------------

    def _run(self) -> None:
        failure: BaseException | None = None
        try:
            if (send := self._open()) is not None:
                self._deliver(send)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            failure = error
        finally:
            for stage in self._work.stages.values():
                stage.close()
            self._reports.put(_End(failure))

    def _open(self) -> Callable[[OutgoingBatch], Answer] | None:
        """Open the way to the province; a supervised run tries until its settings are right."""
        while not self._stop.is_set():
            try:
                send = self.node.upstream.sender()
            except Exception as error:  # noqa: BLE001 - logged when nobody foresaw it
                self._report(DeliveryReport(error=exchange_error(DeliveryReport().where, error)))
            else:
                self._report(DeliveryReport())
                return send
            if self.attempts is not None:
                return None
            self._stop.wait(self.rest.total_seconds())
        return None

    def _deliver(self, send: Callable[[OutgoingBatch], Answer]) -> None:
        work = self._work
        while not self._stop.is_set():
            busy, pending = False, False
            for resource in sorted(work.resources):
                if self._stop.is_set() or self._rests(resource):
                    continue
                moved, is_open = self._step(resource, send)
                if not (moved or is_open):
                    work.resources.discard(resource)
                busy, pending = busy or moved, pending or is_open
            if work.complete and not busy and not pending:
                return
            self._receive(0 if busy else self.idle)

    def _receive(self, timeout: float) -> None:
        """Take in what was offered; wait so long for the first one."""
        try:
            name = self._inbox.get(timeout=timeout) if timeout else self._inbox.get_nowait()
            while True:
                if name is None:
                    self._work.complete = True
                else:
                    self._work.resources.add(name)
                name = self._inbox.get_nowait()
        except queue.Empty:
            return

    def _rests(self, resource: str) -> bool:
        """Tell whether a resource is left alone: for this run, or for a while."""
        resting = self._work.resting
        if resource not in resting:
            return False
        if self.attempts is None and abs(self.node.clock() - resting[resource]) >= self.rest:
            del resting[resource]
            return False
        return True

    def _rest(self, resource: str) -> tuple[bool, bool]:
        self._work.resting[resource] = self.node.clock()
        return False, False

    def _step(self, resource: str, send: Callable[[OutgoingBatch], Answer]) -> tuple[bool, bool]:
        """Bring one resource a step further; return (something moved, something is open)."""
        work, node = self._work, self.node
        try:
            if resource not in work.stages:
                work.stages[resource] = node.deliver_stage(resource, send, self.policy)
            delivery = work.stages[resource].step()
        except Exception as failure:  # noqa: BLE001 - logged when nobody foresaw it
            error = exchange_error(Where("cascade", resource), failure)
            self._report(DeliveryReport(resource, error=error))
            work.failures[resource] += 1
            supervised = self.attempts is None  # it waits for a log or store that is away
            if isinstance(error, Transient) and (supervised or work.failures[resource] < ATTEMPTS):
                return False, True
            return self._rest(resource)
        work.failures[resource] = 0
        self._report(report_of(resource, delivery))
        if delivery is None:
            return False, False
        if delivery.settled:
            return True, True
        if delivery.state is State.HALTED or self._gives_up(delivery):
            return self._rest(resource)
        return False, True

    def _report(self, report: DeliveryReport) -> None:
        """Report what is new: a resource that waits says so once."""
        summary = report.state, str(report.error)
        settled = report.state in SETTLED
        if settled or self._work.summaries.get(report.resource) != summary:
            self._work.summaries[report.resource] = summary
            self._reports.put(report)

    def _gives_up(self, delivery: Delivery) -> bool:
        """Tell whether this run leaves a batch to the next one."""
        if self.attempts is None:
            return False
        tries = self._work.stages[delivery.resource].tries
        far = delivery.due is not None and delivery.due - self.node.clock() > _PATIENCE
        our_fault = delivery.code in {"settings", "401", "403", str(GAP)}
        return far or (our_fault and tries > 0) or tries >= self.attempts


def report_of(resource: str, delivery: Delivery | None) -> DeliveryReport:
    """Say how a delivery stands, with the error that a person should see."""
    if delivery is None:
        return DeliveryReport(resource)
    error: ExchangeError | None
    match delivery.state:
        case State.RECEIPTED | State.WITHDRAWN:
            error = None
        case State.REFUSED:
            error = _refused(delivery)
        case State.HALTED:
            error = _wrong_receipt(delivery)
        case _:
            error = _unanswered(delivery)
    alive = delivery.state is State.HALTED or delivery.code in _ALIVE
    return DeliveryReport(resource, delivery.state, error, answered=alive)


def _refused(delivery: Delivery) -> Rejected:
    name, why = f"{delivery.resource}/{delivery.batch_no}", Text.split(delivery.reason)
    return Rejected(
        Text(
            f"省级平台退回批次 {name}：{delivery.code} {why.zh}",
            f"the province refused batch {name}: {delivery.code} {why.en}",
        ),
        hint=Text(
            "查看 exchange cascade list --state refused；解决后用 exchange cascade retry 重发",
            "see `exchange cascade list --state refused`; send again with `exchange cascade retry`",
        ),
    )


def _wrong_receipt(delivery: Delivery) -> Integrity:
    name, why = f"{delivery.resource}/{delivery.batch_no}", Text.split(delivery.reason)
    return Integrity(
        Text(
            f"批次 {name} 的回执不成立：{why.zh}；该资源已停止投递",
            f"the receipt of batch {name} is wrong: {why.en}; the resource is halted",
        ),
        hint=Text(
            "请与省级平台核对后用 exchange cascade retry 继续；其他资源不受影响",
            "settle it with the province, then `exchange cascade retry`; other resources go on",
        ),
    )


def _unanswered(delivery: Delivery) -> ExchangeError:
    """Say that a batch still waits, and whether a person can help."""
    name, why = f"{delivery.resource}/{delivery.batch_no}", Text.split(delivery.reason)
    what = Text(
        f"批次 {name} 尚未送达（{delivery.attempts} 次）：{delivery.code} {why.zh}",
        f"batch {name} is not delivered ({delivery.attempts} attempts): {delivery.code} {why.en}",
    )
    if delivery.code in {"401", "403"}:
        hint = Text(
            "请检查 upstream 的 rid、sid、secret 和本机时钟：exchange doctor",
            "check rid, sid and secret of upstream, and this clock: `exchange doctor`",
        )
        return Denied(what, hint=hint)
    if delivery.code == str(GAP):
        return Integrity(
            what,
            hint=Text(
                "先重发缺少的批次：exchange cascade retry；确实没有的，请省级平台"
                "用 exchange receiver admit 接受",
                "send the batch that is missing: `exchange cascade retry`; where there is none, the"
                " province lets this one in: `exchange receiver admit`",
            ),
        )
    if delivery.code == EARLY:
        hint = Text(
            "校准本机时钟；封签时间到来时自动送达，不等则用 exchange cascade reseal 重新封签",
            "set this clock; it is delivered when that time comes; not to wait for it:"
            " `exchange cascade reseal`",
        )
        return Transient(what, hint=hint)
    if delivery.code == "settings":
        return Misconfigured(what, hint=Text("请检查 upstream 配置", "check the upstream settings"))
    hint = Text(
        "数据未丢失；恢复后再次运行即可继续", "nothing is lost; it goes on with the next run"
    )
    return Transient(what, hint=hint)
