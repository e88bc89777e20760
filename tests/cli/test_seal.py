"""Seals from the request to the end, as a person types it."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from exchange.errors import Denied
from exchange.seal.batch.verify import verify_batch
from exchange.seal.crypto.suites import SM2_SM3
from exchange.seal.eseal.folder import read_certificates, read_eseal, write_seal_folder
from exchange.seal.eseal.pilot import make_unit_seal
from exchange.seal.eseal.stamp_file import verify_seal
from exchange.seal.eseal.structures import read_seal
from exchange.seal.eseal.test_authority import make_authority
from exchange.seal.pki.timestamp import TsaPatience
from exchange.seal.pki.trust import Trust
from tests.cli.conftest import SOURCES, Run, company, open_node, write_companies

CATALOG = Path(__file__).parents[2] / "catalog.yaml"


def states(run: Run) -> dict[str, str]:
    return {seal["es_id"]: seal["state"] for seal in run("seal", "list", "--json").json["seals"]}


def named(run: Run) -> tuple[str, str] | None:
    """Return the seal that status names, and its command; doctor names the same."""
    attention = run("status", "--json").json["attention"]
    found = [(item["subject"], item["do"]) for item in attention]
    checks = run("doctor", "--json").json["checks"]
    assert [
        (check["name"], check["hint"]["zh"])
        for check in checks
        if "exchange seal " in check["hint"]["zh"]
    ] == found
    return found[0] if found else None


def again(folder: Path, run: Run, first: int) -> int:
    """Give the department's system new companies and run; return the exit code."""
    write_companies(folder, [company(number) for number in range(first, first + 5)])
    return run("run", "--once", "--only", "pull", "--only", "seal", "--json").code


def sealed(run: Run) -> int:
    return sum(row["rows"] for row in run("cascade", "list", "--json").json["deliveries"])


def test_the_list_says_for_how_long_the_tsa_is_away(folder: Path, run: Run) -> None:
    settings = folder / "exchange.yaml"
    tsa = "tsa: {url: 'http://127.0.0.1:9/', trust: [seals/root.pem], patience: 2h}\n"
    settings.write_text(settings.read_text() + tsa)
    assert "tsa_away" not in run("seal", "list", "--json").json
    since = datetime(2026, 11, 23, 1, 2, 3, tzinfo=UTC)
    (folder / "data").mkdir(exist_ok=True)
    state = TsaPatience(since, since + timedelta(minutes=5), timedelta(minutes=5))
    (folder / "data" / "tsa.json").write_text(state.to_json())
    result = run("seal", "list", "--json")
    assert result.json["tsa_away"] == {
        "since": since.isoformat(),
        "spent": 300,
        "patience": 7200,
    }
    assert "已等待 300 秒" in run("seal", "list", lang="zh").err


@pytest.mark.usefixtures("folder")
def test_a_seal_of_the_settings_is_listed_before_anybody_registered_it(run: Run) -> None:
    (result,) = run("seal", "list", "--json").json["seals"]
    assert (result["name"], result["state"], result["registered"]) == ("data", "", False)
    assert "未登记" in run("seal", "list", lang="zh").out
    assert "not registered" in run("seal", "show", "data").out


def test_a_suspended_seal_seals_nothing_and_goes_on_when_resumed(folder: Path, run: Run) -> None:
    assert again(folder, run, 1) == 0
    assert sealed(run) == 5
    assert run("seal", "suspend", "data").code == 64  # a reason is asked for
    result = run("seal", "suspend", "data", "--reason", "机构调整", "--json")
    assert (result.code, result.json["state"]) == (0, "suspended"), result.err
    assert again(folder, run, 11) == 5
    held = run("run", "--once", "--only", "seal", "--json")
    assert held.code == 5
    assert held.json["errors"]["seal/companies"]["error"] == "Denied"
    assert sealed(run) == 5
    assert run("seal", "suspend", "data", "--reason", "again").code == 1
    assert named(run) == ("seal data", "exchange seal resume data")
    assert run("seal", "resume", "data", "--reason", "调整完成").code == 0
    assert named(run) is None
    assert run("run", "--once", "--only", "seal").code == 0
    assert sealed(run) == 10
    history = run("seal", "show", "data", "--json").json["history"]
    assert [item["action"] for item in history] == ["seal.adopt", "seal.suspend", "seal.resume"]
    assert all(entry["actor"].startswith("cli") for entry in history)
    with open_node() as node:
        assert node.store.audit.check()[0] >= 3


