"""Reads a YAML tree strictly: what is missing, unknown, doubled or of another kind is noted."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final, TypeVar

from exchange.catalog.problems import Problems, shorten, width_hint
from exchange.catalog.tree import Items, Pairs, Scalar, YamlNode
from exchange.catalog.words import KEYS, SYNONYMS
from exchange.text import Text

T = TypeVar("T")

_INTEGER: Final = re.compile(r"0|[1-9][0-9]{0,8}")
_NUMBER: Final = re.compile(r"(?:0|[1-9][0-9]{0,8})(?:\.[0-9]{1,6})?")
_KEY: Final = Text("键", "key")
_LIST: Final = Text("列表 [a, b]", "a list [a, b]")


class NodeReader:
    """Takes values out of nodes; answers None after noting why it cannot."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems

    def pairs(self, node: YamlNode, what: Text) -> dict[Scalar, YamlNode]:
        """Return the pairs of a mapping whose keys are free; doubled keys are noted."""
        if not isinstance(node, Pairs):
            if not (isinstance(node, Scalar) and not node.text):
                self._kind(node, what, Text("映射（键: 值）", "a mapping (key: value)"))
            return {}
        firsts: dict[str, Scalar] = {}
        return {key: value for key, value in node.pairs if self.once(firsts, key.text, key)}

    def section(
        self,
        node: YamlNode,
        what: Text,
        *,
        required: Collection[str],
        optional: Collection[str] = (),
    ) -> dict[str, YamlNode]:
        """Return the values of a mapping whose keys are fixed."""
        names = {*required, *optional}
        values: dict[str, YamlNode] = {}
        empty: Scalar | None = None
        for key, value in self.pairs(node, what).items():
            if key.text in names:
                values[key.text] = value
            elif re.match("[0-9]+\\)", key.text):
                self.cut_by_comma(key)
            elif empty is not None and isinstance(value, Pairs):
                self._out_of(empty, key)
            else:
                self.problems.unknown(
                    key, _KEY, key.text, names - set(values), _key_meanings(names)
                )
            empty = key if isinstance(value, Scalar) and not value.text else None
        for name in required:
            if name not in values:
                self.problems.add(
                    node,
                    Text(f"{what.zh}缺少 {name}{_meaning(name)}", f"{what.en} has no '{name}'"),
                    Text(f"加上“{name}: …”", f"add '{name}: …'"),
                )
        return values

    def text(self, node: YamlNode | None, what: Text, *, limit: int = 2000) -> str | None:
        """Return a text that is not empty."""
        if node is None:
            return None
        if not isinstance(node, Scalar):
            self._kind(node, what, Text("一段文本", "a text"))
            return None
        if not node.text.strip() or len(node.text) > limit:
            self._note(
                node,
                Text(f"{what.zh}为空或超过 {limit} 字", f"{what.en} is empty or over {limit} long"),
                Text("写一段文本", "write a text"),
            )
            return None
        return node.text.strip()

    def matching(
        self, node: YamlNode | None, what: Text, pattern: str, example: Text
    ) -> str | None:
        """Return a text of a given shape."""
        text = self.text(node, what)
        if node is None or text is None or re.fullmatch(pattern, text):
            return text
        self._note(
            node,
            Text(
                f"{what.zh}“{shorten(text)}”格式不对", f"{what.en} '{shorten(text)}' is malformed"
            ),
            width_hint(text) or example,
        )
        return None

    def integer(self, node: YamlNode | None, what: Text, *, least: int = 0) -> int | None:
        """Return a whole number, written without leading zeros."""
        number = self.number(node, what, _INTEGER)
        if node is None or number is None:
            return None
        if number < least:
            self._note(
                node,
                Text(f"{what.zh}小于 {least}", f"{what.en} is below {least}"),
                Text(f"写 {least} 或更大的整数", f"write {least} or more"),
            )
            return None
        return int(number)

    def number(
        self, node: YamlNode | None, what: Text, pattern: re.Pattern[str] = _NUMBER
    ) -> float | None:
        """Return a number that is not negative, written without leading zeros."""
        text = self.text(node, what)
        if node is None or text is None:
            return None
        if pattern.fullmatch(text):
            return float(text)
        bare = text.lstrip("0") or "0"
        hint = width_hint(text) or (
            Text(f"去掉前导零，写 {bare}", f"without leading zeros: {bare}")
            if pattern.fullmatch(bare)
            else Text("写一个数字", "write a number such as 1")
        )
        excerpt = shorten(text)
        self._note(
            node, Text(f"{what.zh}“{excerpt}”不是数字", f"{what.en} '{excerpt}' is no number"), hint
        )
        return None

    def choice(
        self,
        node: YamlNode | None,
        what: Text,
        choices: Mapping[str, T],
        meanings: Mapping[str, Text] | None = None,
    ) -> T | None:
        """Return one of some named values; ``meanings`` say what each of them stands for."""
        text = self.text(node, what)
        if node is None or text is None:
            return None
        if text not in choices:
            if SYNONYMS.get(text) in choices:
                meanings = {SYNONYMS[text]: Text(text, text)}
            self.problems.unknown(node, what, text, choices, meanings)
            return None
        return choices[text]

    def items(self, node: YamlNode | None, what: Text) -> tuple[YamlNode, ...]:
        """Return the nodes of a list."""
        if node is None:
            return ()
        if not isinstance(node, Items):
            self._kind(node, what, _LIST)
            return ()
        return node.nodes

    def names(
        self,
        node: YamlNode | None,
        what: Text,
        choices: Collection[str],
        meanings: Mapping[str, Text] | None = None,
    ) -> tuple[str, ...]:
        """Return a list of different names, each one of ``choices``."""
        places: dict[str, Scalar] = {}
        for item in self.items(node, what):
            name = self.text(item, what)
            if name is None:
                continue
            if name in choices:
                self.once(places, name, item)
            else:
                self.problems.unknown(item, what, name, choices, meanings)
        return tuple(places)

    def once(self, firsts: dict[str, Scalar], word: str, node: YamlNode) -> bool:
        """Tell whether ``word`` is new; note where it stands already otherwise."""
        place = Scalar(node.file, node.line, word)
        first = firsts.setdefault(word, place)
        if first is place:
            return True
        where, excerpt = f"{first.file}:{first.line}", shorten(word)
        self.problems.add(
            place,
            Text(f"“{excerpt}”重复，首次出现在 {where}", f"'{excerpt}' stands at {where} already"),
            Text("改名或删除其中一个", "rename or remove one"),
        )
        return False

    def cut_by_comma(self, key: Scalar) -> None:
        """Explain a text in braces that a comma has cut in two."""
        self.problems.add(
            key,
            Text("花括号里的逗号把值断开了", "a comma inside braces has cut the value in two"),
            Text('值加引号，如 "金额 decimal(16,6)"', 'quote it: "金额 decimal(16,6)"'),
        )

    def _out_of(self, section: Scalar, key: Scalar) -> None:
        """Explain a key that should stand inside the one before it, which is empty."""
        self._note(
            key,
            Text(
                f"“{shorten(key.text)}”的缩进不够，不在“{section.text}”里面",
                f"'{shorten(key.text)}' is not inside '{section.text}': it is indented too little",
            ),
            Text(
                f"比“{section.text}”多缩进 2 个空格",
                f"indent it 2 blanks more than '{section.text}'",
            ),
        )

    def _kind(self, node: YamlNode, what: Text, kind: Text) -> None:
        wide = width_hint(node.text) if isinstance(node, Scalar) else None
        if wide is None and isinstance(node, Scalar) and node.text and kind is _LIST:
            wide = Text(f"写 [{shorten(node.text)}]", f"write [{shorten(node.text)}]")
        self._note(
            node,
            Text(f"{what.zh}应为{kind.zh}", f"{what.en} must be {kind.en}"),
            wide or Text("检查缩进和括号", "check indentation and brackets"),
        )

    def _note(self, node: YamlNode, what: Text, hint: Text) -> None:
        self.problems.add(node, what, hint)


def _meaning(name: str) -> str:
    return f"（{KEYS[name].zh}）" if name in KEYS else ""


def _key_meanings(names: Collection[str]) -> dict[str, Text]:
    return {name: KEYS[name] for name in names if name in KEYS}
