"""The documentation is complete and true: settings, types, commands, connectors, links."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any, get_args

import polars as pl
import pytest
from pydantic import BaseModel

from exchange import __version__
from exchange.catalog import changes
from exchange.catalog.frames import Conditions
from exchange.catalog.loader import loads
from exchange.catalog.masking import mask_field
from exchange.catalog.model import Sensitivity
from exchange.catalog.types import TYPES, parse_type
from exchange.cli.assembly import command_tree
from exchange.connect import find, installed
from exchange.settings import Settings, load
from exchange.validate.claimed_keys import ClaimedKeys
from exchange.validate.validator import compile_resource
from tests.support.pages import DOCS, ROOT, blocks, code, rows, section

PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *ROOT.glob("examples/**/*.md")])


# --- settings ---------------------------------------------------------------------------


def models(
    model: type[BaseModel], name: str = "Top level"
) -> Iterator[tuple[str, type[BaseModel]]]:
    """Walk the sections of the settings file; seal and delegations of the receiver come again."""
    yield name, model
    for key, field in model.model_fields.items():
        for kind in _within(field.annotation):
            under = key if name == "Top level" else f"{name}.{key}"
            if under not in {"receiver.seal", "receiver.clients.delegations"}:
                yield from models(kind, under)


def _within(annotation: Any) -> set[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return {kind for inner in get_args(annotation) for kind in _within(inner)}


SECTIONS = dict(models(Settings))


@pytest.mark.parametrize("name", SECTIONS)
def test_every_setting_is_documented_with_its_default(name: str) -> None:
    documented = {
        code(cells[0])[0]: code(cells[2]) or cells[2]
        for cells in rows(section((DOCS / "settings.md").read_text(), name))
    }
    real = {field.alias or key: field for key, field in SECTIONS[name].model_fields.items()}
    assert list(documented) == list(real)
    for key, field in real.items():
        assert documented[key] == _default(field.get_default(call_default_factory=True), field), key


def _default(value: Any, field: Any) -> str | list[str]:
    """Write a default as the page does."""
    match value:
        case _ if field.is_required():
            return "required"
        case BaseModel():
            return "see below"
        case None | () | {}:
            return "none"
        case timedelta():
            return [f"{int(value.total_seconds()) // 60}m"]
    return [str(value).lower() if isinstance(value, bool) else str(value)]


def test_the_example_of_the_settings_page_is_a_settings_file(tmp_path: Path) -> None:
    path = tmp_path / "exchange.yaml"
    (text,) = blocks(DOCS / "settings.md", "yaml")
    path.write_text(text)
    settings = load(path)
    assert set(settings.sources) == {"companies", "inbox"}
    for source in settings.sources.values():
        find(source.connector).open(source.options, lambda reference: reference, base=tmp_path)


# --- catalog ----------------------------------------------------------------------------

CATALOG = (DOCS / "catalog.md").read_text()
TYPE_ROWS = rows(section(CATALOG, "Business types"))


def test_every_business_type_is_documented() -> None:
    assert [parse_type(code(cells[0])[0]).name for cells in TYPE_ROWS] == list(TYPES)


@pytest.mark.parametrize("cells", TYPE_ROWS, ids=lambda cells: code(cells[0])[0])
def test_a_type_accepts_and_refuses_what_the_page_says(cells: list[str]) -> None:
    spec, accepts, refuses = code(cells[0])[0], code(cells[2]), code(cells[3])
    catalog = loads(
        'version: "1"\n'
        "area: {code: 232700, name: 大兴安岭地区}\n"
        "departments: {data: {code: 11232700MB1C531139, name: 局}}\n"
        "tables: {sex: {title: 性别, values: {1: 男, 2: 女}}}\n"
        "resources:\n"
        "  one:\n"
        "    {code: 307001/1, title: 一, department: data, share: 1, cycle: daily, key: [id],\n"
        f'     fields: {{id: 编号 text(9)!, value: "值 {spec}"}}}}\n'
    )
    values = accepts + refuses
    if not refuses:
        assert cells[3] == "longer text"
        values.append("字" * (parse_type(spec).max_chars or 0) + "字")
    frame = pl.DataFrame({"id": [str(n) for n in range(len(values))], "value": values})
    validator = compile_resource(catalog.resources["one"], catalog.tables)
    checked = validator.check(frame, today=date(2026, 11, 23), claimed=ClaimedKeys())
    assert [values[place] for place in checked.accepted_rows] == accepts

    field = catalog.resources["one"].field("value")
    level = TYPES[field.type.name].sensitivity
    seen = mask_field(field, accepts[0])
    assert code(cells[4]) == [str(field.type.physical)]
    assert cells[5] == (str(level) if level is not None else "–")
    assert cells[6] == ("as it is" if seen == accepts[0] else f"`{seen}`")
    assert level is None or seen != accepts[0]


REST = """\
    code: 307001/2
    title: 例
    department: data
    share: 1
    cycle: daily
    key: [seller_name]
