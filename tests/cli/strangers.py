"""Files of every kind as a stranger gets them, cut from the committed vectors."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from dataclasses import dataclass
from pathlib import Path

from exchange.evidence.audit_report import issue_report
from exchange.evidence.package import Package, unwrap
from exchange.seal.checks import Check, Verification
from exchange.seal.crypto.der import to_pem
from exchange.text import Text
from tests.receipt.seals import NOW, make_party

VECTORS = Path(__file__).parents[1] / "vectors"
FORMATS = {
    name: b64decode(value)
    for name, value in json.loads(
        (VECTORS / "seal/formats/sm2-sm3.json").read_text(encoding="utf-8")
    ).items()
}
"""A signature and a seal of each version, their content, root, chain and revocation lists."""


@dataclass(frozen=True)
class Stranger:
    """A folder with one file of each kind, under names that say nothing, and what he trusts."""

    folder: Path

    @property
    def kinds(self) -> dict[str, Path]:
        names = ("batch", "receipt", "proof", "package", "checkpoint", "seal", "signature", "audit")
        return {name: self.folder / str(number) for number, name in enumerate(names)}

    @property
    def options(self) -> list[str]:
        """Everything that verifying all of them takes."""
        roots = [f"--trust={self.folder / name}" for name in ("sm2-sm3.root.pem", "node.root.pem")]
        roots += [f"--trust={self.folder / name}" for name in ("maker.pem", "auditor.pem")]
        return [
            *roots,
            f"--province={self.folder / 'province.root.pem'}",
            f"--chain={self.folder / 'chain.pem'}",
            f"--content={self.folder / 'content'}",
            "--at=2026-11-23T01:02:04Z",
        ]


def stranger(folder: Path) -> Stranger:
    """Write the files."""
    result = Stranger(folder)
    package = (VECTORS / "evidence/record.evidence").read_bytes()
    parts = Package.from_bytes(unwrap(package))
    data = {
        "batch": (VECTORS / "batch/sm2-sm3.avro").read_bytes(),
        "receipt": parts.receipt,
        "proof": (VECTORS / "batch/sm2-sm3.proof.json").read_bytes(),
        "package": package,
        "checkpoint": (VECTORS / "evidence/log/checkpoint").read_bytes(),
        "seal": FORMATS["seal v4"],
        "signature": FORMATS["signature v4"],
    }
    auditor = make_party("auditor")
    data["audit"] = issue_report(
        Verification((Check("log.entries", ok=True, text=Text("", "")),)),
        auditor.sealer,
        node="232700",
        origin="data.dxal.example/evidence",
        program="1",
        at=NOW,
    )
    (folder / "auditor.pem").write_bytes(to_pem("CERTIFICATE", auditor.root))
    for kind, path in result.kinds.items():
        path.write_bytes(data[kind])
    for root in ("batch/sm2-sm3.root.pem", "evidence/node.root.pem", "evidence/province.root.pem"):
        path = VECTORS / root
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "maker.pem").write_bytes(to_pem("CERTIFICATE", FORMATS["root"]))
    chain = [FORMATS["chain"]]
    chain += [item.read_bytes() for item in (VECTORS / "evidence/log/certificates").iterdir()]
    pem = b"".join(to_pem("CERTIFICATE", entry) for entry in chain)
    (folder / "chain.pem").write_bytes(pem)
    (folder / "content").write_bytes(FORMATS["content"])
    return result


def write_proof(path: Path, hashes: list[bytes]) -> None:
    """Write a consistency proof, a hash a line."""
    path.write_bytes(b"".join(b64encode(item) + b"\n" for item in hashes))
