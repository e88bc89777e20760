"""What a run did: counts, and the errors of each stage and source or resource.

One thread owns an outcome. The delivery loop, which has a thread of its own, sends reports.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from exchange.cascade.delivery import State
from exchange.errors import Denied, ExchangeError, Integrity, Misconfigured, Rejected, Transient
from exchange.text import Text

_WORST = (Integrity, Denied, Misconfigured, Transient, Rejected)

_LOGGER = logging.getLogger(__name__)


class Where(NamedTuple):
    """What an error belongs to: a stage and one of its sources or resources; as text ``pull/x``."""

    stage: str
    subject: str = ""

    def __str__(self) -> str:
        """Return what people and JSON see."""
        return f"{self.stage}/{self.subject}" if self.subject else self.stage


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """What one step of the delivery loop came to; without a resource: that it cannot begin."""

    resource: str = ""
    state: State | None = None
    """State of the delivery; None: there is none, or the step failed."""
    error: ExchangeError | None = None
    answered: bool = False
    """Whether the province is well: it is the batch that waits."""

    @property
    def where(self) -> Where:
        """The key of its error in an outcome."""
        return Where("cascade", self.resource)


@dataclass
class RunOutcome:
    """What one run did; errors by what they belong to."""

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
    absent: dict[str, list[str]] = field(default_factory=dict)
    """By source, columns of optional fields that the catalog names and the source lacks."""
    appeared: dict[str, list[str]] = field(default_factory=dict)
    """By source, columns that appeared and that the catalog does not name."""
    resting: dict[str, Text] = field(default_factory=dict)
    """By source, why it was not pulled: a person has paused it, or it is not its time."""
    coarsened: dict[str, dict[str, int]] = field(default_factory=dict)
    """By resource and field, instants of which only the milliseconds were kept."""
    kept: int = 0
    """Statements and receipts that are new in the evidence log."""
    unasked: Text | None = None
    """Why the witness was not asked, before the run, what it has seen of the evidence log."""
    silent: list[str] = field(default_factory=list)
    """Deliveries with which the province is away, or turns us away."""
    halted: set[Where] = field(default_factory=set)
    """What waits for a person: a resource in the stage seal or cascade."""
    errors: dict[Where, ExchangeError] = field(default_factory=dict)

    def error(self) -> ExchangeError | None:
        """Return the error that decides the exit code: the one that needs a person most."""
        for kind in _WORST:
            for error in self.errors.values():
                if isinstance(error, kind):
                    return error
        return None

    def is_halted(self, resource: str) -> bool:
        """Tell whether a resource waits for a person."""
        return not self.halted.isdisjoint({Where("seal", resource), Where("cascade", resource)})

    @contextmanager
    def keep(self, where: Where, *, beside: type[ExchangeError] | None = None) -> Iterator[None]:
        """Keep what fails with the source or resource it belongs to: the others go on.

        Errors of kind ``beside`` are not kept but passed on.
        """
        try:
            yield
        except Exception as error:
            if beside is not None and isinstance(error, beside):
                raise
            self.errors[where] = exchange_error(where, error, self.errors.get(where))
        else:
            self.errors.pop(where, None)

    def add(self, report: DeliveryReport) -> None:
        """Take over what the delivery loop reports."""
        where, error = report.where, report.error
        if report.state is not None:
            self.halted.discard(where)
        match report.state:
            case State.RECEIPTED:
                self.receipts += 1
            case State.REFUSED if error is not None:
                self.refused += 1
                self.errors[Where("refused", report.resource)] = error
                error = None  # the next batch follows
            case State.HALTED:
                self.halted.add(where)
        self.silent = [name for name in self.silent if name != str(where)]
        if error is None:
            self.errors.pop(where, None)
            return
        self.errors[where] = error
        if not report.answered:
            self.silent.append(str(where))


def exchange_error(
    where: Where, error: Exception, cause: ExchangeError | None = None
) -> ExchangeError:
    """Return an error of ours as it is, any other as a defect of the program.

    The traceback of a defect goes to the program's log, once while it stays the same one:
    ``cause`` is the error that stood there before.
    """
    if isinstance(error, ExchangeError):
        return error
    name = type(error).__name__
    defect = Integrity(
        Text(f"{where} 遇到程序缺陷 {name}", f"a defect of the program at {where}: {name}"),
        hint=Text(
            "数据未丢失；请把日志中的出错位置交给维护者",
            "nothing is lost; send the traceback in the log to the maintainers",
        ),
    )
    if str(cause) != str(defect):
        _LOGGER.error("defect in %s", where, exc_info=error)
    return defect
