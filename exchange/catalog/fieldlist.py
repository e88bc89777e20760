"""Lists of fields and rules as written, in resources and in groups; groups are laid out here.

A group is a list of fields that several resources share. ``use: counterparty`` with ``prefix:
xk_`` puts its fields in place under prefixed names; ``$name`` in its conditions follows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from exchange.catalog.fieldtext import FieldText, parse_field
from exchange.catalog.node_reader import NodeReader
from exchange.catalog.problems import shorten, width_hint
from exchange.catalog.tree import Items, Pairs, Scalar, YamlNode
from exchange.catalog.types import BadType
from exchange.text import Text

_NAME: Final = "[A-Za-z][A-Za-z0-9_]{0,62}"
_FIELDS: Final = Text("字段列表", "the list of fields")
_USE: Final = Text("字段组引用", "the use of a group")
_RULES: Final = Text("规则列表", "the list of rules")
_GROUP: Final = Text("字段组", "group")


@dataclass(frozen=True, slots=True)
class FieldEntry:
    """A field where it will stand; ``text`` is None when it could not be read."""

    name: str
    place: Scalar
    text: FieldText | None


@dataclass(frozen=True, slots=True)
class RuleEntry:
    """A rule where it will stand, its condition not yet checked."""

    id: str
    place: YamlNode
    expression: str
    message: Text


@dataclass(frozen=True, slots=True)
class Group:
    """Fields and rules, from a group or from a resource with its groups laid out."""

    fields: tuple[FieldEntry, ...] = ()
    rules: tuple[RuleEntry, ...] = ()
    complete: bool = True
    """False when names are missing, so that "no such field" would mislead."""

    def under(self, prefix: str) -> Group:
        """Return the group as it stands in a resource that uses it under a prefix."""
        return Group(
            tuple(
                replace(
                    field,
                    name=prefix + field.name,
                    text=field.text and _condition_under(field.text, prefix),
                )
                for field in self.fields
            ),
            tuple(
                replace(rule, id=prefix + rule.id, expression=_under(rule.expression, prefix))
                for rule in self.rules
            ),
            self.complete,
        )


def _under(expression: str, prefix: str) -> str:
    return re.sub(r"\$(?=[A-Za-z])", prefix, expression)


def _condition_under(text: FieldText, prefix: str) -> FieldText:
    if text.required_when is None:
        return text
    return replace(text, required_when=_under(text.required_when, prefix))


def read_fields(reader: NodeReader, node: YamlNode, groups: Mapping[str, Group] | None) -> Group:
    """Read a list of fields; ``groups`` is None inside a group, which uses no other."""
    parts = node.nodes if isinstance(node, Items) else (node,)
    fields: list[FieldEntry] = []
    rules: list[RuleEntry] = []
    complete = True
    for part in parts:
        if isinstance(part, Pairs) and any(key.text == "use" for key, _ in part.pairs):
            group = _group_of_use(reader, part, groups)
            fields.extend(group.fields)
            rules.extend(group.rules)
            complete = complete and group.complete
            continue
        for key, value in reader.pairs(part, _FIELDS).items():
            fields.append(_field(reader, key, value))
            complete = complete and re.fullmatch(_NAME, key.text) is not None
    return Group(tuple(fields), tuple(rules), complete)


def _group_of_use(reader: NodeReader, node: Pairs, groups: Mapping[str, Group] | None) -> Group:
    section = reader.section(node, _USE, required=("use",), optional=("prefix",))
    name = reader.text(section.get("use"), _GROUP)
    hint = Text("字母开头，如 xk_", "a letter first, such as xk_")
    prefix = reader.matching(section.get("prefix"), Text("前缀", "prefix"), _NAME, hint)
    if groups is None:
        reader.problems.add(
            node,
            Text("字段组内不能再引用字段组", "a group uses no other group"),
            Text("把字段直接写入本组", "write the fields into this group"),
        )
    elif name is not None and name not in groups:
        reader.problems.unknown(section["use"], _GROUP, name, groups)
    elif name is not None and (prefix is not None or "prefix" not in section):
        return groups[name].under(prefix or "")
    return Group(complete=False)


def _field(reader: NodeReader, key: Scalar, node: YamlNode) -> FieldEntry:
    text = None
    if re.match(r"[0-9]+\)", key.text):
        reader.cut_by_comma(key)
    elif re.fullmatch(_NAME, key.text) is None:
        reader.problems.add(
            key,
            Text(f"字段名“{shorten(key.text)}”无效", f"'{shorten(key.text)}' is no field name"),
            width_hint(key.text)
            or Text(
                "字母开头，只含字母、数字、下划线，不超过 63 个字符",
                "a letter, then letters, digits and _, at most 63",
            ),
        )
    elif (
        shorthand := reader.text(node, Text(f"字段 {key.text} ", f"field {key.text}"))
    ) is not None:
        try:
            text = parse_field(shorthand)
        except BadType as bad:
            fragment = re.search(r"\([0-9]+$", shorthand)
            if fragment is None:  # otherwise the other half of the text explains it
                reader.problems.add(node, bad.what, bad.hint)
    return FieldEntry(key.text, key, text)


def read_rules(reader: NodeReader, node: YamlNode | None) -> tuple[RuleEntry, ...]:
    """Read rules written as ``id: condition | Chinese message | English message``."""
    if node is None:
        return ()
    rules: list[RuleEntry] = []
    for key, value in reader.pairs(node, _RULES).items():
        identifier = reader.matching(
            key,
            Text("规则名", "rule id"),
            "[a-z][a-z0-9_]{0,62}",
            Text("小写字母、数字、下划线", "lower-case letters, digits and _"),
        )
        what = Text(f"规则 {shorten(key.text)} ", f"rule {shorten(key.text)}")
        text = reader.text(value, what, limit=5000)
        if identifier is None or text is None:
            continue
        expression, *messages = (part.strip() for part in text.split(" | "))
        if len(messages) not in {1, 2} or not all((expression, *messages)):
            reader.problems.add(
                value,
                Text(f"规则 {identifier} 不完整", f"rule {identifier} is incomplete"),
                width_hint(re.sub("[^｜]", "", text))
                or Text(
                    "写“条件 | 中文说明 | 英文说明”，竖线两边有空格",
                    "write 'condition | Chinese message | English message', blanks around |",
                ),
            )
            continue
        rules.append(RuleEntry(identifier, value, expression, Text(messages[0], messages[-1])))
    return tuple(rules)
