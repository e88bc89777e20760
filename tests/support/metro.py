"""A SOAP server of other people's making: Metro (JAX-WS RI) on the JDK, with a service of ours."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from exchange.devtools.servers.maven import artifacts, cache_folder
from exchange.devtools.servers.ports import taken_port
from exchange.text import Text
from tests.support.servers import Missing

VERSION = "4.0.3"
_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>exchange</groupId><artifactId>soap</artifactId><version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>com.sun.xml.ws</groupId><artifactId>jaxws-rt</artifactId>
      <version>{VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""
_SOURCE = Path(__file__).parent / "soap" / "CaseService.java"
_STOP_SECONDS = 30


@dataclass(frozen=True)
class SoapServer:
    """A running service; it reads its records from ``data`` with every request."""

    url: str
    data: Path
    wsdl: Path
    """Saved with its schema beside it, as an integrator does."""


@contextmanager
def metro(folder: Path) -> Iterator[SoapServer]:
    """Run the service until the block ends; it is ended by its own id."""
    libraries = artifacts(cache_folder(os.environ), f"metro-{VERSION}", _POM)
    compiler, java = shutil.which("javac"), shutil.which("java")
    if libraries is None or compiler is None or java is None:
        raise Missing(
            Text("没有 JDK 或 Maven", "there is no JDK, or no Maven"),
            hint=Text(
                "apt-get install openjdk-17-jdk-headless maven",
                "apt-get install openjdk-17-jdk-headless maven",
            ),
        )
    classes = f"{libraries}/*"
    run = [compiler, "-nowarn", "-proc:none", "-cp", classes, "-d", str(folder), str(_SOURCE)]
    subprocess.run(run, check=True, capture_output=True, timeout=120)
    data = folder / "cases.tsv"
    data.write_text("")
    with taken_port() as port:
        command = [java, "-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
        command += ["-cp", f"{folder}:{classes}", "CaseService", str(port), str(data)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            assert process.stdout is not None
            if process.stdout.readline() != b"published\n":
                raise AssertionError("Metro did not publish the service")
            url = f"http://127.0.0.1:{port}/cases"
            yield SoapServer(url, data, _save(url, folder / "wsdl"))
        finally:
            process.terminate()
            process.wait(_STOP_SECONDS)
            assert process.stdout is not None
            process.stdout.close()


def _save(url: str, folder: Path) -> Path:
    folder.mkdir()
    wsdl = _get(f"{url}?wsdl")
    for number, address in enumerate(re.findall(r'schemaLocation="(http[^"]+)"', wsdl)):
        (folder / f"{number}.xsd").write_text(_get(address), "utf-8")
        wsdl = wsdl.replace(address, f"{number}.xsd")
    (folder / "cases.wsdl").write_text(wsdl, "utf-8")
    return folder / "cases.wsdl"


def _get(address: str) -> str:
    with urllib.request.urlopen(address, timeout=30) as answer:  # noqa: S310 - our own server
        return str(answer.read().decode())
