"""The page of all errors, docs/messages.md: ``python -m tests.messages_page`` writes it again."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from exchange import errors
from tests.test_messages import ROOT, literal, trees

PAGE: Final = ROOT / "docs" / "messages.md"
HEAD: Final = """\
# Errors

Every error that a command can end with: cause, what to do next, and exit code. `…` is a value.
Made from the source by `python -m tests.messages_page`; a test compares.

命令可能报出的全部错误：原因、下一步、退出码；`…` 是具体的值。

| exit | | |
|---|---|---|
| 1 | refused | 被拒 |
| 3 | the settings, the catalog or a source need an edit | 需修改配置、目录或来源 |
| 4 | try again later | 稍后再试 |
| 5 | rights are missing | 没有权限 |
| 6 | a seal, receipt or log contradicts itself | 印章、回执或日志自相矛盾 |
| 64 | the command line cannot be read | 命令行有误 |
"""


class Error(NamedTuple):
    """One error: where it is made, its exit code, and its sentences."""

    room: str
    code: int
    zh: str
    hint_zh: str
    en: str
    hint_en: str


def _codes() -> dict[str, int]:
    """Return the exit code of every class of errors, the product's own subclasses included."""
    known = {
        name: kind.exit_code
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.ExchangeError)
    }
    classes = [
        (node.name, [base.id for base in node.bases if isinstance(base, ast.Name)])
        for _, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    ]
    for _ in range(3):  # a subclass may stand before its base
        for name, bases in classes:
            for base in bases:
                if base in known:
                    known.setdefault(name, known[base])
    return known


def found() -> list[Error]:
    """List the errors whose sentences stand where they are made."""
    codes = _codes()
    listed = {
        error
        for name, tree in trees()
        if not name.startswith("exchange/devtools/")
        for error in _errors(Path(name).parts, tree, codes)
    }
    return sorted(listed)


def _errors(parts: tuple[str, ...], tree: ast.Module, codes: dict[str, int]) -> Iterator[Error]:
    room = parts[1].removesuffix(".py") if parts[0] == "exchange" else f"connectors/{parts[1]}"
    texts = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name), args=[what, *_], keywords=words):
                hint = next((word.value for word in words if word.arg == "hint"), None)
            case ast.Call(func=ast.Attribute(attr="add"), args=[_, what, hint]):
                name = "Misconfigured"  # a problem of the catalog or the settings
            case _:
                continue
        if name in codes and hint is not None:
            (zh, en), (hint_zh, hint_en) = _sentences(what, texts), _sentences(hint, texts)
            if zh:
                yield Error(room, codes[name], zh, hint_zh, en, hint_en)


def _sentences(node: ast.expr, texts: dict[str, ast.expr]) -> tuple[str, str]:
    """Return both sentences of a ``Text(zh, en)``; empty for what is put together elsewhere."""
    match node:
        case ast.Call(func=ast.Name(id="Text"), args=[first, second]):
            zh, en = ((literal(item) or "{}").replace("{}", "…") for item in (first, second))
            return zh, en
        case ast.BoolOp(values=[*_, last]):  # a hint that suits the value, or this one
            return _sentences(last, texts)
        case ast.Name(id=name) if name in texts:
            return _sentences(texts[name], {})
    return "", ""


def page() -> str:
    """Write the page: a table for each room."""
    lines = [HEAD]
    rows = found()
    for room in sorted({row.room for row in rows}):
        lines += [f"## {room}", "", "| exit | 原因 → 下一步 | cause → next |", "|---|---|---|"]
        for row in rows:
            if row.room == room:
                zh = " → ".join(filter(None, (row.zh, row.hint_zh)))
                en = " → ".join(filter(None, (row.en, row.hint_en)))
                lines.append(f"| {row.code} | {_cell(zh)} | {_cell(en)} |")
        lines.append("")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
