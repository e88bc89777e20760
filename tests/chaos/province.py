"""The province as a process: the real receiver behind faults, served until SIGTERM.

``python -m tests.chaos.province FOLDER PORT``; the file ``fault.txt`` in the node's folder names
the fault of the moment.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from exchange.cli.receiver import receiver_options
from exchange.durable import remove_parts
from exchange.node.node import Node
from exchange.receiver.app import create_app
from exchange.receiver.serve import serve
from exchange.store.database import open_store
from tests.pipeline.place import Place, now
from tests.receiver.faults import Fault, FaultyProvince

FILE = "fault.txt"


class _FaultOfFile(FaultyProvince):
    """Has the fault that stands in a file."""

    file: Path

    def _next(self) -> Fault:
        return Fault(self.file.read_text()) if self.file.exists() else Fault.NONE


def main(folder: Path, port: int) -> None:
    place = Place(folder)
    settings = receiver_options(place.province, os.environ, port=port)
    assert place.province.receiver is not None
    sealer = Node(place.province).seals.open(place.province.receiver.seal)
    with contextlib.closing(open_store(settings.store, clock=now, migrate=True)) as store:
        remove_parts(settings.folder)
        app = create_app(settings, store=store, sealer=sealer, clock=now, entropy=os.urandom)
        faulty = _FaultOfFile(app, sealer, sealer, clock=now)
        faulty.file = folder / FILE
        serve(faulty, host="127.0.0.1", port=port, announce=lambda _: None)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
