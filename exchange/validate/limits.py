"""Tell when a source has gone bad: too many refused records, or too large a share of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from exchange.text import Text

if TYPE_CHECKING:
    from exchange.catalog.model import Limits

DEFAULT_WINDOW = 1_000
"""Rows that a percentage is taken over when the catalog names no window."""


class Tally:
    """Counts one pull of one source against its :class:`Limits`; pure, no clock.

    ``max_count`` counts the refused records of the whole pull. ``max_percent`` is the share
    among the newest rows: as few whole chunks as hold ``window_rows``. It is judged once so many
    rows have come: the first bad row of a pull is no percentage.
    """

    def __init__(
        self, limits: Limits, *, recent: Iterable[tuple[int, int]] = (), rejected: int = 0
    ) -> None:
        """Begin a pull, or go on with one: ``recent`` and ``rejected`` as they stood."""
        self._limits = limits
        self._window = limits.window_rows or DEFAULT_WINDOW
        self._recent = deque((rows, refused) for rows, refused in recent)
        self._rows = sum(rows for rows, _ in self._recent)
        self._refused = sum(refused for _, refused in self._recent)
        self.accepted = 0
        self.rejected = rejected

    @property
    def recent(self) -> list[tuple[int, int]]:
        """The newest chunks as (rows, refused), oldest first: what a percentage is taken over."""
        return list(self._recent)

    def add(self, accepted: int, rejected: int) -> None:
        """Count a chunk."""
        self.accepted += accepted
        self.rejected += rejected
        self._recent.append((accepted + rejected, rejected))
        self._rows += accepted + rejected
        self._refused += rejected
        while self._rows - self._recent[0][0] >= self._window:
            rows, refused = self._recent.popleft()
            self._rows -= rows
            self._refused -= refused

    def exceeded(self) -> Text | None:
        """Say which limit is exceeded, and by what; None while the source is well."""
        most = self._limits.max_count
        if most is not None and self.rejected > most:
            return Text(
                f"本次取数已拒收 {self.rejected} 条，超过上限 {most} 条",
                f"{self.rejected} records of this pull are refused, the limit is {most}",
            )
        share = self._limits.max_percent
        if share is not None and self._rows >= self._window:
            percent = 100 * self._refused / self._rows
            if percent > share:
                return Text(
                    f"最近 {self._rows} 条中拒收 {percent:.1f}%，超过上限 {share:g}%",
                    f"{percent:.1f} % of the last {self._rows} records are refused, "
                    f"the limit is {share:g} %",
                )
        return None
