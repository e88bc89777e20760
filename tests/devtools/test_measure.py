"""What the measuring tools read from /proc agrees with what the kernel tells otherwise."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
import time

import pytest

from exchange.devtools.bench import measure
from exchange.errors import Misconfigured

BURN = "import sys, time\nwhile time.process_time() < 0.3: pass\n"


def test_own_cpu_seconds_agree_with_the_process_clock() -> None:
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    assert measure.cpu_seconds(os.getpid()) == pytest.approx(time.process_time(), abs=0.1)


def test_a_tree_counts_running_and_finished_children() -> None:
    before = measure.tree_cpu_seconds(os.getpid())
    subprocess.run([sys.executable, "-c", BURN], check=True)
    after = measure.tree_cpu_seconds(os.getpid())
    assert after - before >= 0.25
    wait = BURN + "print('ready', flush=True)\nsys.stdin.read()\n"
    with subprocess.Popen(
        [sys.executable, "-c", wait], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        assert measure.cpu_seconds(child.pid) >= 0.25
        assert measure.tree_cpu_seconds(os.getpid()) - after >= 0.25
        child.communicate()


def test_the_peak_is_what_the_kernel_says() -> None:
    told = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert measure.peak_rss(os.getpid()) == pytest.approx(told, rel=0.05)


def test_a_stopwatch_counts_work_not_waiting() -> None:
    watch = measure.Stopwatch()
    time.sleep(0.1)
    usage = watch.usage()
    assert usage.wall >= 0.1
    assert usage.cpu < usage.wall
    assert usage.peak_rss > 0


def test_a_process_that_is_gone_is_an_error_with_a_hint() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    for reading in (measure.cpu_seconds, measure.tree_cpu_seconds, measure.peak_rss):
        with pytest.raises(Misconfigured, match=str(child.pid)):
            reading(child.pid)


def test_the_median_is_a_measured_value() -> None:
    assert measure.median([3.0, 1.0, 2.0]) == 2.0
    assert measure.median([4.0, 1.0, 2.0, 3.0]) == 2.0
    assert measure.median([5.0]) == 5.0


def test_the_machine_is_described_without_its_name() -> None:
    machine = measure.machine()
    assert machine.cores >= 1
    assert machine.memory_mb > 0
    assert machine.python.startswith("CPython 3.")
    assert machine.openssl
    assert "polars" in machine.libraries
    assert socket.gethostname() not in repr(machine)
