from __future__ import annotations

from pathlib import Path

import pytest

from exchange.seal.crypto.der import to_pem
from tests.cli.conftest import Run, uscc
from tests.receipt.seals import make_party


@pytest.fixture
def files(delivered: Path, run: Run) -> tuple[Path, Path]:  # noqa: ARG001 (it must have run)
    """Export the batch and the receipt of a run."""
    (row,) = run("cascade", "list", "--json").json["deliveries"]
    answer = run("cascade", "export", "companies", row["batch_no"], "--to", "out", "--json").json
    return Path(answer["batch"]), Path(answer["receipt"])


def test_one_file_as_json(files: tuple[Path, Path], run: Run) -> None:
    result = run("verify", files[0], "--json")
    assert result.code == 0
    answer = result.json
    assert list(answer)[:3] == ["ok", "checks", "rows"]
    assert (answer["ok"], answer["rows"]) == (True, 5)
    assert [check["number"] for check in answer["checks"]] == list(
        range(1, len(answer["checks"]) + 1)
    )


def test_several_files_as_json_lines(files: tuple[Path, Path], run: Run) -> None:
    result = run("verify", *files, "--json")
    assert result.code == 0
    assert [line["file"] for line in result.lines] == [str(file) for file in files]
    assert [line["kind"] for line in result.lines] == ["batch", "receipt"]


def test_for_people_in_both_languages(files: tuple[Path, Path], run: Run) -> None:
    result = run("verify", *files)
    assert result.code == 0
    assert "✓  1 container  the file is what its parts make" in result.out
    assert "✓ verified: all" in result.out
    assert "✓ 成立" in run("verify", *files, lang="zh").out


def test_a_changed_byte_names_the_check(files: tuple[Path, Path], run: Run) -> None:
    data = bytearray(files[0].read_bytes())
    data[-20] ^= 1
    files[0].write_bytes(data)
    result = run("verify", files[0])
    assert result.code == 6
    assert "✗  6 payload" in result.out
    assert "expected" in result.out
    assert "✗ does not verify" in result.out
    data[0] ^= 1
    files[0].write_bytes(data)
    chinese = run("verify", files[0], lang="zh").out
    assert "✗  1 文件正是其各部分写成的字节" in chinese
    assert "代码  container" in chinese
    assert run("verify", *files, "--json").code == 6


def test_a_changed_receipt(files: tuple[Path, Path], run: Run) -> None:
    text = files[1].read_text(encoding="utf-8")
    files[1].write_text(text.replace('"rows_accepted":5', '"rows_accepted":4'), encoding="utf-8")
    result = run("verify", files[1], "--json")
    assert result.code == 6
    failed = {check["name"] for check in result.json["checks"] if not check["ok"]}
    assert {"counts", "signature.digest"} <= failed
    files[1].write_text("nothing", encoding="utf-8")
    assert run("verify", files[1]).code == 1
    files[1].write_text('{"format":"exchange-receipt-envelope-1"}', encoding="utf-8")
    assert run("verify", files[1], "--json").json["checks"][0]["name"] == "format"


def test_a_receipt_without_its_batch(files: tuple[Path, Path], run: Run, tmp_path: Path) -> None:
    alone = tmp_path / "alone.receipt.json"
    alone.write_bytes(files[1].read_bytes())
    result = run("verify", alone, "--json")
    assert result.code == 6
    failed = [check for check in result.json["checks"] if not check["ok"]]
    assert [check["name"] for check in failed] == ["batch", "statement", "root", "counts", "time"]
    assert {check["found"] for check in failed} == {
        "no batch given: name it with --batch, or among the files"
    }
    assert run("verify", alone, "--batch", files[0]).code == 0
    broken = tmp_path / "broken.avro"
    broken.write_bytes(files[0].read_bytes()[:-1])
    result = run("verify", alone, "--batch", broken, "--json")
    assert result.code == 6
    assert "cannot be read" in next(c for c in result.json["checks"] if not c["ok"])["found"]
    alone.write_bytes(b'{"format":"exchange-receipt-envelope-1"}')
    assert run("verify", alone).code == 6


