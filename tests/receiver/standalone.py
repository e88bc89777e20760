"""A receiver in a process of its own: ``python -m tests.receiver.standalone FOLDER [PORT]``."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from exchange.receiver.serve import run_receiver
from exchange.seal.eseal.folder import open_sealer, read_certificates
from exchange.seal.pki.trust import Trust
from tests.receiver.province import make_settings


def main(folder: Path, port: int = 0) -> None:
    run_receiver(
        make_settings(
            folder,
            f"sqlite:///{folder / 'province.db'}",
            port=port,
            share_port=True,
            trust=Trust(read_certificates(folder / "prefecture.pem")),
        ),
        sealer=open_sealer(folder / "seal", environ={}),
        clock=lambda: datetime.now(UTC),
        entropy=os.urandom,
        announce=lambda line: print(line, flush=True),  # noqa: T201 (what is tested)
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
