"""Runs the doors: once, or supervised until a person stops it.

The main thread pulls, checks and seals; a courier thread delivers at the same time, so that
the province's answer is never waited for. One source or resource that fails never stops the
others: its error is kept, and decides the exit code.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from exchange.cascade.delivery import Delivery, Policy, State
from exchange.errors import Denied, ExchangeError, Integrity, Misconfigured, Rejected, Transient
from exchange.node import Node
from exchange.pipeline import CascadeDoor, SealDoor, ViewDoor
from exchange.store.rows import PullRow
from exchange.text import Text

ROOMS = ("pull", "seal", "cascade")
ATTEMPTS = 3
"""How often ``run --once`` offers a batch before it leaves the batch for the next run."""
_IDLE_SECONDS = 0.02
_SUPERVISED_IDLE_SECONDS = 0.5
_SWITCH_SECONDS = 0.001
"""Python's thread switch: the courier's short turns must not wait 5 ms for the sealing loop."""
_WORST = (Integrity, Denied, Misconfigured, Transient, Rejected)

Said = Callable[[str, int], None]
"""Progress: what happened (pulled, accepted, quarantined, batches, receipts) and how much."""


@dataclass
class Outcome:
    """What one run did; ``errors`` by source or resource."""

    pulled: int = 0
    accepted: int = 0
    quarantined: int = 0
    batches: int = 0
    receipts: int = 0
    refused: int = 0
    waiting: int = 0
    """Batches that still wait for the province."""
    halted: list[str] = field(default_factory=list)
    errors: dict[str, ExchangeError] = field(default_factory=dict)

    def error(self) -> ExchangeError | None:
        """Return the error that decides the exit code: the one that needs a person most."""
        for kind in _WORST:
            for error in self.errors.values():
                if isinstance(error, kind):
                    return error
        return None


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
        self._doors: dict[str, CascadeDoor] = {}
        self._left: set[str] = set()
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
        self._raise()

    def stop(self) -> None:
        """Stop after the delivery that is under way."""
        self._stop.set()
        self._wake.set()
        self._thread.join()
        self._raise()

    def _raise(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            send = self.node.sender()
            while not self._stop.is_set():
                finishing = self._finish.is_set()
                for resource in sorted(self._wanted - self._doors.keys()):
                    self._doors[resource] = self.node.cascade_door(resource, send, self.policy)
                busy, pending = False, False
                for resource, door in self._doors.items():
                    if resource not in self._left and not self._stop.is_set():
                        moved, open_ = self._turn(resource, door)
                        busy, pending = busy or moved, pending or open_
                if not busy:
                    if finishing and not pending:
                        break
                    self._wake.wait(self.idle)
                    self._wake.clear()
        except BaseException as error:  # noqa: BLE001 - raised again where the thread is joined
            self._failure = error
        finally:
            for door in self._doors.values():
                door.close()

    def _turn(self, resource: str, door: CascadeDoor) -> tuple[bool, bool]:
        """Give one resource its turn; return (something moved, something is still open)."""
        try:
            delivery = door.step()
        except Transient as error:
            self.outcome.errors[resource] = error
            return False, self.attempts is None
        except ExchangeError as error:
            self.outcome.errors[resource] = error
            self._left.add(resource)
            return False, False
        if delivery is None:
            return False, False
        return self._count(resource, delivery)

    def _count(self, resource: str, delivery: Delivery) -> tuple[bool, bool]:
        match delivery.state:
            case State.RECEIPTED:
                self.outcome.receipts += 1
                self.outcome.errors.pop(resource, None)
                self.said("receipts", 1)
                return True, True
            case State.REFUSED:
                self.outcome.refused += 1
                self.outcome.errors[resource] = refused(delivery)
                return True, True
            case State.HALTED:
                self.outcome.halted.append(resource)
                self.outcome.errors[resource] = wrong_receipt(delivery)
                self._left.add(resource)
                return False, False
        self.outcome.errors[resource] = unanswered(delivery)
        if self.attempts is not None and (
            delivery.attempts >= self.attempts or delivery.code in {"settings", "401", "403"}
        ):
            self._left.add(resource)
            return False, False
        return False, True


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

    def once(self, sources: Sequence[str] | None = None) -> Outcome:
        """Pull every source, check and seal what is in the log, deliver it; then return."""
        outcome = Outcome()
        names = list(self.node.settings.sources) if sources is None else list(sources)
        with self._courier(outcome, attempts=ATTEMPTS, idle=_IDLE_SECONDS) as courier:
            seals = _Seals(self.node, outcome, self.said, courier)
            try:
                for name in names if "pull" in self.rooms else ():
                    self._pull(name, outcome, seals)
                for resource in self._resources(names, sources):
                    self._seal(resource, seals, courier)
            finally:
                seals.close()
            if courier is not None:
                courier.finish()
        outcome.waiting = _open_batches(self.node)
        return outcome

    def forever(self, stop: threading.Event, report: Callable[[str, ExchangeError], None]) -> None:
        """Run by the sources' schedules until ``stop`` is set; everything under way ends well."""
        outcome = Outcome()
        schedule = Schedule(self.node, self.node.clock())
        with self._courier(outcome, attempts=None, idle=_SUPERVISED_IDLE_SECONDS) as courier:
            seals = _Seals(self.node, outcome, self.said, courier)
            told: dict[str, str] = {}
            try:
                while not stop.is_set():
                    if "pull" in self.rooms:
                        for name in schedule.due(self.node.clock()):
                            self._pull(name, outcome, seals, stop)
                            schedule.done(name, self.node.clock(), failed=name in outcome.errors)
                    for resource in self._resources([], None):
                        self._seal(resource, seals, courier)
                    for name, error in list(outcome.errors.items()):
                        if told.get(name) != str(error):
                            told[name] = str(error)
                            report(name, error)
                    stop.wait(_SUPERVISED_IDLE_SECONDS)
            finally:
                seals.close()

    @contextmanager
    def _courier(
        self, outcome: Outcome, *, attempts: int | None, idle: float
    ) -> Iterator[Courier | None]:
        if "cascade" not in self.rooms or self.node.settings.upstream is None:
            yield None
            return
        courier = Courier(self.node, outcome, self.said, self.policy, attempts, idle)
        before = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_SECONDS)
        courier.start()
        try:
            yield courier
        finally:
            sys.setswitchinterval(before)
            courier.stop()

    def _resources(self, names: Sequence[str], given: Sequence[str] | None) -> list[str]:
        """List the resources to seal and deliver: of the given sources, else all."""
        if given is None:
            return self.node.resources()
        return sorted({self.node.source_settings(name).resource for name in names})

    def _seal(self, resource: str, seals: _Seals, courier: Courier | None) -> None:
        if "seal" in self.rooms:
            seals.drain(resource)
        elif courier is not None:
            courier.want(resource)

    def _pull(
        self, name: str, outcome: Outcome, seals: _Seals, stop: threading.Event | None = None
    ) -> None:
        """Pull one source and seal along the way, so that memory stays small."""
        started = self.node.clock()
        outcome.errors.pop(name, None)
        resource = self.node.source_settings(name).resource
        pulled = 0
        try:
            door = self.node.pull_door(name)
            for rows in door.run():
                pulled += rows
                outcome.pulled += rows
                self.said("pulled", rows)
                if "seal" in self.rooms:
                    seals.drain(resource)
                if (stop is not None and stop.is_set()) or resource in outcome.halted:
                    break
        except ExchangeError as error:
            outcome.errors[name] = error
        self._record(name, resource, started, pulled, outcome.errors.get(name))

    def _record(
        self, name: str, resource: str, started: datetime, pulled: int, error: ExchangeError | None
    ) -> None:
        """Show the pull in the store."""
        state = self.node.house.state(f"pull/{name}")
        if not state or (not pulled and error is None and state["rows"] == 0):
            return
        known = self.node.store.pulls.get(state["pull"])
        self.node.store.pulls.save(
            PullRow(
                pull=state["pull"],
                source=name,
                resource=resource,
                started_at=known.started_at if known is not None else started,
                state="done" if state["done"] else "open",
                ended_at=self.node.clock(),
                pulled=state["rows"],
                code=type(error).__name__ if error is not None else "",
                error=str(error) if error is not None else "",
            )
        )


