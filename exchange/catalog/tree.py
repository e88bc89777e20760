"""YAML text to a tree of texts with line numbers; the only importer of PyYAML here.

Nothing is converted: ``01``, ``yes`` and ``2026-01-01`` stay text. Anchors, aliases and tags are
refused, depth and size are bounded, duplicate keys are kept for the reader to refuse.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

from exchange.catalog.problems import Problems, width_hint
from exchange.catalog.words import SYNTAX
from exchange.foreign import original
from exchange.text import Text

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # PyYAML built without libyaml: slower, the same events
    from yaml import SafeLoader  # type: ignore[assignment]

MAX_CHARS: Final = 4 * 1024 * 1024
MAX_BYTES: Final = 4 * MAX_CHARS
"""Bytes of one file; a character has at most four (RFC 3629 §3)."""
MAX_DEPTH: Final = 16


@dataclass(frozen=True, slots=True)
class Scalar:
    """A text as written; ``line`` counts from 1."""

    file: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    file: str
    line: int
    nodes: tuple[YamlNode, ...]


@dataclass(frozen=True, slots=True)
class Pairs:
    """A mapping as written: in order, duplicates included."""

    file: str
    line: int
    pairs: tuple[tuple[Scalar, YamlNode], ...]


YamlNode = Scalar | Items | Pairs


_LOOK: Final = Text(
    "检查缩进、引号和冒号后的空格；含逗号的值要加引号",
    "check indentation, quotes, the blank after a colon; quote values with commas",
)
_WIDE: Final = re.compile("[，：；｛｝［］【】]")
"""Full-width forms of what gives a file its structure."""


class _Refused(Exception):
    def __init__(self, mark: Any, what: Text, hint: Text) -> None:
        self.mark, self.what, self.hint = mark, what, hint


def parse(text: str, file: str, problems: Problems) -> YamlNode | None:
    """Return the tree of one YAML document; ``None`` after noting why there is none."""
    top = Scalar(file, 1, "")
    if len(text) > MAX_CHARS:
        problems.add(
            top,
            Text("文件过大", "the file is too large"),
            Text("请用 include 拆分，每个文件不超过 4 MiB", "split it with include, 4 MiB each"),
        )
        return None
    before = len(problems.items)
    _note_tabs(text, file, problems)
    try:
        events = yaml.parse(text, Loader=SafeLoader)
        return _document(events, file)
    except _Refused as refused:
        place = Scalar(file, refused.mark.line + 1, "")
        problems.add(place, refused.what, refused.hint)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if error.context == "while scanning a quoted scalar":
            mark = error.context_mark  # where the quote opens, not where the file ends
        _note_wide_colons(text, file, problems)
        if len(problems.items) == before:
            line = min(mark.line, text.count("\n")) + 1 if mark is not None else 1
            detail = error.problem or error.context or "not YAML"
            what, hint = SYNTAX.get(detail, (original(detail), _LOOK))
            problems.add(
                Scalar(file, line, ""),
                Text(f"YAML 语法错误：{what.zh}", f"YAML syntax error: {what.en}"),
                _structure_hint(text.split("\n"), line) or hint,
            )
    except (yaml.YAMLError, UnicodeError) as error:
        bad = next((c for c in text if not c.isprintable() and c not in "\r\n\t\ufeff"), "?")
        problems.add(
            Scalar(file, text[: text.find(bad)].count("\n") + 1 if bad in text else 1, ""),
            Text(f"文件中有不允许的控制字符 {bad!a}", f"control character {bad!a} in the file"),
            Text("请删除该字符", f"remove it ({type(error).__name__})"),
        )
    return None


def _document(events: Iterator[Any], file: str) -> YamlNode:
    """Build the tree of the first document; there must be no second one."""
    next(events)  # stream start
    event = next(events)
    if isinstance(event, yaml.StreamEndEvent):
        return Scalar(file, 1, "")
    node = _node(next(events), events, file, 1)
    next(events)  # document end
    following = next(events)
    if not isinstance(following, yaml.StreamEndEvent):
        raise _Refused(
            following.start_mark,
            Text("一个文件只能有一个 YAML 文档", "a second YAML document in the file"),
            Text("删除“---”，或拆成两个文件", "remove '---', or make two files of it"),
        )
    return node


def _node(event: Any, events: Iterator[Any], file: str, depth: int) -> YamlNode:
    mark = event.start_mark
    if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
        raise _Refused(
            mark,
            Text("目录中不能使用 YAML 锚点和别名", "anchors and aliases are not allowed"),
            Text(
                "重复的字段请写入 groups 再用 use 引用", "put repeated fields into groups: and use:"
            ),
        )
    if event.tag is not None:
        raise _Refused(
            mark,
            Text(f"不能使用 YAML 标签 {event.tag}", f"the tag {event.tag} is not allowed"),
            Text("删除标签，所有值都按文本读取", "remove it: every value is read as text"),
        )
    if depth > MAX_DEPTH:
        raise _Refused(
            mark,
            Text(f"嵌套超过 {MAX_DEPTH} 层", f"nested more than {MAX_DEPTH} levels deep"),
            Text("检查括号是否配对", "check that brackets are closed"),
        )
    line = mark.line + 1
    if isinstance(event, yaml.ScalarEvent):
        return Scalar(file, line, event.value)
    if isinstance(event, yaml.SequenceStartEvent):
        nodes: list[YamlNode] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            nodes.append(_node(event, events, file, depth + 1))
        return Items(file, line, tuple(nodes))
    pairs: list[tuple[Scalar, YamlNode]] = []
    while not isinstance(event := next(events), yaml.MappingEndEvent):
        key = _node(event, events, file, depth + 1)
        if not isinstance(key, Scalar):
            raise _Refused(
                event.start_mark,
                Text("键必须是文本", "a key must be a text"),
                Text("检查花括号和冒号", "check braces and colons"),
            )
        pairs.append((key, _node(next(events), events, file, depth + 1)))
    return Pairs(file, line, tuple(pairs))


def _structure_hint(lines: Sequence[str], line: int) -> Text | None:
    """Explain a wrong line: full-width marks in it, or an indentation unlike that before it."""
    own = lines[line - 1] if line <= len(lines) else ""
    wide = _WIDE.search(own)
    if wide is not None and (hint := width_hint(wide[0])) is not None:
        return hint
    before = next((item for item in reversed(lines[: line - 1]) if item.strip()), "")
    blanks, expected = _indent(own), _indent(before)
    if blanks == expected or before.rstrip().endswith((":", ",", "{", "[")) or not own.strip():
        return None
    return Text(
        f"这一行缩进 {blanks} 格，上一行 {expected} 格：同一级的键要对齐",
        f"this line is indented {blanks}, the one before it {expected}: align keys of one level",
    )


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _note_tabs(text: str, file: str, problems: Problems) -> None:
    if "\t" not in text:
        return
    for number, line in enumerate(text.split("\n"), 1):
        if "\t" in line:
            problems.add(
                Scalar(file, number, ""),
                Text("目录中不能使用制表符（Tab）", "a tab character"),
                Text("请用空格缩进", "indent with blanks"),
            )


def _note_wide_colons(text: str, file: str, problems: Problems) -> None:
    for number, line in enumerate(text.split("\n"), 1):
        if re.match(r"[ {-]*[A-Za-z_][A-Za-z0-9_]*[：﹕]", line):
            problems.add(
                Scalar(file, number, ""),
                Text("键后面是全角冒号", "a full-width colon after a key"),
                width_hint("：") or Text("", ""),
            )
