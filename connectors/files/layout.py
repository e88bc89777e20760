"""Where a table begins within what clerks send: titles above, header, group rows between, footer.

Shared by text files and spreadsheets. A row that is no record is never dropped: it becomes a
:class:`Remark`. This module and the readers of spreadsheets start quickly: they also run in a
process of their own (:mod:`exchange.connectors.files.child`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from exchange.errors import Misconfigured
from exchange.text import Text, suggest

Row = tuple[int, list[str]]
"""1-based position in the file or sheet, and the cells as text."""

HEAD_ROWS = 50
"""How far down a header is looked for."""
MIN_GROUP_COLUMNS = 3
"""A lone first cell is a group row (分组行) only where a record would have at least three."""
ROW, DEFECT = "_row", "_defect"
MAX_NOTES = 2_000
"""Notes of one frame: more means that the rows are records after all."""
MAX_HEADER_ROWS = 4
_MAX_NOTE = 200
_FULL = 0.8

_TOTAL = r"(?:合|总|小|共|累)\s*计\s*(?:[:：].*|[（(].*[)）])?"
_SIGNED = (
    r"(?:制\s*表|填\s*表|填\s*报|编\s*制|审\s*核|复\s*核|审\s*批|负\s*责|经\s*办|联\s*系|报\s*送)"
    r"\s*(?:人|员|者|日期|时间|单位|部门|电话)?\s*[:：].*"
)
_REMARK = r"(?:备\s*注|附?\s*注|说\s*明)\s*[:：].*"
FOOTER = rf"(?s)^\s*(?:{_TOTAL}|{_SIGNED}|{_REMARK})\s*$"
"""The first filled cell of a row of totals or signatures (表尾); the syntax suits Rust, too."""
_FOOTER = re.compile(FOOTER)


class Remark(NamedTuple):
    """A note in the making: 1-based row (0: the whole sheet or file), kind and text."""

    row: int
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the header ends (0: there is none) and what the columns are called."""

    header: int
    names: tuple[str, ...]
    notes: tuple[Remark, ...]


def find_layout(
    rows: Sequence[Row], columns: Sequence[str], header: int | None, place: str
) -> Layout:
    """Find the header: in the given row, the one with ``columns``, or the first full row.

    Full is a row that fills at least 0.8 of the cells that rows near the top typically fill,
    each with a text that is no number. A header of several rows (多级表头) is seen by its gaps:
    the row below fills exactly these and the cell left of each; its columns are named
    ``top/sub``. White space in titles does not count.

    Raises Misconfigured when there is none, or when two columns have one title.
    """
    if header == 0:
        return Layout(0, tuple(columns), ())
    typical = _typical([_filled(cells) for _, cells in rows])
    wanted = {squeezed(name) for name in columns}
    for index, (number, _) in enumerate(rows):
        titles, height = _stacked(rows, index, whole=any("/" in name for name in columns))
        if header is not None:
            fits = number == header
        elif columns:
            fits = wanted <= {squeezed(title) for title in titles}
        else:
            fits = _filled(titles) >= max(1, _FULL * typical) and _are_titles(titles)
        if fits:
            if header is None:
                _refuse_repeated(titles, columns, place)
            above, end = rows[:index], rows[index + height - 1][0]
            return _layout(above, end, titles, columns, place)
    raise _no_header(rows, columns, place)


def is_group(cells: Sequence[object]) -> bool:
    """Whether only the first of at least three cells is filled."""
    return (
        len(cells) >= MIN_GROUP_COLUMNS
        and _is_filled(cells[0])
        and not any(_is_filled(cell) for cell in cells[1:])
    )


def is_footer(cells: Sequence[object]) -> bool:
    """Whether the first filled cell says that this is a total, a signature or a remark."""
    first = next((cell for cell in cells if _is_filled(cell)), "")
    return _FOOTER.match(str(first)) is not None


def is_header(cells: Sequence[object], names: Sequence[str]) -> bool:
    """Whether a row repeats the header: every filled cell, at least two, is its column's title."""
    filled = [
        (str(cell), name) for cell, name in zip(cells, names, strict=False) if _is_filled(cell)
    ]
    return len(filled) > 1 and all(squeezed(cell) == squeezed(name) for cell, name in filled)


def note(row: int, kind: str, text: str) -> Remark:
    """Make a note of bounded length."""
    return Remark(row, kind, " ".join(text.split())[:_MAX_NOTE])


def bounded(notes: Sequence[Remark], place: str) -> tuple[Remark, ...]:
    """Refuse a file where group rows are the rule: they must be records there."""
    if len(notes) > MAX_NOTES:
        raise Misconfigured(
            Text(
                f"{place} 中有 {len(notes)} 行只填了第一格或像合计、签名，不像记录",
                f"{place} has {len(notes)} rows with only the first cell filled, or like totals",
            ),
            hint=Text(
                "如果这些行是记录，请设置 group_rows: record（或 footer: record）",
                "if they are records, set group_rows: record (or footer: record)",
            ),
        )
    return tuple(notes)


def squeezed(title: str) -> str:
    """Return a title without white space, which is how titles are compared."""
    return "".join(title.split())


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


