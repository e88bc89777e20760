"""Reads ``exchange.yaml``: every mistake at once, each with its file and line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from exchange.catalog.problems import FileErrors, Problem, Problems
from exchange.catalog.tree import MAX_BYTES, Items, Pairs, YamlNode, parse
from exchange.durable import read_file
from exchange.errors import Misconfigured
from exchange.foreign import setting_reason
from exchange.settings.sections import Settings
from exchange.text import Text, suggest

FILE_NAME = "exchange.yaml"
SUBJECT = Text("配置文件", "the settings")


def find(start: Path, environ: Mapping[str, str]) -> Path:
    """Find ``exchange.yaml``: ``$EXCHANGE_CONFIG``, or in ``start`` or a folder above it."""
    if path := environ.get("EXCHANGE_CONFIG"):
        return Path(path)
    for folder in (start, *start.resolve().parents):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
    raise Misconfigured(
        Text(f"在 {start} 及其上级目录中找不到 {FILE_NAME}", f"no {FILE_NAME} here or above"),
        hint=Text(
            "运行 exchange init 新建节点，或用 --config 指定配置文件",
            "run `exchange init` to make a node, or name the file with --config",
        ),
    )


def load(path: Path) -> Settings:
    """Load and check ``exchange.yaml``; raises FileErrors with file, line and suggestion."""
    problems = Problems(SUBJECT)
    try:
        text = read_file(path, MAX_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(
            Text(f"读不到配置文件 {path}", f"cannot read the settings file {path}"),
            hint=Text("请检查路径与 UTF-8 编码", "check the path, and that it is UTF-8"),
        ) from error
    tree = parse(text, str(path), problems)
    problems.check()
    plain = _plain(tree, problems)
    problems.check()
    try:
        settings = Settings.model_validate(plain)
    except ValidationError as error:
        raise FileErrors(
            SUBJECT, (_problem(str(path), tree, item, Settings) for item in error.errors())
        ) from error
    settings._folder = path.parent  # noqa: SLF001 - known only here, and part of no file
    return settings


def _plain(node: YamlNode | None, problems: Problems) -> Any:
    """Turn the tree into plain values: every scalar stays text, an empty one is None."""
    if isinstance(node, Items):
        return [_plain(item, problems) for item in node.nodes]
    if isinstance(node, Pairs):
        plain: dict[str, Any] = {}
        for key, value in node.pairs:
            if key.text in plain:
                what = Text(f"重复的键“{key.text}”", f"duplicate key '{key.text}'")
                problems.add(key, what, Text("请删除其中一个", "remove one of them"))
            plain[key.text] = _plain(value, problems)
        return plain
    return node.text or None if node is not None else None


def _line(node: YamlNode | None, where: Sequence[str | int]) -> int:
    """Return the line of the deepest part of ``where`` that stands in the file."""
    line = node.line if node is not None else 1
    for part in where:
        if isinstance(node, Pairs):
            pair = next((pair for pair in node.pairs if pair[0].text == part), None)
            if pair is None:
                break
            line, node = pair[0].line, pair[1]
        elif isinstance(node, Items) and isinstance(part, int) and part < len(node.nodes):
            node = node.nodes[part]
            line = node.line
        else:
            break
    return line


def _problem(
    file: str, tree: YamlNode | None, item: Mapping[str, Any], model: type[BaseModel]
) -> Problem:
    where = list(item["loc"])
    name = ".".join(str(part) for part in where)
    hint = Text("请对照 docs/settings.md 修改", "see docs/settings.md")
    if item["type"] == "extra_forbidden":
        what = Text(f"未知的配置项 {name}", f"unknown setting {name}")
        hint = suggest(str(where[-1]), _known_keys(model, where[:-1]))
    elif item["type"] == "missing":
        what = Text(f"缺少配置项 {name}", f"missing setting {name}")
    else:
        why = setting_reason(item)
        what = Text(f"配置项 {name} 不正确：{why.zh}", f"setting {name}: {why.en}")
    return Problem(file, _line(tree, where), what, hint)


def _known_keys(model: Any, where: Sequence[str | int]) -> list[str]:
    """List the keys of the model at ``where``."""
    for part in where:
        fields = _fields(model)
        if fields:
            model = fields[str(part)].annotation if str(part) in fields else None
        else:  # a mapping or a tuple: ``part`` is a name or a place in it
            model = next((arg for arg in get_args(model) if _fields(arg)), None)
    return list(_fields(model))


def _fields(model: Any) -> dict[str, FieldInfo]:
    """Return the fields of a model, or of a model that may be left out, by key."""
    for kind in get_args(model) if isinstance(model, UnionType) else (model,):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return {field.alias or name: field for name, field in kind.model_fields.items()}
    return {}