def test_a_cancelled_seal_is_done_with_and_what_it_sealed_stays_valid(
    folder: Path, run: Run
) -> None:
    assert again(folder, run, 1) == 0
    assert run("seal", "cancel", "data", "--reason", "单位撤销").code == 0
    assert again(folder, run, 11) == 5
    denied = run("run", "--once", "--only", "seal")
    assert "request a new seal" in denied.err
    assert run("seal", "resume", "data").code == 1
    assert named(run) == ("seal data", "exchange seal make data")
    with open_node() as running:
        resource = running.catalog.resource("companies")
        with pytest.raises(Denied):
            running.seals.ready(resource)
        made = run("seal", "make", "data", "--json")
        assert made.code == 0, made.err
        assert made.json["folder"] == "seals/data"
        assert running.seals.ready(resource).details.info.es_id == made.json["es_id"]
    assert (folder / "seals" / "data.23270000000001" / "key.pem").is_file(), "its key is kept"
    assert named(run) is None
    assert run("seal", "make", "data").code == 3, "one in use is not replaced"
    assert run("run", "--once", "--only", "seal").code == 0
    assert sealed(run) == 10
    rows = run("cascade", "list", "--json").json["deliveries"]
    batch = min(rows, key=lambda row: row["batch_no"])
    assert run("cascade", "export", "companies", batch["batch_no"], "--to", "out").code == 0
    assert run("verify", *Path("out").glob("*.avro")).code == 0


def test_a_pilot_seal_in_one_step(folder: Path, run: Run) -> None:
    name = "大兴安岭地区营商环境建设监督局"
    result = run(
        *("seal", "make", "market", "--folder", "seals/new", "--version", "5", "--name", name),
        "--json",
    )
    assert result.code == 0, result.err
    assert "software key" in result.err
    path = folder / "seals" / "new"
    roots = read_certificates(path / "root.pem")
    assert roots == read_certificates(folder / "seals" / "root.pem")  # no other root to trust
    with open_node() as node:
        checked = verify_seal(read_eseal(path), trust=Trust(roots), at=node.clock())
        assert node.settings.seals["data"].password == "file:password.txt"
    assert checked.ok, checked.failed
    assert (checked.facts["version"], checked.facts["id"]) == (5, result.json["es_id"])
    assert (path / "key.pem").read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY")
    for secret in ("key.pem", "password.txt"):
        assert (path / secret).stat().st_mode & 0o777 == 0o600
    answer = run("seal", "show", result.json["es_id"], "--picture", "seal.svg", "--json").json
    assert [item["action"].removeprefix("seal.") for item in answer["history"]] == [
        *("request", "make", "file", "use")
    ]
    drawn = ET.fromstring(Path("seal.svg").read_bytes())  # noqa: S314 - made by us
    assert "".join(drawn.itertext()) == name
    assert Path("seal.svg").stat().st_size == answer["picture"]["bytes"] < 8000
    assert run("seal", "show", result.json["es_id"], "--picture", "seal.png").code == 1
    before = (path / "key.pem").read_bytes()
    taken = run("seal", "make", "market2", "--folder", "seals/new", "--name", name)
    assert taken.code == 3
    assert "never overwritten" in taken.err
    assert "market2" not in run("seal", "list").out
    assert (path / "key.pem").read_bytes() == before


