"""What docs/evidence.md says is true: its code runs, its lists are complete, its vectors hold."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from exchange.evidence.audit import AUDIT_CHECKS, audit
from exchange.evidence.log import LogReader
from exchange.evidence.package import verify_package
from exchange.seal.crypto.der import from_pem
from exchange.seal.pki.trust import Trust
from tests.evidence.make_vectors import FIRST, FOLDER, SIZE, VECTORS
from tests.evidence.samples import ORIGIN, entry, mth

PAGE = (Path(__file__).parents[2] / "docs/evidence.md").read_text()
LOG = FOLDER / "log"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def anchors(*paths: Path) -> Trust:
    return Trust([from_pem(path.read_bytes())[0] for path in paths])


NODE = anchors(FOLDER / "node.root.pem", VECTORS / "batch/sm2-sm3.root.pem")
PROVINCE = anchors(FOLDER / "province.root.pem")


def test_vectors_hold() -> None:
    items = [(LOG / "checkpoints/100").read_bytes()]
    counts = audit(LOG, trust=NODE, witnesses=PROVINCE, known=items)
    assert counts.ok, counts.failed
    assert (counts.facts["size"], counts.facts["witnessed"]) == (SIZE, SIZE)
    package = verify_package(
        (FOLDER / "record.evidence").read_bytes(), trust=NODE, province=PROVINCE
    )
    assert package.ok, package.failed
    log = LogReader.at(LOG)
    assert [log.entry(n) for n in (0, FIRST - 1)] == [entry(0), entry(FIRST - 1)]


def test_the_roots_of_the_page_are_those_of_the_vectors() -> None:
    rows = re.findall(r"^\| (\d+) \| `([0-9a-f]{64})` \|$", PAGE, re.MULTILINE)
    assert len(rows) == 9
    log = LogReader.at(LOG)
    leaves = [log._tiles.leaf(n) for n in range(SIZE)]
    for size, root in rows:
        assert mth(leaves[: int(size)]).hex() == root, size


@pytest.fixture
def here(tmp_path: Path) -> Path:
    shutil.copytree(LOG, tmp_path / "log")
    shutil.copy(FOLDER / "record.evidence", tmp_path)
    return tmp_path


def run(here: Path, *command: str) -> str:
    return subprocess.run(
        command, cwd=here, check=True, capture_output=True, text=True, timeout=60
    ).stdout


def test_the_recipes_run(here: Path) -> None:
    recompute, take_apart = blocks("python")
    (verify,) = blocks("sh")
    root = LogReader.at(LOG).root.hex()
    assert run(here, sys.executable, "-c", recompute) == f"{ORIGIN} {SIZE} {root}\n"
    assert run(here, sys.executable, "-c", take_apart) == (
        f"statement {FIRST} of {SIZE}\nreceipt {FIRST + 1} of {SIZE}\n"
    )
    answer = run(here, "sh", "-ec", verify)
    assert answer.count("Signature Verified Successfully") == 1


def test_the_recipe_for_the_log_notices_a_change(here: Path) -> None:
    path = here / "log/tile/entries/000"
    path.write_bytes(path.read_bytes().replace(b"permits", b"permitz", 1))
    with pytest.raises(subprocess.CalledProcessError):
        run(here, sys.executable, "-c", blocks("python")[0])


def test_the_audit_lists_the_checks_of_the_page() -> None:
    section = PAGE.split("## 6. Audit")[1].split("##")[0].split("A folder")[0]
    listed = re.findall(r"`([a-z.]+)`", section.split("each naming")[1])
    assert listed == list(AUDIT_CHECKS)
