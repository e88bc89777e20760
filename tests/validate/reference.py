"""The contract read row by row, slowly and plainly, for text input: what the columns must say."""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal

from exchange.catalog.identifiers import is_resident_id, is_uscc
from exchange.catalog.model import Field, Physical
from exchange.validate.convert import FALSE, TRUE
from tests.validate.samples import LICENCE, TABLES, TODAY

BLANK = " \t\r\n\v\f\u00a0\u3000"
CHINA = timezone(timedelta(hours=8))
WORDS = dict.fromkeys(TRUE, True) | dict.fromkeys(FALSE, False)


class Bad(Exception):
    pass


def _date(text: str) -> date:
    for pattern in (
        r"(\d{4})-(\d{1,2})-(\d{1,2})",
        r"(\d{4})(\d\d)(\d\d)",
        r"(\d{4})/(\d{1,2})/(\d{1,2})",
        r"(\d{4})年(\d{1,2})月(\d{1,2})日",
        r"(\d{4})-(\d\d)-(\d\d)[ T]00:00:00(?:\.0+)?",
    ):
        match = re.fullmatch(pattern, text, re.ASCII)
        if match:
            return date(int(match[1]), int(match[2]), int(match[3]))
    raise Bad


def _instant(text: str) -> datetime:
    if ":" not in text and not re.fullmatch("[0-9]{14}", text):
        return datetime.combine(_date(text), time(), tzinfo=CHINA).astimezone(UTC)
    match = re.fullmatch(
        r"(\d{4})[-/](\d{1,2})[-/](\d{1,2})[ T](\d\d?):(\d\d?)(?::(\d\d?)(?:\.(\d{1,9}))?)?"
        r"(Z|[+-]\d\d:?\d\d)?",
        text,
        re.ASCII,
    )
    if match is None or (match[8] and not match[6]):
        raise Bad
    year, month, day, hour, minute = (int(match[place]) for place in range(1, 6))
    millis = 1000 * int((match[7] or "").ljust(9, "0")[:3] or 0)
    local = datetime(year, month, day, hour, minute, int(match[6] or 0), millis)  # noqa: DTZ001
    if match[8] is None:
        return local.replace(tzinfo=CHINA).astimezone(UTC)
    return datetime.fromisoformat(f"{local.isoformat()}{match[8]}").astimezone(UTC)


def typed(item: Field, text: str) -> object:  # noqa: C901, PLR0911, PLR0912 - one case a type
    kind = item.type
    match kind.physical:
        case Physical.STRING:
            return text
        case Physical.LONG:
            if not re.fullmatch("[+-]?[0-9]+", text) or not -(2**63) <= int(text) < 2**63:
                raise Bad
            return int(text)
        case Physical.DECIMAL:
            if not re.fullmatch(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)", text):
                raise Bad
            number = Decimal(text)
            scaled = number.quantize(Decimal(1).scaleb(-(kind.scale or 0)))
            if scaled != number or abs(scaled) >= Decimal(10) ** (
                (kind.precision or 0) - (kind.scale or 0)
            ):
                raise Bad
            return scaled
        case Physical.DATE:
            return _date(text)
        case Physical.TIMESTAMP:
            try:
                return _instant(text)
            except Bad:  # a bare date is midnight, as spreadsheets show it
                day = _date(text)
                return datetime(day.year, day.month, day.day, tzinfo=CHINA).astimezone(UTC)
        case Physical.BOOLEAN:
            return WORDS[text]
        case _:
            if not re.fullmatch(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", text):
                raise Bad
            if math.isinf(float(text)):
                raise Bad
            return float(text)


def _shaped(item: Field, value: object) -> bool:
    kind = item.type
    if isinstance(value, datetime):
        value = value.date()
    if isinstance(value, date):
        return date(1800, 1, 1) <= value <= date(2199, 12, 31) or value == date(9999, 12, 31)
    if not isinstance(value, str):
        return True
    control = any(
        (ord(c) < 0x20 and c not in "\t\n\r") or 0x7F <= ord(c) <= 0x9F or c == "\ufeff"
        for c in value
    )
    return not (
        control
        or (kind.max_chars is not None and len(value) > kind.max_chars)
        or (kind.pattern is not None and not re.fullmatch(kind.pattern, value))
        or (kind.check == "uscc" and not is_uscc(value))
        or (kind.check == "resident_id" and not is_resident_id(value))
        or (kind.table is not None and value not in TABLES[kind.table].values)
    )


def read(row: dict[str, str | None]) -> dict[str, object] | None:
    """Return the typed record of :data:`LICENCE`, or None when it breaks the contract."""
    record: dict[str, object] = {}
    for item in LICENCE.fields:
        text = row.get(item.name)
        if text is None or not text.strip(BLANK):
            if item.required:
                return None
            record[item.name] = None
            continue
        try:
            value = typed(item, text)
        except (Bad, KeyError, ValueError, ArithmeticError):
            return None
        if not _shaped(item, value):
            return None
        record[item.name] = value
    return record if _rules(record) else None


def _rules(record: dict[str, object]) -> bool:
    decided, until, fine = record["decided"], record["until"], record["fine"]
    assert isinstance(decided, date)
    assert until is None or isinstance(until, date)
    assert fine is None or isinstance(fine, Decimal)
    return (
        decided <= TODAY
        and (until is None or decided <= until)
        and (fine is None or fine > 0)
        and not (record["kind"] == "法人" and record["code"] is None)
    )
