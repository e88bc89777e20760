"""Brokers of one's own: they come up, die, come back with what they kept, and leave nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from exchange.devtools.servers import kafka_files
from exchange.devtools.servers.kafka import VARIABLE, brokers
from exchange.devtools.servers.postgres import Missing
from exchange.errors import Misconfigured, Transient
from exchange.settings import Settings, load

ROOT = Path(__file__).parents[2]
LEAST = 'node: {code: "232700", name: 大兴安岭地区}\n'


def kcat(bootstrap: tuple[str, ...], *arguments: str, said: str = "") -> str:
    """Run kcat, the witness that is not ours."""
    command = ["kcat", "-b", ",".join(bootstrap), "-X", "socket.timeout.ms=10000", *arguments]
    return subprocess.run(
        command, input=said, capture_output=True, check=True, text=True, timeout=60
    ).stdout


def stopped(pid: int) -> None:
    """Wait until a process stands still: the signal has to reach all its threads."""
    end = time.monotonic() + 30
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < end, "it goes on"
        time.sleep(0.01)


def test_a_broker_keeps_what_it_took_through_kill_stop_and_pause() -> None:
    with brokers(properties={"auto.create.topics.enable": "true"}) as cluster:
        folder, log = cluster.folder(0), cluster.log(0)
        kcat(cluster.bootstrap, "-P", "-t", "kept", "-X", "acks=all", said="one\n")
        first = cluster.pid(0)
        assert first is not None
        cluster.kill(0)
        assert cluster.pid(0) is None
        cluster.start(0)
        cluster.stop(0)
        cluster.start(0)
        cluster.pause(0)
        again = cluster.pid(0)
        assert again is not None
        assert again != first
        stopped(again)
        cluster.resume(0)
        assert kcat(cluster.bootstrap, "-C", "-t", "kept", "-e", "-q") == "one\n"
        cluster.pause(0)
    assert not folder.exists()
    assert not log.exists()
    assert not Path(f"/proc/{again}").exists()


def test_three_brokers_hold_three_copies_in_folders_of_ours(tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(3)]
    properties = {"auto.create.topics.enable": "true"}
    with brokers(3, folders=folders, properties=properties) as cluster:
        assert [cluster.folder(number) for number in range(3)] == folders
        kcat(cluster.bootstrap, "-P", "-t", "kept", "-X", "acks=all", said="one\n")
        cluster.kill(0)
        assert kcat(cluster.bootstrap, "-C", "-t", "kept", "-e", "-q") == "one\n"
    assert all((folder / "kept-0").is_dir() for folder in folders)


def test_an_error_inside_ends_the_brokers() -> None:
    pids = []

    def fail() -> None:
        with brokers() as cluster:
            pids.append(cluster.pid(0))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert pids[0] is not None
    assert not Path(f"/proc/{pids[0]}").exists()


def test_a_broker_that_cannot_start_says_why() -> None:
    with (
        pytest.raises(Transient, match=r"Invalid value nonsense"),
        brokers(properties={"num.io.threads": "nonsense"}),
    ):
        pass


def test_a_cluster_of_the_environment_serves_but_is_not_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, "kafka1:9092,kafka2:9092")
    with brokers() as cluster:
        assert cluster.bootstrap == ("kafka1:9092", "kafka2:9092")
        with pytest.raises(Misconfigured, match=VARIABLE):
            cluster.kill(0)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_make_kafka_runs_until_it_is_told_and_keeps_its_data(
    tmp_path: Path, how: signal.Signals
) -> None:
    command = [sys.executable, "-m", "exchange.devtools.servers.kafka"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        text = ""
        for line in process.stdout:
            text += line
            if "Ctrl-C" in line:
                break
        process.send_signal(how)
    assert process.returncode == 0
    assert (tmp_path / ".kafka" / "data" / "meta.properties").exists()
    document = loads(
        LEAST + text.partition("exchange.yaml:\n\n")[2].partition("Ctrl-C")[0], tmp_path
    )
    assert document.log.kafka is not None
    host, _, port = document.log.kafka.bootstrap[0].partition(":")
    with socket.socket() as probe:
        assert probe.connect_ex((host, int(port))) != 0


def loads(text: str, folder: Path) -> Settings:
    path = folder / "exchange.yaml"
    path.write_text(text)
    return load(path)


# --- where it comes from ------------------------------------------------------------------


def test_nothing_to_run_it_with_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Missing) as caught:
        kafka_files.machine({})
    assert "openjdk-17-jre-headless maven" in caught.value.hint.en
    assert VARIABLE in caught.value.hint.zh


def test_artifacts_are_resolved_once_and_seen_whole(tmp_path: Path) -> None:
    """Two processes at once, with a Maven that is slow: one asks, both see every file."""
    maven = tmp_path / "bin" / "mvn"
    maven.parent.mkdir()
    maven.write_text(
        "#!/bin/sh\n"
        f"echo asked >> {tmp_path}/asked\n"
        "mkdir libraries; touch libraries/first.jar; sleep 0.5; touch libraries/last.jar\n"
    )
    maven.chmod(0o755)
    script = (
        "import os, pathlib; from exchange.devtools.servers import kafka_files\n"
        "place = kafka_files.machine(os.environ).classpath.removesuffix('/*')\n"
        "print(sorted(os.listdir(place)))\n"
    )
    environ = os.environ | {
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PATH": f"{maven.parent}{os.pathsep}{os.environ['PATH']}",
    }
    items = [
        subprocess.Popen(
            [sys.executable, "-c", script], env=environ, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        for _ in range(2)
    ]
    assert [item.communicate(timeout=60)[0] for item in items] == [
        "['first.jar', 'last.jar']\n"
    ] * 2
    assert (tmp_path / "asked").read_text() == "asked\n"


def test_maven_that_fails_leaves_nothing_half_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maven = tmp_path / "mvn"
    maven.write_text("#!/bin/sh\nmkdir libraries; echo no route; exit 1\n")
    maven.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(Transient, match="no route"):
        kafka_files.machine({"XDG_CACHE_HOME": str(tmp_path)})
    assert [path.name for path in (tmp_path / "gov-exchange").iterdir()] == ["lock"]