class _Seals:
    """The seal and view doors of a run, opened when they are needed."""

    def __init__(self, node: Node, outcome: Outcome, said: Said, courier: Courier | None) -> None:
        self._node = node
        self._outcome = outcome
        self._said = said
        self._courier = courier
        self._doors: dict[str, tuple[SealDoor, ViewDoor]] = {}

    def drain(self, resource: str) -> None:
        """Check and seal everything that waits; an error stays with its resource."""
        outcome = self._outcome
        try:
            if resource not in self._doors:
                node = self._node
                self._doors[resource] = (node.seal_door(resource), node.view_door(resource))
            seal, view = self._doors[resource]
            while (done := seal.step()) is not None:
                outcome.accepted += done.accepted
                outcome.quarantined += done.quarantined
                outcome.batches += done.batches
                self._said("accepted", done.accepted)
                self._said("quarantined", done.quarantined)
                self._said("batches", done.batches)
                if done.halted is not None:
                    self._halt(resource, done.halted)
                    break
                self._show(view, resource)
            self._show(view, resource)
        except ExchangeError as error:
            outcome.errors[resource] = error

    def _show(self, view: ViewDoor, resource: str) -> None:
        while view.step():
            pass
        if self._courier is not None:
            self._courier.want(resource)

    def _halt(self, resource: str, why: Text) -> None:
        if resource not in self._outcome.halted:
            self._outcome.halted.append(resource)
        self._outcome.errors[resource] = Rejected(
            Text(f"资源 {resource} 已停止：{why.zh}", f"resource {resource} is halted: {why.en}"),
            hint=Text(
                f"查看 exchange quarantine list；确认后用 exchange release {resource} 继续",
                f"see `exchange quarantine list`, then `exchange release {resource}` to go on",
            ),
        )

    def close(self) -> None:
        """Close the doors."""
        for seal, view in self._doors.values():
            seal.close()
            view.close()