def _layout(
    above: Sequence[Row], end: int, titles: Sequence[str], columns: Sequence[str], place: str
) -> Layout:
    spelled = {squeezed(name): name for name in columns}
    names = column_names([spelled.get(squeezed(title), title) for title in titles])
    for name in columns:
        if name not in names:
            near = suggest(name, names)
            raise Misconfigured(
                Text(f"{place} 没有列 {name}", f"{place} has no column {name}"),
                hint=Text(f"请检查表头。{near.zh}", f"check the header row: {near.en}"),
            )
    texts = [(number, " ".join(cells)) for number, cells in above]
    notes = [note(number, "title", text) for number, text in texts if text.strip()]
    return Layout(end, names, tuple(notes))


def _stacked(rows: Sequence[Row], index: int, *, whole: bool) -> tuple[list[str], int]:
    """Return the titles of the header that begins in a row, and of how many rows it is.

    Where all columns are in groups, the row above is taken for a title of the table, unless
    ``whole`` says that columns are known as ``top/sub``.
    """
    width = max(len(cells) for _, cells in rows)
    found = _sub_titles(rows, index, range(width), MAX_HEADER_ROWS)
    if found is None or not (whole or any("/" not in title for title in found[0] if title)):
        return rows[index][1], 1
    titles, height = found
    while titles and not titles[-1]:
        titles.pop()
    return titles, height


def _sub_titles(
    rows: Sequence[Row], index: int, among: Sequence[int], left: int
) -> tuple[list[str], int] | None:
    """Name the columns ``among`` by the row and those below it; None where nothing is below.

    A group is a filled cell with empty ones right of it. The row below fills the first cell of
    each group and no cell outside of them.
    """
    number, cells = rows[index]
    top = [_cell(cells, column) for column in among]
    if left <= 1 or index + 1 >= len(rows) or rows[index + 1][0] != number + 1:
        return None
    below = [_cell(rows[index + 1][1], column) for column in among]
    # What is empty in both rows at the right end is the margin of the sheet.
    end = max(
        (at + 1 for at, pair in enumerate(zip(top, below, strict=True)) if any(pair)), default=0
    )
    groups: list[list[int]] = []
    for at in range(end):
        if not top[at] and groups and groups[-1][-1] == at - 1:
            groups[-1].append(at)
        elif top[at] and at + 1 < end and not top[at + 1]:
            groups.append([at])
        elif below[at] or not top[at]:
            return None
    if not groups or not all(below[group[0]] for group in groups):
        return None
    inner = [at for group in groups for at in group]
    deeper = _sub_titles(rows, index + 1, [among[at] for at in inner], left - 1)
    subs, height = deeper or ([below[at] for at in inner], 1)
    if not all(subs) or not _are_titles(subs):
        return None
    titles = list(top)
    for group in groups:
        for at in group:
            titles[at] = f"{top[group[0]]}/{subs[inner.index(at)]}"
    return titles, height + 1


def _cell(cells: Sequence[str], column: int) -> str:
    return cells[column].strip() if column < len(cells) else ""


def _refuse_repeated(titles: Sequence[str], columns: Sequence[str], place: str) -> None:
    """Two columns of one title: nobody can tell which of them is meant."""
    counts = Counter(squeezed(title) for title in titles if title.strip())
    twice = [name for name, count in counts.items() if count > 1]
    if columns:
        asked = {squeezed(name) for name in columns}
        twice = [name for name in twice if name in asked]
    if twice:
        names = ", ".join(twice)
        raise Misconfigured(
            Text(f"{place} 的表头有重复的列名：{names}", f"{place} repeats column titles: {names}"),
            hint=Text(
                "请改正表头；或用 header 写明表头在第几行，重复的列名会编号为“名称_2”",
                "correct the header; or set header to its row: repeated titles become name_2",
            ),
        )


def _typical(filled: Sequence[int]) -> int:
    """Return the most common number of filled cells; titles, with one, do not count."""
    counts = Counter(number for number in filled if number > 1)
    return max(counts, key=lambda number: (counts[number], number), default=1)


def _filled(cells: Sequence[str]) -> int:
    return sum(map(_is_filled, cells))


def _is_filled(cell: object) -> bool:
    return cell is not None and bool(str(cell).strip())


def _are_titles(cells: Sequence[str]) -> bool:
    return not any(map(_is_number, (cell.strip() for cell in cells)))


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).replace("-", "", 1).isdigit()


def _no_header(rows: Sequence[Row], columns: Sequence[str], place: str) -> Misconfigured:
    if not any(_filled(cells) for _, cells in rows):
        return Misconfigured(
            Text(f"{place} 是空的", f"{place} is empty"),
            hint=Text("请重新导出该文件", "export the file again"),
        )
    if not columns:
        return Misconfigured(
            Text(f"{place} 中找不到表头", f"{place}: no header row found"),
            hint=Text("请用 header 写明表头在第几行", "say with header in which row it stands"),
        )
    wanted = {squeezed(name) for name in columns}
    best = max(
        (cells for _, cells in rows), key=lambda c: len(set(map(squeezed, c)) & wanted), default=[]
    )
    known = {squeezed(cell) for cell in best}
    missing = [name for name in columns if squeezed(name) not in known]
    near = suggest(missing[0] if missing else columns[0], [cell for cell in best if cell])
    names = ", ".join(missing or columns)
    return Misconfigured(
        Text(f"{place} 没有列 {names}", f"{place} has no column {names}"),
        hint=Text(f"请检查表头。{near.zh}", f"check the header row: {near.en}"),
    )
