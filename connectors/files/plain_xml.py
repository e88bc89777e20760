"""The plain spelling of sheets and shared strings, which nearly all programs write, read at once.

A parser tells each element to a handler: that costs more than all else. Here text is taken by
regular expressions where it has one exact spelling, from the first row on without a gap: no
comment, section, entity but those of XML, no other name or prefix. What is spelled otherwise,
and all behind it, is the parser's: it gets the head of the document and the rest.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from typing import IO

_FIRST_CHUNK, _LAST_CHUNK = 8 * 1024, 256 * 1024
"""Bytes taken at once, twice as many each time: the first rows alone are read several times."""
_MAX_HEAD = 256 * 1024
_DECLARED = re.compile(rb'\s*<\?xml version="1\.0"(?: encoding="(?:UTF|utf)-8")?[^?<>]*\?>')
_TEXT = (
    r"(?>[^<>&\x00-\x08\x0b-\x1f\ufffe\uffff]++|&(?:amp|lt|gt|quot|apos);)"
    r"*+"
)
"""Characters of an element: what a parser may not take, or would change, is left to it."""
_VALUE = _TEXT[:-2] + "++"
_OPEN = r'(?: xml:space="preserve")?+>'
_CELL = (
    r'<c r="({0}[A-Z]{{1,3}}[0-9]{{1,7}})"(?: s="({0}[0-9]{{1,5}})")?+'
    r'(?: t="({0}[a-zA-Z]{{1,9}})")?+'
    r"(?>/>|>({0}<f(?: [a-z]{{1,5}}=\"[A-Za-z0-9:]*+\")?+(?>/>|>{text}</f>))?+"
    r"(?:<v>({0}{value})</v>|<is><t{open}({0}{text})</t></is>)?+</c>)"
)
CELL = re.compile(_CELL.format("", text=_TEXT, value=_VALUE, open=_OPEN))
"""Reference, style, kind, formula, value, inline text of a cell; empty where there is none."""
_ANY_CELL = _CELL.format("?:", text=_TEXT, value=_VALUE, open=_OPEN)
_ROW = r'<row r="({0}[0-9]{{1,7}})"(?: spans="[0-9]++:[0-9]++")?+'
_ROW_BEGIN = re.compile(_ROW.format("") + "(/?)>")
ROWS = re.compile(rf"(?>{_ROW.format('?:')}(?>/>|>(?>{_ANY_CELL})*+</row>))*+")
STRING = re.compile(rf"<si><t{_OPEN}({_TEXT})</t></si>")
STRINGS = re.compile(rf"(?><si><t{_OPEN}{_TEXT}</t></si>)*+")


def plain_chunks(
    stream: IO[bytes], opening: re.Pattern[bytes], closing: bytes, shape: re.Pattern[str]
) -> Generator[str, None, bytes]:
    """Yield text that has the plain spelling; return what the parser is to read in its place.

    ``opening`` is the tag behind which the items begin, ``closing`` the one that ends each. What
    is returned comes before what is left of ``stream``.
    """
    size = _FIRST_CHUNK
    data = stream.read(size)
    begin = opening.search(data)
    while begin is None and size < _MAX_HEAD and (more := stream.read(size)):
        data += more
        size *= 2
        begin = opening.search(data)
    if begin is None or not _is_plain(data[: begin.end()]):
        return data
    head, rest = data[: begin.end()], data[begin.end() :]
    while end := rest.rfind(closing) + 1:
        end += len(closing) - 1
        try:
            text = rest[:end].decode()
        except UnicodeDecodeError:
            break
        if not shape.fullmatch(text):
            break
        yield text
        size = min(2 * size, _LAST_CHUNK)
        rest = rest[end:] + stream.read(size)
    return head + rest


def _is_plain(head: bytes) -> bool:
    """Whether what stands before the items is UTF-8, and hides nothing of what follows."""
    declared = _DECLARED.match(head)
    behind = head[declared.end() :] if declared is not None else head
    return b"<!" not in behind and b"<?" not in behind and behind.count(b" xmlns=") == 1


def plain_rows(text: str) -> Iterator[tuple[str, str]]:
    """Yield number and cells of each row of a text that has the plain spelling."""
    at = 0
    while begin := _ROW_BEGIN.match(text, at):
        start = end = at = begin.end()
        if not begin[2]:
            end = text.index("</row>", start)
            at = end + len("</row>")
        yield begin[1], text[start:end]


def unescape_entities(text: str) -> str:
    """Put the characters in the place of the five entities of XML."""
    if "&" not in text:
        return text
    for entity, char in _ENTITIES:
        text = text.replace(entity, char)
    return text


_ENTITIES = (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&apos;", "'"), ("&amp;", "&"))
"""The ampersand last: what it brings forth is no entity."""
