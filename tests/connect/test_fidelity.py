"""Value in = value out of the sealed file, for every kind of source; beside other tools.

One record of many nasty values stands in a CSV file, a workbook, SQLite, PostgreSQL, MariaDB and
a web service. A node pulls and seals each; the sealed file is read again. docs/fidelity.md is
made by this test (EXCHANGE_WRITE=1). What other tools make of the same sources is measured where
EXCHANGE_PEERS names a Python that has them (tools/fidelity_peers.py), and is kept otherwise.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastavro
import pytest

from exchange.log import sealed_topic
from exchange.run.runner import Runner
from tests.connect import fidelity
from tests.connect.fidelity import NAMES, VALUES
from tests.pipeline.place import Place, entries, source
from tests.support.pages import rows, section
from tests.support.web_service import serving

if TYPE_CHECKING:
    from tests.support.servers import Server

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "fidelity.md"
SOURCES = ("csv", "xlsx", "sqlite", "postgres", "mariadb", "rest")
HEAD = (
    "# What becomes of a value\n\n"
    "Made by `tests/connect/test_fidelity.py`: one record of {count} values that readers like to "
    "change, in six kinds of sources. *ours* is the value in the sealed file, read again with "
    "another library; the other columns are what other tools read from the same source with their "
    "defaults (`tools/fidelity_peers.py`). ✓: value in = value out, whatever its type; else what "
    "came out; –: the tool does not read this kind of source. · 同一条记录放入六种来源："
    "本系统封签后的值，与其他工具按默认设置读到的值。\n\n"
    "A text must stay the same text; numbers, dates and instants must stay equal (an instant "
    "without an offset is +08:00).\n\n"
)


@pytest.fixture(scope="module")
def addresses(
    postgres: Server, mariadb: Server, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Write the record everywhere; return where, as other programs say it."""
    folder = tmp_path_factory.mktemp("fidelity")
    (folder / "csv").mkdir()
    (folder / "xlsx").mkdir()
    fidelity.write_csv(folder / "csv" / "a.csv", "csv")
    fidelity.write_xlsx(folder / "xlsx" / "a.xlsx", "xlsx")
    fidelity.write_sqlite(folder / "a.db", "sqlite")
    fidelity.write_postgres(postgres.url, "postgres")
    fidelity.write_mariadb(mariadb.url, "mariadb")
    return {
        "csv": str(folder / "csv" / "a.csv"),
        "xlsx": str(folder / "xlsx" / "a.xlsx"),
        "sqlite": str(folder / "a.db"),
        "postgres": postgres.url,
        "mariadb": mariadb.url,
    }


def sealed(addresses: dict[str, str], folder: Path) -> dict[str, dict[str, Any]]:
    """Return the records out of the sealed files, by source."""
    files = {name: Path(addresses[name]).parent for name in ("csv", "xlsx")}
    options = {
        "csv": ("files", f'folder: "{files["csv"]}", settle: 0'),
        "xlsx": ("files", f'folder: "{files["xlsx"]}", settle: 0'),
        "sqlite": ("sql", f'url: "sqlite:///{addresses["sqlite"]}", table: fidelity'),
        "postgres": ("sql", "url: env:FIDELITY_POSTGRES, table: fidelity"),
        "mariadb": ("sql", "url: env:FIDELITY_MARIADB, table: fidelity"),
        "rest": ("rest", f'url: "{addresses["rest"]}"'),
    }
    text = "".join(
        source(connector, "fidelity", settings, name=name)
        for name, (connector, settings) in options.items()
    )
    place = Place.make(folder / "node", fidelity.CATALOG, text)
    environ = {
        **os.environ,
        "FIDELITY_POSTGRES": addresses["postgres"],
        "FIDELITY_MARIADB": addresses["mariadb"],
    }
    with place.node(environ=environ) as node:
        outcome = Runner(node, stages=("pull", "seal")).once()
        assert not outcome.errors
        assert outcome.quarantined == 0
        found = [
            record
            for entry in entries(node.log, sealed_topic("fidelity"))
            for record in fastavro.reader(io.BytesIO(entry.value))
        ]
    return {record["no"]: record for record in found}  # type: ignore[index, call-overload, misc]


