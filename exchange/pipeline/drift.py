"""What is told when the columns of a source change (结构漂移): one vanishes, or one appears."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from exchange.connect import Note
from exchange.errors import Misconfigured
from exchange.text import Text


def appeared_note(column: str) -> Note:
    """Note a column that has appeared."""
    return Note(0, "column", f"a column {column} has appeared: the catalog does not name it")


def vanished_refusal(source: str, absent: Mapping[str, str]) -> Misconfigured:
    """Stop a source at columns that the catalog names and that are gone, by column."""
    columns = ", ".join(absent)
    return Misconfigured(
        Text(
            f"数据源 {source} 缺少目录登记的列：{columns}",
            f"the source {source} lacks columns that the catalog names: {columns}",
        ),
        hint=Text(
            "请修改来源或目录的 columns；若该列确已取消，在该数据源写 drift: warn",
            "mend the source or `columns` of the catalog; where the column is gone for good, "
            "set `drift: warn` for this source",
        ),
    )


def appeared_refusal(source: str, new: Sequence[str]) -> Misconfigured:
    """Stop a source at columns that have appeared."""
    columns = ", ".join(new)
    return Misconfigured(
        Text(
            f"数据源 {source} 出现目录没有登记的新列：{columns}",
            f"the source {source} has new columns that the catalog does not name: {columns}",
        ),
        hint=Text(
            f"在目录中登记该列，或用 exchange source accept {source} 接受",
            f"name them in the catalog, or accept them: `exchange source accept {source}`",
        ),
    )
