"""The numbers of a worker: progress is counted, the status is shown, all is documented."""

from __future__ import annotations

import re
import select
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from exchange.cascade.delivery import State
from exchange.errors import ExchangeError, Integrity, Misconfigured, Rejected, Transient
from exchange.run.metrics import COUNTERS, FAMILIES, FRESH_SECONDS, Meter, serving
from exchange.run.outcome import Where
from exchange.run.status import Lag, ResourceStatus
from exchange.text import Text
from tests.support.pages import DOCS, code, rows, section
from tests.support.web import ask

NOON = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)
STALL = 60.0
AWAY = Transient(Text("连不上", "the log is away"), hint=Text("等", "wait"))
BROKEN = Integrity(Text("不符", "it does not verify"), hint=Text("停", "stop"))

COMPANIES = ResourceStatus(
    "companies",
    (
        Lag("seal", "exchange.raw.companies", 0, 7, NOON - timedelta(seconds=90)),
        Lag("seal", "exchange.raw.companies", 1, 0),
        Lag("cascade", "exchange.sealed.companies", 0, 2, NOON + timedelta(seconds=5)),
    ),
    {State.RECEIPTED: 5, State.HALTED: 1},
    quarantine=3,
    halted={1: Text("超限", "over its limits")},
)


@dataclass
class World:
    """A clock that stands, a log that answers or does not, and the meter of a worker."""

    seconds: float = 1000.0
    error: Exception | None = None
    found: list[ResourceStatus] = field(default_factory=lambda: [COMPANIES])

    def __post_init__(self) -> None:
        self.meter = Meter(
            self.read_status,
            driver="embedded",
            worker="w-3",
            clock=lambda: NOON,
            monotonic=lambda: self.seconds,
            stall=STALL,
        )

    def read_status(self) -> list[ResourceStatus]:
        if self.error is not None:
            raise self.error
        return self.found

    def numbers(self) -> dict[tuple[str, ...], float]:
        """Read the page as a monitor does: values by name and labels."""
        text = self.meter.page("")[0].decode()
        return {
            (sample.name, *(sample.labels[label] for label in FAMILIES[family.name].labels)): (
                sample.value
            )
            for family in text_string_to_metric_families(text)
            if family.name in FAMILIES
            for sample in family.samples
        }


@pytest.fixture
def world() -> World:
    return World()


def test_the_progress_of_the_runner_is_counted(world: World) -> None:
    world.meter.progress("pulled", 100)
    world.meter.progress("pulled", 20)
    world.meter.progress("receipts", 1)
    world.meter.progress("accepted", 0)
    world.meter.progress("something new", 5)
    numbers = world.numbers()
    assert numbers["exchange_rows_pulled_total",] == 120
    assert numbers["exchange_receipts_total",] == 1
    assert numbers["exchange_batches_sealed_total",] == 0
    last = "exchange_last_success_timestamp_seconds"
    assert {key[1:]: v for key, v in numbers.items() if key[0] == last} == {
        ("pulled",): NOON.timestamp(),
        ("receipts",): NOON.timestamp(),
    }


def test_every_word_of_the_runner_has_its_counter() -> None:
    modules = (DOCS.parent / "exchange" / "run").glob("*.py")
    text = "".join(path.read_text(encoding="utf-8") for path in modules)
    assert set(re.findall(r'progress\("(\w+)"', text)) == set(COUNTERS)


def test_errors_are_counted_by_stage_and_kind_and_shown_while_they_stand(world: World) -> None:
    world.meter.count_error(Where("pull", "companies"), AWAY)
    world.meter.count_error(Where("pull", "permits"), AWAY)
    world.meter.count_error(Where("store"), AWAY)
    world.meter.count_error(Where("cascade", "companies"), BROKEN)
    errors: dict[Where, ExchangeError] = {
        Where("pull", "companies"): AWAY,
        Where("cascade", "companies"): BROKEN,
    }
    world.meter.show_errors(errors)
    numbers = world.numbers()
    assert numbers["exchange_errors_total", "pull", "Transient"] == 2
    assert numbers["exchange_errors_total", "store", "Transient"] == 1
    assert numbers["exchange_errors_total", "cascade", "Integrity"] == 1
    assert numbers["exchange_failing", "pull", "companies", "Transient"] == 1
    del errors[Where("pull", "companies")]
    world.meter.show_errors(errors)
    assert [key[1:] for key in world.numbers() if key[0] == "exchange_failing"] == [
        ("cascade", "companies", "Integrity")
    ]


def test_the_status_is_shown_and_left_out_while_the_log_is_away(world: World) -> None:
    assert world.numbers()["exchange_up",] == 0
    world.meter.refresh()
    numbers = world.numbers()
    assert numbers["exchange_up",] == 1
    raw, sealed = "exchange.raw.companies", "exchange.sealed.companies"
    assert numbers["exchange_lag_entries", "seal", raw, "0"] == 7
    assert numbers["exchange_lag_seconds", "seal", raw, "0"] == 90
    assert numbers["exchange_lag_entries", "seal", raw, "1"] == 0
    assert numbers["exchange_lag_seconds", "seal", raw, "1"] == 0
    assert numbers["exchange_lag_seconds", "cascade", sealed, "0"] == 0, "clocks differ"
    assert numbers["exchange_halted_partitions", "companies"] == 1
    assert numbers["exchange_deliveries", "companies", "halted"] == 1
    assert numbers["exchange_quarantine_rows", "companies"] == 3
    for error in (AWAY, ZeroDivisionError("a defect")):
        world.error = error
        world.meter.refresh()
        numbers = world.numbers()
        assert numbers["exchange_up",] == 0
        assert not [key for key in numbers if key[0] == "exchange_lag_entries"]


