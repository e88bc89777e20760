"""What a running worker shows a monitor: ``/metrics`` for Prometheus, ``/healthz``, ``/readyz``.

In: the progress of the runner, and the status of log and store every few seconds. Out: text
over HTTP, on loopback unless the settings say otherwise. No personal data: names of resources,
sources and topics, and numbers. A scrape reads what is known and waits for nothing. A log or
store that does not answer shows as ``exchange_up 0``, and the numbers that come from it are left
out: none is better than an old one.
"""

from __future__ import annotations

import logging
import platform
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from exchange import __version__
from exchange.errors import ExchangeError, Misconfigured
from exchange.foreign import os_reason
from exchange.run.outcome import Where
from exchange.run.status import ResourceStatus
from exchange.seal.crypto.hash_kernel import chosen
from exchange.text import Text

STATUS_SECONDS = 10.0
"""Pause between two readings of the status; longer where one takes long, see ``_STATUS_SHARE``."""
_STATUS_SHARE = 0.05
"""Share of the time that readings may take: many partitions on a cluster are many questions."""
FRESH_SECONDS = 300.0
"""A worker whose last good reading is older is not ready."""
_REQUEST_SECONDS = 5.0
_CONNECTIONS = 8
_JOIN_SECONDS = 5.0

_LOGGER = logging.getLogger(__name__)


class MetricInfo(NamedTuple):
    """One metric: its kind, what it says, and its labels."""

    kind: type[CounterMetricFamily | GaugeMetricFamily]
    text: str
    labels: tuple[str, ...] = ()


COUNTERS = {
    "pulled": "exchange_rows_pulled",
    "accepted": "exchange_rows_accepted",
    "quarantined": "exchange_rows_quarantined",
    "batches": "exchange_batches_sealed",
    "receipts": "exchange_receipts",
}
"""What the runner reports as progress, and the counter that it moves."""
_PARTITION = ("group", "topic", "partition")
FAMILIES = {
    "exchange_build": MetricInfo(
        GaugeMetricFamily,
        "always 1; what runs",
        ("version", "python", "driver", "worker", "hashing"),
    ),
    "exchange_up": MetricInfo(GaugeMetricFamily, "1: log and store answered when last asked"),
    "exchange_rows_pulled": MetricInfo(CounterMetricFamily, "rows pulled by this worker"),
    "exchange_rows_accepted": MetricInfo(CounterMetricFamily, "rows accepted and sealed by it"),
    "exchange_rows_quarantined": MetricInfo(CounterMetricFamily, "rows put into quarantine by it"),
    "exchange_batches_sealed": MetricInfo(CounterMetricFamily, "batches sealed by it"),
    "exchange_receipts": MetricInfo(CounterMetricFamily, "verified receipts got by it"),
    "exchange_errors": MetricInfo(
        CounterMetricFamily, "errors, each once when it appears", ("stage", "kind")
    ),
    "exchange_failing": MetricInfo(
        GaugeMetricFamily, "1: this error stands now", ("stage", "subject", "kind")
    ),
    "exchange_last_success_timestamp_seconds": MetricInfo(
        GaugeMetricFamily, "when this worker last did so", ("what",)
    ),
    "exchange_lag_entries": MetricInfo(
        GaugeMetricFamily, "log entries that wait for a group of readers", _PARTITION
    ),
    "exchange_lag_seconds": MetricInfo(
        GaugeMetricFamily, "age of the oldest entry that waits; 0 when none does", _PARTITION
    ),
    "exchange_halted_partitions": MetricInfo(
        GaugeMetricFamily, "partitions that stopped at their limits", ("resource",)
    ),
    "exchange_deliveries": MetricInfo(
        GaugeMetricFamily, "sealed batches by state of delivery", ("resource", "state")
    ),
    "exchange_quarantine_rows": MetricInfo(
        GaugeMetricFamily, "rows in quarantine that nobody settled", ("resource",)
    ),
}
"""Every metric of ours, as in docs/operations.md; counters get ``_total`` when written."""