"""
"""What stands for ``# ...`` in the page's example of a group."""


def test_the_examples_of_the_catalog_page_are_catalogs() -> None:
    whole, rules, groups = blocks(DOCS / "catalog.md", "yaml")
    resource = loads(whole).resources["companies"]
    assert "\n".join(whole.splitlines()[8:]) in (ROOT / "README.md").read_text()
    rule = rules.splitlines()[1].split(": ", 1)[1].split(" | ")
    assert len(rule) == 3
    example = groups.replace("    # ...\n", REST)
    fields = loads(whole.split("resources:")[0] + example).resources["example"].fields
    assert [f.name for f in fields] == ["seller_name", "seller_code", "buyer_name", "buyer_code"]
    assert fields[3].required_when == "buyer_name LIKE '%公司%'"
    assert fields[0].sensitivity == Sensitivity.S2
    # What the page says a condition may be.
    conditions = Conditions(resource.fields)
    for condition in (
        "founded BETWEEN DATE '2026-01-01' AND today OR NOT status IN ('1', '2')",
        "COALESCE(capital, 1) <> 2 AND name IS NOT NULL AND name LIKE '%公司%'",
        "CASE WHEN status = '1' THEN capital > 0 ELSE TRUE END",
        "LENGTH(name) + 1 >= 2 AND STARTS_WITH(uscc, '9') AND name ~ '^[0-9]+$'",
        'TRY_CAST("name" AS INTEGER) > 3',
    ):
        assert conditions.names(condition)


def test_every_breaking_change_is_documented() -> None:
    facets = [item for key, item in vars(changes).items() if key.endswith("_FACETS")]
    parts = [item for item in vars(changes).values() if isinstance(item, changes._Part)]
    breaking = {f.kind for group in facets for f in group if f.breaks is not changes._never}
    breaking |= {f"{part.kind}_removed" for part in parts if part.removed_breaks}
    breaking |= {"field_added", "rule_added"}  # decided by a function of the part
    table = [
        name for cells in rows(section(CATALOG, "Changing the catalog")) for name in code(cells[0])
    ]
    assert sorted(table) == sorted(breaking)


# --- commands and connectors ------------------------------------------------------------


def commands(group: Any, before: str = "") -> Iterator[str]:
    for name, sub in group.commands.items():
        if hasattr(sub, "commands"):
            yield from commands(sub, f"{before}{name} ")
        else:
            yield before + name


def test_every_command_is_in_the_readme() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    listed = next(line for line in lines if line.startswith("`demo · init"))
    names: set[str] = set()
    for item in listed.strip("`").split(" · "):
        name, _, subs = re.sub(r" \[.*", "", item).partition(" {")
        names |= {f"{name} {sub}" for sub in subs.strip("}").split(",")} if subs else {name}
    assert names == set(commands(command_tree("en")))


def test_every_built_in_connector_is_documented_with_its_settings() -> None:
    page = (DOCS / "connectors.md").read_text()
    for name in installed():
        settings = section(page, name)
        for setting in find(name).spec()["settings"]:
            assert f"`{setting['name']}`" in settings, f"{name}: {setting['name']}"


