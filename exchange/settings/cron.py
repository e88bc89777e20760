"""Cron expressions (定时表达式) of five fields: minute, hour, day, month, day of the week."""

from __future__ import annotations

from datetime import datetime

_FIELDS = 5
_MAX_CHARS = 100


def next_time(expression: str, after: datetime) -> datetime:
    """Return the first moment of ``expression`` later than ``after``, in the zone of ``after``.

    Raises ValueError for what is no such expression, and for one that never comes.
    """
    if len(expression.split()) != _FIELDS or len(expression) > _MAX_CHARS:
        raise ValueError("a cron expression has five fields")
    from croniter import croniter

    try:
        moment: datetime = croniter(expression, after).get_next(datetime)
    except ValueError as error:  # every error of croniter is one
        raise ValueError(f"'{expression}' is no cron expression, or never comes") from error
    return moment
