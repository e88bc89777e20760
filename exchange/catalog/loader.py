"""Loads catalog.yaml: strict, every problem at once with file, line and suggestion (D7)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from exchange.catalog.problems import FileErrors, Problem, Problems
from exchange.catalog.sections import SectionNodes
from exchange.catalog.tree import MAX_BYTES, Scalar, YamlNode, parse
from exchange.durable import read_file
from exchange.foreign import os_reason
from exchange.text import Text

if TYPE_CHECKING:
    from exchange.catalog.model import Catalog

__all__ = ["FileErrors", "Problem", "load", "loads", "resource_names"]

MAX_FILES: Final = 1000


def load(path: Path) -> Catalog:
    """Read a catalog and what it includes; raises :class:`FileErrors` with every problem."""
    problems = Problems()
    return _finish(*_gather(path, problems), problems)


def check_entries(path: Path) -> None:
    """Check a catalog for who only looks: everything but its conditions, which cost a second.

    Raises :class:`FileErrors` as :func:`load` does.
    """
    problems = Problems()
    source, complete = _gather(path, problems)
    _finish(source, complete, problems, conditions=False)


def resource_names(path: Path) -> list[str]:
    """Name the resources without checking them: quick, for who reads no record.

    Raises :class:`FileErrors` for files that cannot be read.
    """
    problems = Problems()
    source, complete = _gather(path, problems)
    if not complete:
        raise FileErrors(problems.subject, problems.items)
    return list(source.sections["resources"])


def loads(text: str, file: str = "catalog.yaml") -> Catalog:
    """Read a catalog from one text, without includes; raises :class:`FileErrors`."""
    problems = Problems()
    source = SectionNodes(problems)
    node = parse(text, file, problems)
    if node is not None:
        source.main(node)
    for item in source.includes:
        problems.add(
            item,
            Text("文本目录不能引用其他文件", "a catalog given as text includes no files"),
            Text("从文件读取目录", "load it from a file"),
        )
    return _finish(source, node is not None, problems)


def _gather(path: Path, problems: Problems) -> tuple[SectionNodes, bool]:
    """Gather a catalog's files, and tell whether all could be read."""
    source = SectionNodes(problems)
    node = _tree(path, problems)
    complete = node is not None
    if node is not None:
        source.main(node)
        for file in _included(source.includes, path, problems):
            included = _tree(file, problems)
            if included is None:
                complete = False
            else:
                source.add(included)
    return source, complete


def _finish(
    source: SectionNodes,
    complete: bool,  # noqa: FBT001
    problems: Problems,
    *,
    conditions: bool = True,
) -> Catalog:
    """Build what was gathered, unless a file is missing from it: half would mislead."""
    if not complete:
        raise FileErrors(problems.subject, problems.items)
    from exchange.catalog.build import Builder

    catalog = Builder(source, problems, conditions=conditions).catalog()
    problems.check()
    return catalog


def _tree(path: Path, problems: Problems) -> YamlNode | None:
    place = Scalar(str(path), 0, "")
    data = b""
    try:
        data = read_file(path, MAX_BYTES)
        text = data.decode("utf-8-sig")
    except OSError as error:
        problems.add(
            place,
            Text(
                f"无法读取文件：{os_reason(error).zh}",
                f"cannot read the file: {os_reason(error).en}",
            ),
            Text("检查路径和权限", "check path and permissions"),
        )
    except UnicodeDecodeError as error:
        problems.add(
            Scalar(str(path), data.count(b"\n", 0, error.start) + 1, ""),
            Text("文件不是 UTF-8 编码" + _gbk(data).zh, "the file is not UTF-8" + _gbk(data).en),
            Text("在编辑器中另存为 UTF-8", "save it as UTF-8"),
        )
    else:
        return parse(text, str(path), problems)
    return None


def _gbk(data: bytes) -> Text:
    """Say whether a file that is not UTF-8 can be read as GBK."""
    try:
        data.decode("gb18030")
    except UnicodeDecodeError:
        return Text("", "")
    return Text("，看来是 GBK", ", it seems to be GBK")


def _included(includes: list[Scalar], main: Path, problems: Problems) -> list[Path]:
    """Return the files that relative patterns name inside the catalog's folder, by name."""
    folder = main.parent.resolve()
    paths: dict[Path, None] = {}
    for item in includes:
        pattern = Path(item.text)
        outside = pattern.is_absolute() or ".." in pattern.parts or not pattern.parts
        files = [] if outside else sorted(main.parent.glob(item.text))[:MAX_FILES]
        if outside or any(not file.resolve().is_relative_to(folder) for file in files):
            problems.add(
                item,
                Text(
                    f"include 越出目录所在文件夹：{item.text}", f"outside the folder: {item.text}"
                ),
                Text(
                    "只能引用同一文件夹内的相对路径",
                    "include relative paths inside the folder only",
                ),
            )
        elif not files:
            problems.add(
                item,
                Text(f"include 没有匹配的文件：{item.text}", f"no file matches {item.text}"),
                Text("检查路径，或删除这一项", "check the path, or remove it"),
            )
        else:
            paths.update(dict.fromkeys(f for f in files if f.resolve() != main.resolve()))
    return list(paths)
