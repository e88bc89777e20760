"""Propose a resource for a source: names, types, key and code tables, and what it would refuse."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import chain, combinations, count
from typing import Any, Final

import polars as pl

from exchange.catalog.masking import mask_field
from exchange.catalog.model import CodeTable, Department, Field, Resource, Sensitivity
from exchange.catalog.resources import RESERVED as TAKEN
from exchange.catalog.types import TYPES, parse_type
from exchange.text import Text
from exchange.validate.claimed_keys import ClaimedKeys
from exchange.validate.draft.guess import MAX_ROWS, Guess, SourceColumn, guess
from exchange.validate.draft.words import field_name, hints
from exchange.validate.source_frame import RESERVED, as_text
from exchange.validate.validator import compile_resource

MAX_TITLE: Final = 200
"""Characters of a column's title that a catalog takes."""
_MAX_PAIRED: Final = 12
"""Columns of which two may be a key together."""
_MAX_VALUE: Final = 60
_UNLIKELY: Final = ("double", "boolean", "free_text", "date", "datetime", "decimal", "code")
"""Types that are no key, even where the values of a sample are unique."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a source says about one of its tables or files; what it does not know is empty."""

    name: str = ""
    title: str = ""
    columns: Mapping[str, SourceColumn] = field(default_factory=dict)
    key: tuple[str, ...] = ()
    unique: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Facts:
        """Read an entry of a connector's ``discover``."""
        columns = {str(c["name"]): _column(c) for c in entry.get("columns", ())}
        unique = tuple(tuple(map(str, names)) for names in entry.get("unique", ()))
        key = tuple(map(str, entry.get("key", ())))
        title = " ".join(str(entry.get("comment") or "").split())
        return cls(str(entry.get("name", "")), title, columns, key, unique)


def _column(entry: Mapping[str, Any]) -> SourceColumn:
    kind = str(entry.get("type") or "")
    length = re.search(r"char[^()]*\(([0-9]{1,6})\)", kind, re.IGNORECASE)
    return SourceColumn(
        str(entry["name"]),
        kind,
        " ".join(str(entry.get("comment") or "").split()),
        nullable=bool(entry.get("nullable", True)),
        max_chars=int(length[1]) if length and int(length[1]) else None,
    )


@dataclass(frozen=True, slots=True)
class ColumnDraft:
    """One column: where it comes from, and the field that is proposed for it."""

    column: SourceColumn
    field: Field
    guess: Guess
    filled: int
    """Values that there are among the rows."""

    @property
    def source_type(self) -> str:
        """The type as the source has it."""
        return self.column.type


@dataclass(frozen=True, slots=True)
class ExpectedRefusal:
    """What the drafted resource would refuse of the rows: a rule, how often, an example masked."""

    rule: str
    field: str
    count: int
    example: str
    text: Text


@dataclass(frozen=True, slots=True)
class Draft:
    """A resource and its code tables, drafted from the first rows of a source."""

    resource: Resource
    tables: Mapping[str, CodeTable]
    columns: tuple[ColumnDraft, ...]
    rows: int
    key_from: str
    """``source`` (it has a key), ``unique`` (values of the rows), or ``none``: nothing fits."""
    refusals: tuple[ExpectedRefusal, ...]
    refused: int
    """Rows that would be refused."""
    first: tuple[Mapping[str, str], ...]
    """First rows by source column, masked by the guessed types."""
    left_out: tuple[str, ...] = ()
    """Columns whose title is blank, or too long for a catalog."""


def draft(
    frame: pl.DataFrame,
    facts: Facts,
    *,
    name: str,
    code: str,
    department: Department,
    today: date,
    shown: int = 5,
    taken: Collection[str] = (),
) -> Draft:
    """Draft the resource ``name`` from the first rows (bounded) of a source.

    ``taken`` names code tables that there are already.
    """
    frame = frame.head(MAX_ROWS)
    every = [column for column in frame.columns if column not in RESERVED]
    listed = [column for column in every if column.strip() and len(column) <= MAX_TITLE]
    guesses = {c: guess(frame[c], _source_column(frame, facts, c), today=today) for c in listed}
    key_from, key_columns = _key(frame, facts, guesses)
    names = _names(listed)
    tables: dict[str, CodeTable] = {}
    drafts = []
    for column in listed:
        source_column, guessed = _source_column(frame, facts, column), guesses[column]
        title = _title(source_column)
        spec = guessed.type
        if spec == "code":
            table = _table_name(f"{name}_{names[column]}".lower(), {*taken, *tables})
            spec = f"code({table})"
            tables[table] = CodeTable(name=table, title=title, values={c: c for c in guessed.codes})
        required = column in key_columns or not source_column.nullable
        drafts.append(
            ColumnDraft(
                source_column,
                drafted_field(names[column], title, spec, required=required),
                guessed,
                frame.height - _empty(frame[column]),
            )
        )
    resource = Resource(
        name=name,
        code=code,
        title=_clean(facts.title or facts.name or name),
        department=department,
        fields=tuple(item.field for item in drafts),
        key=tuple(names[column] for column in key_columns),
        columns={c: n for c, n in names.items() if c != n},
    )
    refused, refusals = _refusals(frame, resource, tables, today)
    return Draft(
        resource,
        tables,
        tuple(drafts),
        frame.height,
        key_from,
        refusals,
        refused,
        masked_rows(frame.head(shown), {item.column.name: item.field for item in drafts}),
        tuple(column for column in every if column not in guesses),
    )


def _source_column(frame: pl.DataFrame, facts: Facts, column: str) -> SourceColumn:
    return facts.columns.get(column, SourceColumn(column, str(frame[column].dtype)))


