"""Reads a partition from end to end, past what cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator

from exchange.audit.findings import Findings
from exchange.errors import Integrity
from exchange.log import Entry, Log

PAGE = 8
"""Entries in memory at once; one has a megabyte at most."""
_MAX_FAULTS = 1_000
"""Faults in a partition after which the rest of it is not looked at."""


def entries(
    log: Log,
    topic: str,
    partition: int,
    findings: Findings,
    *,
    bounds: tuple[int, int] | None = None,
    missed: Callable[[int], None] = lambda _offset: None,
) -> Iterator[Entry]:
    """Yield the entries from ``bounds[0]`` to before ``bounds[1]`` (default: all that there are).

    The driver checks each. One that is damaged or missing is a fault of ``log.entries``, and told
    to ``missed``.
    """
    offset, end = log.bounds(topic, partition) if bounds is None else bounds
    faults = 0
    while offset < end:
        try:
            page = log.read(topic, partition, offset, max_entries=PAGE)
        except Integrity:
            faults += 1
            if faults > _MAX_FAULTS:
                findings.fault("log.entries", f"{topic}/{partition}", "readable", "not looked at")
                return
            part = (offset, min(end, offset + PAGE))
            offset = yield from _singly(log, (topic, partition), part, findings, missed)
            continue
        if not page:
            return
        yield from (entry for entry in page if entry.offset < end)
        offset = page[-1].offset + 1


def _singly(
    log: Log,
    place: tuple[str, int],
    bounds: tuple[int, int],
    findings: Findings,
    missed: Callable[[int], None],
) -> Generator[Entry, None, int]:
    """Read entry by entry where one of a page cannot be read; return the next offset."""
    offset, end = bounds
    while offset < end:
        try:
            page = log.read(*place, offset, max_entries=1)
        except Integrity as error:
            where = f"{place[0]}/{place[1]}/{offset}"
            findings.fault("log.entries", where, "an entry with its checksum", error.what.en)
            missed(offset)
            offset += 1
            continue
        if not page:
            break
        if page[0].offset < end:
            yield page[0]
        offset = page[0].offset + 1
    return offset
