"""What tests of several rooms share: servers started when first asked for, and what was counted.

`make test` runs in one process a core (pytest-xdist). Tests that share what they made stay
together: those of a file, and all that share brokers. What takes longest is begun first, so that
the rest fills the time beside it.
"""

from __future__ import annotations

import os
from collections import Counter
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from exchange.devtools.servers.kafka import brokers
from exchange.errors import Misconfigured
from tests.support import selection, servers
from tests.support.selection import (
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_ignore_collect,
    pytest_report_header,
)
from tests.support.soak import EXAMPLES, SOAK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from exchange.devtools.servers.kafka import Cluster
    from tests.support.security import SecuredBroker

__all__ = [
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_ignore_collect",
    "pytest_report_header",
]
_COUNTED, _ONE_MORE = "counted", "one more"

# The verdict on a change depends on the change alone: `make test` draws the same examples every
# time, `make soak` others each time. How long one takes depends on what else the machine does.
settings.register_profile("here", deadline=None, derandomize=not SOAK, max_examples=EXAMPLES.now)
settings.load_profile("here")


@pytest.fixture(scope="session")
def postgres() -> Iterator[servers.Server]:
    with servers.postgres() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[servers.Server]:
    with servers.mariadb() as server:
        yield server


@pytest.fixture(scope="session")
def kafka_broker() -> Iterator[Cluster]:
    """A broker for everybody; topics have names of their own."""
    with brokers() as cluster:
        yield _begun(cluster)


@pytest.fixture
def empty_broker(kafka_broker: Cluster) -> Cluster:
    """The same broker without topics and groups, for a node that names its own."""
    from tests.support.clusters import empty

    empty(kafka_broker)
    return kafka_broker


@pytest.fixture(scope="session")
def _mortal() -> Iterator[Cluster]:
    quick = {"transaction.abort.timed.out.transaction.cleanup.interval.ms": 200}
    week = {"offsets.retention.minutes": 7 * 24 * 60}
    with brokers(properties=quick | week) as cluster:
        yield _begun(cluster)


@pytest.fixture
def mortal_broker(_mortal: Cluster) -> Iterator[Cluster]:
    """A broker to pause and kill; it runs again afterwards. It forgets positions after a week."""
    yield _mortal
    _mortal.start(0)


@pytest.fixture(scope="session")
def _three() -> Iterator[Cluster]:
    with brokers(3) as cluster:
        yield _begun(cluster)


@pytest.fixture
def three_brokers(_three: Cluster) -> Iterator[Cluster]:
    """Three brokers to kill; they run again afterwards."""
    yield _three
    for number in range(3):
        _three.start(number)


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    """A broker that asks for credentials."""
    from tests.support import security

    with security.guarded(tmp_path_factory.mktemp("guarded")) as broker:
        _begun(broker.cluster)
        yield broker


_clusters: list[Cluster] = []


def _begun(cluster: Cluster) -> Cluster:
    _clusters.append(cluster)
    return cluster


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End brokers with the last test of their scope: one that nobody asks costs 4 % of a core.

    Without xdist a scope is not in one piece, and they stay to the end.
    """
    if nextitem is None or "PYTEST_XDIST_WORKER" not in os.environ:
        return
    if selection.scope_of(item.nodeid) != selection.scope_of(nextitem.nodeid):
        while _clusters:
            with suppress(Misconfigured):  # somebody else's
                _clusters.pop().end()


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Tell what was counted; it stands at the end of the run, whichever process ran the test."""
    return partial(record_property, _COUNTED)


@pytest.fixture
def count(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Count one more of what the text names; the sum stands at the end of the run."""
    return partial(record_property, _ONE_MORE)


class _ByScope(LoadScopeScheduling):  # type: ignore[misc]  # the library has no types
    """Shares scopes out. xdist's own groups set a field that pytest 9.2 no longer has."""

    def _split_scope(self, nodeid: str) -> str:
        return selection.scope_of(nodeid)

    def _assign_work_unit(self, node: Any) -> None:
        for scope in reversed(selection.FIRST):
            if scope in self.workqueue:
                self.workqueue.move_to_end(scope, last=False)
        super()._assign_work_unit(node)


@pytest.hookimpl(optionalhook=True)  # there is none with -p no:xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _ByScope:
    return _ByScope(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    properties = [
        item
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        if report.when == "call"
        for item in report.user_properties
    ]
    sums = Counter(what for key, what in properties if key == _ONE_MORE)
    items = [str(text) for key, text in properties if key == _COUNTED]
    items += [f"{what}: {number:,}" for what, number in sums.items()]
    if items:
        terminalreporter.section("what was counted")
        terminalreporter.write_line("\n".join(items))
