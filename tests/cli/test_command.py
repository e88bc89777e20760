"""The command itself: what it loads, how it answers a wrong line, what it lacks, completion."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from exchange import __version__
from exchange.cli.assembly import _MODULES
from exchange.foreign import EXTRAS
from tests.cli.conftest import Run

ROOT = Path(__file__).parents[2]

LOADED = """
import json, os, sys
from exchange.cli.main import main
sys.stdout = sys.stderr
code = main(sys.argv[1:], os.environ)
print(json.dumps([code, sorted(sys.modules)]), file=sys.__stdout__)
"""
"""Run a command; answer with its exit code and what was loaded."""

LACKING = """
import os, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == sys.argv[1]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from exchange.cli.main import main
sys.exit(main(sys.argv[2:], os.environ))
"""
"""Run a command on a machine that lacks a package."""


def python(code: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT), "EXCHANGE_LANG": "en", **environ},
    )


def loaded(*arguments: str) -> set[str]:
    """Run a command in a new interpreter; return the modules that it loaded."""
    result = python(LOADED, *arguments)
    code, modules = json.loads(result.stdout)
    assert code == 0, result.stderr
    return set(modules)


@pytest.mark.parametrize("line", ["version", "--version", "version --lang en"])
def test_version_loads_the_entry_and_what_hashes(line: str) -> None:
    modules = loaded(*line.split())
    names = {name for name in modules if name.partition(".")[0] == "exchange"}
    assert {name for name in names if not name.startswith("exchange.seal")} == {
        *("exchange", "exchange.cli", "exchange.cli.main", "exchange.errors", "exchange.text"),
    }
    assert {name for name in names if name.startswith("exchange.seal.")} == {
        f"exchange.seal.crypto{name}" for name in ("", ".hash_kernel", ".hash_python", ".suites")
    }
    assert modules.isdisjoint({"typer", "argparse"})


@pytest.mark.usefixtures("folder")
def test_a_command_loads_its_own_module_alone() -> None:
    names = {f"exchange.cli.{name}" for name in _MODULES.values()}
    assert loaded("catalog", "check") & names == {"exchange.cli.assembly", "exchange.cli.catalog"}


@pytest.mark.usefixtures("delivered")
def test_status_loads_no_columns_and_no_connections() -> None:
    heavy = {"polars", "numpy", "pyarrow", "requests", "fastapi", "cryptography", "fastavro"}
    assert loaded("status", "--json").isdisjoint(heavy | {"rich"})


@pytest.mark.usefixtures("folder")
def test_a_preview_loads_what_reads_and_masks() -> None:
    heavy = {"pyarrow", "requests", "fastapi", "cryptography", "fastavro", "kafka", "alembic"}
    assert loaded("connector", "preview", "companies", "--json").isdisjoint(heavy | {"rich"})


def test_every_command_has_its_module_and_its_help_in_both_languages(run: Run) -> None:
    for name, module in _MODULES.items():
        assert import_module(f"exchange.cli.{module}").app
        values = {lang: run(name, "--help", lang=lang) for lang in ("zh", "en")}
        assert [answer.code for answer in values.values()] == [0, 0]
        assert re.search("[一-鿿]", values["zh"].out)
        assert not re.search("[一-鿿]", values["en"].out), name
    assert set(re.findall(r"^  ([a-z]+) ", run("--help").out, re.MULTILINE)) == set(_MODULES)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("statos", "status"),
        ("receiver", "serve"),
        ("receiver server", "serve"),
        ("quarantine show", "ddress"),
        ("run --workers none", "--workers"),
        ("--nonsense", "--nonsense"),
        ("", "Commands:"),
    ],
)
def test_a_line_that_cannot_be_read_is_64(run: Run, line: str, says: str) -> None:
    answer = run(*line.split())
    assert answer.code == 64
    assert says in answer.err + answer.out


def test_the_version_is_answered_twice(run: Run) -> None:
    assert run("--version").out == run("version").out
    assert run("version").out.startswith(f"exchange {__version__}\nhashing in ")


@pytest.mark.parametrize(
    ("package", "line", "extra"),
    [
        ("pydantic", "status", "base"),
        ("sqlalchemy", "cascade list", "node"),
        ("polars", "connector preview companies", "node"),
        ("fastapi", "receiver serve --config province/exchange.yaml", "receiver"),
        ("kafka", "status --config kafka.yaml", "kafka"),
    ],
)
def test_what_is_missing_is_named_with_its_extra(
    folder: Path, package: str, line: str, extra: str
) -> None:
    kafka = "log: {driver: kafka, kafka: {bootstrap: ['127.0.0.1:1']}}\n"
    (folder / "kafka.yaml").write_text((folder / "exchange.yaml").read_text("utf-8") + kafka)
    result = python(LACKING, package, *line.split())
    assert result.returncode == 3, result.stderr
    assert f"gov-exchange[{extra}]" in result.stderr.replace("node,kafka", "kafka")
    assert "only the verifier" not in result.stderr


@pytest.mark.usefixtures("folder")
def test_without_typer_the_verifier_is_there() -> None:
    result = python(LACKING, "typer", "status")
    assert result.returncode == 3
    assert "only the verifier is installed here" in result.stderr
    assert "gov-exchange[node]" in result.stderr


def test_the_extra_of_every_package_is_known() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
        "optional-dependencies"
    ]
    homes: dict[str, set[str]] = {}
    for extra, requirements in extras.items():
        for requirement in requirements:
            name = re.split(r"[\[>=;]", requirement)[0].lower().replace("_", "-")
            homes.setdefault(name, set()).add(extra)
    distributions = packages_distributions()
    assert "typer" not in EXTRAS  # its absence means that the verifier stands alone
    values = {
        name.lower().replace("_", "-"): extra
        for package, extra in EXTRAS.items()
        for name in distributions[package]
    }
    assert set(values) == set(homes) - {"gov-exchange", "typer"}
    for name, extra in values.items():
        assert extra in homes[name], name


@pytest.mark.parametrize(
    ("words", "place", "completed"),
    [
        ("exchange rece", 1, "receiver"),
        ("exchange receiver s", 2, "serve show"),
        ("exchange cascade list --st", 3, "--state"),
    ],
)
def test_a_shell_completes_commands(words: str, place: int, completed: str) -> None:
    values = {"COMP_WORDS": words, "COMP_CWORD": str(place)}
    result = python(
        "from exchange.cli.main import run; run()", _EXCHANGE_COMPLETE="complete_bash", **values
    )
    assert result.stdout.split() == completed.split(), result.stderr


def test_the_environment_is_handed_in_and_left_alone(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    assert run("status", "--json").code == 3
    assert run("--config", folder / "exchange.yaml", "--lang", "zh", "status", "--json").code == 0
    assert {k: v for k, v in os.environ.items() if k.startswith("EXCHANGE")} == {
        k: v for k, v in before.items() if k.startswith("EXCHANGE")
    }


@pytest.mark.parametrize(
    ("line", "chinese"),
    [
        ("init a --port 0", "错误：--port 的值不正确：须不小于 1"),
        ("init a --port x", "错误：--port 的值不正确：应为整数"),
        ("init a b", "错误：多余的参数：b"),
        ("init a --porty 1", "错误：没有选项 --porty；是不是 --port？"),
        ("init", "错误：缺少参数 folder"),
        ("find a", "错误：缺少选项 --key"),
        ("find a --key", "错误：选项 --key 后面要有值"),
        ("status --json=1", "错误：选项 --json 不带值"),
        ("statuss", "错误：没有命令 statuss；是不是 status？"),
        ("run --workers 2 --once", "错误：--workers：不能与 --once 或数据源同用"),
        ("source rewind a", "错误：给出 --to 值，或 --to-beginning"),
        ("verify", "exchange verify：缺少参数：文件"),
        ("verify a --at x", "选项 --at：“x”不是时间，例如 2027-01-01T00:00:00+08:00"),
        ("verify a --delegated x", "选项 --delegated：“x”应为 印章=部门代码"),
        ("verify a --at", "exchange verify：选项 --at 后面要有一个值"),
        ("verify a --unknown", "exchange verify：没有这些选项或参数：--unknown"),
        ("prove a --row x", "exchange prove：选项 --row 应为整数：'x'"),
    ],
)
def test_a_wrong_command_line_is_explained_in_chinese(run: Run, line: str, chinese: str) -> None:
    answer = run(*line.split(), lang="zh")
    assert answer.code == 64
    assert chinese in answer.err
    assert not re.search("Usage|usage|Error|Try|OPTIONS|argument|option:", answer.err)


def test_help_is_in_one_language(run: Run) -> None:
    for command in [[], ["run"], ["source"], ["init"], ["quarantine", "show"], ["verify"]]:
        page = run(*command, "--help", lang="zh").out
        assert page.startswith("用法：exchange")
        assert not re.search("Usage|Options|Arguments|Commands|Show|default|required|<int", page)
