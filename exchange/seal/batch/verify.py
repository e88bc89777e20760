"""Verify a sealed batch, or the proof of one record, offline and step by step.

In: bytes, and the root certificates that the reader trusts. Out: a ``Verification`` with every
check that the tables below name, in their order, then those of the electronic seal. Nothing
is raised for bad input, whatever its bytes; where a part cannot be read, the checks that
depend on it are listed as not reached.

What a pass means: the records are those, and in the order, that the department's seal was put
on; no byte of the file can be otherwise. Whether certificates were revoked is judged by the
lists that the reader brings, and noted as unknown without them. What is left to the reader:
whether ``previous`` continues the chain of batches known so far.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, TypeVar

from exchange.seal.batch import tree
from exchange.seal.batch.container import (
    SYNC_SIZE,
    Container,
    decompress,
    unpack_lengths,
)
from exchange.seal.batch.owner import SealOwner
from exchange.seal.batch.prove import Proof
from exchange.seal.batch.reading import count
from exchange.seal.batch.rows import read_record
from exchange.seal.batch.schema import OPERATIONS, Schema, parse_schema
from exchange.seal.batch.statement import Statement
from exchange.seal.checks import Check, Verification
from exchange.seal.crypto.suites import SUITES, Suite
from exchange.seal.eseal.signature import check_signature
from exchange.seal.pki.trust import Trust
from exchange.text import Text

if TYPE_CHECKING:
    from exchange.seal.batch.avro import Ints

T = TypeVar("T")

_STATEMENT = {
    "statement": Text("声明是规范的 JSON", "the statement is canonical JSON of the known form"),
    "statement.suite": Text("声明的密码套件受支持", "the suite of the statement is supported"),
    "schema": Text("Avro 模式可读", "the Avro schema can be read"),
    "schema.fingerprint": Text("模式的指纹与声明一致", "the schema is the one of the statement"),
}
BATCH_CHECKS: Mapping[str, Text] = {
    "container": Text("文件正是其各部分写成的字节", "the file is what its parts make, to the byte"),
    **_STATEMENT,
    "payload": Text("压缩块的杂凑值与声明一致", "the compressed block is as stated"),
    "block": Text("压缩块可解压", "the block can be decompressed"),
    "lengths": Text("记录长度表覆盖整个数据块", "the record lengths cover the whole block"),
    "records": Text("每条记录都符合模式", "every record is what the schema says, to the byte"),
    "rows": Text("记录数与声明一致", "there are as many records as stated"),
    "operations": Text("增改删条数与声明一致", "inserts, updates and deletes are as stated"),
    "root": Text("记录的默克尔根与声明一致", "the salted records have the root of the statement"),
    "sync": Text("同步标记取自默克尔根", "the synchronisation marker is taken from the root"),
}
PROOF_CHECKS: Mapping[str, Text] = {
    "proof": Text("证明是规范的 JSON", "the proof is canonical JSON of the known form"),
    **_STATEMENT,
    "record": Text("记录符合模式", "the record is what the schema says, to the byte"),
    "size": Text("树的大小等于声明的记录数", "the tree has as many leaves as there are records"),
    "root": Text("记录沿路径到达声明的根", "the path leads from the record to the stated root"),
}
_SIGNATURE = Text("电子签章", "the electronic signature")


@dataclass(frozen=True, slots=True)
class BatchVerification(Verification):
    """All checks of a sealed batch, and its statement as far as it can be read."""

    statement: Statement | None = None


def verify_batch(
    data: bytes,
    *,
    trust: Trust,
) -> BatchVerification:
    """Make all checks of a sealed batch."""
    steps = _Steps(BATCH_CHECKS)
    container = steps.read("container", lambda: Container.from_bytes(data))
    if container is None:
        return BatchVerification(steps.all())
    again = container.to_bytes()
    if again != data:
        at = _difference(again, data)
        expected, found = (part[at : at + 16].hex() for part in (again, data))
        steps.equal("container", f"at byte {at}: {expected}", f"at byte {at}: {found}")
    statement, suite = _read_statement(steps, container.statement)
    schema = _read_schema(steps, container.schema, statement)
    records, offsets = _read_records(steps, container)
    counts = None
    if offsets is not None and schema is not None:
        counts = steps.read("records", lambda: count(records, offsets, schema))
    if statement is not None:
        steps.equal("rows", statement.rows, container.rows)
        if counts is not None:
            stated = (statement.inserts, statement.updates, statement.deletes)
            steps.equal("operations", _printed(stated), _printed(counts))
        root = bytes.fromhex(statement.root)
        steps.equal("sync", root[:SYNC_SIZE].hex(), container.sync.hex())
    if statement is not None and suite is not None:
        steps.equal("payload", statement.payload, suite.digest(container.payload).hex())
        if offsets is not None:
            steps.equal("root", statement.root, _root(suite, container.salt, records, offsets))
        steps.signature = check_signature(
            container.seal,
            container.statement,
            suite=suite,
            property_info=statement.property_info,
            chain=container.chain,
            trust=trust,
        )
    facts = _facts(statement) | steps.owner(container.seal, statement, trust)
    return BatchVerification(steps.all(), container.rows, facts, statement)


def verify_proof(
    data: bytes,
    *,
    trust: Trust,
) -> Verification:
    """Make all checks of a proof, without the batch it comes from; see ``prove``.

    The facts hold the record itself besides the statement. For the rest see ``verify_batch``.
    """
    steps = _Steps(PROOF_CHECKS)
    proof = steps.read("proof", lambda: Proof.from_bytes(data))
    if proof is None:
        return Verification(steps.all())
    statement, suite = _read_statement(steps, proof.statement)
    schema = _read_schema(steps, proof.schema.encode(), statement)
    record = None
    if schema is not None:
        record = steps.read("record", lambda: read_record(proof.record, schema))
    if statement is not None:
        steps.equal("size", statement.rows, proof.size)
    if statement is not None and suite is not None:
        root = steps.read("root", lambda: proof.root(suite).hex())
        if root is not None:
            steps.equal("root", statement.root, root)
        steps.signature = check_signature(
            proof.seal,
            proof.statement,
            suite=suite,
            property_info=statement.property_info,
            chain=proof.chain,
            trust=trust,
        )
    owner = steps.owner(proof.seal, statement, trust)
    facts = {**_facts(statement), **owner, "index": proof.index, "record": record}
    return Verification(steps.all(), rows=1, facts=facts)


class _Steps:
    """The checks made so far, by name; what was never made becomes "not reached"."""

    def __init__(self, table: Mapping[str, Text]) -> None:
        self.table = table
        self.checks: dict[str, Check] = {}
        self.signature: list[Check] | None = None

    def note(self, name: str, *, ok: bool, expected: str = "", found: str = "") -> None:
        if ok:
            expected = found = expected if expected == found else ""
        self.checks[name] = Check(name, ok, self.table[name], expected[:400], found[:400])

    def equal(self, name: str, expected: object, found: object) -> None:
        self.note(name, ok=expected == found, expected=str(expected), found=str(found))

    def read(self, name: str, read: Callable[[], T]) -> T | None:
        """Read a part; note whether that was possible."""
        try:
            value = read()
        except ValueError as error:
            self.note(name, ok=False, expected=self.table[name].en, found=str(error))
            return None
        self.note(name, ok=True)
        return value

    def owner(self, seal: bytes, statement: Statement | None, trust: Trust) -> dict[str, object]:
        """Check whose seal it is, last of all, and return what is to be shown of it."""
        owner = SealOwner.of(seal)
        if owner is None:
            return {}
        if self.signature is not None and statement is not None:
            self.signature.append(owner.check(statement, trust))
        return owner.facts()

    def all(self) -> tuple[Check, ...]:
        broken = next((n for n in self.table if n in self.checks and not self.checks[n].ok), "")
        reason = f"not reached because {broken} failed"
        checks = [
            self.checks.get(name) or Check(name, ok=False, text=text, found=reason)
            for name, text in self.table.items()
        ]
        if self.signature is None:
            checks.append(Check("signature", ok=False, text=_SIGNATURE, found=reason))
        return (*checks, *(self.signature or ()))


def _read_statement(steps: _Steps, data: bytes) -> tuple[Statement | None, Suite | None]:
    statement = steps.read("statement", lambda: Statement.from_bytes(data))
    if statement is None:
        return None, None
    suite = SUITES.get(statement.suite)
    known = " / ".join(SUITES)
    steps.note("statement.suite", ok=suite is not None, expected=known, found=statement.suite)
    return statement, suite


def _read_schema(steps: _Steps, data: bytes, statement: Statement | None) -> Schema | None:
    schema = steps.read("schema", lambda: parse_schema(data.decode()))
    if schema is not None and statement is not None:
        steps.equal("schema.fingerprint", statement.schema, schema.fingerprint)
    return schema


def _read_records(steps: _Steps, container: Container) -> tuple[bytes, Ints | None]:
    """Decompress the records and find their boundaries."""
    block = steps.read("block", lambda: decompress(container.payload))
    if block is None:
        return b"", None
    return block, steps.read(
        "lengths",
        lambda: unpack_lengths(container.lengths, rows=container.rows, size=len(block)),
    )


def _printed(counts: Sequence[int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in zip(OPERATIONS, counts, strict=True))


def _root(suite: Suite, seed: bytes, records: bytes, offsets: Ints) -> str:
    if len(offsets) == 1:
        return "no records"
    salts = tree.salts(suite, seed, len(offsets) - 1)
    return tree.records_root(suite, records, offsets, salts).hex()


def _facts(statement: Statement | None) -> dict[str, object]:
    return {} if statement is None else {**asdict(statement)}


def _difference(one: bytes, other: bytes) -> int:
    """Return the position of the first byte that differs."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))