def test_a_worker_is_healthy_while_its_loop_goes_round_and_ready_while_the_log_answers(
    world: World,
) -> None:
    meter = world.meter
    assert meter.health_problem() == ""
    assert meter.readiness_problem() == "starting"
    meter.heartbeat()
    assert meter.readiness_problem() == "log or store do not answer"
    meter.refresh()
    assert meter.readiness_problem() == ""
    world.error = AWAY
    meter.refresh()
    assert (meter.health_problem(), meter.readiness_problem()) == ("", "log or store do not answer")
    world.error = None
    meter.refresh()
    world.seconds += STALL
    assert (meter.health_problem(), meter.readiness_problem()) == ("", "")
    world.seconds += 1
    assert (
        meter.health_problem()
        == meter.readiness_problem()
        == "no heartbeat of the main loop for 61 s"
    )
    meter.heartbeat()
    assert meter.health_problem() == ""
    assert meter.readiness_problem() == ""
    # A reading that hangs says nothing: its last answer is not believed for ever.
    world.seconds += FRESH_SECONDS
    meter.heartbeat()
    assert meter.readiness_problem() == "log or store do not answer"


@contextmanager
def served(world: World) -> Iterator[int]:
    with serving(world.meter, "127.0.0.1", 0, monotonic=lambda: world.seconds, pause=0.01) as port:
        yield port


def test_three_paths_are_served_and_no_other(world: World) -> None:
    with served(world) as port:
        status, kind, text = ask(port, "/metrics")
        assert status == 200
        assert kind.startswith("text/plain; version=")
        assert "# TYPE exchange_rows_pulled_total counter" in text
        assert "process_resident_memory_bytes" in text
        assert ask(port, "/healthz")[::2] == (200, "ok\n")
        assert ask(port, "/readyz")[::2] == (503, "starting\n")
        world.meter.heartbeat()
        wait_for(lambda: ask(port, "/readyz")[::2] == (200, "ok\n"))
        world.seconds += STALL + 1
        assert ask(port, "/healthz")[0] == 503
        assert ask(port, "/")[0] == 404
        assert ask(port, "/metrics/../etc")[0] == 404
        request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", data=b"x")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=10)  # noqa: S310 - our own address
        with refused.value:
            assert refused.value.code == 501
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    assert not [item for item in threading.enumerate() if item.name in {"status", "metrics"}]


def test_clients_that_say_nothing_do_not_keep_the_others_out(world: World) -> None:
    with served(world) as port:
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
        try:
            # Eight are waited for, the others are closed at once; soon there is room again.
            wait_for(lambda: len(select.select(silent, [], [], 0)[0]) >= 12)
            assert len(select.select(silent, [], [], 0)[0]) == 12
            wait_for(lambda: _answers(port))
        finally:
            for item in silent:
                item.close()


def _answers(port: int) -> bool:
    try:
        return ask(port, "/healthz")[0] == 200
    except (OSError, urllib.error.URLError):
        return False


def wait_for(happened: object, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not happened():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def test_a_port_that_is_taken_is_a_matter_of_the_settings(world: World) -> None:
    with (
        served(world) as port,
        pytest.raises(Misconfigured, match=f"127.0.0.1:{port}"),
        serving(World().meter, "127.0.0.1", port, monotonic=time.monotonic),
    ):
        pass


def test_two_workers_of_one_process_share_nothing(world: World) -> None:
    other = World()
    world.meter.progress("pulled", 5)
    assert other.numbers()["exchange_rows_pulled_total",] == 0


def test_every_metric_is_documented_with_its_labels() -> None:
    page = section((DOCS / "operations.md").read_text(encoding="utf-8"), "Metrics")
    documented = {
        code(cells[0])[0]: (cells[1].split(",")[0], tuple(code(cells[2])))
        for cells in rows(page)
        if code(cells[0])[0].startswith("exchange_")
    }
    exported = {
        name + "_total" * (family.kind is CounterMetricFamily): (
            "counter" if family.kind is CounterMetricFamily else "gauge",
            family.labels,
        )
        for name, family in FAMILIES.items()
    }
    assert documented == exported


def test_the_rules_of_the_page_name_metrics_that_there_are(world: World) -> None:
    page = section((DOCS / "operations.md").read_text(encoding="utf-8"), "Metrics")
    names = set(re.findall(r"\bexchange_\w+", page))
    world.meter.refresh()
    known = {name for name, *_ in world.numbers()} | set(FAMILIES)
    assert names <= known | {f"{name}_total" for name in FAMILIES}


def test_an_error_has_the_kinds_that_the_page_names() -> None:
    page = section((DOCS / "operations.md").read_text(encoding="utf-8"), "Metrics")

    def kinds(base: type[ExchangeError]) -> set[str]:
        return {
            subclass.__name__
            for subclass in base.__subclasses__()
            if subclass.__module__ == base.__module__
        }

    for kind in kinds(ExchangeError) | kinds(Rejected):
        assert f"`{kind}`" in page
