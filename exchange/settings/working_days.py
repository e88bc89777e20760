"""Working days (工作日): holidays and make-up days from a table of the State Council's notice.

A line of the table is a day or a span, its kind, and a remark: ``2026-10-10 班``,
``2026-10-01..2026-10-07 休 国庆节``. A year without a line is unknown: what needs it is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path

from exchange.errors import Misconfigured
from exchange.text import BEIJING, Text

_LINE = re.compile(
    r"(\d{4}-\d{2}-\d{2})(?:\s*(?:\.\.|至|~)\s*(\d{4}-\d{2}-\d{2}))?\s+(休|班|off|work)(?:\s.*)?"
)
_MAX_BYTES = 64 * 1024
_LONGEST = timedelta(days=31)
_SATURDAY = 5
_DAYS = 400
"""How far ahead a permitted day is looked for."""


@dataclass(frozen=True)
class WorkingDays:
    """Which days are worked, in the years that are known."""

    days: frozenset[tuple[date, bool]]
    """Days that the table names, and whether each is worked."""

    def has(self, day: date) -> bool:
        """Tell whether a day is worked; raises Misconfigured for a year without a table."""
        if (day, True) in self.days or (day, False) in self.days:
            return (day, True) in self.days
        if not any(named.year == day.year for named, _ in self.days):
            raise Misconfigured(
                Text(f"{day.year} 年的工作日未知", f"the working days of {day.year} are not known"),
                hint=Text(
                    f"请在 working_days 的文件中补充 {day.year} 年的放假安排",
                    f"add the holidays of {day.year} to the file of `working_days`",
                ),
            )
        return day.weekday() < _SATURDAY


def read_working_days(path: Path) -> WorkingDays:
    """Read a table; raises Misconfigured with the line that cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise _unreadable(path, Text("超过 64 KiB", "it has more than 64 KiB"))
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, Text(str(error), str(error))) from error
    days: dict[date, bool] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        content = line.partition("#")[0].strip()
        if not content:
            continue
        try:
            span, worked = _read_line(content)
        except ValueError as error:
            where = Text(f"第 {number} 行：{content}", f"line {number}: {content}")
            raise _unreadable(path, where) from error
        for day in span:
            if days.setdefault(day, worked) != worked:
                where = Text(
                    f"第 {number} 行：{day} 既休又班",
                    f"line {number}: {day} is both off and worked",
                )
                raise _unreadable(path, where)
    return WorkingDays(frozenset(days.items()))


def _read_line(content: str) -> tuple[list[date], bool]:
    match = _LINE.fullmatch(content)
    if match is None:
        raise ValueError(content)
    first = date.fromisoformat(match[1])
    last = date.fromisoformat(match[2]) if match[2] else first
    if not timedelta() <= last - first <= _LONGEST:
        raise ValueError(content)
    span = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    return span, match[3] in {"班", "work"}


def _unreadable(path: Path, why: Text) -> Misconfigured:
    return Misconfigured(
        Text(f"工作日表 {path} 不能读：{why.zh}", f"the working days {path}: {why.en}"),
        hint=Text(
            "每行一天或一段：2026-10-01..2026-10-07 休 国庆节；2026-10-10 班",
            "a day or a span each line: 2026-10-01..2026-10-07 off; 2026-10-10 work",
        ),
    )


@dataclass(frozen=True)
class Permitted:
    """When a source may be pulled: at which hours, by Beijing time, and on which days.

    ``hours``: from and to; the end may be past midnight. The day is that of the moment itself.
    """

    hours: tuple[time, time] | None = None
    days: WorkingDays | None = None
    """None: every day."""

    def allows(self, moment: datetime) -> bool:
        """Tell whether the source may be pulled now; raises Misconfigured for an unknown year."""
        return self.begin(moment) == moment

    def begin(self, moment: datetime) -> datetime:
        """Return the first permitted moment that is not before ``moment``.

        Raises Misconfigured where that lies in a year whose working days are not known.
        """
        local = moment.astimezone(BEIJING)
        for number in range(_DAYS):
            day = local.date() + timedelta(days=number)
            if self.days is not None and not self.days.has(day):
                continue
            earliest = local if number == 0 else datetime.combine(day, time(), BEIJING)
            for start, end in self._spans(day):
                if (begin := max(earliest, start)) < end:
                    return moment if begin == local else begin
        raise Misconfigured(
            Text("一年之内没有允许拉取的时间", "no permitted time within a year"),
            hint=Text("请检查 hours 与 working_days", "look at `hours` and `working_days`"),
        )

    def _spans(self, day: date) -> list[tuple[datetime, datetime]]:
        midnight = datetime.combine(day, time(), BEIJING)
        end = midnight + timedelta(days=1)
        if self.hours is None:
            return [(midnight, end)]
        first, last = (datetime.combine(day, moment, BEIJING) for moment in self.hours)
        return [(first, last)] if first < last else [(midnight, last), (first, end)]
