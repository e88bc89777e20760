"""Reads one resource of the catalog against its departments, code tables and groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from exchange.catalog.fieldlist import FieldEntry, Group, RuleEntry, read_fields, read_rules
from exchange.catalog.model import (
    OPERATION,
    TODAY,
    CodeTable,
    Department,
    Field,
    Limits,
    Resource,
    Rule,
    Sensitivity,
    ShareType,
    UpdateCycle,
)
from exchange.catalog.node_reader import NodeReader
from exchange.catalog.tree import Scalar, YamlNode
from exchange.catalog.types import TYPES
from exchange.catalog.words import CYCLE_WORDS, LEVEL_WORDS, SHARE_WORDS
from exchange.text import Text

RESOURCE_CODE: Final = "[123][0-9]{2}[0-9]{3}[0-9A-Z]*/[0-9]{1,10}"
"""资源代码 of 1272号: 类 项 目 细目 "/" 顺序码; a province may set its own (resource_code:)."""

RESERVED: Final = frozenset(
    {OPERATION, "cd_id", "cd_time", "cd_source", "cd_batch", "error_remark", TODAY, "use"}
)
"""Control columns of the cascade (级联控制字段), and words of the catalog's own language."""

_REQUIRED: Final = ("code", "title", "department", "share", "cycle", "key", "fields")
_OPTIONAL: Final = (
    *("version", "condition", "abstract", "sensitivity"),
    *("unique", "limits", "columns", "rules"),
)
_SHARE: Final = {str(share.value): share for share in ShareType}
_CYCLES: Final = {cycle.value: cycle for cycle in UpdateCycle}
_LEVELS: Final = {level.value: level for level in Sensitivity}
_FIELD: Final = Text("字段", "field")


