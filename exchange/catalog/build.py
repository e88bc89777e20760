"""From sections to the catalog: departments, tables and groups first, then the resources."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Final, TypeVar

from exchange.catalog.canonical import catalog_digest
from exchange.catalog.fieldlist import Group, read_fields, read_rules
from exchange.catalog.identifiers import (
    USCC_PATTERN,
    is_placeholder,
    is_uscc,
    organisation_check,
    uscc_check,
)
from exchange.catalog.model import Area, Catalog, CodeTable, Department
from exchange.catalog.problems import Problems, shorten, width_hint
from exchange.catalog.resources import RESOURCE_CODE, Resources
from exchange.catalog.sections import SectionNodes
from exchange.catalog.tree import Items, Scalar, YamlNode
from exchange.foreign import original
from exchange.text import Text

_SLUG: Final = "[a-z][a-z0-9_]{0,62}"
_SLUG_HINT: Final = Text(
    "小写字母开头，只含小写字母、数字、下划线", "a lower-case letter, then letters, digits and _"
)

T = TypeVar("T")


class Builder:
    """Builds the catalog; what cannot be built is noted and left out."""

    def __init__(
        self, source: SectionNodes, problems: Problems, *, conditions: bool = True
    ) -> None:
        """``conditions``: check them, and keep the rules; without, the catalog has none."""
        self.conditions = conditions
        self.source = source
        self.problems = problems
        self.reader = source.reader
        self.codes: dict[str, Scalar] = {}
        """Department codes, with where they stand."""

    def catalog(self) -> Catalog:
        """Return the catalog; only good for use when no problem was noted."""
        head, reader = self.source.head, self.reader
        departments = self._build_section("departments", self._department)
        tables = self._build_section("tables", self._table)
        resources = Resources(
            reader,
            departments=departments,
            tables=tables,
            groups=self._build_section("groups", self._group),
            code_pattern=self._code_pattern(head.get("resource_code")),
            conditions=self.conditions,
        )
        version = reader.text(head.get("version"), Text("版本", "version"), limit=64)
        catalog = Catalog(
            version=version or "",
            area=self._area(head.get("area")),
            departments=departments,
            tables=tables,
            resources=self._build_section("resources", resources.read),
        )
        return catalog.model_copy(update={"digest": catalog_digest(catalog)})

    def _build_section(
        self, section: str, build: Callable[[Scalar, YamlNode], T | None]
    ) -> dict[str, T]:
        built: dict[str, T] = {}
        for name, (key, node) in self.source.sections[section].items():
            what = Text(f"{section} 的键", f"key of {section}")
            if self.reader.matching(key, what, _SLUG, _SLUG_HINT) is None:
                continue
            value = build(key, node)
            if value is not None:
                built[name] = value
        return built

    def _area(self, node: YamlNode | None) -> Area:
        if node is None:
            return Area(code="", name="")
        section = self.reader.section(node, Text("area", "area"), required=("code", "name"))
        code = self.reader.matching(
            section.get("code"),
            Text("行政区划代码", "division code"),
            "[1-9][0-9]{5}",
            Text("6 位数字，如 232700", "six digits, such as 232700"),
        )
        name = self.reader.text(section.get("name"), Text("行政区名称", "name of the area"))
        return Area(code=code or "", name=name or "")

    def _code_pattern(self, node: YamlNode | None) -> str:
        """Return the rule of resource codes, which a province may set."""
        text = self.reader.text(node, Text("资源代码规则", "resource_code"), limit=200)
        if node is None or text is None:
            return RESOURCE_CODE
        try:
            re.compile(text)
        except (re.error, RecursionError, OverflowError) as error:
            self.problems.add(
                node,
                Text(
                    f"资源代码规则不是正则表达式：{original(error).zh}",
                    f"no regular expression: {original(error).en}",
                ),
                Text(f"如 {RESOURCE_CODE}", f"such as {RESOURCE_CODE}"),
            )
            return RESOURCE_CODE
        return text

    def _department(self, key: Scalar, node: YamlNode) -> Department | None:
        what = Text(f"部门 {key.text} ", f"department {key.text}")
        section = self.reader.section(node, what, required=("code", "name"))
        name = self.reader.text(section.get("name"), Text("部门名称", "department name"))
        code = self.reader.text(section.get("code"), Text("统一社会信用代码", "department code"))
        if code is None or name is None:
            return None
        if not is_uscc(code):
            self.problems.add(
                section["code"],
                Text(
                    f"“{shorten(code)}”不是有效的统一社会信用代码",
                    f"'{shorten(code)}' is no valid unified social credit code",
                ),
                width_hint(code) or _uscc_hint(code),
            )
        self.reader.once(self.codes, code, section["code"])
        return Department(id=key.text, code=code, name=name)

    def _table(self, key: Scalar, node: YamlNode) -> CodeTable | None:
        name = Text(f"代码表 {key.text} ", f"code table {key.text}")
        section = self.reader.section(
            node, name, required=("title", "values"), optional=("edition",)
        )
        title = self.reader.text(section.get("title"), Text("代码表名称", "title of the table"))
        edition = self.reader.text(section.get("edition"), Text("代码表版本", "edition"), limit=64)
        values: dict[str, str] = {}
        what = Text("代码", "code")
        entries = section.get("values")
        if isinstance(entries, Items):  # the codes are their own labels
            firsts: dict[str, Scalar] = {}
            for item in entries.nodes:
                code = self.reader.text(item, what, limit=200)
                if code is not None and self.reader.once(firsts, code, item):
                    values[code] = code
        elif entries is not None:
            for code_key, label_node in self.reader.pairs(entries, name).items():
                code = self.reader.text(code_key, what, limit=200)
                label = self.reader.text(label_node, Text("代码含义", "label of a code"))
                if code is not None and label is not None:
                    values[code] = label
        if "values" in section and not values:
            self.problems.add(
                section["values"],
                Text(f"{name.zh}没有代码", f"{name.en} has no values"),
                Text("写 values: {代码: 含义}", "write values: {code: label}"),
            )
        return CodeTable(name=key.text, title=title or "", edition=edition or "", values=values)

    def _group(self, key: Scalar, node: YamlNode) -> Group:
        what = Text(f"字段组 {key.text} ", f"group {key.text}")
        section = self.reader.section(node, what, required=("fields",), optional=("rules",))
        if "fields" not in section:
            return Group(complete=False)
        group = read_fields(self.reader, section["fields"], None)
        return replace(group, rules=read_rules(self.reader, section.get("rules")))


def _uscc_hint(code: str) -> Text:
    """Say what is wrong with a unified social credit code."""
    if re.fullmatch(USCC_PATTERN, code) is None:
        return Text(
            "应为 18 位数字和大写字母（不含 I、O、S、V、Z）",
            "18 digits and capital letters without I, O, S, V, Z",
        )
    if is_placeholder(code):
        return Text("这是占位代码，请填真实代码", "a placeholder: write the real code")
    inner = organisation_check(code[8:16])
    if inner not in code[16]:
        return Text(
            f"第 17 位应为 {inner}（GB 11714），请核对全部数字",
            f"character 17 would be {inner} (GB 11714): compare all digits",
        )
    last = uscc_check(code[:17])
    return Text(
        f"第 18 位应为 {last}（GB 32100），请核对全部数字",
        f"character 18 would be {last} (GB 32100): compare all digits",
    )
