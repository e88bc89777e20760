"""The one-line text of a field: ``许可内容 text(4000)! S1 when <condition> -- note``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from exchange.catalog.model import BusinessType, Sensitivity
from exchange.catalog.problems import shorten, width_hint
from exchange.catalog.types import BadType, parse_type
from exchange.text import Text

_HEAD: Final = re.compile(
    r"(?P<title>\S.*?) +(?P<type>[^\s!()（）]+(?:\([^()]*\))?)(?P<required>!?)"
    r"(?: +(?P<sensitivity>S[1-4]))?"
)
_EXAMPLE: Final = Text(
    "写“中文名 类型”，必填加 !，如：许可内容 text(4000)! S1",
    "write 'title type', with ! when required: '许可内容 text(4000)! S1'",
)


@dataclass(frozen=True, slots=True)
class FieldText:
    """A field's text, read; ``sensitivity`` is None where the text leaves it open."""

    title: str
    type: BusinessType
    required: bool
    sensitivity: Sensitivity | None
    required_when: str | None
    doc: str


def parse_field(text: str) -> FieldText:
    """Read a field's text; raises :class:`BadType` with what to write instead."""
    rest, _, doc = text.partition(" -- ")
    head, when, condition = rest.partition(" when ")
    match = _HEAD.fullmatch(head.strip(" "))
    if match is None:
        raise BadType(
            Text(f"看不懂字段“{shorten(text)}”", f"cannot read the field '{shorten(text)}'"),
            width_hint(head.rpartition(" ")[2]) or width_hint(head) or _EXAMPLE,
        )
    required = match["required"] == "!"
    if when and (required or not condition.strip()):
        raise BadType(
            Text(
                "when 后面要有条件，并且不能与 ! 同用",
                "'when' needs a condition and does not go with '!'",
            ),
            Text(
                "总是必填写 !，有条件必填写 when 条件",
                "always required: !; sometimes: when <condition>",
            ),
        )
    sensitivity = match["sensitivity"]
    return FieldText(
        title=match["title"],
        type=parse_type(match["type"]),
        required=required,
        sensitivity=Sensitivity(sensitivity) if sensitivity else None,
        required_when=condition.strip() if when else None,
        doc=doc.strip(),
    )
