"""What a broker of one's own is made of: its program, its properties, its first data.

The program is Java 17 with the project's artifacts, resolved once by Maven into the user's
cache (46 files, 75 MB; beside them an archive of the classes that it loads, 48 MB), or a
container where there is an engine. Raises Missing when there is neither, Transient when a tool
fails.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from exchange.devtools.servers.maven import alone, artifacts, cache_folder, run
from exchange.devtools.servers.postgres import Missing
from exchange.text import Text

VERSION = "4.3.1"
"""The newest release that has been out for some months; its brokers run on Java 17."""
IMAGE = f"apache/kafka:{VERSION}"
VARIABLE = "EXCHANGE_TEST_KAFKA"
_JAVA = 17
_TOOL_SECONDS = 120.0

POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>exchange</groupId><artifactId>broker</artifactId><version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>
      <version>{VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""
"""What Maven resolves: the broker, and a logger that writes to stderr."""

QUICK = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""Java's options for a broker that starts within 2 s and leaves the cores to others."""

_SILENT = ("-Xlog:disable", "-Xlog:all=error:stderr")
"""Java's own warnings, such as which classes do not go into an archive."""

_LOGGING = {
    "defaultLogLevel": "warn",
    "showDateTime": "true",
    "dateTimeFormat": "HH:mm:ss.SSS",
    "log.kafka.server.KafkaRaftServer": "info",
    "log.kafka.authorizer.logger": "info",
}
"""Warnings, that it started, and what the authorizer refused."""

_PROPERTIES: Mapping[str, object] = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "INTERNAL",
    "auto.create.topics.enable": "false",
    "background.threads": 2,
    "broker.heartbeat.interval.ms": 500,
    "broker.session.timeout.ms": 4000,
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 1000,
    "log.cleaner.dedupe.buffer.size": 4 << 20,
    "log.index.size.max.bytes": 1 << 20,
    "num.io.threads": 4,
    "num.network.threads": 2,
    "offsets.retention.minutes": 2**31 - 1,
    "offsets.topic.num.partitions": 4,
    "replica.lag.time.max.ms": 6000,
    "share.coordinator.state.topic.num.partitions": 1,
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1000,
    "transaction.state.log.num.partitions": 4,
}
"""Small and quick; whatever decides about durability stays as Kafka has it."""


SECURED: Mapping[str, str] = {
    "CLIENT": "SASL_SSL",
    "INTERNAL": "SASL_PLAINTEXT",
    "CONTROLLER": "SASL_PLAINTEXT",
}
"""What is spoken by the listeners of a secured cluster."""


