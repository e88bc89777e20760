"""Check digits of Chinese identifiers, one value at a time: the reference for the kernels.

Pure functions without imports of ours. A wrong shape is ``False`` (or ``ValueError`` where a
check digit of it is asked for), never a guess: no trimming, no case folding, no full-width
digits. Letters are upper case as the standards print them.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Final

USCC_ALPHABET: Final = "0123456789ABCDEFGHJKLMNPQRTUWXY"
"""GB 32100-2015: no I, O, S, V, Z."""
USCC_WEIGHTS: Final = tuple(pow(3, i, 31) for i in range(17))
"""1 3 9 27 19 26 16 17 20 29 25 13 8 24 10 30 28."""
ORGANISATION_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
ORGANISATION_WEIGHTS: Final = (3, 7, 9, 10, 5, 8, 4, 2)
RESIDENT_ID_WEIGHTS: Final = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
RESIDENT_ID_CHECKS: Final = "10X98765432"

USCC_PATTERN: Final = "^[0-9A-HJ-NP-RTUWXY]{18}$"
RESIDENT_ID_PATTERN: Final = (
    "^[1-9][0-9]{5}(?:18|19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])[0-9]{3}[0-9X]$"
)
LICENCE_ID_ROOT: Final = "1.2.156.3005.2."
LICENCE_ID_PATTERN: Final = (
    r"^1\.2\.156\.3005\.2\.[0-9A-HJ-NP-RTUWXY]{18}[0-9]{3}\.[0-9A-Z]{6,18}"
    r"\.[0-9A-Z]{1,64}\.[0-9]{3}\.[0-9A-Z]$"
)
"""Type (USCC + 3 digits), issuer (USCC, in the wild also region code), serial, version, check."""


def organisation_check(first8: str) -> str:
    """Return the ninth character of an organisation code (组织机构代码), GB 11714-1997."""
    if len(first8) != len(ORGANISATION_WEIGHTS):
        raise ValueError("an organisation code has eight characters before its check digit")
    total = sum(
        weight * ORGANISATION_ALPHABET.index(character)
        for weight, character in zip(ORGANISATION_WEIGHTS, first8, strict=True)
    )
    return "0123456789X0"[11 - total % 11]


def uscc_check(first17: str) -> str:
    """Return the eighteenth character of a unified social credit code (统一社会信用代码)."""
    if len(first17) != len(USCC_WEIGHTS):
        raise ValueError("a USCC has seventeen characters before its check digit")
    total = sum(
        weight * USCC_ALPHABET.index(character)
        for weight, character in zip(USCC_WEIGHTS, first17, strict=True)
    )
    return USCC_ALPHABET[-total % 31]


def is_placeholder(code: str) -> bool:
    """Tell whether a USCC stands for "none": one character repeated, or organisation 00000000.

    Eighteen zeros pass both check digits and do occur in credit data.
    """
    return len(set(code[:17])) == 1 or code[8:16] == "00000000"


def is_uscc(code: str) -> bool:
    """Tell whether both check digits (GB 32100 and the GB 11714 inner one) hold."""
    return (
        re.fullmatch(USCC_PATTERN, code) is not None
        and not is_placeholder(code)
        and code[16] == organisation_check(code[8:16])
        and code[17] == uscc_check(code[:17])
    )


def resident_id_check(first17: str) -> str:
    """Return the eighteenth character of a citizen number (公民身份号码), GB 11643-1999."""
    if re.fullmatch("[0-9]{17}", first17) is None:
        raise ValueError("a citizen number has seventeen digits before its check digit")
    total = sum(
        weight * int(digit) for weight, digit in zip(RESIDENT_ID_WEIGHTS, first17, strict=True)
    )
    return RESIDENT_ID_CHECKS[total % 11]


def is_resident_id(number: str) -> bool:
    """Tell whether shape, birth date (a real day of 1800–2099) and check digit hold.

    The birthplace is not judged: division codes changed their meaning (232701 before 2018).
    """
    if re.fullmatch(RESIDENT_ID_PATTERN, number) is None:
        return False
    try:
        date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    return number[17] == resident_id_check(number[:17])


def licence_id_check(body: str) -> str:
    """Return the check character of a licence number (证照标识), ISO 7064 MOD 37,36.

    ``body`` is type, issuer, serial and version (GB/T 36904); dots are skipped, the OID root is
    not part of it.
    """
    value = 36
    for character in body.replace(".", ""):
        value = ((value + ORGANISATION_ALPHABET.index(character)) % 36 or 36) * 2 % 37
    return ORGANISATION_ALPHABET[(37 - value) % 36]


def is_licence_id(number: str) -> bool:
    """Tell whether a full licence number, OID root included, has its shape and check character."""
    if re.fullmatch(LICENCE_ID_PATTERN, number) is None:
        return False
    body, _, check = number.removeprefix(LICENCE_ID_ROOT).rpartition(".")
    return check == licence_id_check(body)
