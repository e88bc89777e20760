"""Errors by what to do next.

::

    ExchangeError
    ├── Transient            the same bytes may succeed later: try again        exit 4
    ├── Rejected             refused for good: journal it, never retry          exit 1
    │   ├── Misconfigured    catalog, settings or source need a person's edit   exit 3
    │   └── Denied           credentials or rights are missing                  exit 5
    └── Integrity            a seal, receipt or log contradicts itself: stop    exit 6

Every error says what happened, why, and what to do next, in Chinese and English.
Foreign exceptions are turned into one of these by the error map of the room that owns the
library, always with the cause kept (``raise Transient(...) from error``).
"""

from __future__ import annotations

from typing import ClassVar

from exchange.text import Text


class ExchangeError(Exception):
    """Root of everything this package raises on purpose.

    ``what`` names the event and its reason, ``hint`` what the reader should do next.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: Text, *, hint: Text) -> None:
        super().__init__(what.en)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what.en} ({self.hint.en})"


class Transient(ExchangeError):
    """The other side is away or busy; the same bytes may succeed later."""

    exit_code = 4


class Rejected(ExchangeError):
    """This record, batch or request is refused; trying again changes nothing."""

    exit_code = 1


class Misconfigured(Rejected):
    """The catalog, the settings or a source needs a person's edit."""

    exit_code = 3


class Denied(Rejected):
    """Credentials are wrong or rights are missing."""

    exit_code = 5


class Integrity(ExchangeError):
    """A seal, receipt or log contradicts itself: stop this resource and call a person."""

    exit_code = 6
