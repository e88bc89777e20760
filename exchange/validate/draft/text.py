"""Write a draft as the catalog's YAML: the resource and its code tables, nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from exchange.catalog.model import Field
from exchange.text import Text
from exchange.validate.draft.proposal import ColumnDraft, Draft, ExpectedRefusal

_PLAIN: Final = re.compile(r"\w[\w（）()、，·/.%!,-]*(?: [\w（）()、，·/.%!,-]+)*")
"""Texts that mean themselves in YAML; a comma only where no brackets are around it."""
_KEY: Final = {
    "source": Text("来源的主键或唯一约束", "primary key or unique constraint of the source"),
    "unique": Text(
        "样本中取值唯一，请确认", "its values are unique in these rows: confirm that they stay so"
    ),
    "none": Text(
        "样本中没有取值唯一的列，请自行确定主键",
        "no column has unique values in these rows: choose the key yourself",
    ),
}


def catalog_text(draft: Draft, lang: str) -> str:
    """Return the YAML with comments in one language; ``catalog check`` takes it in a catalog."""
    return "\n".join(_lines(draft, lang)) + "\n"


def _lines(draft: Draft, lang: str) -> Iterator[str]:
    resource = draft.resource
    if draft.tables:
        yield "tables:"
        for name, table in draft.tables.items():
            yield f"  {name}:  # {_CODES.pick(lang)}"
            yield f"    title: {quoted(table.title)}"
            yield "    values:"
            for code, label in table.values.items():
                yield f"      {double_quoted(code)}: {quoted(label)}"
    yield "resources:"
    yield f"  {resource.name}:"
    yield f"    code: {quoted(resource.code)}  # {_CODE.pick(lang)}"
    yield f"    title: {quoted(resource.title)}"
    yield f"    department: {resource.department.id}"
    yield f"    share: 2  # {_SHARE.pick(lang)}"
    yield f"    condition: {quoted(_CONDITION.pick(lang))}"
    yield f"    cycle: irregular  # {_CYCLE.pick(lang)}"
    yield f"    key: [{', '.join(resource.key)}]  # {_KEY[draft.key_from].pick(lang)}"
    yield "    fields:"
    for item in draft.columns:
        text = quoted(field_text(item.field))
        yield f"      - {item.field.name}: {text}  # {evidence(item, lang)}"
    if resource.columns:
        yield "    columns:"
        for column, name in resource.columns.items():
            yield f"      {quoted(column)}: {name}"
    for refusal in draft.refusals:
        yield f"    # {_one_line(refusal_text(refusal, lang))}"


_CODES: Final = Text(
    "取自样本：请补全代码并写明含义", "from these rows: add the codes that are missing, and labels"
)
_CODE: Final = Text("暂定，请改为编定的资源代码", "provisional: write the assigned code")
_SHARE: Final = Text(
    "1 无条件、2 有条件、3 不予共享", "1 unconditional, 2 conditional, 3 not shared"
)
_CONDITION: Final = Text("待部门确定", "to be decided by the department")
_CYCLE: Final = Text("请改为实际更新周期", "write the real update cycle")


def field_text(field: Field) -> str:
    """Write a field as the catalog has it."""
    return f"{field.title} {field.type.spec}{'!' if field.required else ''}"


def evidence(item: ColumnDraft, lang: str) -> str:
    """Say in a few words what the guess stands on."""
    share = item.guess.share
    if share is None:
        words = Text("没有值，按标题和类型猜测", "no values: guessed by title and type")
    else:
        # Rounded down: 100 % means all of them.
        percent = int(share * 1000) / 10
        words = Text(
            f"{item.filled} 个值，符合 {percent:g}%", f"{percent:g}% of {item.filled} values fit"
        )
    kind = f"{item.source_type}; " if item.source_type else ""
    return _one_line(f"{kind}{words.pick(lang)}")


def refusal_text(refusal: ExpectedRefusal, lang: str) -> str:
    """Say what would be refused, how often, and an example."""
    example = f"（{refusal.example}）" if refusal.example else ""
    zh = f"会拒收 {refusal.count} 条：{refusal.text.zh}{example}"
    en = f"would refuse {refusal.count}: {refusal.text.en}"
    return zh if lang == "zh" else en + (f" ({refusal.example})" if refusal.example else "")


def quoted(text: str) -> str:
    """Write a text as YAML: plain where that is safe, else in double quotes."""
    if _PLAIN.fullmatch(text) and text.isprintable():
        return text
    return double_quoted(text)


def double_quoted(text: str) -> str:
    """Write a text in double quotes; what cannot be printed is escaped (YAML 1.1 §5.6)."""
    return f'"{"".join(_escaped(character) for character in text)}"'


def _escaped(character: str) -> str:
    if character in {'"', "\\"}:
        return f"\\{character}"
    return character if character.isprintable() else f"\\U{ord(character):08x}"


def _one_line(text: str) -> str:
    """Make a comment of a text: no line ends, nothing that cannot be printed."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
