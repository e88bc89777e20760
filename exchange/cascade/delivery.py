"""The delivery (投递) of one sealed batch, as a state machine without I/O (D9).

::

    PENDING ──Due──► SENDING ──Answered──► CHECKING ──ReceiptRight──► RECEIPTED  (end)
                      │ ▲  │                    └─────ReceiptWrong──► HALTED ──Retry──► PENDING
    Failed, Blocked,  │ │  └──────Refused──► REFUSED ──Retry──► PENDING
    LeaseExpired      ▼ │ Due
                     WAITING

``decide`` takes one event and returns the next state. The pipeline saves the state first and acts
afterwards: it sends in SENDING, checks the receipt in CHECKING, and goes on with the next batch
from a state that is ``settled``. Rules that hold by construction:

1. RECEIPTED is reached from CHECKING only, by a receipt whose every check passed.
2. RECEIPTED is the end; so is WITHDRAWN (已撤回), by a person before it was received. REFUSED
   (死信, dead letter) and HALTED stay until a person retries.
3. A transient failure never gives up: waits grow to ``Policy.cap`` and stay there.
4. An event in the wrong state raises :class:`OutOfOrder` and changes nothing.
5. A refusal lets the resource go on with its next batch; a halt does not.

The pipeline keeps the order: one delivery in flight per partition of a resource.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from exchange.errors import Integrity
from exchange.text import Text


class State(StrEnum):
    """Where a delivery stands (投递状态)."""

    PENDING = "pending"
    """待投递: never tried, or put back by a person."""
    SENDING = "sending"
    """投递中: leased to a worker that talks to the province."""
    CHECKING = "checking"
    """验证回执: an answer is here, its receipt is not believed yet."""
    WAITING = "waiting"
    """等待重试: the same bytes go again when ``due`` has come."""
    RECEIPTED = "receipted"
    """已回执: done."""
    REFUSED = "refused"
    """已退回 (dead letter): the province refuses this batch; a person decides."""
    HALTED = "halted"
    """已停止: the receipt contradicts the batch; the resource stops until a person decides."""
    WITHDRAWN = "withdrawn"
    """已撤回: a person has it sealed once more under another number; this one is not sent."""


SETTLED = frozenset({State.RECEIPTED, State.REFUSED, State.WITHDRAWN})
"""States from which the pipeline goes on with the next batch."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One batch on its way. All times are aware UTC."""

    resource: str
    batch_no: str
    state: State = State.PENDING
    attempts: int = 0
    """How often it was sent since the beginning or the last retry by a person."""
    due: datetime | None = None
    """WAITING: not before. SENDING and CHECKING: the lease ends."""
    owner: str = ""
    """Worker that holds the lease."""
    code: str = ""
    """The province's or our own code of the last trouble."""
    reason: str = ""
    """Its text, as given."""
    receipt_no: str = ""

    @property
    def settled(self) -> bool:
        """Whether the pipeline may go on with the next batch of the partition."""
        return self.state in SETTLED


@dataclass(frozen=True, slots=True)
class Policy:
    """How patient we are. Half of each wait is fixed, half is chance."""

    base: timedelta = timedelta(seconds=1)
    """Longest first wait; it doubles with each attempt …"""
    cap: timedelta = timedelta(minutes=5)
    """… up to this."""
    retry_after_cap: timedelta = timedelta(hours=1)
    """Longest wait that the province may ask for (``Retry-After``)."""
    lease: timedelta = timedelta(minutes=10)
    """A worker that is silent for longer is taken for dead; longer than any request lasts."""

    def __post_init__(self) -> None:
        """Refuse spans that make no sense."""
        if not timedelta() < self.base <= self.cap <= self.retry_after_cap:
            raise ValueError("need 0 < base <= cap <= retry_after_cap")
        if self.lease <= timedelta():
            raise ValueError("lease must be longer than nothing")

    def wait(self, attempts: int, jitter: float) -> timedelta:
        """Return the wait after this many attempts; ``jitter`` is chance in [0, 1)."""
        longest = self.base
        for _ in range(1, attempts):
            if longest >= self.cap:
                break
            longest *= 2
        return min(longest, self.cap) * (0.5 + jitter / 2)