def drafted_field(name: str, title: str, spec: str, *, required: bool = False) -> Field:
    """Make a field whose sensitivity is that of its type."""
    kind = parse_type(spec)
    level = TYPES[kind.name].sensitivity or Sensitivity.S2
    return Field(name=name, title=title, type=kind, required=required, sensitivity=level)


def guessed_fields(frame: pl.DataFrame, today: date) -> dict[str, Field]:
    """Guess a field for each column, to mask its values by."""
    fields = {}
    for column in frame.columns:
        if column not in RESERVED:
            guessed = guess(frame[column], SourceColumn(column), today=today)
            spec = "text(100)" if guessed.type == "code" else guessed.type
            fields[column] = drafted_field("f", column, spec)
    return fields


def masked_rows(frame: pl.DataFrame, fields: Mapping[str, Field]) -> tuple[Mapping[str, str], ...]:
    """Mask the rows of a source by the fields of its columns; columns without one are left out."""
    columns = {
        column: [mask_field(item, text or "") for text in as_text(frame[column]).to_list()]
        for column, item in fields.items()
    }
    rows = zip(*columns.values(), strict=True)
    return tuple(dict(zip(columns, row, strict=True)) for row in rows)


def _table_name(name: str, taken: Collection[str]) -> str:
    return next(
        c for c in chain((name[:58],), (f"{name[:58]}_{n}" for n in count(2))) if c not in taken
    )


def _title(column: SourceColumn) -> str:
    return _clean(column.comment or column.name)


def _clean(title: str) -> str:
    """Make a title that a field's text can begin with."""
    words = " ".join("".join(c if c.isprintable() else " " for c in title).split())
    for sign in (" -- ", " when "):
        while sign in f"{words} ":
            words = f"{words} ".replace(sign, " ").strip()
    return words[:MAX_TITLE].strip() or "-"


def _names(columns: Sequence[str]) -> dict[str, str]:
    """Name the fields: apart from each other without regard to case, and from words of ours."""
    own = {column.lower() for column in columns if field_name(column, 0) == column}
    names: dict[str, str] = {}
    used: set[str] = set()
    for position, column in enumerate(columns, start=1):
        name = field_name(column, position)
        barred = used | TAKEN | (set() if name == column else own)
        candidates = chain(
            (name, f"{name[:50]}_{position}"), (f"f{position}_{n}" for n in count(1))
        )
        names[column] = next(c for c in candidates if c.lower() not in barred)
        used.add(names[column].lower())
    return names


def _empty(values: pl.Series) -> int:
    texts = as_text(values)
    return int((texts.str.strip_chars() == "").fill_null(value=True).sum())


def _key(
    frame: pl.DataFrame, facts: Facts, guesses: Mapping[str, Guess]
) -> tuple[str, tuple[str, ...]]:
    """Return where the key is from, and its columns: the source's, or unique ones of the rows."""
    whole = [column for column in guesses if frame.height and not _empty(frame[column])]
    for names in (facts.key, *facts.unique):
        # A unique constraint lets NULL come again.
        if names and set(names) <= (guesses.keys() if names == facts.key else set(whole)):
            return "source", names
    ranked = sorted(whole, key=lambda column: _rank(column, facts, guesses[column]))
    likely = [c for c in ranked if not guesses[c].type.startswith(_UNLIKELY)]
    for column in likely:
        if frame[column].n_unique() == frame.height:
            return "unique", (column,)
    for pair in combinations(ranked[:_MAX_PAIRED], 2):
        if frame.select(pair).n_unique() == frame.height:
            return "unique", pair
    return "none", tuple(ranked[:1] or list(guesses)[:1])


def _rank(column: str, facts: Facts, guessed: Guess) -> int:
    """Rank columns as keys: identifiers first, running numbers of a list last."""
    source_column = facts.columns.get(column)
    kinds = hints(column, source_column.comment if source_column else "")
    if guessed.type in _IDENTIFIERS:
        return 0
    if re.search("序号|^xh$|^seq$", column, re.IGNORECASE) or guessed.type.startswith(_UNLIKELY):
        return 4
    code = guessed.type.startswith(("digits", "hex"))
    if code or "number" in kinds or column.lower() == "id":
        return 1
    return 2 if "name" in kinds else 3


_IDENTIFIERS: Final = ("uscc", "resident_id", "licence_id")


def _refusals(
    frame: pl.DataFrame, resource: Resource, tables: Mapping[str, CodeTable], today: date
) -> tuple[int, tuple[ExpectedRefusal, ...]]:
    """Check the rows as a pull would, and sum up what is refused."""
    if not resource.fields or frame.is_empty():
        return 0, ()
    checked = compile_resource(resource, tables).check(frame, today=today, claimed=ClaimedKeys())
    first: dict[tuple[str, str], ExpectedRefusal] = {}
    for reason in _reasons(checked.rejected):
        place = (reason["rule"], reason["field"])
        if place not in first:
            example = _example(resource, reason)
            text = Text(reason["zh"], reason["en"])
            count = checked.counts.get(":".join(place), checked.counts.get(place[0], 0))
            first[place] = ExpectedRefusal(*place, count, example, text)
    return checked.rejected.height, tuple(first.values())


def _reasons(rejected: pl.DataFrame) -> Iterator[Mapping[str, Any]]:
    """Yield the first reason of each rule and field."""
    if rejected.is_empty():
        return
    reasons = rejected.select(pl.col("_reasons").explode()).unnest("_reasons")
    yield from reasons.unique(["rule", "field"], keep="first", maintain_order=True).to_dicts()


def _example(resource: Resource, reason: Mapping[str, Any]) -> str:
    names = [item.name for item in resource.fields]
    value = str(reason.get("value") or "")
    if reason["field"] not in names:
        return ""
    return mask_field(resource.field(reason["field"]), value)[:_MAX_VALUE]
