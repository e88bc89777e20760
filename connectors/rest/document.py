"""The body of an answer as a JSON document, every number as its literal text."""

from __future__ import annotations

import codecs
import json
import re
from typing import Any, NoReturn

from exchange.connect import Misconfigured, Rejected, Response, Text

_CHARSET = re.compile(r'charset\s*=\s*"?([\w.:-]+)', re.IGNORECASE)
_TITLE = re.compile(r"<title[^>]*>(.{0,200}?)</title>", re.IGNORECASE | re.DOTALL)
_MAX_TITLE = 80
_REPORT = Text("请把应答交给对方核对", "show the answer to those who run the service")


class Number(str):
    """A JSON number as it was written."""

    __slots__ = ()


class _DuplicateKey(ValueError):
    """A key that stands twice in an object."""


def read_document(answer: Response, place: Text, encoding: str = "auto") -> Any:
    """Return the document: numbers are :class:`Number`, nothing else is changed.

    Raises Rejected for what is no JSON or JSON that two readers read differently: a key twice
    in an object, NaN, bytes that are not in the encoding.
    """
    text = _decode(answer, place, encoding)
    try:
        return _DECODER.decode(text)
    except RecursionError as error:
        raise _refused(place, "嵌套过深", "it is nested too deeply") from error
    except ValueError as error:
        raise _refused(place, str(error), str(error)) from error


def _decode(answer: Response, place: Text, encoding: str) -> str:
    kind = answer.headers.get("content-type", "")
    name = encoding
    if encoding == "auto":
        match = _CHARSET.search(kind)
        name = match[1] if match else "utf-8"
    # GB18030 holds GBK and GB2312, and what is sent under these names.
    name = "gb18030" if name.lower() in {"gbk", "gb2312", "x-gbk", "cp936"} else name
    try:
        name = "utf-8-sig" if codecs.lookup(name).name == "utf-8" else name
        text = answer.body.decode(name)
    except LookupError as error:
        raise Misconfigured(
            Text(
                f"{place.zh} 声明的编码 {name[:40]} 不认识",
                f"{place.en} declares an unknown encoding: {name[:40]}",
            ),
            hint=Text("请设置 encoding", "set encoding"),
        ) from error
    except UnicodeError as error:
        raise Rejected(
            Text(
                f"{place.zh} 不是 {name} 编码：原文：{error}",
                f"{place.en} is not encoded in {name}: {error}",
            ),
            hint=Text(
                "请对方改正 Content-Type 的 charset，或设置 encoding",
                "let the service declare its charset, or set encoding",
            ),
        ) from error
    head = text[:64].lstrip().lower()
    if head.startswith("<") or "text/html" in kind.lower():
        raise _web_page(text, place)
    return text


def _web_page(text: str, place: Text) -> Misconfigured:
    match = _TITLE.search(text[:10_000])
    title = " ".join(match[1].split())[:_MAX_TITLE] if match else ""
    kind = "XML" if text[:64].lstrip().lower().startswith("<?xml") else "HTML"
    return Misconfigured(
        Text(
            f"{place.zh} 应答的是网页（{kind}）{title and '：' + title}，不是 JSON",
            f"{place.en} answers with a web page ({kind}){title and ': ' + title}, not with JSON",
        ),
        hint=Text(
            "多为登录页或维护页：请检查 url 和 auth",
            "it is mostly a login or a maintenance page: check url and auth",
        ),
    )


def _refused(place: Text, zh: str, en: str) -> Rejected:
    return Rejected(
        Text(f"{place.zh} 不是可用的 JSON：{zh}", f"{place.en} is no JSON that can be used: {en}"),
        hint=_REPORT,
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _DuplicateKey(f"the key {twice[:60]!r} stands twice in an object")
    return made


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=Number, parse_int=Number, parse_constant=_constant
)
