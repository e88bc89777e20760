from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from exchange.cascade.delivery import Answered, Failed, Outcome
from exchange.cascade.profiles import Target, attempt, profile
from exchange.errors import Misconfigured, Transient
from exchange.http.transport import Transport
from exchange.receipt import SentBatch, check
from exchange.receiver.connections import ConnectionLimits
from exchange.receiver.options import Tls
from exchange.receiver.serve import _listen, serve
from exchange.seal.crypto.der import to_pem
from exchange.seal.crypto.suites import SM2_SM3
from exchange.seal.eseal.folder import write_seal_folder
from exchange.seal.eseal.test_authority import issue, make_authority, make_seal
from exchange.seal.pki.trust import Trust
from tests.receipt.seals import NOW, Party, make_party
from tests.receiver.batches import make_batch, outgoing
from tests.receiver.province import CREDENTIALS, PREFECTURE, Node, Province
from tests.support.receivers import background

ROOT = Path(__file__).parents[2]
TODAY = datetime.now(UTC)


@pytest.fixture
def prefecture(tmp_path: Path) -> Party:
    party = make_party("prefecture", now=TODAY)
    (tmp_path / "prefecture.pem").write_bytes(to_pem("CERTIFICATE", party.root))
    return party


@pytest.fixture
def root(tmp_path: Path) -> bytes:
    authority = make_authority("province", SM2_SM3, now=TODAY, entropy=os.urandom)
    signer = issue(authority, "signer", now=TODAY, entropy=os.urandom)
    eseal = make_seal(
        issue(authority, "maker", now=TODAY, entropy=os.urandom),
        (signer.certificate,),
        name="province",
        es_id="23",
        created=TODAY,
        valid_until=TODAY.replace(year=TODAY.year + 1, day=1),
    )
    write_seal_folder(
        tmp_path / "seal",
        key=signer.key,
        certificate=signer.certificate,
        eseal=eseal,
        chain=(),
        root=authority.certificate,
        password=None,
    )
    return authority.certificate


@contextlib.contextmanager
def receiver(folder: Path, port: int = 0) -> Iterator[tuple[subprocess.Popen[str], Node]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.receiver.standalone", str(folder), str(port)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["url"]
            yield process, Node(url, now=datetime.now(UTC))  # the process has the real clock
        finally:
            process.kill()


def test_a_kill_at_any_moment_loses_no_receipt_that_was_given(
    tmp_path: Path, prefecture: Party, root: bytes
) -> None:
    batches = [make_batch(prefecture.sealer, n, sealed_at=TODAY) for n in range(1, 21)]
    values: dict[str, Outcome] = {}
    for delay in (0.02, 0.1, 0.3):
        with receiver(tmp_path) as (process, caller), ThreadPoolExecutor(4) as pool:
            work = {b.statement.batch_no: pool.submit(caller.attempt, outgoing(b)) for b in batches}
            time.sleep(delay)
            process.kill()
            for number, item in work.items():
                if isinstance(outcome := item.result(), Answered):
                    assert values.setdefault(number, outcome) == outcome
                else:
                    assert isinstance(outcome, Failed)
    with receiver(tmp_path) as (_, caller):
        for batch in batches:
            outcome = caller.attempt(outgoing(batch))
            assert isinstance(outcome, Answered)
            assert values.setdefault(batch.statement.batch_no, outcome) == outcome
            assert check(
                outcome.receipt, trust=Trust([root]), batch=SentBatch.of(batch.statement)
            ).ok
    files = [path for path in (tmp_path / "received").rglob("*") if path.is_file()]
    assert sorted(path.read_bytes() for path in files) == sorted(b.data for b in batches)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.usefixtures("root")
def test_a_signal_stops_it_in_order(how: signal.Signals, tmp_path: Path, prefecture: Party) -> None:
    batch = make_batch(prefecture.sealer, sealed_at=TODAY)
    with receiver(tmp_path) as (process, caller):
        assert isinstance(caller.attempt(outgoing(batch)), Answered)
        process.send_signal(how)
        assert process.wait(120) == 0


@pytest.mark.usefixtures("root")
def test_two_share_a_port_a_folder_and_a_store(tmp_path: Path, prefecture: Party) -> None:
    batches = [make_batch(prefecture.sealer, n, sealed_at=TODAY) for n in range(1, 21)]
    with receiver(tmp_path) as (first, caller):
        port = int(caller.endpoint.rpartition(":")[2])
        with receiver(tmp_path, port) as (_, other), ThreadPoolExecutor(4) as pool:
            assert other.endpoint == caller.endpoint
            answers = list(pool.map(caller.attempt, map(outgoing, batches)))
            assert all(isinstance(answer, Answered) for answer in answers)
            first.kill()
            first.wait()
            again = list(pool.map(caller.attempt, map(outgoing, batches)))
    assert again == answers, "the other one serves on, with the same receipts"


def test_a_taken_port_says_so(province: Province) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(Transient, match="listen"):
        serve(
            province.app,
            host="127.0.0.1",
            port=server.getsockname()[1],
            announce=pytest.fail,
        )


def test_a_certificate_that_is_not_there_says_so(province: Province, tmp_path: Path) -> None:
    tls = Tls(tmp_path / "none.pem", tmp_path / "none.key")
    with pytest.raises(Misconfigured, match="TLS"), background(province.app, tls=tls):
        pass


def _tls(folder: Path) -> Tls:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    result = authority.issue_cert("127.0.0.1")
    result.private_key_pem.write_to_path(str(folder / "key.pem"))
    result.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    return Tls(folder / "cert.pem", folder / "key.pem")


def test_with_tls(province: Province, tmp_path: Path) -> None:
    tls = _tls(tmp_path)
    with background(province.app, tls=tls) as endpoint:
        assert endpoint.startswith("https://")
        transport = Transport(endpoint, monotonic=time.monotonic, ca=tmp_path / "ca.pem")
        with contextlib.closing(transport):
            outcome = attempt(
                outgoing(make_batch(PREFECTURE.sealer)),
                Target(endpoint, CREDENTIALS),
                profile=profile("national"),
                post=transport.post,
                now=lambda: NOW,
            )
    assert isinstance(outcome, Answered)


def test_a_tls_handshake_that_does_not_come_is_given_up(province: Province, tmp_path: Path) -> None:
    tls, limits = _tls(tmp_path), ConnectionLimits(head_seconds=0.5)
    with background(province.app, tls=tls, limits=limits) as endpoint:
        address = ("127.0.0.1", int(endpoint.rpartition(":")[2]))
        with socket.create_connection(address, timeout=20) as silent:
            assert silent.recv(100) == b""


def test_an_accepted_connection_does_not_wait_for_acknowledgements() -> None:
    with _listen("127.0.0.1", 0) as listener:
        with socket.create_connection(listener.getsockname()):
            accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
