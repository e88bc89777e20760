"""The sections of a catalog's files, gathered before anything is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from exchange.catalog.node_reader import NodeReader
from exchange.catalog.problems import Problems
from exchange.catalog.tree import Scalar, YamlNode
from exchange.text import Text

_FILE: Final = Text("目录文件", "the catalog")
_SECTIONS: Final = ("departments", "tables", "groups", "resources")


class SectionNodes:
    """What the files hold, section by section, before anything is built."""

    def __init__(self, problems: Problems) -> None:
        self.reader = NodeReader(problems)
        self.head: Mapping[str, YamlNode] = {}
        self.includes: list[Scalar] = []
        self.sections: dict[str, dict[str, tuple[Scalar, YamlNode]]] = {s: {} for s in _SECTIONS}
        self.places: dict[str, dict[str, Scalar]] = {s: {} for s in _SECTIONS}

    def main(self, node: YamlNode) -> None:
        """Take the first file: what describes the whole, and its sections."""
        self.head = self.reader.section(
            node,
            _FILE,
            required=("version", "area", "departments", "resources"),
            optional=("resource_code", "include", "tables", "groups"),
        )
        what = Text("include 的路径", "a path of include")
        self.includes = [
            item
            for item in self.reader.items(self.head.get("include"), what)
            if self.reader.text(item, what) is not None and isinstance(item, Scalar)
        ]
        self._gather(self.head)

    def add(self, node: YamlNode) -> None:
        """Take an included file, which has sections only."""
        self._gather(self.reader.section(node, _FILE, required=(), optional=_SECTIONS))

    def _gather(self, nodes: Mapping[str, YamlNode]) -> None:
        for section, entries in self.sections.items():
            if section not in nodes:
                continue
            for key, node in self.reader.pairs(nodes[section], Text(section, section)).items():
                if self.reader.once(self.places[section], key.text, key):
                    entries[key.text] = (key, node)
