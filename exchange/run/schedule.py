"""When each source of this worker is pulled next."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from datetime import datetime

from exchange.errors import Misconfigured
from exchange.pipeline.messages import PullState
from exchange.run.outcome import Where
from exchange.settings import SourceSettings
from exchange.settings.cron import next_time
from exchange.text import BEIJING, Text


class Schedule:
    """Plans each source by its ``every`` or ``cron``.

    It goes on from when the source's last pull began, which stands in the log: neither a restart
    nor another worker's take-over makes a source run twice, or not at all.

    What fails with one source is kept by ``keep`` under ``schedule/<source>``: the others go on.
    """

    def __init__(
        self,
        sources: Mapping[str, SourceSettings],
        last_pull: Callable[[str], PullState | None],
        keep: Callable[[Where], AbstractContextManager[None]],
    ) -> None:
        """Plan nothing yet; ``last_pull`` reads the state of a source's last pull from the log."""
        self._sources = {
            name: source
            for name, source in sources.items()
            if source.every is not None or source.cron is not None
        }
        self._last_pull = last_pull
        self._keep = keep
        self._next: dict[str, datetime] = {}

    def assign(self, names: Collection[str], now: datetime) -> None:
        """Plan these sources and no others: the log has assigned them to this worker."""
        for name in self._next.keys() - set(names):
            self.forget(name)
        for name in self._sources:
            if name not in names or name in self._next:
                continue
            last = self._last_pull(name)  # a log that is away is no fault of the source
            with self._keep(Where("schedule", name)):
                if last is not None and last.done:
                    self._next[name] = self._after(name, last.began)
                else:  # it never ran, or was left in the middle
                    at_once = last is not None or self._sources[name].every is not None
                    self._next[name] = now if at_once else self._after(name, now)

    def forget(self, name: str) -> None:
        """Plan a source anew: another worker had it meanwhile."""
        self._next.pop(name, None)

    def due(self, now: datetime) -> list[str]:
        """List the sources whose time has come.

        None waits longer than from now to its next time: the clock may have been set back.
        """
        for name, planned in list(self._next.items()):
            with self._keep(Where("schedule", name)):
                self._next[name] = min(planned, self._after(name, now))
        return [name for name in self._sources if name in self._next and self._next[name] <= now]

    def finish(self, name: str, now: datetime, *, failed: bool) -> None:
        """Plan the next run; sooner after a failure."""
        self.forget(name)
        with self._keep(Where("schedule", name)):
            planned = self._after(name, now)
            self._next[name] = min(planned, now + self._sources[name].retry) if failed else planned

    def _after(self, name: str, moment: datetime) -> datetime:
        source = self._sources[name]
        if source.every is not None:
            return moment + source.every
        try:
            return next_time(source.cron or "", moment.astimezone(BEIJING))
        except ValueError as error:
            raise Misconfigured(
                Text(
                    f"数据源 {name} 的 cron 不能用：{source.cron}",
                    f"the cron of source {name} cannot be used: {source.cron}",
                ),
                hint=Text(
                    f"修改 sources.{name}.cron 后重新启动",
                    f"correct sources.{name}.cron and start again",
                ),
            ) from error
