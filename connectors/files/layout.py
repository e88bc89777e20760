"""Where a table begins within what clerks send: titles above, header, group rows between.

Shared by text files and spreadsheets. A row that is no record is never dropped: it becomes a
:class:`~exchange.connect.Note`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exchange.connect import Misconfigured, Note, Text, suggest

if TYPE_CHECKING:
    from collections.abc import Sequence

Row = tuple[int, list[str]]
"""1-based position in the file or sheet, and the cells as text."""

HEAD_ROWS = 50
"""How far down a header is looked for."""
MIN_GROUP_COLUMNS = 3
"""A lone first cell is a group row (分组行) only where a record would have at least three."""
ROW, DEFECT = "_row", "_defect"
MAX_NOTES = 2_000
"""Notes of one frame: more means that the rows are records after all."""
_MAX_NOTE = 200
_FULL = 0.8


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the header stands (0: there is none) and what the columns are called."""

    header: int
    names: tuple[str, ...]
    notes: tuple[Note, ...]


def find_layout(
    rows: Sequence[Row], columns: Sequence[str], header: int | None, place: str
) -> Layout:
    """Find the header row: the given one, the one with ``columns``, or the first full row.

    Full is a row that fills at least 0.8 of the cells that rows near the top typically fill,
    each with a different text that is no number. Raises Misconfigured when there is none.
    """
    if header == 0:
        return Layout(0, tuple(columns), ())
    typical = _typical([_filled(cells) for _, cells in rows])
    for number, cells in rows:
        if header is not None:
            fits = number == header
        elif columns:
            fits = set(columns) <= {cell.strip() for cell in cells}
        else:
            fits = _filled(cells) >= max(1, _FULL * typical) and _titles(cells)
        if fits:
            return _layout(rows, number, cells, columns, place)
    raise _no_header(rows, columns, place)


def is_group(cells: Sequence[object]) -> bool:
    """Whether only the first of at least three cells is filled."""
    return (
        len(cells) >= MIN_GROUP_COLUMNS
        and _is_filled(cells[0])
        and not any(_is_filled(cell) for cell in cells[1:])
    )


def note(row: int, kind: str, text: str) -> Note:
    """Make a note of bounded length."""
    return Note(row, kind, " ".join(text.split())[:_MAX_NOTE])


def bounded(notes: Sequence[Note], place: str) -> tuple[Note, ...]:
    """Refuse a file where group rows are the rule: they must be records there."""
    if len(notes) > MAX_NOTES:
        raise Misconfigured(
            Text(
                f"{place} 中有 {len(notes)} 行只填了第一格，不像分组行",
                f"{place} has {len(notes)} rows with only the first cell filled",
            ),
            hint=Text(
                "如果这些行是记录，请设置 group_rows: record",
                "if they are records, set group_rows: record",
            ),
        )
    return tuple(notes)


def _layout(
    rows: Sequence[Row], header: int, cells: list[str], columns: Sequence[str], place: str
) -> Layout:
    names = column_names(cells)
    for name in columns:
        if name not in names:
            near = suggest(name, names)
            raise Misconfigured(
                Text(f"{place} 没有列 {name}", f"{place} has no column {name}"),
                hint=Text(f"请检查表头。{near.zh}", f"check the header row: {near.en}"),
            )
    above = [(number, " ".join(found)) for number, found in rows if number < header]
    notes = [note(number, "title", text) for number, text in above if text.strip()]
    return Layout(header, names, tuple(notes))


def column_names(cells: Sequence[str]) -> tuple[str, ...]:
    """Name the columns: an empty cell ``column_N``, a repeated one ``name_2``."""
    seen: Counter[str] = Counter()
    out: list[str] = []
    for number, cell in enumerate(cells, start=1):
        name = " ".join(cell.split()) or f"column_{number}"
        seen[name] += 1
        while name in out:
            name = f"{' '.join(cell.split())}_{seen[name]}"
            seen[name] += 1
        out.append(name)
    return tuple(out)


def _typical(filled: Sequence[int]) -> int:
    """Return the most common number of filled cells; titles, with one, do not count."""
    counts = Counter(number for number in filled if number > 1)
    return max(counts, key=lambda number: (counts[number], number), default=1)


def _filled(cells: Sequence[str]) -> int:
    return sum(map(_is_filled, cells))


def _is_filled(cell: object) -> bool:
    return cell is not None and bool(str(cell).strip())


def _titles(cells: Sequence[str]) -> bool:
    names = [cell.strip() for cell in cells if cell.strip()]
    return len(set(names)) == len(names) and not any(map(_is_number, names))


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).replace("-", "", 1).isdigit()


def _no_header(rows: Sequence[Row], columns: Sequence[str], place: str) -> Misconfigured:
    if not columns:
        return Misconfigured(
            Text(f"{place} 中找不到表头", f"{place}: no header row found"),
            hint=Text("请用 header 写明表头在第几行", "say with header in which row it stands"),
        )
    best = max((cells for _, cells in rows), key=lambda c: len(set(c) & set(columns)), default=[])
    missing = [name for name in columns if name not in best]
    near = suggest(missing[0], [cell for cell in best if cell])
    names = ", ".join(missing)
    return Misconfigured(
        Text(f"{place} 没有列 {names}", f"{place} has no column {names}"),
        hint=Text(f"请检查表头。{near.zh}", f"check the header row: {near.en}"),
    )
