"""The kinds of value that the sections of ``exchange.yaml`` share."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

_DURATION = re.compile(r"(\d{1,9})\s*(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _duration(value: object) -> object:
    if isinstance(value, str) and (match := _DURATION.fullmatch(value.strip())):
        return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])
    return value


Duration = Annotated[timedelta, BeforeValidator(_duration)]
"""A time span such as ``30s``, ``15m``, ``2h``, ``1d``."""
Reference = Annotated[str, Field(pattern=r"^(env|file):.+")]
"""Where a secret is kept: ``env:NAME`` or ``file:path``."""
Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,47}$")]
Seconds = Annotated[float, Field(gt=0, le=7200, validate_default=True)]


def wrong(zh: str, en: str) -> PydanticCustomError:
    """Make the error of a setting, in both languages."""
    return PydanticCustomError("text", "{en}", {"zh": zh, "en": en})


class SettingsSection(BaseModel):
    """A section: it never changes, and takes no key that nobody knows."""

    model_config = ConfigDict(frozen=True, extra="forbid")
