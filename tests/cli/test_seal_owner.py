"""A seal that is not its department's: refused at the node, at the province, by `verify`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from exchange.run.runner import Runner
from tests.cli.conftest import Run, grades, open_node, serving

OWNER, OTHER = "11232700MB1C531139", "11430000006122244L"
DELEGATION = 'delegations: [{{seal: "23270000000001", department: {}, until: {}, reason: 协议3}}]\n'


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_a_seal_of_somebody_else_needs_a_delegation_everywhere(folder: Path, run: Run) -> None:
    change(folder / "catalog.yaml", OWNER, OTHER)
    refused = run("run", "--once", "--json")
    assert refused.code == 3
    error = refused.json["errors"]["seal/companies"]
    assert error["error"] == "Misconfigured"
    assert OWNER in str(error)
    hint = f'{{seal: "23270000000001", department: {OTHER}, until: LAST-DAY'
    assert hint in run("run", "--once", "--only", "seal").err
    assert run("cascade", "list", "--json").json["deliveries"] == []
    assert grades(run("doctor", "--json"))["source companies"] == "fail"

    settings = folder / "exchange.yaml"
    plain = settings.read_text(encoding="utf-8")
    settings.write_text(plain + DELEGATION.format(OTHER, "2026-01-01"), encoding="utf-8")
    assert run("run", "--once", "--only", "seal").code == 3, "its last day is over"
    settings.write_text(plain + DELEGATION.format(OTHER, "2099-12-31"), encoding="utf-8")
    assert run("run", "--once", "--only", "seal").code == 0

    province = folder / "province" / "exchange.yaml"
    with serving(folder):
        waits = run("run", "--once", "--only", "cascade", "--json")
        assert (waits.code, waits.json["waiting"]) == (1, 0), "the seal is not its department's"
    (row,) = run("cascade", "list", "--json").json["deliveries"]
    assert (row["state"], row["code"]) == ("refused", "422")
    assert "seal.owner" in row["reason"]
    assert run("cascade", "retry", "companies").code == 0
    ours = re.sub("^delegations", "      delegations", DELEGATION.format(OTHER, "2099-12-31"))
    change(province, "      origins:", f"{ours}      origins:")
    with serving(folder):
        waits = run("run", "--once", "--only", "cascade", "--json")
        assert (waits.code, waits.json["waiting"]) == (5, 1), "403: another department"
    (item,) = run("status", "--json").json["attention"]
    assert item["do"] == "exchange cascade list companies --state waiting"
    assert "403" in item["what"]["en"]
    change(province, f"departments: [{OWNER}]", f"departments: [{OTHER}]")
    with serving(folder), open_node() as node:
        node.clock = lambda: datetime.now(UTC) + timedelta(minutes=6)  # its wait is over
        assert Runner(node).once().receipts == 1, "nothing is typed at the node"

    assert run("cascade", "export", "companies", row["batch_no"], "--to", "x").code == 0
    files = sorted(map(str, Path("x").iterdir()))
    own = run("verify", *files)
    assert own.code == 0, "the node's own settings name the delegation"
    assert "协议3" in own.out
    for words in ("signer", f"owner  {OWNER}", f"department  {OTHER}"):
        assert words in own.out
    roots = ("--trust", "seals/root.pem", "--province", "province/seal/root.pem")
    stranger = run("verify", *files, *roots)
    assert stranger.code == 6
    assert "seal.owner" in stranger.out
    assert run("verify", *files, *roots, "--delegated", f"23270000000001={OTHER}").code == 0
    assert run("verify", *files, "--delegated", "23270000000001").code == 64