@dataclass(frozen=True, slots=True)
class Security:
    """What the brokers ask of clients: TLS, user and password; StandardAuthorizer decides.

    ``certificate``: PEM of the brokers' key and chain, valid for 127.0.0.1. ``users`` (name →
    password): SASL/SCRAM, both mechanisms. ``admin`` alone may do everything.
    """

    certificate: bytes = field(repr=False)
    users: Mapping[str, str] = field(repr=False)
    admin: str = "admin"


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of one broker: for clients, among brokers, among controllers."""

    client: int
    internal: int
    controller: int


@dataclass(frozen=True, slots=True)
class JavaRuntime:
    """What runs Java: this machine, or a container of it (``docker`` is then the program)."""

    classpath: str
    java: str = "java"
    docker: str = ""
    archive: Path | None = None
    """Where the classes that a broker loads lie as Java maps them; made when it is missing."""

    def command(
        self, name: str, folders: Sequence[Path], options: Sequence[str], *arguments: str
    ) -> list[str]:
        """Return the command of a Java program that may use these folders."""
        program = [self.java]
        if self.archive is not None and self.archive.exists():
            # Made by another Java or of other files, it is left unused, and nothing is said.
            options = [*options, f"-XX:SharedArchiveFile={self.archive}", *_SILENT]
        if self.docker:
            program = [self.docker, "run", "--rm", "--network", "host", "--name", name]
            program += ["--user", f"{os.getuid()}:{os.getgid()}"]
            for folder in folders:
                program += ["--volume", f"{folder}:{folder}"]
            program += ["--entrypoint", "java", IMAGE]
        logging = [f"-Dorg.slf4j.simpleLogger.{key}={value}" for key, value in _LOGGING.items()]
        return [*program, *options, *logging, "-cp", self.classpath, *arguments]


def machine(environ: Mapping[str, str]) -> JavaRuntime:
    """Find what runs brokers: Java and Maven's artifacts, or an engine of containers."""
    java = shutil.which("java")
    if java is not None and (version := _java_version(java))[0] >= _JAVA:
        cache = cache_folder(environ)
        if (libraries := artifacts(cache, f"kafka-{VERSION}", POM)) is not None:
            archive = cache / f"kafka-{VERSION}-java-{'.'.join(map(str, version))}.jsa"
            return JavaRuntime(f"{libraries}/*", java, archive=archive)
    docker = shutil.which("docker")
    if docker is not None:
        # not tested here: no engine at hand
        probe = subprocess.run(  # noqa: S603 - a program that we found
            [docker, "info"], capture_output=True, check=False, timeout=_TOOL_SECONDS
        )
        if probe.returncode == 0:
            return JavaRuntime("/opt/kafka/libs/*", docker=docker)
    raise Missing(
        Text(
            f"没有可用的 Kafka：缺 Java {_JAVA} 与 Maven，也没有 Docker",
            f"no Kafka can be had: Java {_JAVA} with Maven is missing, and so is Docker",
        ),
        hint=Text(
            "apt-get install openjdk-17-jre-headless maven，"
            f"或用环境变量 {VARIABLE} 指定 host:port",
            "apt-get install openjdk-17-jre-headless maven, "
            f"or name a broker's host:port in {VARIABLE}",
        ),
    )


def _java_version(java: str) -> tuple[int, ...]:
    answer = subprocess.run(  # noqa: S603 - a program that we found
        [java, "-version"], capture_output=True, text=True, check=False, timeout=_TOOL_SECONDS
    )
    match = re.search(r'version "([\d.]+)', answer.stderr)
    return tuple(map(int, match[1].split("."))) if match else (0,)


def archived(machine: JavaRuntime, load: Callable[[str], None]) -> None:
    """Make the archive of the classes that a broker loads, unless it is there.

    ``load`` runs a broker with one more option of Java's and ends it in order. With the archive a
    broker starts with half the work (1.9 s of CPU for 3.6).
    """
    if machine.archive is None or machine.archive.exists():
        return
    with alone(machine.archive.parent):
        if machine.archive.exists():
            return
        part = machine.archive.with_suffix(".part")
        part.unlink(missing_ok=True)
        load(f"-XX:ArchiveClassesAtExit={part}")
        if part.exists():  # else Java could not, and the brokers do without
            part.rename(machine.archive)


def properties(ports: Sequence[Ports], security: Security | None, home: Path) -> dict[str, object]:
    """Return what all brokers of a cluster have in common; writes its certificates to ``home``."""
    copies, enough = min(3, len(ports)), min(2, len(ports))
    voters = (f"{number}@127.0.0.1:{port.controller}" for number, port in enumerate(ports))
    values = {
        **_PROPERTIES,
        "controller.quorum.voters": ",".join(voters),
        "default.replication.factor": copies,
        "min.insync.replicas": enough,
        "offsets.topic.replication.factor": copies,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": enough,
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": enough,
    }
    protocols: Mapping[str, str] = {
        "CLIENT": "PLAINTEXT",
        "INTERNAL": "PLAINTEXT",
        "CONTROLLER": "PLAINTEXT",
    }
    if security is not None:
        protocols = SECURED
        values |= _secured(security, home)
    return values | {"listener.security.protocol.map": mapped(protocols)}


def mapped(protocols: Mapping[str, str]) -> str:
    """Write the protocols of listeners as Kafka reads them."""
    return ",".join(f"{name}:{protocol}" for name, protocol in protocols.items())


