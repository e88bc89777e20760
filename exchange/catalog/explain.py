"""Says in words what a resource or a field asks for, for ``catalog explain`` and pages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from exchange.catalog.model import (
    Catalog,
    Field,
    Physical,
    Resource,
)
from exchange.catalog.types import TYPES
from exchange.catalog.words import SENSITIVITY, SHARE_TYPE, UPDATE_CYCLE
from exchange.errors import Rejected
from exchange.text import Text, suggest

_CHECKS: Final = {
    "uscc": Text(
        "两个校验位均须正确（GB 32100、GB 11714）",
        "both check digits must hold (GB 32100, GB 11714)",
    ),
    "resident_id": Text(
        "校验位和出生日期须正确（GB 11643）", "check digit and birth date must hold (GB 11643)"
    ),
    "licence_id": Text(
        "校验位须正确（ISO 7064 MOD 37,36）", "the check character must hold (ISO 7064 MOD 37,36)"
    ),
}
_SHOWN_CODES: Final = 40


@dataclass(frozen=True, slots=True)
class Explanation:
    """What was asked about, and sentences about it."""

    subject: str
    title: str
    lines: tuple[Text, ...]

    def as_dict(self) -> dict[str, object]:
        """Return the explanation for JSON."""
        return {
            "subject": self.subject,
            "title": self.title,
            "lines": [line._asdict() for line in self.lines],
        }


def explain(catalog: Catalog, subject: str) -> Explanation:
    """Explain ``resource`` or ``resource.field``; raises Rejected with a suggestion."""
    name, dot, field_name = subject.partition(".")
    resource = catalog.resources.get(name)
    if resource is None:
        raise Rejected(
            Text(f"目录中没有资源“{name}”", f"no resource '{name}' in the catalog"),
            hint=suggest(name, catalog.resources),
        )
    if not dot:
        return Explanation(subject, resource.title, tuple(_resource(resource)))
    try:
        field = resource.field(field_name)
    except KeyError as error:
        raise Rejected(
            Text(f"资源 {name} 没有字段“{field_name}”", f"{name} has no field '{field_name}'"),
            hint=suggest(field_name, (field.name for field in resource.fields)),
        ) from error
    return Explanation(subject, field.title, tuple(_field(catalog, resource, field)))


def _resource(resource: Resource) -> Iterator[Text]:
    department, share = resource.department, SHARE_TYPE[resource.share_type]
    cycle = UPDATE_CYCLE[resource.update_cycle]
    yield Text(
        f"资源代码 {resource.code}，版本 {resource.version}",
        f"code {resource.code}, version {resource.version}",
    )
    yield Text(
        f"由{department.name}（{department.code}）提供",
        f"provided by {department.name} ({department.code})",
    )
    condition = resource.share_condition
    yield Text(
        f"{share.zh}{'：' if condition else ''}{condition}",
        f"{share.en}{': ' if condition else ''}{condition}",
    )
    yield Text(f"{cycle.zh}更新", f"updated {cycle.en}")
    if resource.abstract:
        yield Text(resource.abstract, resource.abstract)
    for names in (resource.key, *resource.unique):
        name_list = ", ".join(names)
        yield Text(f"以下字段合起来不得重复：{name_list}", f"unique together: {name_list}")
    for field in resource.fields:
        need = Text("必填", "required") if field.required else Text("可空", "optional")
        if field.required_when:
            need = Text("有条件必填", "sometimes required")
        yield Text(
            f"{field.name} {field.title}：{field.type.spec}，{need.zh}，{field.sensitivity}",
            f"{field.name} {field.title}: {field.type.spec}, {need.en}, {field.sensitivity}",
        )
    for rule in resource.rules:
        yield Text(
            f"规则 {rule.id}：{rule.message.zh}（{rule.expression}）",
            f"rule {rule.id}: {rule.message.en} ({rule.expression})",
        )


def _field(catalog: Catalog, resource: Resource, field: Field) -> Iterator[Text]:
    entry = TYPES[field.type.name]
    yield Text(
        f"类型 {field.type.spec}：{entry.title.zh}", f"type {field.type.spec}: {entry.title.en}"
    )
    yield from _presence(field)
    yield from _shape(catalog, field)
    level = SENSITIVITY[field.sensitivity]
    yield Text(f"分级 {field.sensitivity}（{level.zh}）", f"{field.sensitivity}, {level.en}")
    if field.type.mask:
        yield Text(
            f"对外展示时按 {field.type.mask} 规则脱敏",
            f"shown masked by the rule {field.type.mask}",
        )
    for names in (resource.key, *resource.unique):
        if field.name in names:
            name_list = ", ".join(names)
            yield Text(f"参与唯一性：{name_list}", f"part of a unique combination: {name_list}")
    for column, name in resource.columns.items():
        if name == field.name:
            yield Text(f"取自源列“{column}”", f"filled from the source column '{column}'")
    for rule in resource.rules:
        if field.name in rule.fields:
            yield Text(
                f"规则 {rule.id}：{rule.message.zh}（{rule.expression}）",
                f"rule {rule.id}: {rule.message.en} ({rule.expression})",
            )
    if field.doc:
        yield Text(field.doc, field.doc)


def _presence(field: Field) -> Iterator[Text]:
    if field.required:
        yield Text("每条记录必填", "required in every record")
    elif field.required_when:
        yield Text(f"满足条件时必填：{field.required_when}", f"required when {field.required_when}")
    else:
        yield Text("可以为空", "may be empty")


def _shape(catalog: Catalog, field: Field) -> Iterator[Text]:
    kind = field.type
    if kind.max_chars is not None:
        yield Text(f"不超过 {kind.max_chars} 个字符", f"at most {kind.max_chars} characters")
    if kind.physical is Physical.DECIMAL:
        yield Text(
            f"共 {kind.precision} 位，其中小数 {kind.scale} 位",
            f"{kind.precision} digits, {kind.scale} of them decimals",
        )
    if kind.pattern is not None:
        yield Text(f"格式须符合 {kind.pattern}", f"must match {kind.pattern}")
    if kind.check is not None:
        yield _CHECKS[kind.check]
    if kind.table is not None:
        table = catalog.tables[kind.table]
        codes = list(table.values.items())
        value_list = ", ".join(
            code if code == label else f"{code} {label}" for code, label in codes[:_SHOWN_CODES]
        ) + (", …" if len(codes) > _SHOWN_CODES else "")
        edition = f" {table.edition}" if table.edition else ""
        yield Text(
            f"取值见代码表 {table.title}{edition}：{value_list}",
            f"one of {table.name}{edition}: {value_list}",
        )
