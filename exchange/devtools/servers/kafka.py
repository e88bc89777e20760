"""An Apache Kafka of one's own for the bench, the tests and ``make kafka``: on loopback, KRaft.

Where it comes from, in this order: the environment's ``EXCHANGE_TEST_KAFKA=host:port``; Java and
Maven's artifacts; Docker (see ``kafka_files``). A broker that cannot be had is an error that
says how to get one, never a silent skip. Every process is ended by its own id.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from exchange.devtools.servers import kafka_files as files
from exchange.devtools.servers.kafka_files import (
    QUICK,
    VARIABLE,
    VERSION,
    JavaRuntime,
    Ports,
    Security,
)
from exchange.devtools.servers.maven import run
from exchange.devtools.servers.ports import is_free, taken_port
from exchange.devtools.servers.postgres import failed
from exchange.errors import ExchangeError, Misconfigured
from exchange.text import Text

__all__ = ["QUICK", "VARIABLE", "VERSION", "Cluster", "Security", "brokers"]

_Properties = Mapping[str, object] | Callable[[int, Ports], Mapping[str, object]] | None

PORT = 9092
"""Where ``make kafka`` listens when it can."""
_STARTED = b"Kafka Server started"
"""What a broker says once it is registered, unfenced and open."""
_START_SECONDS = 120.0
_STOP_SECONDS = 30.0


@dataclass
class _Broker:
    """One broker: its place, and its process while there is one."""

    name: str
    folder: Path
    log: Path
    command: Sequence[str] = field(repr=False)
    docker: str = ""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    log_start: int = 0
    """Bytes of the log that are older than this process."""

    def start(self) -> None:
        if self.process is not None:
            return
        with self.log.open("ab") as out:
            self.log_start = out.tell()
            self.process = subprocess.Popen(  # noqa: S603 - a program that we found
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # Ctrl-C is for us, and we end it
            )

    def wait(self) -> None:
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end and self.process is not None:
            ended = self.process.poll() is not None
            if _STARTED in self.log.read_bytes()[self.log_start :]:
                return
            if ended:
                break
            time.sleep(0.02)
        raise failed(self.name, self.log.read_bytes()[self.log_start :])

    def send(self, how: signal.Signals) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        if self.docker:
            run([self.docker, "kill", f"--signal={how.name}", self.name], timeout=30)
        else:
            self.process.send_signal(how)

    def end(self, how: signal.Signals) -> None:
        self.send(how)
        self.send(signal.SIGCONT)  # a paused one obeys only then
        process, self.process = self.process, None
        if process is None:
            return
        try:
            process.wait(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass
class Cluster:
    """Running brokers, numbered from 0."""

    bootstrap: tuple[str, ...]
    """``host:port`` of each."""
    _brokers: Sequence[_Broker] = field(default=(), repr=False)

    def kill(self, number: int) -> None:
        """End a broker at once, as a crash would (SIGKILL)."""
        self._broker(number).end(signal.SIGKILL)

    def stop(self, number: int) -> None:
        """Stop a broker in order (SIGTERM): it hands over what it leads first."""
        self._broker(number).end(signal.SIGTERM)

    def end(self) -> None:
        """Kill all brokers."""
        for number in range(len(self.bootstrap)):
            self.kill(number)

    def start(self, number: int, *, wait: bool = True) -> None:
        """Start a broker again, on its port and data; ``wait`` until it is open.

        It is not while too few of the others run to decide anything.
        """
        broker = self._broker(number)
        broker.start()
        if wait:
            broker.wait()

    def pause(self, number: int) -> None:
        """Let a broker stand still (SIGSTOP); its connections stay open and silent."""
        self._broker(number).send(signal.SIGSTOP)

    def resume(self, number: int) -> None:
        """Let a paused broker go on (SIGCONT)."""
        self._broker(number).send(signal.SIGCONT)

    def pid(self, number: int) -> int | None:
        """Return the process id of a broker, None when it has ended."""
        process = self._broker(number).process
        return process.pid if process is not None and process.poll() is None else None

    def folder(self, number: int) -> Path:
        """Return where a broker keeps its data."""
        return self._broker(number).folder

    def log(self, number: int) -> Path:
        """Return the file of what a broker said, over all its starts."""
        return self._broker(number).log

    def _broker(self, number: int) -> _Broker:
        if not self._brokers:
            raise Misconfigured(
                Text(f"{VARIABLE} 的集群不归本程序启停", f"the cluster in {VARIABLE} is not ours"),
                hint=Text(f"此处请不要设置 {VARIABLE}", f"unset {VARIABLE} for this"),
            )
        return self._brokers[number]


@contextmanager
def brokers(
    count: int = 1,
    *,
    security: Security | None = None,
    properties: _Properties = None,
    folders: Sequence[Path] | None = None,
    port: int | None = None,
    options: Sequence[str] = QUICK,
) -> Iterator[Cluster]:
    """Run brokers that are controllers too; at the end they are killed.

    ``folders`` are the brokers' data folders, one each; they stay, and data in them is taken up
    again. ``port`` is the first broker's. ``properties`` go over all others; a function of the
    broker's number and ports where they differ. ``options`` are Java's. A cluster that
    ``EXCHANGE_TEST_KAFKA`` names serves where one broker is asked for and nothing else. Raises
    Missing when there is no way to run one, Transient when one fails.
    """
    address = os.environ.get(VARIABLE)
    if address and (count, security, properties, folders, port) == (1, None, None, None, None):
        yield Cluster(tuple(address.split(",")))
        return
    machine = files.machine(os.environ)
    files.archived(machine, partial(_load, machine))
    with _running(
        machine,
        count=count,
        security=security,
        properties=properties,
        folders=folders,
        port=port,
        options=options,
    ) as cluster:
        yield cluster


def _load(machine: JavaRuntime, option: str) -> None:
    """Run a broker and stop it in order, for what Java does at its end."""
    with _running(machine, options=(*QUICK, option)) as cluster:
        cluster.stop(0)


@contextmanager
def _running(
    machine: JavaRuntime,
    *,
    count: int = 1,
    security: Security | None = None,
    properties: _Properties = None,
    folders: Sequence[Path] | None = None,
    port: int | None = None,
    options: Sequence[str] = QUICK,
) -> Iterator[Cluster]:
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="exchange-kafka-")))
        places = folders or [home / str(number) for number in range(count)]
        ports = [
            Ports(*(stack.enter_context(taken_port()) for _ in range(3))) for _ in range(count)
        ]
        if port is not None:
            ports[0] = replace(ports[0], client=port)
        common = files.properties(ports, security, home)
        nodes = []
        for number, (own, folder) in enumerate(zip(ports, places, strict=True)):
            file = home / f"{number}.properties"
            extra = properties(number, own) if callable(properties) else properties
            values = common | files.own(number, own, folder) | dict(extra or {})
            files.write(file, "".join(f"{k}={v}\n" for k, v in values.items()).encode())
            folder.mkdir(parents=True, exist_ok=True)
            name = f"{home.name}-{number}"
            command = machine.command(name, [home, folder], options, "kafka.Kafka", str(file))
            nodes.append(_Broker(name, folder, home / f"{number}.log", command, machine.docker))
        new = {
            number: broker.folder
            for number, broker in enumerate(nodes)
            if not (broker.folder / "meta.properties").exists()
        }
        first = home / f"{next(iter(new), 0)}.properties"
        files.format_data(machine, first, new, files.identity(), security)
        for broker in nodes:
            stack.callback(broker.end, signal.SIGKILL)
            broker.start()
        for broker in nodes:
            broker.wait()
        yield Cluster(tuple(f"127.0.0.1:{own.client}" for own in ports), nodes)


def main() -> int:
    """Run one broker in the foreground until Ctrl-C; its data stays in ``.kafka``."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    port = next(number for number in range(PORT, 1 << 16) if is_free(number))
    folder = Path(".kafka").absolute()
    folder.mkdir(exist_ok=True)
    (folder / ".gitignore").write_text("*\n")
    try:
        with brokers(folders=[folder / "data"], port=port) as cluster:
            try:
                _announce(cluster, folder)
                while cluster.pid(0) is not None:
                    time.sleep(0.2)
            except KeyboardInterrupt:
                cluster.stop(0)
                raise
            raise failed("kafka", cluster.log(0).read_bytes())
    except KeyboardInterrupt:
        return 0


def _announce(cluster: Cluster, folder: Path) -> None:
    sys.stdout.write(
        f"Apache Kafka {VERSION}: {cluster.bootstrap[0]}, data in {folder}\n"
        "exchange.yaml:\n\n"
        "log:\n"
        "  driver: kafka\n"
        f"  kafka: {{bootstrap: [{cluster.bootstrap[0]!r}], replication: 1, min_insync: 1}}\n\n"
        "Ctrl-C stops it · Ctrl-C 停止\n"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ExchangeError as error:
        sys.stderr.write(f"{error.what.en}\n→ {error.hint.en}\n")
        sys.exit(error.exit_code)