class Meter(Collector):
    """The numbers of one worker; every method may be called from any thread."""

    def __init__(
        self,
        read_status: Callable[[], list[ResourceStatus]],
        *,
        driver: str,
        worker: str,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
        stall: float,
    ) -> None:
        """Count from zero; ``stall``: seconds without a heartbeat after which a worker is dead.

        ``read_status`` is called by :meth:`refresh` alone.
        """
        self._read_status = read_status
        build = (__version__, platform.python_version(), driver, worker)
        self._build = (*build, chosen().label)
        self._clock = clock
        self._monotonic = monotonic
        self._stall = stall
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._errors: Counter[tuple[str, ...]] = Counter()
        self._last: dict[str, float] = {}
        self._failing: set[tuple[str, str, str]] = set()
        self._beat = monotonic()
        self._started = False
        self._statuses: list[ResourceStatus] = []
        self._up = False
        self._refreshed_at = monotonic()
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    # --- from the runner ------------------------------------------------------------------

    def progress(self, what: str, count: int) -> None:
        """Count what happened; what has no counter is passed over."""
        if count <= 0 or what not in COUNTERS:
            return
        with self._lock:
            self._counts[what] += count
            self._last[what] = self._clock().timestamp()

    def heartbeat(self) -> None:
        """Note that the main loop is alive."""
        self._beat = self._monotonic()
        self._started = True

    def count_error(self, where: Where, error: ExchangeError) -> None:
        """Count an error that appeared."""
        with self._lock:
            self._errors[where.stage, type(error).__name__] += 1

    def show_errors(self, errors: Mapping[Where, ExchangeError]) -> None:
        """Take over which errors stand now."""
        failing = {(*where, type(error).__name__) for where, error in errors.items()}
        with self._lock:
            self._failing = failing

    # --- what a monitor asks --------------------------------------------------------------

    def refresh(self) -> None:
        """Read the status from log and store; that they are away is a result."""
        statuses: list[ResourceStatus] = []
        up = False
        try:
            statuses, up = self._read_status(), True
        except ExchangeError as error:
            _LOGGER.info("no status: %s", error)
        except Exception:
            _LOGGER.exception("defect in reading the status")
        with self._lock:
            self._statuses, self._up = statuses, up
            if up:
                self._refreshed_at = self._monotonic()

    def health_problem(self) -> str:
        """Say why the process does not work, empty when it does: the main loop must go round."""
        silence = self._monotonic() - self._beat
        return (
            "" if silence <= self._stall else f"no heartbeat of the main loop for {silence:.0f} s"
        )

    def readiness_problem(self) -> str:
        """Say why the worker cannot do its job now, empty when it can."""
        if problem := self.health_problem():
            return problem
        if not self._started:
            return "starting"
        with self._lock:
            fresh = self._monotonic() - self._refreshed_at <= FRESH_SECONDS
            return "" if self._up and fresh else "log or store do not answer"

    def page(self, accept: str) -> tuple[bytes, str]:
        """Write every metric; return the text and its content type."""
        encoder, kind = choose_encoder(accept)
        return encoder(self._registry), kind

    def describe(self) -> list[Metric]:
        """Name the families, so that registering asks for no numbers."""
        return [family.kind(name, family.text) for name, family in FAMILIES.items()]

    def collect(self) -> Iterator[Metric]:
        """Give every family with its samples."""
        now = self._clock().timestamp()
        with self._lock:
            samples = dict(self._own()) | dict(self._resources(now))
        for name, family in FAMILIES.items():
            metric = family.kind(name, family.text, labels=family.labels)
            for labels, value in samples[name].items():
                metric.add_metric([*labels], value)
            yield metric

    def _own(self) -> Iterator[tuple[str, Mapping[tuple[str, ...], float]]]:
        yield "exchange_build", {self._build: 1}
        yield "exchange_up", {(): self._up}
        for what, name in COUNTERS.items():
            yield name, {(): self._counts[what]}
        yield "exchange_errors", dict(self._errors)
        yield "exchange_failing", dict.fromkeys(self._failing, 1)
        yield (
            "exchange_last_success_timestamp_seconds",
            {(what,): at for what, at in self._last.items()},
        )

    def _resources(self, now: float) -> Iterator[tuple[str, Mapping[tuple[str, ...], float]]]:
        lags = {
            (lag.group, lag.topic, str(lag.partition)): lag
            for status in self._statuses
            for lag in status.lags
        }
        yield "exchange_lag_entries", {key: lag.behind for key, lag in lags.items()}
        yield (
            "exchange_lag_seconds",
            {
                key: max(0.0, now - lag.since.timestamp()) if lag.since is not None else 0.0
                for key, lag in lags.items()
            },
        )
        yield (
            "exchange_halted_partitions",
            {(status.resource,): len(status.halted) for status in self._statuses},
        )
        yield (
            "exchange_deliveries",
            {
                (status.resource, str(state)): count
                for status in self._statuses
                for state, count in status.deliveries.items()
            },
        )
        yield (
            "exchange_quarantine_rows",
            {(status.resource,): status.quarantine for status in self._statuses},
        )


