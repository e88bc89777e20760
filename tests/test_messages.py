"""Every message of the product: Chinese in Chinese, English in English, nothing of others bare."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from exchange.catalog.resources import _OPTIONAL, _REQUIRED
from exchange.catalog.sections import _SECTIONS
from exchange.cli.assembly import command_tree
from exchange.cli.verify import parsers

ROOT = Path(__file__).parents[1]
PAIRS: Final = {"Text", "t", "inform", "bilingual", "notify", "_notify", "wrong"}
"""Calls whose two first arguments are a Chinese and an English sentence."""
HAN: Final = re.compile("[\u3400-\u9fff，。；：、！？（）《》]")
OWN: Final = re.compile(
    r"\{\}(?: (?:status|quarantine list|verify|prove))*|\{[a-z_]+\}"  # a value; our command
    r"|“[^”]*”|`[^`]*`|'[^']*'|\"[^\"]*\""  # a word of the user's, quoted
    r"|--?[a-z][a-z-]*(?:[ =](?:env|file|zh)[a-z|:]*)?"  # an option
    r"|exchange(?: [a-z-]+)+"  # a command line
    r"|[A-Za-z0-9{}_-]+(?:[./_:=|+-][A-Za-z0-9{}_*.|<>+-]+)+:?"  # a path, a setting, a file name
    r"|\.[a-z]+\b|\$\w+|[A-Z][A-Z0-9]*[0-9][A-Z0-9]*"
    r"|[a-z_]+:(?![a-z])"  # a key with its colon, as it is written
)
"""What is the same in both languages: the user's own words, and what is typed as it stands."""
QUOTED: Final = re.compile("'[^']*'|\"[^\"]*\"|\\{[^}]*\\}")
NAMES: Final = frozenset((ROOT / "tests" / "untranslated.txt").read_text(encoding="utf-8").split())
"""Names of products, formats and standards; commands and values that a person types."""


class Pair(NamedTuple):
    """One message as it stands in the source, values as ``{}``."""

    place: str
    zh: str
    en: str


def literal(node: ast.expr) -> str | None:
    match node:
        case ast.Constant(value=str(value)):
            return value
        case ast.JoinedStr(values=values):
            return "".join(v.value if isinstance(v, ast.Constant) else "{}" for v in values)  # type: ignore[misc]
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return (literal(left) or "{}") + (literal(right) or "{}")
    return None


@cache
def trees() -> list[tuple[str, ast.Module]]:
    paths = [path for top in ("exchange", "connectors") for path in (ROOT / top).rglob("*.py")]
    return [
        (str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8")))
        for path in sorted(paths)
    ]


@cache
def pairs() -> list[Pair]:
    return [pair for name, tree in trees() for pair in _pairs(name, tree)]


def _pairs(name: str, tree: ast.Module) -> Iterator[Pair]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=call), args=[first, second, *_]):
                known = call in PAIRS
            case ast.Call(func=ast.Attribute(attr=call), args=[first, second, *_]):
                known = call in PAIRS
            case ast.Tuple(elts=[first, second]):
                known = HAN.search(literal(first) or "") is not None
            case _:
                continue
        zh, en = literal(first), literal(second)
        if known and zh is not None and en is not None:
            yield Pair(f"{name}:{node.lineno}", zh, en)


@cache
def keys() -> frozenset[str]:
    """Name the keys of the settings, of the connectors' settings, and of the catalog."""
    names: set[str] = set()
    for name, tree in trees():
        for node in ast.walk(tree):
            if name.startswith("exchange/settings/") and isinstance(node, ast.AnnAssign):
                names.add(ast.unparse(node.target))
            elif name.startswith("connectors/") and isinstance(node, ast.arg):
                names.add(node.arg)
            elif name.startswith("exchange/seal/crypto/pkcs11") and isinstance(node, ast.Constant):
                names.add(str(node.value))
    catalog = (*_REQUIRED, *_OPTIONAL, *_SECTIONS, "include", "use", "area", "version", "values")
    return frozenset({*names, *catalog})


def _foreign_words(zh: str) -> set[str]:
    """Return the English words of a Chinese sentence that nothing excuses."""
    words = re.findall(r"[A-Za-z][A-Za-z0-9-]*", OWN.sub(" ", zh))
    return {word for word in words if len(word) > 1} - NAMES - keys()


def test_there_are_messages() -> None:
    assert len(pairs()) > 1000


def test_no_chinese_sentence_has_english_words() -> None:
    wrong = [
        (pair.place, sorted(_foreign_words(pair.zh)))
        for pair in pairs()
        if pair.zh != pair.en and _foreign_words(pair.zh)
    ]
    assert wrong == []


def test_no_english_sentence_has_chinese_characters() -> None:
    wrong = [pair[:3:2] for pair in pairs() if HAN.search(QUOTED.sub("", pair.en))]
    assert wrong == []


def test_what_is_the_same_in_both_languages_is_no_sentence() -> None:
    """It is a name, a setting or a command line."""
    same = [pair for pair in pairs() if pair.zh == pair.en and not HAN.search(pair.zh)]
    assert [pair[:2] for pair in same if _foreign_words(pair.zh)] == []


def test_what_others_say_is_translated_or_quoted() -> None:
    """A Chinese sentence holds no text of an exception but behind 原文."""
    assert [place for name, tree in trees() for place in _bare_errors(name, tree)] == []


def _bare_errors(name: str, tree: ast.Module) -> Iterator[str]:
    errors = {node.name for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.JoinedStr):
            continue
        before = ""
        for value in node.values:
            if isinstance(value, ast.Constant):
                before += str(value.value)
            elif isinstance(value, ast.FormattedValue):
                expression = ast.unparse(value.value)
                bare = expression in errors or re.fullmatch(r"str\((\w+)\)", expression)
                told = bare or expression.endswith((".strerror", ".verify_message"))
                if told and HAN.search(before) and not before.endswith("原文："):
                    yield f"{name}:{node.lineno} {before}"


COMMAND: Final = re.compile(
    r"exchange((?: [a-z][a-z-]*)+)((?: (?:--?[a-z][a-z-]*|[^ `；;，。、,]+))*)"
)


def test_commands_in_messages_and_chinese_pages_exist_with_their_options() -> None:
    """Who reads a hint types it."""
    tree = command_tree("en")
    texts = [(pair.place, text) for pair in pairs() for text in pair[1:]]
    pages = sorted((ROOT / "docs").glob("*.zh-CN.md"))
    texts += [(page.name, page.read_text("utf-8")) for page in pages]
    found = [(place, *match) for place, text in texts for match in COMMAND.findall(text)]
    assert len(found) > 150
    assert [item for item in found if _unknown(tree, *item[1:])] == []


def _unknown(tree: Any, words: str, rest: str) -> set[str]:
    """Return what of a command line does not exist."""
    command, names = tree, words.split()
    for name in names:
        inner = getattr(command, "commands", {})
        if command is tree and name not in inner:
            return {name}
        if name not in inner:
            break
        command = inner[name]
    options = {option for item in command.params for option in item.opts}
    if names[0] in {"verify", "prove"}:
        options = set(parsers("en")[names[0]]._option_string_actions)
    return set(re.findall(r"(?<= )--[a-z][a-z-]*", rest)) - options - {"--config", "--lang"}


def test_the_page_of_errors_is_as_the_source() -> None:
    """Written again by ``python -m tests.messages_page``."""
    from tests.messages_page import PAGE, found, page

    assert len(found()) > 300
    assert PAGE.read_text("utf-8") == page()
