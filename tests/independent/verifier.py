"""A second verifier, written from docs/sealed-batch.md and docs/evidence.md alone.

    python -m tests.independent.verifier --root R.pem [--province P.pem] FILE...

FILE: a batch, a proof, a receipt (after its batch or a proof from it), an evidence package, a
checkpoint (beside its `certificates/`) or the folder of a log. What the first page says is in
`sealed_batch.py`; here is the second (a § is one of it). A package with revocation lists is
refused, for nothing here reads them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import zlib
from datetime import UTC, datetime, timedelta
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from asn1crypto import pem
from asn1crypto.x509 import Certificate

from tests.independent import sealed_batch as page

LATE = timedelta(minutes=10)
# fmt: off
NAME, SIZE = "[!-*,-~]{1,128}", "(?:0|[1-9][0-9]{0,15})"
ENVELOPE: page.Form = {
    "exchange-receipt-envelope-1": "format", dict: "receipt", str: "seal", list: "chain"}
RECEIPT: page.Form = page.BATCH | {
    "exchange-receipt-1": "format", "|".join(page.SUITES): "suite", page.TIME: "received_at",
    "[0-9A-Za-z-]{1,64}": "receipt_no", page.HEX: "root statement",
    f"{NAME} {SIZE} {page.HEX}": "log?",
    page.TEXT: "resource_code code message province", int: "rows_sent rows_accepted rows_rejected"}
ENTRY: page.Form = page.BATCH | {
    f"sm3:{page.HEX}": "digest", int: "lane", "statement|receipt|refusal": "type"}
UNSEALED: dict[str, page.Form] = {
    "messages": {
        f"sm3:{page.HEX}": "digest", int: "count first lane next version",
        "[0-9a-f]{32}": "log", "[A-Za-z0-9._-]{1,249}": "topic", "messages": "type"},
    "pull": {
        f"sm3:{page.HEX}": "digest", int: "done offset rows version", "[0-9a-f]{32}": "log",
        "[0-9A-Za-z.-]{0,64}": "pull", "[a-z][a-z0-9_]{0,47}": "source", ".*": "type"},
    "retention": {
        f"sm3:{page.HEX}": "digest", int: "count first lane next rows version",
        "[0-9a-f]{32}": "log", "[A-Za-z0-9._-]{1,249}": "topic", "[0-9A-Za-z.-]{0,64}": "pull",
        "retention": "type"},
    "audit": {
        "[a-z0-9]{2,16}:[0-9a-f]{40,128}": "digest trail", int: "number version", ".*": "type"}}
PACKAGE: page.Form = {
    "exchange-evidence-1": "format", dict: "proof receipt statement_leaf receipt_leaf",
    list: "certificates checkpoint_chain revocation", str: "checkpoint"}
PROOF: page.Form = {
    "[0-9a-f]{32}": "salt", int: "index size", dict: "statement", list: "chain",
    str: "path record seal schema"}
LEAF: page.Form = {int: "index", str: "path"}
SECOND: page.Form = {int: "index shared", str: "path"}
NOTE = (rf"(({NAME})\n({SIZE})\n(.{{44}})\ntime ({page.TIME})\n)\n"
        rf"((?:— {NAME} [^ \n]+\n){{1,16}})")
# fmt: on


class Checkpoint(NamedTuple):
    """What a checkpoint says; when witnesses signed it; the certificates that it takes."""

    size: int
    root: bytes
    time: datetime
    witnessed: list[datetime]
    used: set[bytes]


def key_id(name: str, label: str, signer: bytes) -> bytes:
    key = Certificate.load(signer).public_key
    what = f"exchange-{label}/{page.suite_of(signer)}\n".encode()
    return hashlib.sha256(name.encode() + b"\n\xff" + what + key.dump()).digest()[:4]


class Verifier(page.Verifier):
    """Verifies what either page describes."""

    def receipt(self, data: bytes) -> None:
        """Verify a receipt (§8 of the other page) to a statement that held before."""
        envelope = page.parsed(data, ENVELOPE, 256 << 10)
        receipt = page.parsed(page.canonical(envelope["receipt"]), RECEIPT)
        of = self.statements[receipt["resource"], receipt["batch_no"]]
        digest = page.h(of["suite"], page.canonical(of)).hex()
        page.must(receipt["statement"] == digest, "another statement")
        same = [receipt[key] == of[key] for key in ("resource_code", "root")]
        page.must(all(same) and receipt["code"] == "200", "another batch, or no success")
        done = receipt["rows_accepted"] + receipt["rows_rejected"]
        page.must(of["rows"] == receipt["rows_sent"] == done, "the numbers of rows")
        sealed, received = map(datetime.fromisoformat, (of["sealed_at"], receipt["received_at"]))
        page.must(received >= sealed - LATE, "received before it was sealed")
        name = f"urn:gds:receipt:{receipt['receipt_no']};canon=jcs"
        content, suite = page.canonical(receipt), receipt["suite"]
        by = {"chain": envelope["chain"], "roots": self.province}
        self.seal(envelope["seal"], content, suite, name, **by)

    def checkpoint(self, data: bytes, pool: list[bytes]) -> Checkpoint:
        """Verify every line of a checkpoint (§4)."""
        page.must(len(data) <= 16 << 10, "too large")
        (parts,) = re.findall(NOTE, data.decode())
        text, origin, size, root, time, lines = parts
        page.must(f"{text}\n{lines}" == data.decode(), "something before or after")
        names: list[str] = []
        times, used = [datetime.fromisoformat(time)], set[bytes]()
        for line in lines.split("\n")[:-1]:
            _, name, coded = line.split(" ")
            blob = page.unbase64(coded)
            message, signature, label, roots = text, blob[4:], "log", self.roots
            if names:
                seconds, signature = int.from_bytes(blob[4:12]), blob[12:]
                message = f"cosignature/v1\ntime {seconds}\n{text}"
                label, roots = "cosignature", self.province
                times.append(datetime.fromtimestamp(seconds, UTC))
            names.append(name)
            signer = next(item for item in pool if key_id(name, label, item) == blob[:4])
            page.signed(signer, message.encode(), signature)
            used |= {signer} | page.way(signer, times[-1], pool, roots)
        page.must(names[0] == origin and len(set(names)) == len(names), "the names of the signers")
        return Checkpoint(int(size), page.unbase64(root), times[0], times[1:], used)

    def log(self, folder: Path) -> None:
        """Compute the tree of a folder (§3) again, for each of its checkpoints."""
        pool = [file.read_bytes() for file in sorted((folder / "certificates").iterdir())]
        items = [file for file in (folder / "checkpoints").rglob("*") if file.is_file()]
        notes = {file.read_bytes() for file in (*items, *folder.glob("witnessed"))}
        newest = self.checkpoint((folder / "checkpoint").read_bytes(), pool)
        leaves: list[bytes] = []
        while len(leaves) < newest.size:
            number = re.findall("...", f"{len(leaves) // 256:09}")
            file = folder / "tile/entries" / re.sub("^(x000/)+", "", "x{}/x{}/{}".format(*number))
            width = min(256, newest.size - len(leaves))
            part = file.with_name(f"{file.name}.p") / str(width)
            stream = BytesIO((part if part.exists() else file).read_bytes())
            for _ in range(width):
                entry = stream.read(int.from_bytes(stream.read(2)))
                value = page.parsed(entry, UNSEALED.get(json.loads(entry)["type"], ENTRY))
                page.must(value.get("version", 2) == 2 and value.get("done", 0) < 2, "a number")
                leaves.append(page.h("sm3", b"\0", page.canonical(value)))
        page.must(len(set(leaves)) == len(leaves), "an entry stands twice")
        for item in (newest, *(self.checkpoint(note, pool) for note in notes)):
            page.must(page.tree("sm3", leaves[: item.size]) == item.root, "another tree")

    def package(self, data: bytes) -> None:
        """Verify a package (§7): a proof, a receipt and a checkpoint, put together again."""
        unzip = zlib.decompressobj(31)
        package = page.parsed(unzip.decompress(data, 8 << 20), PACKAGE)
        page.must(data.startswith(bytes.fromhex("1f8b08000000000002ff")), "another header")
        page.must(unzip.eof and not unzip.unused_data, "not one member")
        page.must(not package["revocation"], "revocation lists cannot be read here")
        table, proof, receipt = (package[key] for key in ("certificates", "proof", "receipt"))
        uses = (proof["chain"], receipt["chain"], package["checkpoint_chain"])
        order = list(dict.fromkeys(chain(*uses)))
        page.must(order == list(range(len(set(table)))) and len(order) == len(table), "the table")
        chains = [[table[place] for place in use] for use in uses]
        hashes = page.unbase64(page.parsed(page.canonical(proof), PROOF)["path"]).hex()
        steps = [hashes[at : at + 64] for at in range(0, len(hashes), 64)]
        proof |= {"format": "exchange-proof-1", "path": steps, "chain": chains[0]}
        statement = self.proof(page.canonical(proof))
        envelope = page.canonical(receipt | {"chain": chains[1]})
        self.receipt(envelope)

        pool = [page.unbase64(text) for text in chains[2]]
        note = self.checkpoint(package["checkpoint"].encode(), pool)
        page.must(set(pool) <= note.used and len(table) <= 32, "certificates of no path")
        page.must(len(set(pool)) == len(pool), "a certificate twice")
        page.must(min(note.witnessed) >= note.time - LATE, "witnessed before it was made")
        sealed = datetime.fromisoformat(statement["sealed_at"])
        page.must(note.time >= sealed - LATE, "a checkpoint before the statement")
        first = page.parsed(page.canonical(package["statement_leaf"]), LEAF)
        second = page.parsed(page.canonical(package["receipt_leaf"]), SECOND)
        path, own = page.unbase64(first["path"]), page.unbase64(second["path"])
        keep = len(path) - 32 * second["shared"]
        page.must(keep >= 0 and (not own or path[:keep][-32:] != own[-32:]), "what is shared")
        for kind, content, index, whole in (
            ("statement", page.canonical(statement), first["index"], path),
            ("receipt", envelope, second["index"], own + path[keep:]),
        ):
            entry = {key: statement[key] for key in ("batch_no", "lane", "resource")}
            entry |= {"type": kind, "digest": "sm3:" + page.h("sm3", content).hex()}
            leaf = page.h("sm3", b"\0", page.canonical(entry))
            root = page.climb("sm3", leaf, index, note.size, whole)
            page.must(root == note.root, f"the {kind} is not in the log")

    def verify(self, data: bytes, beside: Path) -> None:
        """Verify a file, whatever it is; raise what is wrong with it."""
        if data.startswith(b"Obj"):
            self.batch(data)
        elif data.startswith(b"\x1f\x8b"):
            self.package(data)
        elif not data.startswith(b"{"):
            certificates = (beside / "certificates").iterdir()
            self.checkpoint(data, [file.read_bytes() for file in certificates])
        elif b'"format":"exchange-proof-1"' in data:
            self.proof(data)
        else:
            self.receipt(data)


def main() -> int:
    """Print one line for each file; return 1 where one does not verify."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--root", action="append", type=Path, required=True)
    options.add_argument("--province", action="append", type=Path)
    options.add_argument("files", nargs="+", type=Path, metavar="FILE")
    args, status = options.parse_args(), 0
    roots = [pem.unarmor(file.read_bytes())[2] for file in args.root]
    province = [pem.unarmor(file.read_bytes())[2] for file in args.province or args.root]
    verifier = Verifier(roots, province)
    for file in args.files:
        try:
            if file.is_dir():
                verifier.log(file)
            else:
                verifier.verify(file.read_bytes(), file.parent)
        except Exception as error:  # noqa: BLE001 (whatever a stranger's bytes break: refused)
            status = 1
            print("refused ", file, f"{type(error).__name__}: {error}")  # noqa: T201
        else:
            print("verified", file)  # noqa: T201
    return status


if __name__ == "__main__":
    sys.exit(main())