def test_request_make_file_use(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = run("seal", "request", "market", "--number", "申-1", "--json").json
    assert answer["es_id"] == "23270000000002"
    assert run("seal", "request", "market").code == 1
    assert run("seal", "use", "market").code == 1
    monkeypatch.setenv("SEAL_PASSWORD", "s3cret-of-the-test")
    result = run(
        *("seal", "make", "market", "--name", "市场监督管理局", "--password", "env:SEAL_PASSWORD"),
        *("--suite", "ecdsa-p256-sha256", "--years", "1", "--json"),
    )
    assert result.code == 0, result.err
    assert result.json["state"] == "made"
    assert 'market: {folder: seals/market, password: "env:SEAL_PASSWORD"}' in result.err
    assert "s3cret" not in result.out + result.err
    assert not (folder / "seals" / "market" / "password.txt").exists()
    add(folder, 'market: {folder: seals/market, password: "env:SEAL_PASSWORD"}')
    with open_node() as node:
        sealer = node.seals.open(node.settings.seals["market"])
        roots = node.trust(node.settings.trust)
        assert verify_seal(sealer.eseal, trust=roots, at=node.clock()).ok
    assert (sealer.suite.id, sealer.details.info.name) == ("ecdsa-p256-sha256", "市场监督管理局")
    assert run("seal", "file", "market", "--number", "备-7", "--approval", "审-3").code == 0
    assert run("seal", "use", "market").code == 0
    out = run("seal", "show", "market", lang="zh").out
    for words in ("申-1", "审-3", "备-7", "在用", "制章机构"):
        assert words in out
    assert states(run)["23270000000002"] == "in_use"


def add(folder: Path, line: str) -> None:
    """Name another seal in the settings."""
    path = folder / "exchange.yaml"
    path.write_text(path.read_text().replace("seals:\n", f"seals:\n  {line}\n"))


def test_a_new_key_takes_over(folder: Path, run: Run) -> None:
    assert again(folder, run, 1) == 0
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    result = run("seal", "rotate", "data", "--at", later, "--json")
    assert result.code == 0, result.err
    path = folder / "seals" / "data" / result.json["key"]
    certificates = read_seal(read_eseal(path)).info.certificates
    old, new = (read_certificates(item / "cert.pem")[0] for item in (path.parent, path))
    assert certificates == (new, old)
    assert run("seal", "rotate", "data").code == 3  # the last one has not taken over yet
    with open_node() as node:
        node.clock = lambda: datetime.fromisoformat(result.json["since"])
        assert node.seals.open(node.settings.seals["data"]).signer.certificate == new
    assert len(run("seal", "show", "data", "--json").json["certificates"]) == 2


def delivered(folder: Path, name: str, es_id: str) -> Path:
    """Write a folder as a maker would deliver it: its key's password comes apart."""
    now = datetime.now(UTC)
    maker = make_authority("制章机构", SM2_SM3, now=now, entropy=os.urandom)
    signer, eseal = make_unit_seal(maker, "数据局", es_id, now=now, entropy=os.urandom)
    write_seal_folder(
        folder / name,
        key=signer.key,
        certificate=signer.certificate,
        eseal=eseal,
        chain=(),
        root=maker.certificate,
        password="of-the-maker",
    )
    return folder / name


def test_a_key_of_the_seal_maker_takes_over(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEW_SEAL", "of-the-maker")
    delivered(folder, "other", "99999900000001")
    foreign = run("seal", "rotate", "data", "--with", "other", "--password", "env:NEW_SEAL")
    assert foreign.code == 3
    assert "has number 99999900000001" in foreign.err
    same = run("seal", "rotate", "data", "--with", "seals/data")
    assert same.code == 3
    assert "the certificate is the one in use" in same.err
    path = delivered(folder, "seals/data-2027", "23270000000001")
    wrong = run("seal", "rotate", "data", "--with", "seals/data-2027", "--password", "env:NOT")
    assert wrong.code == 3
    assert not (folder / "seals" / "data" / "keys.json").exists()  # everything is tried first
    result = run(
        *("seal", "rotate", "data", "--with", "seals/data-2027", "--password", "env:NEW_SEAL"),
        *("--at", "2030-01-01T00:00:00+08:00", "--json"),
    )
    assert result.code == 0, result.err
    assert result.json["key"] == "../data-2027"
    with open_node() as node:
        settings = node.settings.seals["data"]
        before = node.seals.open(settings).signer.certificate
    with open_node() as node:
        node.clock = lambda: datetime(2029, 12, 31, 16, tzinfo=UTC)
        assert [before, node.seals.open(settings).signer.certificate] == [
            read_certificates(item / "cert.pem")[0] for item in (folder / "seals" / "data", path)
        ]
    assert run("seal", "rotate", "data", "--at", "soon").code == 3


def test_only_a_seal_in_use_gets_a_new_key(folder: Path, run: Run) -> None:
    result = run("seal", "suspend", "data", "--reason", "U盾遗失", "--lost", "--json")
    assert result.json["state"] == "lost"
    assert run("seal", "rotate", "data").code == 1
    assert [path.name for path in (folder / "seals" / "data").glob("key-*")] == []


def test_the_register_is_a_resource_like_any_other(folder: Path, run: Run) -> None:
    """Exported, pulled, checked against the catalog of the example, sealed."""
    (folder / "catalog.yaml").write_text(CATALOG.read_text(), encoding="utf-8")
    settings = folder / "exchange.yaml"
    source = SOURCES.replace(
        "companies:\n    resource: companies", "seals:\n    resource: eseal_registry"
    )
    source = re.sub(
        r"connector: .*\n.*\n", "connector: files\n    with: {folder: ledger}\n", source
    )
    settings.write_text(settings.read_text().replace(SOURCES, source), encoding="utf-8")
    assert run("seal", "make", "market").code == 0
    assert run("seal", "make", "civil").code == 0
    assert run("seal", "cancel", "civil", "--reason", "合并").code == 0
    assert run("seal", "request", "hotline").code == 0  # not made: not in the ledger
    (folder / "ledger").mkdir()
    assert run("seal", "export", "--to", "ledger/seals.csv", "--json").json["seals"] == 3
    result = run("run", "--once", "--only", "pull", "--only", "seal", "--json")
    assert result.code == 0, result.err
    # The seal of the settings was never filed: the catalog says so.
    assert (result.json["accepted"], result.json["quarantined"]) == (2, 1)
    (held,) = run("quarantine", "list", "eseal_registry", "--json").json["messages"]
    assert set(held["reasons"]) == {"required_when:filing_no", "required_when:filing_date"}
    with open_node() as node:
        (entry,) = node.log.read("exchange.sealed.eseal_registry", 0, 0, max_entries=5)
        assert verify_batch(entry.value, trust=node.trust(node.settings.trust)).ok
