"""When each source of this worker is pulled next."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from datetime import datetime, timedelta

from exchange.errors import Misconfigured
from exchange.pipeline.messages import PullState
from exchange.run.outcome import Where
from exchange.settings import SourceSettings
from exchange.settings.cron import next_time
from exchange.settings.working_days import Permitted, WorkingDays
from exchange.text import BEIJING, Text

_TIMES = 2_000
"""Times of a cron expression that are tried for one at which the source may be pulled."""
_INSTANT = timedelta(microseconds=1)


def permitted(source: SourceSettings, calendar: Callable[[], WorkingDays | None]) -> Permitted:
    """Return when a source may be pulled; the table is read only for one that needs it."""
    return Permitted(source.span, calendar() if source.days == "working" else None)


def next_pull(
    name: str, source: SourceSettings, moment: datetime, calendar: Callable[[], WorkingDays | None]
) -> datetime:
    """Return when a source is pulled next after a pull at ``moment``.

    Raises Misconfigured for an expression that never comes at a permitted time, or a year whose
    working days are not known.
    """
    allowed = permitted(source, calendar)
    if source.every is not None:
        return allowed.begin(moment + source.every)
    try:
        planned = next_time(source.cron or "", moment.astimezone(BEIJING))
        for _ in range(_TIMES):
            begin = allowed.begin(planned)
            if begin == planned:
                return planned
            planned = next_time(source.cron or "", begin.astimezone(BEIJING) - _INSTANT)
    except ValueError as error:
        raise _unusable(name, source) from error
    raise _unusable(name, source)


def planned_pull(
    name: str,
    source: SourceSettings,
    last: PullState | None,
    now: datetime,
    calendar: Callable[[], WorkingDays | None],
) -> datetime:
    """Return when a source with a schedule is pulled, by its last pull as the log has it."""
    if last is not None and last.done:
        return next_pull(name, source, last.began, calendar)
    if last is not None or source.every is not None:  # left in the middle, or it never ran
        return permitted(source, calendar).begin(now)
    return next_pull(name, source, now, calendar)


class Schedule:
    """Plans each source by its ``every`` or ``cron``, at permitted times.

    It goes on from when the source's last pull began, which stands in the log: neither a restart
    nor another worker's take-over makes a source run twice, or not at all.

    What fails with one source is kept by ``keep`` under ``schedule/<source>``: the others go on.
    """

    def __init__(
        self,
        sources: Mapping[str, SourceSettings],
        last_pull: Callable[[str], PullState | None],
        keep: Callable[[Where], AbstractContextManager[None]],
        calendar: Callable[[], WorkingDays | None] = lambda: None,
    ) -> None:
        """Plan nothing yet; ``last_pull`` reads the state of a source's last pull from the log."""
        self._sources = {
            name: source
            for name, source in sources.items()
            if source.every is not None or source.cron is not None
        }
        self._last_pull = last_pull
        self._keep = keep
        self._calendar = calendar
        self._next: dict[str, datetime] = {}

    def assign(self, names: Collection[str], now: datetime) -> None:
        """Plan these sources and no others: the log has assigned them to this worker."""
        for name in self._next.keys() - set(names):
            self.forget(name)
        for name, source in self._sources.items():
            if name not in names or name in self._next:
                continue
            last = self._last_pull(name)  # a log that is away is no fault of the source
            with self._keep(Where("schedule", name)):
                self._next[name] = planned_pull(name, source, last, now, self._calendar)

    def forget(self, name: str) -> None:
        """Plan a source anew: another worker had it meanwhile, or it was left in the middle."""
        self._next.pop(name, None)

    def planned(self, name: str) -> datetime | None:
        """Return when a source is pulled next; None: nobody has planned it."""
        return self._next.get(name)

    def due(self, now: datetime) -> list[str]:
        """List the sources whose time has come.

        None waits longer than from now to its next time: the clock may have been set back.
        """
        due = []
        for name, planned in list(self._next.items()):
            with self._keep(Where("schedule", name)):
                source = self._sources[name]
                self._next[name] = min(planned, next_pull(name, source, now, self._calendar))
                if self._next[name] <= now and permitted(source, self._calendar).allows(now):
                    due.append(name)
        return [name for name in self._sources if name in due]

    def finish(self, name: str, now: datetime, *, failed: bool) -> None:
        """Plan the next run; sooner after a failure."""
        self.forget(name)
        with self._keep(Where("schedule", name)):
            source = self._sources[name]
            planned = next_pull(name, source, now, self._calendar)
            if failed:
                again = permitted(source, self._calendar).begin(now + source.retry)
                planned = min(planned, again)
            self._next[name] = planned


def _unusable(name: str, source: SourceSettings) -> Misconfigured:
    return Misconfigured(
        Text(
            f"数据源 {name} 的 cron 不能用：{source.cron}",
            f"the cron of source {name} cannot be used: {source.cron}",
        ),
        hint=Text(
            f"修改 sources.{name}.cron 后重新启动",
            f"correct sources.{name}.cron and start again",
        ),
    )
