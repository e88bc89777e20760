"""Compares two catalogs and judges each change: does it break a consumer or a provider.

Registries know that a column got narrower. Government consumers also break when a code is
dropped or means something else, the update cycle slows, sharing is tightened, data is classified
higher, masking changes or the key changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from exchange.catalog.model import (
    BusinessType,
    Catalog,
    CodeTable,
    Department,
    Field,
    Limits,
    Resource,
    Rule,
    UpdateCycle,
)
from exchange.catalog.problems import shorten
from exchange.text import Text

T = TypeVar("T")

_NO_REASON: Final = Text("", "")


@dataclass(frozen=True, slots=True)
class Change:
    """One difference; ``where`` is a path such as ``credit_license.xk_nr`` or ``tables.sex``."""

    kind: str
    where: str
    breaking: bool
    text: Text

    def as_dict(self) -> dict[str, object]:
        """Return the change for JSON."""
        return {
            "kind": self.kind,
            "where": self.where,
            "breaking": self.breaking,
            "text": self.text._asdict(),
        }


@dataclass(frozen=True, slots=True)
class _Facet(Generic[T]):
    """One property that is compared; ``breaks`` judges old and new, ``why`` tells who suffers."""

    kind: str
    title: Text
    get: Callable[[T], Any]
    breaks: Callable[[Any, Any], bool]
    why: Text = _NO_REASON


@dataclass(frozen=True, slots=True)
class _Part(Generic[T]):
    """Named parts that come and go: resources, fields, rules, codes."""

    kind: str
    title: Text
    added_breaks: Callable[[T], bool]
    removed_breaks: bool
    added_why: Text = _NO_REASON
    removed_why: Text = _NO_REASON


def _never(_old: object, _new: object) -> bool:
    return False


def _always(_old: object, _new: object) -> bool:
    return True


def _raised(old: Any, new: Any) -> bool:
    return bool(new > old)


def _lowered(old: Any, new: Any) -> bool:
    return bool(new < old)


def _slower(old: UpdateCycle, new: UpdateCycle) -> bool:
    cycles = tuple(UpdateCycle)
    return cycles.index(new) > cycles.index(old)


def _more(old: tuple[object, ...], new: tuple[object, ...]) -> bool:
    return not set(new) <= set(old)


def _narrower(old: BusinessType, new: BusinessType) -> bool:
    """Tell whether a value of the old type may be refused, or read otherwise, by the new one."""
    same = ("physical", "precision", "scale", "table")
    shorter = new.max_chars is not None and (old.max_chars is None or new.max_chars < old.max_chars)
    return (
        any(getattr(old, name) != getattr(new, name) for name in same)
        or shorter
        or new.pattern not in {None, old.pattern}
        or new.check not in {None, old.check}
    )


_REFUSED: Final = Text("原来合格的记录可能被拒收", "records that passed may be refused")
_CONSUMERS: Final = Text("使用方按原约定读取会出错", "consumers read by the old contract")

_DEPARTMENT_FACETS: Final[tuple[_Facet[Department], ...]] = (
    _Facet("department_name", Text("部门名称", "department name"), lambda d: d.name, _never),
    _Facet(
        "department_code",
        Text("部门代码", "department code"),
        lambda d: d.code,
        _always,
        Text("印章和批次以此代码为主体", "seals and batches are made out to it"),
    ),
)
_TABLE_FACETS: Final[tuple[_Facet[CodeTable], ...]] = (
    _Facet("table_title", Text("代码表名称", "table title"), lambda t: t.title, _never),
    _Facet(
        "table_edition",
        Text("代码表版本", "code table edition"),
        lambda t: t.edition,
        _always,
        Text("代码的含义随版本变化", "codes change their meaning with the edition"),
    ),
)
_LABEL_FACETS: Final[tuple[_Facet[str], ...]] = (
    _Facet(
        "code_meaning",
        Text("代码含义", "meaning of the code"),
        str,
        _always,
        Text("同一代码含义不同", "one code, two meanings"),
    ),
)
_FIELD_FACETS: Final[tuple[_Facet[Field], ...]] = (
    _Facet("field_title", Text("中文名", "title"), lambda f: f.title, _never),
    _Facet("field_doc", Text("说明", "note"), lambda f: f.doc, _never),
    _Facet("type", Text("类型", "type"), lambda f: f.type, _narrower, _REFUSED),
    _Facet(
        "required",
        Text("是否必填", "required"),
        lambda f: f.required,
        _always,
        Text("提供方可能没有值，或使用方遇到空值", "providers lack it, or consumers meet nulls"),
    ),
    _Facet(
        "required_when",
        Text("必填条件", "required when"),
        lambda f: f.required_when or "",
        _always,
        Text("提供方可能没有值，或使用方遇到空值", "providers lack it, or consumers meet nulls"),
    ),
    _Facet(
        "sensitivity",
        Text("分级", "sensitivity"),
        lambda f: f.sensitivity,
        _raised,
        Text("已有授权可能不再覆盖", "grants may no longer cover it"),
    ),
    _Facet(
        "masking",
        Text("脱敏规则", "masking"),
        lambda f: f.type.mask or "",
        _always,
        Text("使用方看到的值会改变", "consumers see other values"),
    ),
)
_RULE_FACETS: Final[tuple[_Facet[Rule], ...]] = (
    _Facet("rule_condition", Text("条件", "condition"), lambda r: r.expression, _always, _REFUSED),
    _Facet("rule_message", Text("说明", "message"), lambda r: r.message.zh, _never),
    _Facet("rule_message_en", Text("英文说明", "English message"), lambda r: r.message.en, _never),
)
_RESOURCE_FACETS: Final[tuple[_Facet[Resource], ...]] = (
    _Facet(
        "resource_code", Text("资源代码", "resource code"), lambda r: r.code, _always, _CONSUMERS
    ),
    _Facet("resource_title", Text("资源名称", "title"), lambda r: r.title, _never),
    _Facet("abstract", Text("摘要", "abstract"), lambda r: r.abstract, _never),
    _Facet(
        "department",
        Text("提供部门", "department"),
        lambda r: r.department.id,
        _always,
        Text("批次由另一部门的印章签发", "batches carry another department's seal"),
    ),
    _Facet(
        "key",
        Text("主键", "key"),
        lambda r: r.key,
        _always,
        Text("使用方按主键更新会出错", "consumers update by the old key"),
    ),
    _Facet("unique", Text("唯一性", "unique"), lambda r: r.unique, _more, _REFUSED),
    _Facet("version", Text("版本号", "version"), lambda r: r.version, _lowered),
    _Facet(
        "share_type",
        Text("共享类型", "share type"),
        lambda r: int(r.share_type),
        _raised,
        Text("已有使用方可能失去权限", "consumers may lose access"),
    ),
    _Facet(
        "share_condition",
        Text("共享条件", "share condition"),
        lambda r: r.share_condition,
        lambda _old, new: bool(new),
        Text("已有使用方须满足新条件", "consumers must meet new terms"),
    ),
    _Facet(
        "update_cycle",
        Text("更新周期", "update cycle"),
        lambda r: r.update_cycle,
        _slower,
        Text("使用方得到的数据变旧", "consumers get older data"),
    ),
    _Facet("limits", Text("隔离上限", "limits"), lambda r: r.limits, _never),
    _Facet("columns", Text("列对应", "columns"), lambda r: dict(r.columns), _never),
)

_DEPARTMENT: Final[_Part[Department]] = _Part(
    "department", Text("部门", "department"), lambda _: False, removed_breaks=False
)
_TABLE: Final[_Part[CodeTable]] = _Part(
    "table", Text("代码表", "code table"), lambda _: False, removed_breaks=False
)
_CODE: Final[_Part[str]] = _Part(
    "code", Text("代码", "code"), lambda _: False, removed_breaks=True, removed_why=_REFUSED
)
_FIELD: Final[_Part[Field]] = _Part(
    "field",
    Text("字段", "field"),
    lambda field: field.required,
    removed_breaks=True,
    added_why=Text("必填，提供方可能没有", "required, and providers may lack it"),
    removed_why=_CONSUMERS,
)
_RULE: Final[_Part[Rule]] = _Part(
    "rule", Text("规则", "rule"), lambda _: True, removed_breaks=False, added_why=_REFUSED
)
_RESOURCE: Final[_Part[Resource]] = _Part(
    "resource",
    Text("资源", "resource"),
    lambda _: False,
    removed_breaks=True,
    removed_why=_CONSUMERS,
)


_CATALOG_FACETS: Final[tuple[_Facet[Catalog], ...]] = (
    _Facet("catalog_version", Text("目录版本", "catalog version"), lambda c: c.version, _never),
    _Facet(
        "area",
        Text("行政区划", "area"),
        lambda c: (c.area.code, c.area.name),
        _always,
        Text("级联来源改变", "the cascade's source changes"),
    ),
)


def changes(old: Catalog, new: Catalog) -> Iterator[Change]:
    """Yield every difference between two catalogs; none when their digests are equal."""
    yield from _facets(_CATALOG_FACETS, "catalog", old, new)
    yield from _parts(_DEPARTMENT, "departments.", old.departments, new.departments, _department)
    yield from _parts(_TABLE, "tables.", old.tables, new.tables, _table)
    yield from _parts(_RESOURCE, "", old.resources, new.resources, _resource)


def _department(where: str, old: Department, new: Department) -> Iterator[Change]:
    return _facets(_DEPARTMENT_FACETS, where, old, new)


def _table(where: str, old: CodeTable, new: CodeTable) -> Iterator[Change]:
    yield from _facets(_TABLE_FACETS, where, old, new)
    yield from _parts(_CODE, f"{where}.", old.values, new.values, _label)


def _label(where: str, old: str, new: str) -> Iterator[Change]:
    return _facets(_LABEL_FACETS, where, old, new)


def _resource(where: str, old: Resource, new: Resource) -> Iterator[Change]:
    yield from _facets(_RESOURCE_FACETS, where, old, new)
    before, after = ({f.name: f for f in resource.fields} for resource in (old, new))
    yield from _parts(_FIELD, f"{where}.", before, after, _field)
    yield from _order("field_order", _FIELD.title, where, before, after)
    rules_before, rules_after = ({r.id: r for r in resource.rules} for resource in (old, new))
    yield from _parts(_RULE, f"{where}.rules.", rules_before, rules_after, _rule)
    yield from _order("rule_order", _RULE.title, where, rules_before, rules_after)


def _field(where: str, old: Field, new: Field) -> Iterator[Change]:
    return _facets(_FIELD_FACETS, where, old, new)


def _rule(where: str, old: Rule, new: Rule) -> Iterator[Change]:
    return _facets(_RULE_FACETS, where, old, new)


def _parts(
    part: _Part[T],
    path: str,
    old: Mapping[str, T],
    new: Mapping[str, T],
    compare: Callable[[str, T, T], Iterator[Change]],
) -> Iterator[Change]:
    """Compare parts by name: gone, come, or changed inside."""
    for name in dict.fromkeys((*old, *new)):
        where = f"{path}{name}"
        if name not in new:
            breaking = part.removed_breaks
            text = Text(f"删除{part.title.zh} {name}", f"{part.title.en} {name} removed")
            why = part.removed_why if breaking else _NO_REASON
            yield Change(f"{part.kind}_removed", where, breaking, _because(text, why))
        elif name not in old:
            breaking = part.added_breaks(new[name])
            text = Text(f"新增{part.title.zh} {name}", f"{part.title.en} {name} added")
            why = part.added_why if breaking else _NO_REASON
            yield Change(f"{part.kind}_added", where, breaking, _because(text, why))
        else:
            yield from compare(where, old[name], new[name])


def _facets(facets: Iterable[_Facet[T]], where: str, old: T, new: T) -> Iterator[Change]:
    """Compare two values property by property."""
    for facet in facets:
        before, after = facet.get(old), facet.get(new)
        if before == after:
            continue
        breaking = facet.breaks(before, after)
        text = _difference(facet.title, before, after)
        why = facet.why if breaking else _NO_REASON
        yield Change(facet.kind, where, breaking, _because(text, why))


def _order(
    kind: str, title: Text, where: str, old: Mapping[str, T], new: Mapping[str, T]
) -> Iterator[Change]:
    """Compare the order of the parts that stayed."""
    if [name for name in old if name in new] != [name for name in new if name in old]:
        yield Change(
            kind,
            where,
            breaking=False,
            text=Text(f"{title.zh}顺序改变", f"{title.en}s in another order"),
        )


def _because(text: Text, why: Text) -> Text:
    return Text(f"{text.zh}：{why.zh}", f"{text.en}: {why.en}") if why.zh else text


def _difference(title: Text, before: object, after: object) -> Text:
    """Say what is another: of a mapping only the entries that differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        same = {key for key in before if after.get(key) == before[key]}
        before = {key: value for key, value in before.items() if key not in same}
        after = {key: value for key, value in after.items() if key not in same}
    old, new = _display(before), _display(after)
    return Text(
        f"{title.zh}由“{shorten(old.zh)}”改为“{shorten(new.zh)}”",
        f"{title.en}: '{shorten(old.en)}' becomes '{shorten(new.en)}'",
    )


def _display(value: object) -> Text:  # noqa: PLR0911 - one line for each kind of value
    match value:
        case BusinessType():
            return Text(value.spec, value.spec)
        case tuple():
            items = [_display(item) for item in value]
            return Text("；".join(item.zh for item in items), "; ".join(i.en for i in items))
        case dict():
            pairs = ", ".join(f"{key} → {name}" for key, name in value.items())
            return Text(pairs, pairs)
        case Limits():
            numbers = value.model_dump(exclude_none=True)
            text = ", ".join(f"{key} {number}" for key, number in numbers.items())
            return Text(text, text)
        case bool():
            return Text("是", "yes") if value else Text("否", "no")
        case None:
            return Text("", "")
        case _:
            return Text(str(value), str(value))
