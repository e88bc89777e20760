"""`exchange verify`: every kind of file, what files say of each other, what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exchange.evidence.checkpoint import Head, SignedNote, sign
from exchange.evidence.log import EvidenceLog
from exchange.seal.batch.build import SealedBatch, build
from exchange.seal.crypto.der import to_pem
from tests.cli.conftest import Run
from tests.cli.strangers import FORMATS, VECTORS, Stranger, stranger, write_proof
from tests.evidence.samples import entries, open_log, party, witness
from tests.receipt.seals import NOW
from tests.seal.samples import FACTS, packed, sealers

ROOT = Path(__file__).parents[2]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stranger:
    monkeypatch.chdir(tmp_path)
    return stranger(tmp_path)


def failed(answer: Any) -> list[str]:
    return [check["name"] for check in answer["checks"] if not check["ok"]]


# --- every kind ---------------------------------------------------------------------------------


def test_every_kind_is_told_by_its_content_and_verified(files: Stranger, run: Run) -> None:
    result = run("verify", *files.kinds.values(), *files.options, "--json")
    values = {line["kind"]: line for line in result.lines}
    assert list(values) == [*files.kinds, "together"]
    assert {kind: failed(line) for kind, line in values.items() if not line["ok"]} == {}
    assert result.code == 0
    assert len(values["package"]["checks"]) >= 20
    for line in values.values():
        numbers = [check["number"] for check in line["checks"]]
        assert numbers == list(range(1, len(numbers) + 1))
        assert all(check["text"]["zh"] and check["text"]["en"] for check in line["checks"])


@pytest.mark.parametrize("version", ["v1", "v4", "v5", "v4 stamped", "v5 digests"])
def test_seals_and_signatures_of_every_version(files: Stranger, run: Run, version: str) -> None:
    for kind in ("seal", "signature"):
        files.kinds[kind].write_bytes(FORMATS[f"{kind} {version}"])
        result = run("verify", files.kinds[kind], *files.options, "--json")
        assert (result.json["kind"], failed(result.json)) == (kind, [])


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"{}", b"Obj", b"\x89PNG\r\n", b"0\x82\x01\x02\x16\x02E", b"0"]
)
def test_what_is_no_evidence_is_refused(files: Stranger, run: Run, content: bytes) -> None:
    named = files.folder / "batch.avro"  # the name says nothing
    named.write_bytes(content)
    result = run("verify", named, files.kinds["batch"], *files.options)
    assert result.code == 1
    for kind in ("sealed batch", "receipt", "proof", "package", "checkpoint", "seal"):
        assert kind in result.err
    assert "✓ verified" in result.out  # the other file is verified all the same
    assert "电子印章" in run("verify", named, lang="zh").err
    data = bytearray(files.kinds["batch"].read_bytes())
    data[-30] ^= 1
    files.kinds["batch"].write_bytes(data)
    assert run("verify", named, files.kinds["batch"], *files.options).code == 6


def test_a_certificate_is_no_evidence(files: Stranger, run: Run) -> None:
    assert run("verify", files.folder / "chain.pem").code == 1
    (files.folder / "der").write_bytes(FORMATS["root"])
    assert run("verify", files.folder / "der").code == 1


def test_what_is_too_large_or_no_file_is_refused_before_it_is_read(
    files: Stranger, run: Run
) -> None:
    large, pipe = files.folder / "large", files.folder / "pipe"
    with large.open("wb") as stream:
        stream.truncate(8 * 1024 * 1024 + 1)
    result = run("verify", large)
    assert result.code == 1
    assert "more than 8,388,608 bytes" in result.err
    os.mkfifo(pipe)  # to open it would wait for ever
    assert run("verify", pipe).code == 3
    assert run("verify", files.folder).code == 3
    assert run("verify", files.folder / "nowhere").code == 3
    assert run("verify", files.kinds["batch"], "--trust", files.folder / "nowhere").code == 3
    assert run("verify", *["x"] * 1001).code == 64


def test_usage(files: Stranger, run: Run) -> None:
    assert run("verify").code == 64
    assert run("verify", files.kinds["batch"], "--nonsense").code == 64
    assert run("verify", files.kinds["batch"], "--at", "today").code == 64
    assert "--require-revocation" in run("verify", "--help").out
    assert "撤销列表" in run("verify", "-h", lang="zh").out


# --- trust --------------------------------------------------------------------------------------


def test_a_package_needs_both_sides(files: Stranger, run: Run) -> None:
    path = files.kinds["package"]
    roots = {side: f"--trust={files.folder / side}.root.pem" for side in ("sm2-sm3", "node")}
    result = run("verify", path, *roots.values(), "--json")
    assert result.code == 6
    assert {"receipt.signer.chain", "receipt.seal.maker_chain", "witness.chain"} <= set(
        failed(result.json)
    )
    assert all(name.startswith(("receipt.", "witness.")) for name in failed(result.json))
    theirs = files.folder / "province.root.pem"
    assert run("verify", path, *roots.values(), "--province", theirs).code == 0
    assert run("verify", path, *roots.values(), "--trust", theirs).code == 0
    result = run("verify", path, "--trust", theirs, "--province", theirs, "--json")
    assert {"signer.chain", "checkpoint.chain"} <= set(failed(result.json))


def test_revocation_lists_are_brought_along(files: Stranger, run: Run) -> None:
    path, options = files.kinds["signature"], files.options
    strict = [*options, "--require-revocation", "--json"]
    assert "signer.revocation" in failed(run("verify", path, *strict).json)
    for name in ("crl", "root crl", "crl revoked"):
        (files.folder / name).write_bytes(FORMATS[name])
    lists = [f"--crl={files.folder / name}" for name in ("crl", "root crl")]
    assert run("verify", path, *strict, *lists).code == 0
    (files.folder / "crl").write_bytes(to_pem("X509 CRL", FORMATS["crl"]))
    assert run("verify", path, *strict, *lists).code == 0
    revoked = f"--crl={files.folder / 'crl revoked'}"
    result = run("verify", path, *options, revoked, "--json")
    assert "signer.revocation" in failed(result.json)
    (files.folder / "crl").write_bytes(b"nothing")
    assert "crls" in failed(run("verify", path, *options, lists[0], "--json").json)


def test_the_province_s_revocation_is_asked_as_well(files: Stranger, run: Run) -> None:
    for kind in ("receipt", "package"):
        result = run("verify", files.kinds["batch"], files.kinds[kind], *files.options, "--json",
                   "--require-revocation")  # fmt: skip
        names = failed(result.lines[1])
        assert any(name.endswith("signer.revocation") for name in names), names


def test_time_stamps_have_trust_of_their_own(files: Stranger, run: Run) -> None:
    path = files.kinds["signature"]
    path.write_bytes(FORMATS["signature v4 stamped"])
    assert run("verify", path, *files.options).code == 0
    other = files.folder / "node.root.pem"
    result = run("verify", path, *files.options, "--tsa-trust", other, "--json")
    assert "signature.stamp_chain" in failed(result.json)


def test_a_seal_is_asked_about_a_time(files: Stranger, run: Run) -> None:
    options = [option for option in files.options if not option.startswith("--at")]
    result = run("verify", files.kinds["seal"], *options, "--at=2036-01-01", "--json")
    assert failed(result.json) == ["seal.time"]


def test_a_signature_needs_its_content(files: Stranger, run: Run) -> None:
    path = files.kinds["signature"]
    options = [option for option in files.options if not option.startswith("--content")]
    result = run("verify", path, *options, "--json")
    assert failed(result.json) == ["signature.digest"]
    (files.folder / "other").write_bytes(b"other")
    result = run("verify", path, *options, f"--content={files.folder / 'other'}", "--json")
    assert failed(result.json) == ["signature.digest"]


# --- files together -----------------------------------------------------------------------------


def chain(count: int, **changes: Any) -> list[SealedBatch]:
    """Seal batches of one partition, each naming the one before."""
    items: list[SealedBatch] = []
    for number in range(count):
        previous = items[-1].digest if items else ""
        batch_no = f"20261123{number + 1:05}"
        facts = replace(FACTS, batch_no=batch_no, previous=previous, **changes)
        items.append(build(packed(1), facts, sealer=sealers()[0], seed=bytes(16)))
    return items


def write(folder: Path, batches: list[SealedBatch]) -> list[Path]:
    paths = [folder / f"b{number}" for number in range(len(batches))]
    for path, batch in zip(paths, batches, strict=True):
        path.write_bytes(batch.data)
    (folder / "root.pem").write_bytes(to_pem("CERTIFICATE", sealers()[1]))
    return paths


def test_a_batch_left_out_is_named(tmp_path: Path, run: Run) -> None:
    paths = write(tmp_path, chain(4))
    options = ["--trust", tmp_path / "root.pem", "--json"]
    result = run("verify", *reversed(paths), *options)
    assert result.code == 0
    together = result.lines[-1]
    assert (together["kind"], len(together["checks"])) == ("together", 3)
    result = run("verify", paths[0], paths[1], paths[3], *options)
    assert result.code == 6
    ok, gap = result.lines[-1]["checks"]
    assert (ok["ok"], gap["ok"], gap["name"]) == (True, False, "batches.previous")
    assert "2026112300002 → 2026112300004" in gap["text"]["en"]
    assert "缺少批次" in gap["text"]["zh"]
    assert len(run("verify", paths[0], paths[0], *options).lines) == 2  # the same one twice


def test_a_batch_replaced_and_one_number_twice_are_named(tmp_path: Path, run: Run) -> None:
    true, other = chain(3), chain(3, source="another")
    paths = write(tmp_path, [true[0], other[1], true[2], true[1]])
    options = ["--trust", tmp_path / "root.pem", "--json"]
    result = run("verify", *paths[:3], *options)
    assert [check["ok"] for check in result.lines[-1]["checks"]] == [False, False]
    result = run("verify", *paths, *options)
    assert "two different batches" in json.dumps(result.lines[-1])
    # Partitions have chains of their own.
    paths = write(tmp_path, [true[0], *chain(1, lane=1)])
    assert run("verify", *paths, *options).code == 0


def test_a_receipt_binds_the_batch_given_with_it(files: Stranger, run: Run) -> None:
    receipt, batch = files.kinds["receipt"], files.kinds["batch"]
    result = run("verify", receipt, *files.options, "--json")
    assert failed(result.json) == ["batch", "statement", "root", "counts", "time"]
    for item in ("batch", "proof", "package"):  # each of them has the statement
        result = run("verify", receipt, files.kinds[item], *files.options, "--json")
        assert failed(result.lines[0]) == []
    assert run("verify", receipt, "--batch", batch, *files.options).code == 0
    facts = replace(FACTS, source="another")
    batch.write_bytes(build(packed(5), facts, sealer=sealers()[0], seed=bytes(16)).data)
    result = run("verify", receipt, batch, *files.options, "--json")
    assert failed(result.lines[0]) == ["statement", "root"]
    result = run("verify", receipt, "--batch", files.kinds["proof"], *files.options, "--json")
    assert {check["found"] for check in result.json["checks"] if not check["ok"]} == {
        "the batch cannot be read"
    }


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EvidenceLog]:
    with open_log(tmp_path / "log") as result:
        yield result


def test_one_history_of_a_log(tmp_path: Path, log: EvidenceLog, run: Run) -> None:
    node, province = party("node"), party("province")
    notes: list[SignedNote] = []
    for size in (3, 7, 20):
        log.append(entries(log.size, size))
        old = notes[-1] if notes else None
        notes.append(witness(log, log.checkpoint(node.sealer, NOW), old, province=province))
    paths = [tmp_path / f"note{number}" for number in range(3)]
    for path, note in zip(paths, notes, strict=True):
        path.write_bytes(note.to_bytes())
    for name, data in (("node", [node.root]), ("province", [province.root]),
                       ("chain", log.certificates())):  # fmt: skip
        pem = b"".join(to_pem("CERTIFICATE", item) for item in data)
        (tmp_path / name).write_bytes(pem)
    for number, sizes in enumerate(((3, 7), (7, 20))):
        write_proof(tmp_path / f"proof{number}", log.consistency(*sizes))
    options: list[object] = ["--trust", tmp_path / "node", "--province", tmp_path / "province"]
    options += ["--chain", tmp_path / "chain", "--json"]
    proofs = [f"--proof={tmp_path / name}" for name in ("proof0", "proof1")]
    result = run("verify", *paths, *options, *proofs)
    assert (result.code, len(result.lines[-1]["checks"])) == (0, 4)
    result = run("verify", *paths[:2], *options)  # not proved: noted
    assert (result.code, result.lines[-1]["checks"][0]["note"]) == (0, True)
    result = run("verify", *paths[:2], *options, proofs[1])
    assert (result.code, failed(result.lines[-1])) == (6, ["log.consistent"])
    # Two histories, shown to two parties, and a longer checkpoint that is older.
    other = sign(Head(log.origin, 7, bytes(32)), node.sealer, NOW)
    (tmp_path / "other").write_bytes(other.to_bytes())
    result = run("verify", paths[1], tmp_path / "other", *options)
    assert failed(result.lines[-1]) == ["log.consistent"]
    assert result.lines[1]["ok"]  # alone it is impeccable, though nobody outside signed along
    assert [check["name"] for check in result.lines[1]["checks"] if check["note"]][-1] == (
        "witness.signature"
    )
    (tmp_path / "proof0").write_bytes(b"?")
    assert run("verify", *paths[:2], *options, proofs[0]).code == 3
    paths[0].write_bytes(paths[0].read_bytes().replace(b"\n3\n", b"\n4\n"))
    assert "checkpoint.signature" in failed(run("verify", paths[0], *options).json)
    paths[0].write_bytes(paths[0].read_bytes().replace(b"\n4\n", b"\n04\n"))
    assert failed(run("verify", paths[0], *options).json) == ["checkpoint"]


# --- alone, and without a network ---------------------------------------------------------------

ALLOWED = ("asn1crypto", "backports")
"""What `pip install gov-exchange` brings along; anything else cannot be imported below."""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder that has the verifier and what it needs, and nothing else."""
    import asn1crypto
    import backports.zstd

    folder = tmp_path_factory.mktemp("bare")
    (folder / "exchange").symlink_to(ROOT / "exchange")
    (folder / "asn1crypto").symlink_to(Path(asn1crypto.__file__).parent)
    (folder / "backports").mkdir()
    (folder / "backports" / "zstd").symlink_to(Path(backports.zstd.__file__).parent)
    return folder


