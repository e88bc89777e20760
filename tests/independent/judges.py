"""Both implementations as judges, and what the demo made for them to judge."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from exchange.errors import ExchangeError
from exchange.evidence import files
from exchange.seal.crypto.der import from_pem
from exchange.seal.pki.trust import Trust
from tests.independent import verifier
from tests.support.pages import ROOT


@dataclass
class Judges:
    """Both implementations, with the same trust; ``beside`` is where a checkpoint lies."""

    roots: list[bytes]
    province: list[bytes]
    beside: Path

    def __post_init__(self) -> None:
        pool = [file.read_bytes() for file in (self.beside / "certificates").iterdir()]
        self.ours = files.Verifier(
            files.Circumstances(
                trust=Trust(self.roots),
                province=Trust(self.province),
                at=datetime.now(UTC),
                chain=tuple(pool),
            )
        )
        self.second = verifier.Verifier(self.roots, self.province)

    def ours_takes(self, data: bytes) -> bool:
        try:
            return self.ours.verify("", data).ok
        except ExchangeError:  # of no known kind
            return False

    def second_takes(self, data: bytes) -> bool:
        try:
            self.second.verify(data, self.beside)
        except Exception:  # noqa: BLE001 (that is how it refuses)
            return False
        return True

    def both_take(self, data: bytes) -> None:
        self.second.verify(data, self.beside)
        verdict = self.ours.verify("", data)
        assert verdict.ok, verdict.verification.failed

    def both_refuse(self, data: bytes) -> None:
        assert (self.ours_takes(data), self.second_takes(data)) == (False, False)


def anchors(*names: Path) -> list[bytes]:
    return [from_pem(name.read_bytes())[0] for name in names]


@dataclass(frozen=True)
class Demo:
    """What the demo made, and packages and proofs from it."""

    judges: Judges
    log: Path
    batches: list[bytes]
    receipts: list[bytes]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