class Schedule:
    """When each source runs next; pure but for the clock that is handed in."""

    _RETRY = timedelta(minutes=1)

    def __init__(self, node: Node, now: datetime) -> None:
        self._settings = node.settings.sources
        self._next: dict[str, datetime] = {
            name: now if source.every is not None else self._cron(source.cron, now)
            for name, source in self._settings.items()
            if source.every is not None or source.cron is not None
        }

    def due(self, now: datetime) -> list[str]:
        """List the sources whose time has come."""
        return [name for name, at in self._next.items() if at <= now]

    def done(self, name: str, now: datetime, *, failed: bool) -> None:
        """Plan the next run; sooner after a failure."""
        source = self._settings[name]
        planned = now + source.every if source.every is not None else self._cron(source.cron, now)
        self._next[name] = min(planned, now + self._RETRY) if failed else planned

    @staticmethod
    def _cron(expression: str | None, now: datetime) -> datetime:
        from croniter import croniter

        from exchange.pipeline import LOCAL

        following: datetime = croniter(expression, now.astimezone(LOCAL)).get_next(datetime)
        return following


def _open_batches(node: Node) -> int:
    settled = {State.RECEIPTED, State.REFUSED}
    counts: Mapping[tuple[str, str], int] = node.store.deliveries.counts()
    return sum(count for (_, state), count in counts.items() if state not in settled)
