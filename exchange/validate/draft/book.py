"""Write a draft as a spreadsheet, for the department that knows what its columns mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import xlsxwriter
from xlsxwriter.exceptions import XlsxWriterException

from exchange.durable import replacing, sync_folder
from exchange.errors import Rejected
from exchange.text import Text
from exchange.validate.draft.proposal import Draft
from exchange.validate.draft.text import evidence, refusal_text
from exchange.validate.refused_records import visible

_HEADS: Final = (
    ("来源列", "column", 24),
    ("字段名", "field", 20),
    ("中文名", "title", 24),
    ("来源类型", "source type", 16),
    ("建议类型", "type", 18),
    ("符合比例", "share that fits", 10),
    ("有值", "values", 10),
    ("必填", "required", 8),
    ("主键", "key", 8),
    ("分级", "level", 8),
    ("依据", "stands on", 36),
)
_YES: Final = Text("是", "yes")

_Cells = Iterator[Sequence[str]]


def write(draft: Draft, path: Path, lang: str) -> None:
    """Write the sheets fields, code tables, refusals and first rows; every cell is text.

    Raises :class:`Rejected` when the file cannot be written.
    """
    sheets = (
        (Text("数据项", "fields"), _fields(draft, lang)),
        (Text("代码表", "codes"), _codes(draft, lang)),
        (Text("会拒收的值", "refusals"), _refusals(draft, lang)),
        (Text("前几行（脱敏）", "first rows, masked"), _first(draft)),
    )
    try:
        with replacing(path) as file, xlsxwriter.Workbook(file) as book:
            bold = book.add_format({"bold": True, "bg_color": "#DCE6F1", "text_wrap": True})
            plain = book.add_format({"num_format": "@", "text_wrap": True, "valign": "top"})
            for name, rows in sheets:
                sheet = book.add_worksheet(name.pick(lang))
                sheet.freeze_panes(1, 0)
                for place, (_, _, width) in enumerate(_HEADS):
                    sheet.set_column(place, place, width)
                for line, cells in enumerate(rows):
                    for place, cell in enumerate(cells):
                        sheet.write_string(line, place, visible(cell), bold if not line else plain)
        sync_folder(path.parent)
    except (XlsxWriterException, OSError) as error:
        raise Rejected(
            Text(f"无法写入 {path.name}", f"{path.name} cannot be written"),
            hint=Text(
                "检查文件夹是否可写、磁盘空间，并关闭已打开的文件",
                "check that the folder is writable, the disk not full, and the file not open",
            ),
        ) from error


def _fields(draft: Draft, lang: str) -> _Cells:
    yield [Text(zh, en).pick(lang) for zh, en, _ in _HEADS]
    for item in draft.columns:
        share = item.guess.share
        yield (
            item.column.name,
            item.field.name,
            item.field.title,
            item.source_type,
            item.field.type.spec,
            "" if share is None else f"{int(share * 1000) / 10:g}%",
            str(item.filled),
            _YES.pick(lang) if item.field.required else "",
            _YES.pick(lang) if item.field.name in draft.resource.key else "",
            item.field.sensitivity.value,
            evidence(item, lang),
        )


def _codes(draft: Draft, lang: str) -> _Cells:
    heads = (Text("代码表", "table"), Text("代码", "code"), Text("含义", "label"))
    yield [head.pick(lang) for head in heads]
    for name, table in draft.tables.items():
        for code, label in table.values.items():
            yield name, code, label


def _refusals(draft: Draft, lang: str) -> _Cells:
    heads = (Text("规则", "rule"), Text("字段", "field"), Text("条数", "rows"), Text("说明", "why"))
    yield [head.pick(lang) for head in heads]
    for refusal in draft.refusals:
        yield refusal.rule, refusal.field, str(refusal.count), refusal_text(refusal, lang)


def _first(draft: Draft) -> _Cells:
    yield [item.column.name for item in draft.columns]
    for row in draft.first:
        yield list(row.values())