class Resources:
    """Reads resources; what is wrong is noted, and the resource left out."""

    def __init__(
        self,
        reader: NodeReader,
        *,
        departments: Mapping[str, Department],
        tables: Mapping[str, CodeTable],
        groups: Mapping[str, Group],
        code_pattern: str,
        conditions: bool,
    ) -> None:
        self.conditions = conditions
        self.reader = reader
        self.problems = reader.problems
        self.departments = departments
        self.tables = tables
        self.groups = groups
        self.code_pattern = code_pattern
        self.codes: dict[str, Scalar] = {}
        self._department_names = {key: Text(item.name, "") for key, item in departments.items()}

    def read(self, key: Scalar, node: YamlNode) -> Resource | None:
        """Return the resource, or None after noting why there is none."""
        reader = self.reader
        what = Text(f"资源 {key.text} ", f"resource {key.text}")
        section = reader.section(node, what, required=_REQUIRED, optional=_OPTIONAL)
        code = self._code(section.get("code"))
        title = reader.text(section.get("title"), Text("资源名称", "resource title"), limit=500)
        department = reader.choice(
            section.get("department"),
            Text("部门", "department"),
            self.departments,
            self._department_names,
        )
        share = reader.choice(
            section.get("share"), Text("共享类型", "share type"), _SHARE, SHARE_WORDS
        )
        condition = reader.text(section.get("condition"), Text("共享条件", "share condition"))
        if share not in {None, ShareType.UNCONDITIONAL} and "condition" not in section:
            self.problems.add(
                section["share"],
                Text("有条件或不予共享必须写明条件或依据", "share 2 and 3 need a condition"),
                Text(
                    "加上 condition: 共享条件或法律依据",
                    "add condition: terms of use or legal basis",
                ),
            )
        cycle = reader.choice(
            section.get("cycle"), Text("更新周期", "update cycle"), _CYCLES, CYCLE_WORDS
        )
        level = reader.choice(
            section.get("sensitivity"), Text("分级", "sensitivity"), _LEVELS, LEVEL_WORDS
        )
        version = reader.integer(section.get("version"), Text("版本号", "version"), least=1)
        abstract = reader.text(section.get("abstract"), Text("摘要", "abstract"))
        group = Group(complete=False)
        if "fields" in section:
            group = read_fields(reader, section["fields"], self.groups)
        fields = tuple(self._fields(group.fields, level or Sensitivity.S2))
        names = {field.name for field in group.fields}
        rules = (*group.rules, *read_rules(reader, section.get("rules")))
        limits = self._limits(section.get("limits"))
        if not group.complete:
            return None
        titles = {field.name: Text(field.title, "") for field in fields}
        resource_key = self._key(section.get("key"), names, fields)
        unique = reader.items(section.get("unique"), Text("唯一性", "unique"))
        columns = self._columns(section.get("columns"), names)
        conditions = self._rules(group.fields, rules, fields)
        if code is None or title is None or department is None or share is None or cycle is None:
            return None
        return Resource(
            name=key.text,
            code=code,
            title=title,
            department=department,
            fields=fields,
            key=resource_key,
            unique=tuple(reader.names(item, _FIELD, names, titles) for item in unique),
            rules=conditions,
            version=version or 1,
            share_type=share,
            share_condition=condition or "",
            update_cycle=cycle,
            limits=limits,
            columns=columns,
            abstract=abstract or "",
        )

    def _code(self, node: YamlNode | None) -> str | None:
        example = Text("分类码/顺序码，如 307001/1", "classification/number, such as 307001/1")
        what = Text("资源代码", "resource code")
        code = self.reader.matching(node, what, self.code_pattern, example)
        if node is not None and code is not None:
            self.reader.once(self.codes, code, node)
        return code

    def _fields(self, entries: Sequence[FieldEntry], level: Sensitivity) -> Iterator[Field]:
        """Yield the fields that are whole; names differ in more than their case."""
        firsts: dict[str, Scalar] = {}
        for entry in entries:
            fresh = self.reader.once(firsts, entry.name.lower(), entry.place)
            if entry.name.lower() in RESERVED:
                self.problems.add(
                    entry.place,
                    Text(
                        f"字段名 {entry.name} 已被系统占用", f"the field name {entry.name} is taken"
                    ),
                    Text(
                        "请改名；级联控制字段由系统生成",
                        "rename it; control columns are added by us",
                    ),
                )
            text = entry.text
            if text is None or not fresh:
                continue
            table = text.type.table
            if table is not None and table not in self.tables:
                tables = {name: Text(item.title, "") for name, item in self.tables.items()}
                kind = Text("代码表", "code table")
                self.problems.unknown(entry.place, kind, table, tables, tables)
            yield Field(
                name=entry.name,
                title=text.title,
                type=text.type,
                required=text.required,
                sensitivity=text.sensitivity or TYPES[text.type.name].sensitivity or level,
                required_when=text.required_when,
                doc=text.doc,
            )

    def _key(
        self, node: YamlNode | None, names: set[str], fields: Sequence[Field]
    ) -> tuple[str, ...]:
        """Return the primary key, whose fields must always be there."""
        titles = {field.name: Text(field.title, "") for field in fields}
        before = len(self.problems.items)
        key = self.reader.names(node, Text("主键字段", "key field"), names, titles)
        if node is None:
            return key
        for field in fields:
            if field.name in key and not field.required:
                self.problems.add(
                    node,
                    Text(
                        f"主键字段 {field.name} 不是必填", f"the key field {field.name} is optional"
                    ),
                    Text(
                        "在类型后加 !，或更换主键", "put ! behind its type, or choose another key"
                    ),
                )
        if not key and len(self.problems.items) == before:
            self.problems.add(
                node,
                Text("主键为空", "the key is empty"),
                Text("写 key: [字段]", "write key: [field]"),
            )
        return key

    def _rules(
        self, entries: Sequence[FieldEntry], rules: Sequence[RuleEntry], fields: Sequence[Field]
    ) -> tuple[Rule, ...]:
        """Check every condition, of rules and of ``when``; return the rules."""
        result: list[Rule] = []
        firsts: dict[str, Scalar] = {}
        conditions = [
            RuleEntry(field.name, field.place, field.text.required_when, Text("", ""))
            for field in entries
            if field.text is not None and field.text.required_when is not None
        ]
        if not (self.conditions and (conditions or rules)):
            return ()
        from exchange.catalog.frames import BadCondition, Conditions

        broken = {field.name for field in entries} - {field.name for field in fields}
        checker = Conditions(fields, broken)
        checker.try_together(rule.expression for rule in (*conditions, *rules))
        for rule in (*conditions, *rules):
            try:
                names = checker.names(rule.expression)
            except BadCondition as bad:
                self.problems.add(rule.place, bad.what, bad.hint)
                continue
            if rule.message.zh and self.reader.once(firsts, rule.id, rule.place):
                result.append(
                    Rule(
                        id=rule.id,
                        expression=rule.expression,
                        message=rule.message,
                        fields=names,
                    )
                )
        return tuple(result)

    def _limits(self, node: YamlNode | None) -> Limits:
        if node is None:
            return Limits()
        reader = self.reader
        names = ("max_count", "max_percent", "window_rows")
        section = reader.section(node, Text("隔离上限", "limits"), required=(), optional=names)
        percent = reader.number(section.get("max_percent"), Text("百分比", "max_percent"))
        whole = 100
        if percent is not None and percent > whole:
            self.problems.add(
                section["max_percent"],
                Text("百分比超过 100", "max_percent is over 100"),
                Text("写 0 到 100", "write 0 to 100"),
            )
        return Limits(
            max_count=reader.integer(section.get("max_count"), Text("条数", "max_count")),
            max_percent=percent,
            window_rows=reader.integer(section.get("window_rows"), Text("窗口", "window_rows")),
        )

    def _columns(self, node: YamlNode | None, names: set[str]) -> dict[str, str]:
        """Return source column → field; a field is filled by one column."""
        columns: dict[str, str] = {}
        firsts: dict[str, Scalar] = {}
        if node is None:
            return columns
        what = Text("列对应", "columns")
        for column, target in self.reader.pairs(node, what).items():
            source = self.reader.text(column, Text("源列名", "source column"), limit=200)
            name = self.reader.text(target, _FIELD)
            if source is None or name is None:
                continue
            if name not in names:
                self.problems.unknown(target, _FIELD, name, names)
            elif self.reader.once(firsts, name, target):
                columns[source] = name
        return columns
