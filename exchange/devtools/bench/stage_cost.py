"""What each step and stage costs in CPU, one after the other in this process, on the same rows.

A *step* calls functions that a stage calls, and nothing else. A *stage* runs with its reading and
writing of the log, over all rows: what it takes beyond its steps is the price of durability.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import polars as pl

from exchange.catalog.avro import schema_text
from exchange.catalog.model import Resource
from exchange.devtools.bench.evidence_cost import sealers
from exchange.devtools.bench.measure import median
from exchange.log import Message, Topic, raw_topic, sealed_topic
from exchange.log.embedded.log import EmbeddedLog
from exchange.log.frames import decode_frame, encode_slices
from exchange.node.node import Node
from exchange.pipeline.context import CHUNK_ENTRIES
from exchange.run.runner import STAGES, Runner
from exchange.seal.batch import tree
from exchange.seal.batch.avro import parse_schema
from exchange.seal.batch.build import BatchFacts, Packed, build, pack
from exchange.seal.batch.columns import encode
from exchange.seal.batch.container import SEED_SIZE
from exchange.seal.batch.verify import verify_batch
from exchange.seal.crypto.hash_kernel import chosen
from exchange.seal.crypto.hash_python import PythonHashing, TreeHashing
from exchange.seal.eseal.signature import Sealer
from exchange.validate.claimed_keys import ClaimedKeys
from exchange.validate.validator import CheckResult, Validator, compile_resource

S = TypeVar("S")
T = TypeVar("T")

IN_PYTHON: Final = ", in Python"
"""Behind the names of the steps that hash without the compiled kernel."""


@dataclass(frozen=True, slots=True)
class StepCost:
    """CPU microseconds per row of one step, a median; ``spread`` is (least, most)."""

    name: str
    micros: float
    spread: tuple[float, float]
    rows: int


class _Times:
    """Seconds by step, of several rounds over the same rows."""

    def __init__(self) -> None:
        self._samples: dict[str, list[tuple[float, int]]] = {}

    def take(
        self, name: str, rows: int, work: Callable[[], T], *, without: tuple[str, ...] = ()
    ) -> T:
        """Do the work and note what it took, less what this round's ``without`` took."""
        start = time.process_time()
        result = work()
        seconds = time.process_time() - start
        seconds -= sum(self._samples[other][-1][0] for other in without)
        self._samples.setdefault(name, []).append((seconds, rows))
        return result

    def steps(self) -> Iterator[StepCost]:
        """Give each step in the order of the flow."""
        for name, samples in self._samples.items():
            micros = [seconds * 1e6 / rows for seconds, rows in samples]
            yield StepCost(name, median(micros), (min(micros), max(micros)), samples[0][1])


def steps(node: Node, source: str, rows: int, folder: Path, *, rounds: int = 3) -> list[StepCost]:
    """Measure every step on a source of ``rows`` rows; ``folder`` takes logs of the rounds."""
    times = _Times()
    seals = {name: sealer for name, (sealer, _) in sealers(node.clock()).items()}
    for number in range(rounds):
        gc.collect()
        log = EmbeddedLog(folder / f"steps-{number}.db", clock=node.clock)
        try:
            _round(node, source, rows, log=log, times=times, seals=seals)
        finally:
            log.close()
    return list(times.steps())