# --- events: what happened -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Due:
    """``owner`` takes the delivery, whose time has come (see :func:`is_due`)."""

    owner: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The province took the batch and sent this receipt; check it next."""

    receipt: bytes


@dataclass(frozen=True, slots=True)
class ReceiptRight:
    """Every check of the receipt passed."""

    receipt_no: str


@dataclass(frozen=True, slots=True)
class ReceiptWrong:
    """The receipt contradicts the batch; ``failed`` names the checks."""

    failed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """The province refuses this batch for good."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Blocked:
    """Our own credentials or settings are in the way; nothing is wrong with the batch."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """No usable answer: down, slow, broken off, busy. The same bytes may succeed later."""

    code: str
    reason: str
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class LeaseExpired:
    """The worker that held the delivery fell silent."""


@dataclass(frozen=True, slots=True)
class Restarted:
    """``owner`` is back and knows that its former self is gone: no need to wait for the lease."""

    owner: str


@dataclass(frozen=True, slots=True)
class Retry:
    """A person puts a refused or halted delivery back."""


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """A person has withdrawn the batch: it was never received."""

    code: str


Outcome = Answered | Refused | Blocked | Failed
"""How one attempt to send can end."""
Event = Outcome | Due | ReceiptRight | ReceiptWrong | LeaseExpired | Restarted | Retry | Withdrawn


class OutOfOrder(Integrity):
    """An event that cannot happen in this state: two workers, or a defect."""

    def __init__(self, delivery: Delivery, event: Event) -> None:
        """Say which event came in which state."""
        name, batch = type(event).__name__, f"{delivery.resource}/{delivery.batch_no}"
        super().__init__(
            Text(
                f"批次 {batch} 处于 {delivery.state} 状态，不接受事件 {name}",
                f"batch {batch} is {delivery.state} and cannot take {name}",
            ),
            hint=Text(
                "请检查是否有两个进程使用同一个节点名称，再运行 exchange cascade list",
                "check that no two processes share one node name, then run `exchange cascade list`",
            ),
        )


def is_due(delivery: Delivery, now: datetime, policy: Policy) -> bool:
    """Tell whether the wait or the lease is over.

    A time further away than we ever wait means that the clock was moved back: it is over too,
    else a delivery would sleep until the old time comes round again.
    """
    if delivery.due is None:
        return True
    longest = max(policy.retry_after_cap, policy.lease)
    return not now < delivery.due <= now + longest


def decide(  # noqa: C901, PLR0911 (one case per arrow of the drawing above)
    delivery: Delivery, event: Event, now: datetime, policy: Policy, *, jitter: float = 0.0
) -> Delivery:
    """Return the next state; raises :class:`OutOfOrder`."""
    match delivery.state, event:
        case ((State.PENDING | State.WAITING), Due(owner)) if is_due(delivery, now, policy):
            return replace(
                delivery,
                state=State.SENDING,
                owner=owner,
                attempts=delivery.attempts + 1,
                due=now + policy.lease,
            )
        case State.SENDING, Answered():
            return replace(delivery, state=State.CHECKING)
        case State.CHECKING, ReceiptRight(receipt_no):
            return replace(_stop(delivery, State.RECEIPTED, "", ""), receipt_no=receipt_no)
        case State.CHECKING, ReceiptWrong(failed):
            return _stop(delivery, State.HALTED, "receipt", ", ".join(failed))
        case State.SENDING, Refused(code, reason):
            return _stop(delivery, State.REFUSED, code, reason)
        case State.SENDING, Blocked(code, reason):
            return _wait(delivery, code, reason, now + policy.cap)
        case State.SENDING, Failed(code, reason, retry_after):
            wait = policy.wait(delivery.attempts, jitter)
            pause = min(retry_after or timedelta(), policy.retry_after_cap)
            return _wait(delivery, code, reason, now + max(wait, pause))
        case ((State.SENDING | State.CHECKING), LeaseExpired()) if is_due(delivery, now, policy):
            return _wait(delivery, "lease", f"{delivery.owner} fell silent", now)
        case ((State.SENDING | State.CHECKING), Restarted(owner)) if owner == delivery.owner:
            return _wait(delivery, "restart", f"{owner} restarted", now)
        case ((State.PENDING | State.WAITING | State.SENDING), Withdrawn(code)):
            return _stop(delivery, State.WITHDRAWN, code, "")
        case ((State.REFUSED | State.HALTED), Retry()):
            return Delivery(delivery.resource, delivery.batch_no)
    raise OutOfOrder(delivery, event)


def _stop(delivery: Delivery, state: State, code: str, reason: str) -> Delivery:
    return replace(delivery, state=state, code=code, reason=reason, owner="", due=None)


def _wait(delivery: Delivery, code: str, reason: str, due: datetime) -> Delivery:
    return replace(delivery, state=State.WAITING, code=code, reason=reason, owner="", due=due)
