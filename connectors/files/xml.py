"""XML of untrusted files, parsed by lxml: no entities, no network, no document types."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

from lxml import etree

from exchange.errors import Rejected
from exchange.text import Text

MAX_TEXT = 10_000_000
"""libxml2's own limit for one text node stays in force (huge_tree is off)."""


def elements(stream: IO[bytes], *tags: str) -> Iterator[Any]:
    """Yield the elements of these local names when they end; each is emptied behind its use.

    Raises Rejected for a document type: in what programs of office work write there is none,
    and entities come with it. Raises lxml's XMLSyntaxError for what is no XML.
    """
    found = etree.iterparse(
        stream,
        events=("start", "end"),
        tag=tuple(f"{{*}}{tag}" for tag in tags),
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    checked = False
    for event, element in found:
        if not checked:
            refuse_doctype(element)
            checked = True
        if event == "end":
            yield element
            element.clear(keep_tail=False)
            parent = element.getparent()
            while parent is not None and element.getprevious() is not None:
                del parent[0]


def document(data: bytes) -> Any:
    """Parse a small document as a whole; raises as :func:`elements`."""
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False,
        remove_comments=True, remove_pis=True,
    )  # fmt: skip
    root = etree.fromstring(data, parser)
    refuse_doctype(root)
    return root


def refuse_doctype(element: Any) -> None:
    """Raise Rejected when the document has a DOCTYPE."""
    if element.getroottree().docinfo.doctype:
        raise doctype_error()


def doctype_error() -> Rejected:
    """Return the error for a document with a DOCTYPE."""
    return Rejected(
        Text("XML 含有文档类型定义（DOCTYPE）", "the XML has a document type (DOCTYPE)"),
        hint=Text("请用办公软件重新另存该文件", "save the file again in an office program"),
    )


def local(element: Any) -> str:
    """Return an element's name without its namespace."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def attribute(element: Any, name: str) -> str | None:
    """Return an attribute by its local name, whatever its namespace."""
    for key, value in element.attrib.items():
        if key == name or key.endswith(f"}}{name}"):
            return str(value)
    return None
