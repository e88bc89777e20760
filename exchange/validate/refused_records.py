"""Quarantine (隔离区) as a product: show it, hand it to the department, take it back (D8).

A refused record keeps its original values and every reason. What leaves here for a reader is
masked by field; what is replayed is not: the original row goes back to the raw topic, with the
corrections of the department in it, and is checked like any other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from exchange.catalog.masking import mask, mask_field
from exchange.catalog.model import OPERATION, Field, Resource
from exchange.text import Text
from exchange.validate.reasons import MAX_VALUE, REASON
from exchange.validate.source_frame import DEFECT, REASONS, ROW, as_text, source_columns

UNREADABLE = "message.unreadable"
"""Rule of a message in our topics that cannot be read as records: kept with its bytes."""

Corrections = Mapping[str, Mapping[str, str]]
"""Address → field name → the text that a person left in the cell."""


@dataclass(frozen=True, slots=True)
class RefusedRecords:
    """One message of a quarantine topic: its address, where its rows come from, and they."""

    partition: int
    offset: int
    frame: pl.DataFrame
    source: str = ""
    locator: str = ""
    """File and sheet, or table."""
    pulled_at: str = ""
    places: tuple[int, ...] | None = None
    """Positions of the records in their message, where only some of them are in the frame."""
    foreign: bool = False
    """It stands for a message that could not be read as records."""
    original: pl.DataFrame | None = None
    """The records of such a message, where they can be read now: a raw frame."""

    def addresses(self) -> list[str]:
        """Return the address (隔离编号) of each record: partition-offset-position."""
        return [f"{self.partition}-{self.offset}-{place}" for place in self.positions()]

    def positions(self) -> Sequence[int]:
        """Return the position of each record in its message."""
        return range(self.frame.height) if self.places is None else self.places

    def only(self, places: Sequence[int]) -> RefusedRecords:
        """Return some records of a whole message, by their positions."""
        return replace(self, frame=self.frame[list(places)], places=tuple(places))

    def part(self, rows: Sequence[int]) -> RefusedRecords:
        """Return some of the records that are in the frame."""
        positions = self.positions()
        return replace(
            self, frame=self.frame[list(rows)], places=tuple(positions[row] for row in rows)
        )


@dataclass(frozen=True, slots=True)
class RecordView:
    """A refused record as a reader may see it."""

    address: str
    source: str
    locator: str
    row: int | None
    """Position of the record in its file, from 1; None when it does not come from one."""
    pulled_at: str
    values: Mapping[str, str]
    """Field name → masked text, empty for null. Columns the catalog does not name stay hidden."""
    reasons: tuple[Mapping[str, str], ...]
    """rule, field, value (masked), zh, en."""

    def as_dict(self) -> dict[str, object]:
        """Return the record for JSON."""
        return {
            "address": self.address,
            "source": self.source,
            "locator": self.locator,
            "row": self.row,
            "pulled_at": self.pulled_at,
            "values": dict(self.values),
            "reasons": [dict(reason) for reason in self.reasons],
        }


def show(message: RefusedRecords, resource: Resource) -> Iterator[RecordView]:
    """Yield the records of a message, masked for a reader without special rights."""
    columns = source_columns(resource, message.frame.columns)
    texts = {
        field: as_text(message.frame[columns[field.name]]).to_list()
        for field in resource.fields
        if field.name in columns
    }
    rows = message.frame[ROW].to_list() if ROW in message.frame.columns else None
    for place, (address, reasons) in enumerate(
        zip(message.addresses(), message.frame[REASONS].to_list(), strict=True)
    ):
        slipped = any(reason["field"] == DEFECT for reason in reasons)
        values = {
            field.name: _masked(field, column[place] or "", slipped=slipped)
            for field, column in texts.items()
        }
        yield RecordView(
            address=address,
            source=message.source,
            locator=message.locator,
            row=None if rows is None else rows[place],
            pulled_at=message.pulled_at,
            values=values,
            reasons=tuple(_masked_reason(reason, values) for reason in reasons),
        )


def histogram(refused: pl.DataFrame) -> dict[str, int]:
    """Count the reasons of refused records by ``rule:field``, most frequent first."""
    reasons = refused[REASONS].explode().struct.unnest()
    names = (reasons["rule"] + ":" + reasons["field"]).to_list()
    return dict(Counter(names).most_common())


def defects(refused: pl.DataFrame) -> dict[str, int]:
    """Count what is broken about refused records at their source, masked, most frequent first."""
    if DEFECT not in refused.columns:
        return {}
    texts = as_text(refused[DEFECT]).drop_nulls().to_list()
    counts = Counter(texts).most_common()
    shown: Counter[str] = Counter()
    for text, count in counts:
        shown[_shown_defect(text[:MAX_VALUE])] += count
    return dict(shown)


def _shown_defect(text: str) -> str:
    """Show why a record is broken: the first line. The original after it may be personal data."""
    return mask("free_text", text.partition("\n")[0])


def unreadable(value: bytes, why: Text) -> pl.DataFrame:
    """Return the one refused row that stands for a message that cannot be read as records."""
    reason = {
        "rule": UNREADABLE,
        "field": DEFECT,
        "value": value[:MAX_VALUE].decode(errors="replace"),
        "zh": why.zh,
        "en": why.en,
    }
    return pl.DataFrame({REASONS: [[reason]]}, schema={REASONS: pl.List(REASON)})


def _masked(field: Field, value: str, *, slipped: bool) -> str:
    """Mask a value; in a broken record the columns may have slipped, so public ones are searched.

    A value moved into a neighbour's column would be shown by the neighbour's rule.
    """
    masked = mask_field(field, value)
    return mask("free_text", masked) if slipped else masked


def _masked_reason(reason: Mapping[str, str | None], values: Mapping[str, str]) -> dict[str, str]:
    """Put masked values in the place of those that the reason keeps."""
    texts = {key: text or "" for key, text in reason.items()}
    names = texts["field"].split(",")
    if texts["field"] == DEFECT:
        texts["value"] = _shown_defect(texts["value"])
        texts["zh"] = f"{texts['zh']}：{texts['value']}"
        texts["en"] = f"{texts['en']}: {texts['value']}"
    elif len(names) > 1:
        texts["value"] = "; ".join(f"{name}={values.get(name, '')}" for name in names)
    elif names[0] != OPERATION:
        texts["value"] = values.get(names[0], "")
    return texts


def replay(
    message: RefusedRecords, resource: Resource, corrections: Corrections | None = None
) -> pl.DataFrame:
    """Return the records as a raw frame again, without their reasons.

    With ``corrections`` only the records named there come back. A cell is a correction when it
    says something else than :func:`show` showed: a masked value left alone stays what it was.
    A corrected column becomes text; a corrected record is broken at its source no more. A message
    that could not be read comes back whole.
    """
    if message.original is not None:
        return message.original
    raw = message.frame.drop(REASONS)
    if corrections is None:
        return raw
    columns = source_columns(resource, raw.columns)
    changed: dict[str, dict[int, str | None]] = {}
    places = []
    for place, record in enumerate(show(message, resource)):
        cells = corrections.get(record.address)
        if cells is None:
            continue
        places.append(place)
        for name, cell in cells.items():
            if name in columns and cell.strip() != visible(record.values[name]).strip():
                changed.setdefault(columns[name], {})[place] = cell or None
    mended = {place for cells in changed.values() for place in cells}
    if DEFECT in raw.columns:
        changed[DEFECT] = dict.fromkeys(mended)
    return raw.with_columns(
        as_text(raw[column]).scatter(list(cells), list(cells.values()))
        for column, cells in changed.items()
        if cells
    )[places]


MAX_CELL = 32_000
"""Characters of one cell; a spreadsheet takes 32,767."""
_VISIBLE = {code: 0x2400 + code for code in range(0x20) if code not in {0x09, 0x0A}} | {
    0x7F: 0x2421
}


def visible(text: str) -> str:
    """Write a value for a spreadsheet cell: control characters as their symbols, cut to size."""
    text_form = text.translate(_VISIBLE)
    return text_form if len(text_form) <= MAX_CELL else text_form[:MAX_CELL] + "……"