def test_every_exit_code_is_documented() -> None:
    page = section((DOCS / "operations.md").read_text(), "Exit codes")
    assert [code(cells[0])[0] for cells in rows(page)] == ["0", "1", "2", "3", "4", "5", "6", "64"]


# --- links, numbers, names --------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"https?://|mailto:", target):
            path, _, anchor = target.partition("#")
            there = (page.parent / path).resolve() if path else page
            assert there.exists(), f"{page.name}: {target}"
            assert there.is_relative_to(ROOT), f"{page.name}: {target}"
            assert not anchor or anchor in _anchors(there), f"{page.name}: {target}"


def _anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_names_are_there(page: Path) -> None:
    """Files of the tests and the program, as pages name them in passing."""
    named = re.findall(r"`((?:tests|exchange|connectors|tools|docs)/[\w./-]+)`", page.read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_decisions_are_numbered_without_gaps() -> None:
    pages = sorted((DOCS / "adr").glob("*.md"))
    numbers = [int(page.name[:4]) for page in pages]
    assert numbers == list(range(1, len(pages) + 1))
    for number, page in zip(numbers, pages, strict=True):
        assert page.read_text().startswith(f"# {number}. ")
        assert re.search(r"^Date: \d{4}-\d\d-\d\d · Status: ", page.read_text(), re.MULTILINE)


def test_the_changelog_begins_with_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    newest = re.search(r"^## (\d+\.\d+\.\d+)", text, re.MULTILINE)
    assert newest is not None
    assert newest[1] == __version__


def test_the_first_command_is_near_the_top() -> None:
    for page in ("README.md", "README.zh-CN.md"):
        assert "make demo" in (ROOT / page).read_text().splitlines()[:15]


ABSOLUTE = re.compile(r"(?<![\w./~-])/(?:work|home|Users|root|mnt)/\w")
ADDRESS = re.compile(r"(?:https?|git)(?:://|\+)|--(?:extra-)?index-url|--find-links")
"""Where packages come from is a matter of the machine, never of the requirements."""


def test_no_tracked_file_names_a_machine_or_a_registry() -> None:
    result = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=False, capture_output=True, text=True
    )
    if result.returncode:
        pytest.skip("not a git working tree (an unpacked archive): nothing is tracked")
    items = []
    for name in filter(None, result.stdout.split("\0")):
        path = ROOT / name
        if path != Path(__file__) and path.is_file():
            text = path.read_bytes().decode("utf-8", "replace")
            items += [f"{name}: {hit[0]}" for hit in ABSOLUTE.finditer(text)]
            if name.startswith("requirements/"):
                items += [f"{name}: {hit[0]}" for hit in ADDRESS.finditer(text)]
    assert items == []


def _docstrings(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield ast.get_docstring(node) or ""


def test_the_glossary_has_each_term_once_and_all_that_the_code_defines() -> None:
    page = (DOCS / "glossary.md").read_text()
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| [^|]+ \|$", page, re.MULTILINE)
    terms = [pair for pair in rows if pair != ("term", "Chinese")]
    english = [term for pair in terms for term in pair[0].split(", ")]
    chinese = [term for pair in terms for term in pair[1].split(", ")]
    assert sorted(set(english)) == sorted(english)
    assert sorted(set(chinese)) == sorted(chinese)
    defined = {
        term
        for path in (ROOT / "exchange").rglob("*.py")
        for text in _docstrings(path)
        for term in re.findall(r"\(([\u4e00-\u9fff]{2,12})(?:, [^)]*)?\)", text)
    }
    assert defined <= set(chinese)


def test_modules_that_a_page_names_in_passing_are_there() -> None:
    """Decisions keep the names of their day; all other pages name what there is."""
    modules = {
        path.name
        for folder in ("exchange", "connectors", "tests", "tools")
        for path in (ROOT / folder).rglob("*.py")
    }
    for page in PAGES:
        if page.parent.name != "adr":
            names = set(re.findall(r"`(\w+\.py)`", page.read_text()))
            assert names <= modules, page.name
