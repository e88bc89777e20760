"""Every way to tamper that we can think of, by its name, with the name of what has to tell it.

A case shows what is right and what is not to the same one (:mod:`tests.tamper.hands`).
"""

from __future__ import annotations

from typing import Final

from exchange.seal.eseal.lifecycle import SealState
from tests.tamper import logged, sealed
from tests.tamper.cases import cases

LOGGED: Final = (4,)
CORPUS: Final = (
    *cases("batch", sealed.batch, sealed.BATCH),
    *cases("batch", sealed.cancelled(3), sealed.CANCELLED),
    *cases("batches", sealed.three, sealed.SEVERAL),
    *cases("receipt", sealed.receipt, sealed.RECEIPT),
    *cases("proof", sealed.proof, sealed.PROOF),
    *cases("seal", sealed.seal, sealed.SEAL),
    *cases("time stamp", sealed.stamped, sealed.STAMP),
    *cases("package", logged.package, logged.PACKAGE),
    *cases("register", sealed.registered(SealState.IN_USE), sealed.REGISTER, LOGGED),
    *cases("checkpoint", logged.checkpoint, logged.CHECKPOINT, LOGGED),
    *cases("checkpoints of two", logged.grown, logged.TWO, LOGGED),
    *cases("log", logged.folder, logged.LOG, LOGGED),
    *cases("witness", logged.asked, logged.WITNESS, LOGGED),
)