def test_trust_is_never_mixed(files: tuple[Path, Path], run: Run, delivered: Path) -> None:
    ours, theirs = "seals/root.pem", "province/seal/root.pem"
    assert run("verify", files[0], "--trust", ours).code == 0
    assert run("verify", files[0], "--trust", theirs).code == 6
    assert run("verify", *files, "--trust", ours, "--trust", theirs).code == 0
    (delivered / "other.pem").write_bytes(to_pem("CERTIFICATE", make_party("other").root))
    assert run("verify", files[0], "--trust", "other.pem").code == 6
    # The node's own roots say nothing about receipts.
    settings = delivered / "exchange.yaml"
    text = settings.read_text(encoding="utf-8").replace(theirs, ours)
    settings.write_text(text, encoding="utf-8")
    result = run("verify", *files, "--json")
    assert [line["ok"] for line in result.lines] == [True, False]


def test_without_a_node_the_chain_fails(
    files: tuple[Path, Path], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = files[0].absolute()
    monkeypatch.chdir(tmp_path)
    result = run("verify", batch)
    assert result.code == 6
    assert "signer.chain" in result.out.splitlines()[-1]
    assert "--trust" in result.err
    (tmp_path / "exchange.yaml").write_text("nonsense: 1\n", encoding="utf-8")
    assert run("verify", batch).code == 3


@pytest.mark.usefixtures("folder")
def test_what_is_no_evidence(run: Run) -> None:
    Path("note.txt").write_text("hello", encoding="utf-8")
    assert run("verify", "note.txt").code == 1
    assert run("verify", "nowhere.avro").code == 3


def test_prove_by_key_and_by_row(files: tuple[Path, Path], run: Run) -> None:
    result = run("prove", files[0], "--key", f"uscc={uscc(2)}", "--to", "p.json")
    assert result.code == 0
    assert result.out == "p.json\n"
    verified = run("verify", "p.json", "--json")
    assert (verified.code, verified.json["rows"]) == (0, 1)
    assert verified.json["facts"]["record"]["name"] == "企**"
    piped = run("prove", files[0], "--row", "2")
    assert piped.out.encode() == Path("p.json").read_bytes()
    text = piped.out.replace('"index":1', '"index":0')
    Path("p.json").write_text(text, encoding="utf-8")
    assert run("verify", "p.json").code == 6


def test_the_values_of_a_record_are_hidden_unless_asked_for(
    files: tuple[Path, Path], run: Run
) -> None:
    assert run("prove", files[0], "--key", f"uscc={uscc(2)}", "--to", "p.json").code == 0
    for options in (("--report", "hidden.html"), ("--json",), ("--report", "all.html", "--json")):
        out = run("verify", "p.json", *options).out
        assert "企**" in out
        assert not any(value in out for value in ("企业2", uscc(2)))
    assert "--reveal" in run("verify", "p.json").out
    for page in ("hidden.html", "all.html"):
        text = Path(page).read_text(encoding="utf-8")
        assert ("企**" in text, "企业2" in text, uscc(2) in text) == (True, False, False)
    clear = run("verify", "p.json", "--reveal", "--report", "clear.html")
    assert "name 企业名称 = 企业2" in clear.out
    assert "企业2" in Path("clear.html").read_text(encoding="utf-8")
    revealed = run("verify", "p.json", "--reveal", "--json").json["facts"]["record"]
    assert revealed["uscc"] == uscc(2)
    assert revealed["cd_operation"] == "I"


def test_prove_refuses(files: tuple[Path, Path], run: Run) -> None:
    assert run("prove", files[0]).code == 64
    assert run("prove", files[0], "--row", "1", "--key", "name=x").code == 64
    assert run("prove", files[0], "--key", "name", lang="zh").code == 64
    assert run("prove", files[0], "--row", "6").code == 1
    assert run("prove", files[0], "--key", "name=谁").code == 1
    assert run("prove", files[1], "--row", "1").code == 6
    assert run("prove", files[0], "--row", "1", "--to", "no/such/p.json").code == 3