# --- over HTTP ------------------------------------------------------------------------------------


class _Server(ThreadingMixIn, HTTPServer):
    """A server that answers few at once: more are turned away, so that it stays small."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 2 * _CONNECTIONS

    def __init__(self, address: tuple[str, int], meter: Meter) -> None:
        self.meter = meter
        self._slots = threading.BoundedSemaphore(_CONNECTIONS)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own while there is a slot."""
        if self._slots.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and give the slot back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - theirs
        """Pass over clients that go away."""
        _LOGGER.debug("a request for metrics failed", exc_info=True)  # noqa: LOG014 - it is one


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "exchange"
    sys_version = ""
    timeout = _REQUEST_SECONDS

    def do_GET(self) -> None:
        """Answer one of three paths."""
        meter = self.server.meter
        match self.path.partition("?")[0]:
            case "/metrics":
                body, kind = meter.page(self.headers.get("Accept", ""))
                self._answer(HTTPStatus.OK, body, kind)
            case "/healthz":
                self._judge(meter.health_problem())
            case "/readyz":
                self._judge(meter.readiness_problem())
            case _:
                self._answer(HTTPStatus.NOT_FOUND, b"/metrics /healthz /readyz\n")

    def _judge(self, problem: str) -> None:
        status = HTTPStatus.SERVICE_UNAVAILABLE if problem else HTTPStatus.OK
        self._answer(status, (problem or "ok").encode() + b"\n")

    def _answer(
        self, status: HTTPStatus, body: bytes, kind: str = "text/plain; charset=utf-8"
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - theirs
        """Keep no access log."""


@contextmanager
def serving(
    meter: Meter,
    host: str,
    port: int,
    *,
    monotonic: Callable[[], float],
    pause: float = STATUS_SECONDS,
) -> Iterator[int]:
    """Read the status and serve from threads of their own until the block ends; yields the port.

    Raises Misconfigured when the port cannot be had.
    """
    try:
        server = _Server((host, port), meter)
    except OSError as error:
        why = os_reason(error)
        raise Misconfigured(
            Text(
                f"不能在 {host}:{port} 提供指标：{why.zh}", f"no metrics at {host}:{port}: {why.en}"
            ),
            hint=Text(
                "修改 metrics.port，或停止占用它的进程", "change metrics.port, or stop who has it"
            ),
        ) from error
    end = threading.Event()

    def refresh() -> None:
        while not end.is_set():
            began = monotonic()
            meter.refresh()
            end.wait(max(pause, (monotonic() - began) / _STATUS_SHARE))

    threads = [
        threading.Thread(target=refresh, name="status", daemon=True),
        threading.Thread(target=server.serve_forever, name="metrics", daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        yield server.server_address[1]
    finally:
        end.set()
        server.shutdown()
        server.server_close()
        for thread in threads:
            thread.join(_JOIN_SECONDS)
