"""Which tests need a server, and the order of a run: hooks that tests/conftest.py takes over."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from random import Random, SystemRandom
from typing import Final

import pytest

from tests.support.soak import PLANTED

HEAVY: Final = frozenset({"chaos", "cli", "devtools", "log", "pipeline", "publish", "receiver"})
"""Folders whose tests start processes: `make check` leaves them out."""
BROKERS: Final = frozenset(
    {"kafka_broker", "empty_broker", "mortal_broker", "three_brokers", "guarded"}
)
SERVERS: Final = frozenset({"postgres", "mariadb"}) | BROKERS
"""Fixtures that start a server; what starts one without them has the marker ``server``."""
_TESTS: Final = Path(__file__).parents[1]
_OPTION: Final = "random_order_seed"


def folder_of(path: str) -> str:
    """Return the first folder under tests/ of a path there, or the file's own name."""
    return Path(path).parts[1]


KAFKA: Final = frozenset(
    {
        "tests/audit/test_valid.py",
        "tests/cli/test_cluster.py",
        "tests/pipeline/test_retention.py",
    }
)
"""Files that share brokers, beside the folder publish and all named ``test_kafka…``."""
MORTAL: Final = frozenset(
    {
        "tests/connect/test_kafka_outage.py",
        "tests/devtools/test_broker.py",
        "tests/log/test_kafka_failover.py",
        "tests/log/test_kafka_faults.py",
    }
)
"""Files that share the brokers which tests kill."""
FIRST: Final = (
    *("kafka", "tests/pipeline/test_kill.py", "mortal", "tests/chaos/test_chaos.py"),
    *("tests/pipeline/test_faults.py", "tests/devtools/test_bench.py"),
    *("tests/pipeline/test_settlement.py", "tests/evidence/test_faults.py"),
    *("tests/test_readme.py", "tests/test_real_input.py", "tests/seal/test_tamper.py"),
)
"""What is begun first, for it takes longest: the rest fills the other processes' time."""


def scope_of(node: str) -> str:
    """Return what a test is run with, in one process: all that share brokers, or its file."""
    file, _, _ = node.partition("::")
    if file in MORTAL:
        return "mortal"
    if folder_of(file) == "publish" or file in KAFKA or "kafka" in Path(file).name:
        return "kafka"
    return file


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--random-order-seed",
        metavar="NUMBER|new",
        help="shuffle files, and the tests of each; `new` draws a number and prints it",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption(_OPTION) == "new":  # before workers are started: all get the same
        setattr(config.option, _OPTION, str(SystemRandom().randrange(10**6)))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import what would not be run: heavy folders, what `make soak` runs alone."""
    if collection_path == _TESTS / "chaos" / "test_planted.py" and not PLANTED.now:
        return True
    heavy = collection_path.name in HEAVY and collection_path.parent == _TESTS
    return True if heavy and config.getoption("markexpr") == "not server" else None


def pytest_report_header(config: pytest.Config) -> list[str]:
    seed = config.getoption(_OPTION)
    return [f"order: --random-order-seed={seed}"] if seed else []


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if BROKERS & set(fixtures) and scope_of(item.nodeid) not in ("kafka", "mortal"):
            # Brokers end with their scope.
            raise pytest.UsageError(f"{item.nodeid} asks a broker: name its file in KAFKA")
        if folder_of(item.nodeid) in HEAVY or SERVERS & set(fixtures):
            item.add_marker(pytest.mark.server)
    seed = config.getoption(_OPTION)
    if seed:
        items[:] = shuffled(items, Random(seed))  # noqa: S311 - to be repeated


def shuffled(items: list[pytest.Item], random: Random) -> list[pytest.Item]:
    """Shuffle files and the tests of each; a file's tests share what they made."""
    files: dict[Path, list[pytest.Item]] = defaultdict(list)
    for item in items:
        files[item.path].append(item)
    groups = list(files.values())
    random.shuffle(groups)
    for group in groups:
        random.shuffle(group)
    return [item for group in groups for item in group]
