"""Elements of the certificate's page: every text is escaped, what turns the reading order shown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import datetime
from html import escape
from typing import Final, TypeVar

from exchange.errors import ExchangeError
from exchange.text import Text, beijing

T = TypeVar("T")

_MAX_TEXT: Final = 2000

_HIDDEN: Final = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)
"""Characters without a shape of their own, among them those that turn the reading order."""


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, *inner: str, css: str = "", **attributes: str) -> Html:
    """Make an element; what is not :class:`Html` is escaped."""
    given = {**({"class": css} if css else {}), **attributes}
    opening = "".join(f' {key}="{shown(value)}"' for key, value in given.items())
    body = "".join(each if isinstance(each, Html) else shown(each) for each in inner)
    return Html(f"<{name}{opening}>{body}</{name}>")


def shown(text: str) -> str:
    """Escape a text; what is hidden or turns the reading order is shown as what it is."""
    cut = text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…"
    visible = _HIDDEN.sub(lambda match: f"\\u{{{ord(match[0]):x}}}", cut)
    return escape(visible.encode("utf-8", "replace").decode())


def both(text: Text) -> Html:
    """Put both languages beside each other."""
    return Html(tag("span", text.zh, lang="zh") + " " + tag("span", text.en, lang="en"))


def facts_table(rows: Iterable[tuple[Text, str]], *, beside: bool = False) -> Html:
    """Make a table of labels and values; empty ones are left out.

    ``beside``: many of them stand in two columns.
    """
    cells = [Html(tag("th", both(name)) + tag("td", value)) for name, value in rows if value]
    if beside and len(cells) > 1:
        cells += [Html(tag("th", "") + tag("td", ""))] * (len(cells) % 2)
        cells = [Html(left + right) for left, right in zip(cells[::2], cells[1::2], strict=True)]
        return tag("table", *(tag("tr", cell) for cell in cells), css="facts beside")
    return tag("table", *(tag("tr", cell) for cell in cells), css="facts") if cells else Html("")


def table(heads: Iterable[Text], rows: Iterable[Html], *, css: str) -> Html:
    """Make a table whose head is repeated on every page."""
    head = tag("thead", tag("tr", *(tag("th", both(each)) for each in heads)))
    return tag("table", head, tag("tbody", *rows), css=css)


def stated(at: str) -> str:
    """Write a time that a file states, if it can be read."""
    found = quiet(lambda: datetime.fromisoformat(at))
    return moment(found) if found and found.tzinfo else at


def moment(at: datetime) -> str:
    """Write a time as the whole page does: in Beijing time."""
    try:
        return f"{beijing(at)} 北京时间"
    except (OverflowError, ValueError):
        return str(at)


def quiet(read: Callable[[], T]) -> T | None:
    """Read a part whose faults the checks name."""
    try:
        return read()
    except (ValueError, IndexError, RecursionError, OverflowError, ExchangeError):
        return None