def _round(
    node: Node,
    source: str,
    rows: int,
    *,
    log: EmbeddedLog,
    times: _Times,
    seals: Mapping[str, Sealer],
) -> None:
    resource = node.context.resource(node.source_settings(source).resource)
    raw, sealed = raw_topic(resource.name), sealed_topic(resource.name)
    log.ensure([Topic(raw), Topic(sealed)])
    sealer = node.seals.of(resource)
    validator = compile_resource(resource, node.catalog.tables)
    schema = parse_schema(schema_text(resource))

    frames = times.take("read", rows, lambda: [item.frame for item in node.source(source).pull()])
    values = times.take(
        "raw: encode", rows, lambda: [data for f in frames for _, _, data in encode_slices(f)]
    )
    times.take("raw: append", rows, lambda: _append(log, raw, values))
    frames = times.take("raw: decode", rows, lambda: [decode_frame(data) for data in values])
    verdicts = times.take("validate", rows, lambda: _check(validator, frames))
    good = sum(len(verdict.accepted_rows) for verdict in verdicts)
    records = times.take("encode", good, lambda: [encode(e.accepted, schema) for e in verdicts])
    packed = times.take(
        "compress", good, lambda: [item for verdict in records for item in pack(verdict)]
    )
    seed = bytes(SEED_SIZE)
    for way, suffix in ((chosen().hashing, ""), (PythonHashing(), IN_PYTHON)):
        hash_leaves = partial(_leaves, way, sealer, seed)
        hashes = times.take(f"leaves{suffix}", good, partial(_all, hash_leaves, packed))
        hash_tree = partial(way.tree, sealer.suite, tree.NODE)
        times.take(f"tree{suffix}", good, partial(_all, hash_tree, hashes))
    facts = _facts(node, resource)
    batches = times.take(
        "sign, container",
        good,
        lambda: [build(item, facts, sealer=sealer, seed=seed).data for item in packed],
        without=("leaves", "tree"),
    )

    def seal(other: Sealer) -> None:
        for item in packed:
            build(item, facts, sealer=other, seed=seed)

    for name, other in seals.items():
        times.take(f"seal: {name}", good, partial(seal, other))
    times.take("append", good, lambda: _append(log, sealed, batches))
    trust = node.trust(node.settings.trust)
    result = times.take(
        "verify", good, lambda: [verify_batch(verdict, trust=trust) for verdict in batches]
    )
    assert all(verdict.ok for verdict in result)  # noqa: S101 - else the figures mean nothing


def _check(validator: Validator, frames: Sequence[pl.DataFrame]) -> list[CheckResult]:
    """Check as the seal stage does: several messages at once, keys of the pull kept."""
    today, claimed = datetime.now(UTC).date(), ClaimedKeys()
    verdicts: list[CheckResult] = []
    for start in range(0, len(frames), CHUNK_ENTRIES):
        chunk = pl.concat(frames[start : start + CHUNK_ENTRIES], rechunk=True)
        verdicts.append(validator.check(chunk, today=today, claimed=claimed))
        claimed = verdicts[-1].claimed
    return verdicts


def _all(work: Callable[[S], T], items: Sequence[S]) -> list[T]:
    return [work(item) for item in items]


def _leaves(hashing: TreeHashing, sealer: Sealer, seed: bytes, packed: Packed) -> bytes:
    records, suite = packed.records, sealer.suite
    salts = tree.salts(suite, seed, records.rows)
    return hashing.leaves(suite, tree.LEAF, bytes(records.data), records.offsets, salts)


def _append(log: EmbeddedLog, topic: str, values: Sequence[bytes]) -> None:
    """Append in transactions of the size that the stages make."""
    for start in range(0, len(values), CHUNK_ENTRIES):
        with log.transaction("bench") as tx:
            for value in values[start : start + CHUNK_ENTRIES]:
                tx.append(Message(topic, value))


def _facts(node: Node, resource: Resource) -> BatchFacts:
    now = node.clock()
    return BatchFacts(
        department=resource.department.code,
        resource=resource.name,
        resource_code=resource.code,
        catalog_version=node.catalog.version,
        catalog_digest=node.catalog.digest,
        batch_no=f"{now:%Y%m%d}00001",
        lane=0,
        previous="",
        pulled_at=now,
        sealed_at=now,
        source="bench",
        pull="bench",
        accepted=0,
        rejected=0,
    )


def loading_times(node: Node) -> dict[str, float]:
    """Run one stage after the other over everything; return CPU seconds by stage."""
    seconds = {}
    for stage in STAGES:
        start = time.process_time()
        outcome = Runner(node, stages=(stage,)).once()
        seconds[stage] = time.process_time() - start
        if error := outcome.error():
            raise error
    return seconds