def _secured(security: Security, home: Path) -> dict[str, object]:
    """Return the properties of a secured cluster; among themselves the brokers use a password."""
    values: dict[str, object] = {
        **tls("client", security.certificate, home),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "sasl.mechanism.controller.protocol": "PLAIN",
        "super.users": f"User:broker;User:{security.admin}",
        "listener.name.client.sasl.enabled.mechanisms": "SCRAM-SHA-256,SCRAM-SHA-512",
    }
    secret = os.urandom(16).hex()
    login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    for name in ("internal", "controller"):
        values[f"listener.name.{name}.sasl.enabled.mechanisms"] = "PLAIN"
        values[f"listener.name.{name}.plain.sasl.jaas.config"] = (
            f'{login} username="broker" password="{secret}" user_broker="{secret}";'
        )
    for mechanism in ("256", "512"):
        values[f"listener.name.client.scram-sha-{mechanism}.sasl.jaas.config"] = (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        )
    return values


def tls(listener: str, certificate: bytes, home: Path, clients: bytes = b"") -> dict[str, object]:
    """Return the properties of a listener that speaks TLS; writes its certificates to ``home``.

    ``certificate``: PEM of key and chain. ``clients``: PEM of the authorities whose certificates
    clients must have (mutual TLS); without SASL a certificate's common name is the user.
    """
    values: dict[str, object] = {
        "keystore.type": "PEM",
        "keystore.location": write(home / f"{listener}.pem", _as_pkcs8(certificate)),
    }
    if clients:
        values |= {
            "client.auth": "required",
            "truststore.type": "PEM",
            "truststore.location": write(home / f"{listener}-clients.pem", clients),
            "principal.mapping.rules": r"RULE:^.*CN=([^,]+).*$/$1/",
        }
    return {f"listener.name.{listener}.ssl.{name}": value for name, value in values.items()}


def _as_pkcs8(pem: bytes) -> bytes:
    """Return key and chain, in this order, as Kafka reads them: the key in PKCS #8."""
    key = serialization.load_pem_private_key(pem, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    chain = re.findall(
        rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n?", pem, re.DOTALL
    )
    return key + b"".join(chain)


def own(number: int, ports: Ports, folder: Path) -> dict[str, object]:
    """Return the properties of one broker alone."""
    client, internal = (
        f"CLIENT://127.0.0.1:{ports.client}",
        f"INTERNAL://127.0.0.1:{ports.internal}",
    )
    return {
        "node.id": number,
        "log.dirs": folder,
        "listeners": f"{client},{internal},CONTROLLER://127.0.0.1:{ports.controller}",
        "advertised.listeners": f"{client},{internal}",
    }


def format_data(
    machine: JavaRuntime,
    file: Path,
    folders: Mapping[int, Path],
    cluster: str,
    security: Security | None,
) -> None:
    """Make the empty data folders of brokers, by number, with the users that they start with.

    ``file``: the properties of the first. Kafka's tool runs once; the other folders are like the
    first but for who they are. The users stand in a file that Java reads: no password is an
    argument that others see.
    """
    if not folders:
        return
    arguments = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(file)]
    for name, password in (security.users if security else {}).items():
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
            arguments += ["--add-scram", f"{mechanism}=[name={name},password={password}]"]
    argument_file = file.with_suffix(".arguments")
    write(argument_file, "\n".join(f'"{argument}"' for argument in arguments).encode())
    (_, first), *rest = folders.items()
    name = f"{file.parent.name}-{file.stem}"
    command = machine.command(name, [file.parent, first], QUICK, f"@{argument_file}")
    run(command, timeout=_TOOL_SECONDS)
    argument_file.unlink()
    for number, folder in rest:
        shutil.copytree(first, folder, dirs_exist_ok=True)
        values = {"node.id": number, "directory.id": identity()}
        meta = folder / "meta.properties"
        lines = [line.partition("=") for line in meta.read_text().splitlines()]
        text = "".join(f"{k}={values.get(k, v)}\n" for k, _, v in lines if not k.startswith("#"))
        meta.write_text(text)


def identity() -> str:
    """Return a new name of a cluster or data folder, as Kafka writes it."""
    # No dash at its beginning: the tool would take it for an option.
    return base64.urlsafe_b64encode(b"\0" + uuid.uuid4().bytes[1:]).decode().rstrip("=")


def write(path: Path, content: bytes) -> Path:
    """Write a file that only we may read."""
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path
