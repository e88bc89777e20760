"""The department's own condition (``where``): part of a statement, and no statement of its own."""

from __future__ import annotations

import re

from exchange.connect import Misconfigured, Text

_TOKENS = re.compile(
    r"""'(?:[^'\\]|'')*' | "(?:[^"\\]|"")*" | `(?:[^`\\]|``)*`   # what is quoted stays inside
      | (?P<open>\() | (?P<close>\))
      | (?P<wrong>;|--|/\*|\*/|\#|['"`\\]|\$)                    # ends it, or hides an end
      | [^'"`();\\$#/*-]+ | [-/*]""",
    re.VERBOSE,
)


def checked_condition(text: str) -> str:
    """Return a condition that cannot leave the brackets it is put in.

    Raises :class:`Misconfigured` for a second statement, a comment, a bracket or quote without
    its other half, and a backslash (databases disagree about what it hides).
    """
    depth = 0
    for token in _TOKENS.finditer(text):
        depth += (token["open"] is not None) - (token["close"] is not None)
        if depth < 0 or token["wrong"] is not None:
            raise _wrong(token.start(), token[0])
    if depth:
        raise _wrong(len(text), "(")
    return text


def _wrong(place: int, what: str) -> Misconfigured:
    return Misconfigured(
        Text(
            f"where 的第 {place + 1} 个字符处有 {what}：条件须是单独、完整的一段",
            f"where: {what} at character {place + 1}: a condition is one whole part of a statement",
        ),
        hint=Text(
            "去掉分号、注释和反斜杠，检查括号和引号；更复杂的写成 query",
            "drop semicolons, comments and backslashes, look at brackets and quotes; "
            "write what is more as `query`",
        ),
    )
