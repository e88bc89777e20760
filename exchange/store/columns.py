"""Column types that every database of domain.md §10 has. Lengths count characters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import String, Text
from sqlalchemy.types import TypeDecorator

from exchange.errors import Rejected
from exchange.text import Text as Sentence

if TYPE_CHECKING:
    from sqlalchemy import Dialect

MAX_TEXT = 4_000
"""Longest free text kept, in characters; longer ones are cut and end in an ellipsis."""


class Moment(TypeDecorator[datetime]):
    """A time as text, ``2026-11-23T01:02:03.004Z``: sorts, reads and travels everywhere."""

    impl = String(24)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        """Write an aware time in UTC, cut to the millisecond."""
        del dialect
        if value is None:
            return None
        if value.tzinfo is None:
            message = "a time without zone"
            raise ValueError(message)
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def process_result_value(self, value: str | None, dialect: Dialect) -> datetime | None:
        """Read it back, aware."""
        del dialect
        return None if value is None else datetime.fromisoformat(value)


class Name(TypeDecorator[str]):
    """A short identifier; never empty where it is a key. Too long or broken: refused."""

    impl = String
    cache_ok = True

    def __init__(self, length: int) -> None:
        """Take the longest length in characters."""
        super().__init__(length)
        self.length = length

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Write NULL for an empty name: some databases cannot tell them apart."""
        del dialect
        if value and (len(value) > self.length or not _storable(value)):
            raise Rejected(
                Sentence(
                    f"「{value[:60]!a}」不能作为标识保存(至多 {self.length} 个字符)",
                    f"{value[:60]!a} cannot be stored as a name of up to {self.length} characters",
                ),
                hint=Sentence(
                    "缩短它,并去掉不可见字符", "shorten it and remove control characters"
                ),
            )
        return value or None

    def process_result_value(self, value: str | None, dialect: Dialect) -> str:
        """Read NULL as empty."""
        del dialect
        return value or ""


class FreeText(TypeDecorator[str]):
    """Free text, often from other systems: cut to size, unstorable characters replaced."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Write NULL for an empty text."""
        del dialect
        return stored_text(value) if value else None

    def process_result_value(self, value: str | None, dialect: Dialect) -> str:
        """Read NULL as empty."""
        del dialect
        return value or ""


def stored_text(value: str) -> str:
    """Return a free text as it is kept."""
    if not _storable(value):  # NUL, or bytes of a file name that were no text
        value = value.replace("\0", "\ufffd").encode(errors="replace").decode()
    return value if len(value) <= MAX_TEXT else value[: MAX_TEXT - 1] + "…"


def as_kept(value: object) -> object:
    """Return a value as it comes back from the store: texts cut to size, times to a millisecond."""
    if isinstance(value, str):
        return stored_text(value)
    if isinstance(value, datetime):
        return value.replace(microsecond=value.microsecond // 1000 * 1000)
    return value


def _storable(value: str) -> bool:
    return "\0" not in value and not any("\ud800" <= char <= "\udfff" for char in value)


class Counts(TypeDecorator[Mapping[str, int]]):
    """Names with a count each, as JSON text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Mapping[str, int] | None, dialect: Dialect) -> str:
        """Write them in the order of their names."""
        del dialect
        return json.dumps(dict(value or {}), ensure_ascii=False, sort_keys=True)

    def process_result_value(self, value: str | None, dialect: Dialect) -> dict[str, int]:
        """Read them back."""
        del dialect
        return dict(json.loads(value or "{}"))
