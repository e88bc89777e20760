"""How a source is spared: hours in which it may be read, and rows a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta, timezone
from typing import Self

from exchange.connect.surface import Pulled
from exchange.errors import Misconfigured, Transient
from exchange.text import Text

_ZONE = timezone(timedelta(hours=8))


@dataclass(frozen=True, slots=True)
class Hours:
    """A stretch of every day, by Beijing time; it may pass midnight."""

    start: time
    end: time

    @classmethod
    def read(cls, text: str) -> Self:
        """Read ``20:00-06:00``; raises Misconfigured."""
        start, _, end = text.partition("-")
        try:
            return cls(time.fromisoformat(start.strip()), time.fromisoformat(end.strip()))
        except ValueError as error:
            raise Misconfigured(
                Text(f"hours 中的 {text!r} 不是时段", f"hours: {text!r} is no stretch of a day"),
                hint=Text("写成 20:00-06:00，北京时间", "write 20:00-06:00, Beijing time"),
            ) from error

    def holds(self, moment: datetime) -> bool:
        """Tell whether a moment lies within."""
        now = moment.astimezone(_ZONE).time()
        if self.start <= self.end:
            return self.start <= now < self.end
        return now >= self.start or now < self.end


@dataclass(frozen=True, slots=True)
class Manners:
    """What a department allows its source to be asked."""

    hours: tuple[Hours, ...]
    rows_per_second: float | None
    now: Callable[[], datetime]
    sleep: Callable[[float], None]

    @classmethod
    def read(
        cls,
        hours: Sequence[str],
        rows_per_second: float | None,
        now: Callable[[], datetime],
        sleep: Callable[[float], None],
    ) -> Self:
        """Read the settings; raises Misconfigured."""
        return cls(tuple(map(Hours.read, hours)), rows_per_second, now, sleep)

    def frame_rows(self, rows: int) -> int:
        """Return how many rows a frame may have: at a slow rate those of a second."""
        if self.rows_per_second is None:
            return rows
        return max(1, min(rows, int(self.rows_per_second)))

    def check(self) -> None:
        """Raise Transient outside the hours."""
        if not self.hours or any(hours.holds(self.now()) for hours in self.hours):
            return
        allowed = ", ".join(f"{h.start:%H:%M}-{h.end:%H:%M}" for h in self.hours)
        raise Transient(
            Text(f"现在不在允许读取的时段 {allowed}", f"outside the hours for reading: {allowed}"),
            hint=Text(
                "到时自动继续；用 cron 把拉取排在时段之内",
                "it goes on then; schedule the source by cron within its hours",
            ),
        )

    def paced(self, pulls: Iterator[Pulled]) -> Iterator[Pulled]:
        """Pass on what is pulled within the hours, no faster than allowed."""
        self.check()
        for pulled in pulls:
            yield pulled
            self.check()
            if self.rows_per_second is not None:
                self.sleep(pulled.frame.height / self.rows_per_second)