def alone(bare: Path, *arguments: object, under: tuple[str, ...] = ()) -> Any:
    """Run the command with the standard library and the folder, and no site-packages."""
    command = [*under, sys.executable, "-S", "-B", "-m", "exchange", *map(str, arguments)]
    values = {"PYTHONPATH": str(bare), "PATH": os.environ["PATH"], "EXCHANGE_LANG": "en"}
    return subprocess.run(command, env=values, capture_output=True, check=False, timeout=300)


def test_nothing_but_the_base_is_needed(files: Stranger, bare: Path) -> None:
    result = alone(bare, "verify", *files.kinds.values(), *files.options, "--json",
                 "--report", files.folder / "report.html")  # fmt: skip
    assert result.returncode == 0, (result.stdout + result.stderr).decode()
    assert [json.loads(line)["kind"] for line in result.stdout.splitlines()][:-1] == [*files.kinds]
    assert "VERIFIED" in (files.folder / "report.html").read_text(encoding="utf-8")
    result = alone(bare, "prove", files.kinds["batch"], "--key", "order_no=WD000002")
    assert result.stdout == files.kinds["proof"].read_bytes(), result.stderr.decode()
    suite = VECTORS / "batch" / "ecdsa-p256-sha256"
    result = alone(bare, "verify", f"{suite}.avro", f"--trust={suite}.root.pem")
    assert result.returncode == 0, (result.stdout + result.stderr).decode()
    batch = bytearray(files.kinds["batch"].read_bytes())
    batch[-30] ^= 1
    files.kinds["batch"].write_bytes(batch)
    assert alone(bare, "verify", files.kinds["batch"], *files.options).returncode == 6


