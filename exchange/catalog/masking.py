"""Masking of single values where they leave for a reader.

Every rule is idempotent, so a value masked at one boundary passes the next one unchanged. Keys
used for joins are never masked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from exchange.catalog.model import Field, Sensitivity

HIDDEN: Final = "***"

_PROVINCE: Final = "(?:.{2,7}?(?:省|自治区|特别行政区))?"
_PREFECTURE: Final = "(?:.{1,9}?(?:市|地区|自治州|盟))?"
_COUNTY: Final = "(?:.{1,10}?(?:(?<!地)区|县|旗|市))?"
_TO_COUNTY: Final = re.compile(f"^{_PROVINCE}{_PREFECTURE}{_COUNTY}")
_ID_LENGTHS: Final = frozenset({15, 18})

_IN_TEXT: Final = re.compile(
    r"(?P<email>[0-9A-Za-z._%+-]+@[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)+)"
    r"|(?<![0-9A-Za-z])(?P<resident_id>[1-9][0-9]{16}[0-9Xx]|[1-9][0-9]{14})(?![0-9A-Za-z])"
    r"|(?<![0-9])(?P<mobile>1[3-9][0-9]{9})(?![0-9])"
    r"|(?<![0-9])(?P<bank_card>[0-9]{12,19})(?![0-9])"
    r"|(?<![0-9])(?P<phone>0[0-9]{2,3}-?[2-9][0-9]{6,7})(?![0-9])"
)


def _name(value: str) -> str:
    """Keep the first character: 张*, and 张** for three characters or more."""
    return value[:1] + "*" * min(len(value) - 1, 2) if len(value) > 1 else "*"


def _resident_id(value: str) -> str:
    """Keep three and four of a citizen number, one and one of other documents."""
    if len(value) in _ID_LENGTHS:
        return value[:3] + "*" * (len(value) - 7) + value[-4:]
    match = re.fullmatch("(.)(.{4,})(.)", value)
    return match[1] + "*" * len(match[2]) + match[3] if match else HIDDEN


def _mobile(value: str) -> str:
    """Keep three and four: 138****1111."""
    match = re.fullmatch("(.{3}).{4}(.{4})", value)
    return f"{match[1]}****{match[2]}" if match else HIDDEN


def _phone(value: str) -> str:
    """Keep the area code and the last four digits."""
    if re.fullmatch(r"1[3-9][0-9*]{9}", value):
        return _mobile(value)
    match = re.fullmatch(r"(0(?:10|2[0-9]|[3-9][0-9]{2})-?)?[0-9*]{3,4}([0-9]{4})", value)
    return f"{match[1] or ''}****{match[2]}" if match else HIDDEN


def _email(value: str) -> str:
    """Keep the first character and the host."""
    local, at, host = value.rpartition("@")
    return f"{local[:1]}***@{host}" if at and local and host else HIDDEN


def _address(value: str) -> str:
    """Keep province, prefecture and county."""
    match = _TO_COUNTY.match(value)
    return (match[0] if match else "").rstrip("*") + HIDDEN


def _bank_card(value: str) -> str:
    """Keep the last four digits."""
    match = re.fullmatch(".{8,}(.{4})", value)
    return "*" * 12 + match[1] if match else HIDDEN


def _free_text(value: str) -> str:
    """Mask numbers and addresses that stand in a sentence; names cannot be found this way."""
    return _IN_TEXT.sub(lambda match: RULES[match.lastgroup or ""](match[0]), value)


RULES: Final[Mapping[str, Callable[[str], str]]] = MappingProxyType(
    {
        "name": _name,
        "resident_id": _resident_id,
        "mobile": _mobile,
        "phone": _phone,
        "email": _email,
        "address": _address,
        "bank_card": _bank_card,
        "free_text": _free_text,
    }
)


def mask(rule: str, value: str) -> str:
    """Return ``value`` masked by a rule of :data:`RULES`; a rule nobody knows hides everything."""
    if not value:
        return value
    masker = RULES.get(rule)
    return masker(value) if masker is not None else HIDDEN


def mask_field(field: Field, value: str) -> str:
    """Return what a reader without special rights sees of a field's value.

    The type's masking rule decides; personal data without one (S3, S4) is hidden altogether.
    """
    if field.type.mask is not None:
        return mask(field.type.mask, value)
    hidden = field.sensitivity in {Sensitivity.S3, Sensitivity.S4}
    return HIDDEN if hidden and value else value
