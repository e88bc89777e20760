"""An answer of a SOAP service as a document of names and texts, or as the fault that it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from exchange.connect import Denied, ExchangeError, Rejected, Response, Text, Transient
from exchange.connectors.files.xml import attribute, document, local
from exchange.connectors.rest.document import read_document
from exchange.connectors.rest.json_path import MISSING, Path, walk

Inner = Literal["none", "xml", "json"]
FAULT_STATUS = 500
"""With this a fault comes (SOAP 1.1 §6.2, SOAP 1.2 part 2 §7.5.2.2)."""
_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")
_MAX_DEPTH = 64
_MAX_TEXT = 300
_OURS = {"client", "sender", "versionmismatch", "mustunderstand", "dataencodingunknown"}
_SECURITY = ("authentication", "security", "unauthorized", "accessdenied", "denied")


def read_answer(answer: Response, inner: Inner, inner_path: Path, place: Text) -> Any:
    """Return what an answer holds, below the element of its operation.

    Elements are objects, those that come several times lists, leaves texts; nil is null. With
    ``inner`` the document is the text at ``inner_path``. Raises what a fault means; Rejected for
    what is no SOAP.
    """
    body = _body(answer, place)
    children = list(body)
    fault = next((child for child in children if local(child) == "Fault"), None)
    if fault is not None:
        raise fault_error(fault, place)
    if answer.status == FAULT_STATUS or not children:
        raise _no_soap(place, "there is nothing in its body")
    targets = {key: e for e in body.iter() if (key := attribute(e, "id"))}
    content = _content(children[0], targets, 0, place)
    if inner == "none":
        return content
    text = walk(content, inner_path)
    if not isinstance(text, str):
        raise Rejected(
            Text(f"{place.zh} 在 inner_path 处没有文本", f"{place.en} has no text at inner_path"),
            hint=Text("请检查 inner_path", "check inner_path"),
        )
    if inner == "json":
        return read_document(Response(200, {}, text.encode()), place)
    # A declaration of an encoding would contradict what was decoded already.
    text = _DECLARATION.sub("", text)
    return _content(_parsed(text.encode(), place), {}, 0, place)


def _body(answer: Response, place: Text) -> Any:
    if "multipart" in answer.headers.get("content-type", "").lower():
        raise _no_soap(place, "it comes in parts (MTOM), which are not read")
    root = _parsed(answer.body, place) if answer.body.strip() else None
    body = None if root is None else next((c for c in root if local(c) == "Body"), None)
    if root is None or body is None or local(root) != "Envelope":
        if answer.status == FAULT_STATUS:
            raise Transient(
                Text(f"{place.zh} 应答 HTTP 500", f"{place.en} answers HTTP 500"),
                hint=Text("对方暂时出错，会自动重试", "the service is broken: it is tried again"),
            )
        raise _no_soap(place, "it has no envelope with a body")
    return body


def _parsed(data: bytes, place: Text) -> Any:
    from lxml import etree

    try:
        return document(data)
    except (etree.XMLSyntaxError, ValueError, Rejected) as error:
        why = error.what.en if isinstance(error, Rejected) else str(error)
        raise _no_soap(place, why) from error


def _content(element: Any, targets: Mapping[str, Any], depth: int, place: Text) -> Any:
    """Return an element as a document; old services name parts by their ids (multiRef)."""
    if depth > _MAX_DEPTH:
        raise _no_soap(place, "it is nested too deeply")
    reference = attribute(element, "href")
    if reference and reference.startswith("#") and reference[1:] in targets:
        return _content(targets[reference[1:]], targets, depth + 1, place)
    children = [child for child in element if isinstance(child.tag, str)]
    if not children:
        nil = (attribute(element, "nil") or "").lower() in ("true", "1")
        return None if nil else element.text or ""
    found: dict[str, Any] = {}
    several: set[str] = set()
    for child in children:
        name = local(child)
        value = _content(child, targets, depth + 1, place)
        if name in several:
            found[name].append(value)
        elif name in found:
            found[name] = [found[name], value]
            several.add(name)
        else:
            found[name] = value
    return found


def fault_error(fault: Any, place: Text) -> ExchangeError:
    """Return what a fault means: ours, theirs for now, or a missing right."""
    code, reason = _fault_texts(fault)
    shown = "".join(c if c.isprintable() else " " for c in reason)[:_MAX_TEXT]
    what = Text(
        f"{place.zh} 应答错误 {code}：{shown}",
        f"{place.en} answers the fault {code}: {shown}",
    )
    word = code.rpartition(":")[2].lower()
    if any(part in code.lower() for part in _SECURITY):
        return Denied(what, hint=Text("请检查账号、密钥和授权", "check the account and its rights"))
    if word.partition(".")[0] in _OURS:
        return Rejected(
            what, hint=Text("请检查 operation 和 parameters", "check operation and parameters")
        )
    return Transient(
        what,
        hint=Text(
            "对方处理出错，会自动重试；若持续出现，请把该错误交给对方",
            "the service failed: it is tried again; if it lasts, show them this fault",
        ),
    )


def _fault_texts(fault: Any) -> tuple[str, str]:
    """Return code and reason of a fault of SOAP 1.1 or 1.2; the innermost code counts."""
    names = {local(child): child for child in fault}
    if "faultcode" in names:
        reason = names.get("faultstring")
        return (names["faultcode"].text or "").strip(), "" if reason is None else reason.text or ""
    codes = [(e.text or "").strip() for e in fault.iter() if local(e) == "Value"]
    reasons = [e.text or "" for e in fault.iter() if local(e) == "Text"]
    return " ".join(codes) or "?", reasons[0] if reasons else ""


def find_records(content: Any, path: Path, place: Text) -> list[Any] | None:
    """Return the records at a path, one of them as a list of one; None: there are none.

    Raises Rejected where the path leads through several, or to a text.
    """
    for number, step in enumerate(path):
        if isinstance(content, list) and isinstance(step, str):
            shown = ".".join(map(str, path[:number]))
            raise Rejected(
                Text(f"{place.zh} 的 {shown} 有多个", f"{place.en} has several {shown}"),
                hint=Text("请检查 records 的路径", "check the path of records"),
            )
        content = walk(content, (step,)) if content not in (None, "") else MISSING
        if content is MISSING:
            return None
    if content is None or content == "":
        return None
    if isinstance(content, str):
        raise Rejected(
            Text(f"{place.zh} 的 records 处是文本", f"{place.en} has a text at records"),
            hint=Text(
                "请检查 records；文本中是 XML 或 JSON 时设置 inner",
                "check records; where the text is XML or JSON, set inner",
            ),
        )
    return content if isinstance(content, list) else [content]


def _no_soap(place: Text, why: str) -> Rejected:
    return Rejected(
        Text(f"{place.zh} 不是可用的 SOAP 应答：{why}", f"{place.en} is no SOAP answer: {why}"),
        hint=Text("请检查 url，或把应答交给对方核对", "check url, or show them the answer"),
    )
