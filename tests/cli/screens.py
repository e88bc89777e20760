"""What a person sees: the commands of a first hour, on a narrow and on a wide screen.

``python -m tests.cli.screens`` writes docs/screens again; the test compares. What is another with
every run (times, serials, digests, ports, versions) is replaced by a fixed text of the same width.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from exchange.cli.demo import show_results, summary
from exchange.cli.main import main
from exchange.cli.output import Output
from exchange.devtools.demo.demonstration import DemoResult, run_demo
from tests.cli.conftest import company, serving, write_companies

FOLDER: Final = Path(__file__).parents[2] / "docs" / "screens"
VARIANTS: Final = [(lang, width) for lang in ("zh", "en") for width in (80, 140)]
SCALE: Final = 0.01
SEED: Final = 2026
SOURCES: Final = """
  companies:
    resource: companies
    connector: sql
    with: {url: "sqlite:///companies.db", table: companies}
"""
CHANGING: Final[Sequence[tuple[str, str]]] = (
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "2026-12-01 08:00:00"),
    (r"203\d-\d\d-\d\d", "2031-11-29"),
    (r"R\d{8}-[0-9a-f]{16}", "R20261201-0123456789abcdef"),
    (r"\b20\d{6}(\d{5})\b", r"20261201\1"),
    (r"127\.0\.0\.1:\d{5}", "127.0.0.1:38470"),
    (r"(?m)^(✓ (?:运行环境|python) .*?Python) .*$", r"\1 …"),
    (r"(?m)^(. (?:密码库|两级时钟|磁盘|杂凑|上级平台) +).*$", r"\1…"),
    (r"(?m)^(. (?:crypto|clocks|disk|hashing|upstream) +).*$", r"\1…"),
)


def commands(batch: str) -> list[str]:
    """List the commands of the walk; ``batch`` is empty before there is one."""
    if not batch:
        return ["catalog check", "catalog plan", "catalog apply", "doctor", "run --once"]
    file = f"evidence/companies-{batch}"
    return [
        "status",
        "quarantine list",
        "quarantine show companies/0/0",
        "source notes companies",
        "cascade list",
        "receiver list --config province/exchange.yaml",
        "seal list",
        f"cascade export companies {batch} --to evidence",
        f"verify {file}.avro",
        f"verify {file}.receipt.json",
    ]


class Screen:
    """A terminal of some width, in some language."""

    def __init__(self, lang: str, width: int) -> None:
        self.environ = {
            **{key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ},
            "EXCHANGE_LANG": lang,
            "COLUMNS": str(width),
        }
        self.lines: list[str] = []

    def run(self, command: str) -> str:
        """Run a command as it is typed; keep and return what it shows."""
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
            main(command.split(), self.environ)
        text = shown.getvalue()
        self.lines += [f"$ exchange {command}", text.rstrip(), ""]
        return text


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before, mask = Path.cwd(), os.umask(0o077)
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
        os.umask(mask)


def walk(place: Path, lang: str, width: int) -> str:
    """Make a node, run it, and look at everything."""
    screen = Screen(lang, width)
    with _inside(place):
        screen.run("init mynode")
        node = place / "mynode"
        settings = (node / "exchange.yaml").read_text("utf-8").partition("sources:")[0]
        (node / "exchange.yaml").write_text(settings + "sources:" + SOURCES, "utf-8")
        catalog = (node / "catalog.yaml").read_text("utf-8")
        capital = ', capital: "注册资本(万元) decimal(16,6)"'
        (node / "catalog.yaml").write_text(catalog.replace(capital, ""), "utf-8")
        bad = [company(6, status="9"), company(7, uscc="91232700X")]
        write_companies(node, [*(company(number) for number in range(1, 6)), *bad])
    with _inside(node), serving(node):
        for command in commands(""):
            screen.run(command)
        listed = screen.run("cascade list")
        del screen.lines[-3:]
        found = re.search(r"\b\d{13}\b", listed)
        assert found is not None, listed
        for command in commands(found[0]):
            screen.run(command)
    return steady("\n".join(screen.lines))


def demo(result: DemoResult, lang: str, width: int) -> str:
    """Show the end of a demo."""
    folder = Path("demo")
    moved = replace(
        result,
        seconds=5.2,
        node=folder / "node",
        files=[folder / "evidence" / path.name for path in result.files],
    )
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        output = Output(lang, width=width)
        show_results(output, moved)
        output.answer(None, summary(output, moved, "exchange"))
    return steady(f"$ exchange demo --folder demo --scale {SCALE}\n{shown.getvalue()}")


def make_demo(place: Path) -> DemoResult:
    """Run the demo once, for all screens."""
    return run_demo(place / "demo", scale=SCALE, seed=SEED, progress=lambda _what, _rows: None)


def steady(text: str) -> str:
    """Replace what is another with every run."""
    for pattern, fixed in CHANGING:
        text = re.sub(pattern, fixed, text)
    return "\n".join(line.rstrip() for line in text.split("\n"))


def path_of(lang: str, width: int) -> Path:
    return FOLDER / f"{lang}-{width}.txt"


def write_all() -> None:
    """Write the pages of all screens."""
    with tempfile.TemporaryDirectory() as name:
        result = make_demo(Path(name))
        for lang, width in VARIANTS:
            place = Path(name) / f"{lang}{width}"
            place.mkdir()
            text = f"{demo(result, lang, width)}\n{walk(place, lang, width)}"
            path_of(lang, width).write_text(text, "utf-8")


if __name__ == "__main__":
    write_all()