def test_what_is_not_installed_is_told(files: Stranger, bare: Path) -> None:
    assert alone(bare, "version").stdout.startswith(b"exchange ")
    assert alone(bare, "--help").returncode == 0
    result = alone(bare, "run", "--once")
    assert (result.returncode, b"gov-exchange[node]" in result.stderr) == (3, True)
    # Without a node there are no roots but those given.
    result = alone(bare, "verify", files.kinds["batch"])
    assert (result.returncode, b"--trust" in result.stderr) == (6, True)


def test_no_socket_is_opened(files: Stranger, bare: Path) -> None:
    if shutil.which("strace") is None:
        pytest.fail("this test needs strace: install it (tools/servers.py, apt-get install strace)")
    trace = files.folder / "trace"
    under = (
        "strace",
        "-f",
        "-qq",
        "-e",
        "trace=network,execve",
        "-e",
        "signal=none",
        "-o",
        str(trace),
    )
    kinds = files.kinds.values()
    result = alone(bare, "verify", *kinds, *files.options, "--report", "r.html", under=under)
    assert result.returncode == 0, (result.stdout + result.stderr).decode()
    calls = trace.read_text()
    assert "execve(" in calls  # strace was watching
    lines = [line for line in calls.splitlines() if "execve(" not in line]
    assert [line for line in lines if "AF_UNIX" not in line] == []
