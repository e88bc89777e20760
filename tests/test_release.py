"""What production installs is pinned, is what was tested, and states its licences. Costs 8 s."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.support.pages import ROOT
from tools import release


def blocks(name: str) -> dict[str, set[str]]:
    """Return each pinned requirement with its hashes."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text("utf-8")
    parts = re.split(r"(?m)^(?=[a-z0-9])", text)
    return {
        part.split()[0]: set(re.findall(r"sha256:[0-9a-f]{64}", part)) for part in parts if part
    }


@pytest.mark.parametrize("lock", release.LOCKS)
def test_production_installs_what_was_tested(lock: str) -> None:
    tested, pinned = blocks("dev"), blocks(lock)
    assert {name: hashes for name, hashes in pinned.items() if tested.get(name) != hashes} == {}


def test_every_extra_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = {"verifier": project["dependencies"], **project["optional-dependencies"]}
    assert set(extras) == {*release.LOCKS, "base"}
    for extra, requirements in extras.items():
        named = {re.match(r"[A-Za-z0-9.-]+", item)[0] for item in requirements}  # type: ignore[index]
        missing = {name.lower().replace(".", "-") for name in named} - {"gov-exchange"}
        for lock in ("node", "receiver") if extra == "base" else (extra,):
            assert missing <= set(release.pinned(lock)), f"{extra} in {lock}.txt"


def test_every_licence_is_stated() -> None:
    lines = release.licences().splitlines()[2:]
    assert len(lines) > 30
    assert [line for line in lines if "not stated" in line] == []


@pytest.mark.parametrize("platform", release.platforms()[:2])  # aarch64: `make release`
def test_two_builds_of_one_commit_are_the_same(tmp_path: Path, platform: str) -> None:
    built = release.reproducible_wheel(tmp_path, platform)
    assert built.stat().st_size > 100_000
    assert built.stem.endswith("py3-none-any" if platform == "off" else f"py3-none-{platform}")
