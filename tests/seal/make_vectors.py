"""Make ``tests/vectors/batch`` anew: ``python -m tests.seal.make_vectors``.

Keys, serial numbers and signatures are fresh each time, and then thrown away; everything else
stays. Change the vectors only together with the format.
"""

from __future__ import annotations

from pathlib import Path

from exchange.seal.batch.prove import prove
from exchange.seal.crypto.der import to_pem
from exchange.seal.crypto.suites import SUITES
from tests.seal.samples import sealed, sealers

FOLDER = Path(__file__).parent.parent / "vectors/batch"
ROWS = 5
PROVED = 3


def main() -> None:
    """Write a sealed batch, the proof of its third record and the root to trust, per suite."""
    FOLDER.mkdir(exist_ok=True)
    for suite in SUITES:
        data = sealed(ROWS, suite).data
        (FOLDER / f"{suite}.avro").write_bytes(data)
        (FOLDER / f"{suite}.proof.json").write_bytes(prove(data, row=PROVED))
        (FOLDER / f"{suite}.root.pem").write_bytes(to_pem("CERTIFICATE", sealers(suite)[1]))


if __name__ == "__main__":
    main()