def shown(value: Any) -> str:
    """Return a value as a cell of a table."""
    text = str(value).replace("\n", "⏎").replace("|", "\\|")
    return f"`{text}`" if text else "(empty)"


def judged(kind: str, text: str, value: Any) -> str:
    if fidelity.same(kind, text, value):
        return "✓"
    another = kind == "text" and value is not None and not isinstance(value, str)
    return f"{shown(value)} ({type(value).__name__})" if another else shown(value)


def peers(addresses: dict[str, str]) -> dict[str, dict[str, dict[str, Any]]]:
    """Have other tools read the same sources; what each made of them, by source and field."""
    script = ROOT / "tools" / "fidelity_peers.py"
    done = subprocess.run(
        [os.environ["EXCHANGE_PEERS"], str(script)],
        input=json.dumps(addresses).encode(),
        stdout=subprocess.PIPE,
        check=True,
        timeout=300,
    )
    answer: dict[str, dict[str, dict[str, Any]]] = json.loads(done.stdout)
    return answer


def cells(of: str, tools: dict[str, dict[str, dict[str, Any]]], number: int) -> list[str]:
    kind, text = VALUES[number]
    out = []
    for found in tools.values():
        record = found.get(of)
        if record is None:
            out.append("–")
        elif "error" in record:
            out.append("fails")
        else:
            out.append(judged(kind, text, record.get(NAMES[number])))
    return out


def known_peers(page: str) -> tuple[list[str], dict[tuple[str, int], list[str]]]:
    """Read what the page says of other tools."""
    tools: list[str] = []
    known = {}
    for of in SOURCES:
        part = section(page, of)
        (head,) = re.findall(r"^\| kind \| value \| ours \| (.*) \|$", part, re.MULTILINE)
        tools = head.split(" | ")
        for number, row in enumerate(rows(part)):
            known[of, number] = row[3:]
    return tools, known


def test_value_in_is_value_out_of_the_sealed_file(
    addresses: dict[str, str], tmp_path: Path
) -> None:
    assert len(VALUES) >= 40
    with serving(fidelity.web_service("rest")) as service:
        addresses = {**addresses, "rest": service.url}
        ours = sealed(addresses, tmp_path)
        found = peers(addresses) if "EXCHANGE_PEERS" in os.environ else None
    changed = {
        (of, name): ours[of][name]
        for of in SOURCES
        for name, (kind, text) in zip(NAMES, VALUES, strict=True)
        if not fidelity.same(kind, text, ours[of][name])
    }
    assert not changed
    if found is None:
        tools, known = known_peers(PAGE.read_text("utf-8"))
    else:
        tools = list(found)
        known = {
            (of, number): cells(of, found, number)
            for of in SOURCES
            for number in range(len(VALUES))
        }
    page = HEAD.format(count=len(VALUES)) + summary(tools, known)
    for of in SOURCES:
        page += f"\n## {of}\n\n| kind | value | ours | {' | '.join(tools)} |\n"
        page += "|---" * (3 + len(tools)) + "|\n"
        for number, (kind, text) in enumerate(VALUES):
            row = [kind, shown(text), "✓", *known[of, number]]
            page += f"| {' | '.join(row)} |\n"
    if os.environ.get("EXCHANGE_WRITE") == "1":
        PAGE.write_text(page, "utf-8")
    assert PAGE.read_text("utf-8") == page


def summary(tools: list[str], known: dict[tuple[str, int], list[str]]) -> str:
    """Count the values that came through, by source and tool."""
    out = f"| source | ours | {' | '.join(tools)} |\n" + "|---" * (2 + len(tools)) + "|\n"
    for of in SOURCES:
        count = len(VALUES)
        row = [f"{of}", f"{count} of {count}"]
        for place in range(len(tools)):
            column = [known[of, number][place] for number in range(count)]
            same = column.count("✓")
            row.append(column[0] if column[0] in {"–", "fails"} else f"{same} of {count}")
        out += f"| {' | '.join(row)} |\n"
    return out
