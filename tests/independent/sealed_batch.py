"""Batches and proofs, verified as docs/sealed-batch.md says, and by nothing else.

A § is one of that page. What 300 lines do not hold is refused, never passed over: time stamps,
extension data and version 1 of seals, authorities with RSA. Of revocation nothing is said.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import tempfile
from contextlib import suppress
from datetime import datetime
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
from asn1crypto import parser, pem
from asn1crypto.x509 import Certificate
from backports import zstd
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

# fmt: off
SUITES: dict[str, Any] = {  # cipher; curve, signature as in DER; the hash as certList names it
    "sm2-sm3": (algorithms.SM4, "2a811ccf5501822d", "2a811ccf55018375",
                [b"1.2.156.10197.1.401", b"sm3"]),
    "ecdsa-p256-sha256": (algorithms.AES128, "2a8648ce3d030107", "2a8648ce3d040302",
                          [b"2.16.840.1.101.3.4.2.1", b"sha256", b"sha-256"])}
# The members of each object, by their form: a pattern of the text, or a type.
HEX, TEXT = "[0-9a-f]{64}", "(?s:.{0,1024})"
TIME = "(?:19[7-9][0-9]|[2-9][0-9]{3})-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{3}Z"
BATCH = {"[0-9]{13}": "batch_no", "[a-z][a-z0-9_]{0,127}": "resource"}
Form = dict[Any, str]
STATEMENT: Form = BATCH | {
    "exchange-statement-1": "format", "|".join(SUITES): "suite", "[0-9A-Z]{18}": "department",
    TEXT: "resource_code catalog_version catalog_digest source pull", f"sm3:{HEX}": "schema",
    HEX: "root payload", f"({HEX})?": "previous", TIME: "pulled_at sealed_at",
    int: "lane rows inserts updates deletes accepted rejected"}
PROOF: Form = {
    "exchange-proof-1": "format", "[0-9a-f]{32}": "salt", int: "index size", dict: "statement",
    list: "path chain", str: "record seal schema"}
TYPES: list[Any] = ["string", "long", "boolean", "double", {"type": "int", "logicalType": "date"},
                    {"type": "long", "logicalType": "timestamp-millis"}]
OPERATION, DECIMAL = ["cd_operation", "I", "U", "D"], {"type", "logicalType", "precision", "scale"}
FILE = fastavro.parse_schema({"type": "record", "name": "file", "fields": [
    {"name": "magic", "type": {"type": "fixed", "name": "magic", "size": 4}},
    {"name": "metadata", "type": {"type": "map", "values": "string"}},
    {"name": "sync", "type": {"type": "fixed", "name": "sync", "size": 16}},
    {"name": "rows", "type": "long"}, {"name": "payload", "type": "bytes"},
    {"name": "end", "type": "sync"}]})
METADATA = ["avro.schema", "avro.codec", "exchange.statement", "exchange.seal", "exchange.chain",
            "exchange.salt", "exchange.lengths"]
# fmt: on


def must(condition: object, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)


# --- one form of everything: JSON (§4), Base64, Avro (§2), DER --------------------------------


def canonical(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def parsed(data: bytes, form: Form, limit: int = 8 << 20) -> Any:
    """Read canonical JSON with these members, each of its form, and no others."""
    value = json.loads(data)
    must(len(data) <= limit and canonical(value) == data, "not canonical JSON")
    forms = {key: kind for kind, keys in form.items() for key in keys.split()}
    needed = {key for key in forms if key[-1] != "?"}
    must(needed <= value.keys() <= {key.strip("?") for key in forms}, "other members")
    for key, item in value.items():
        kind = forms.get(key) or forms[f"{key}?"]
        fits = re.fullmatch(kind, item) if isinstance(kind, str) else type(item) is kind
        limit = 10**10 if key == "lane" else 2**53
        must(fits and (kind is not int or 0 <= item < limit), f"the form of {key}")
        must(kind != TIME or datetime.fromisoformat(item), "the calendar")
    return value


def unbase64(text: str) -> bytes:
    data = base64.b64decode(text)
    must(base64.b64encode(data).decode() == text, "not the one spelling in Base64")
    return data


def decoded(data: bytes, schema: Any) -> Any:
    value, again = fastavro.schemaless_reader(BytesIO(data), schema, None), BytesIO()
    fastavro.schemaless_writer(again, schema, value)
    must(again.getvalue() == data, "not the one encoding in Avro")
    return value


def sequence(data: bytes, tags: str = "") -> list[bytes]:
    """Split a SEQUENCE in DER: SEQUENCEs in it whole, of other parts the content."""
    parts, found, (kind, method, tag, _, rest, _) = [], b"", parser.parse(data, strict=True)
    must(data[0] == 0x30 and parser.emit(kind, method, tag, rest) == data, "not a SEQUENCE in DER")
    while rest:
        whole, rest = rest[: parser.peek(rest)], rest[parser.peek(rest) :]
        kind, method, tag, _, content, _ = parser.parse(whole)
        must(parser.emit(kind, method, tag, content) == whole, "not in DER")
        parts.append(whole if method else content)
        found += whole[:1]
    must(not tags or found.hex(" ") == tags, "parts that are not understood")
    return parts


def schema_of(text: str) -> Any:
    """Read a schema of §2."""
    (operation, *fields), whole = json.loads(text)["fields"], json.loads(text)
    must(whole.keys() <= {"type", "name", "namespace", "doc", "fields"}, "the schema")
    must([operation["name"], *operation["type"]["symbols"]] == OPERATION, "the operation")
    for field in fields:
        kind, optional = field["type"], isinstance(field["type"], list)
        must(field.keys() <= {"name", "type", "doc", *["default"] * optional}, "an attribute")
        must(field.get("default") is None and (not optional or kind[0] == "null"), "no default")
        kind = kind[1] if optional else kind
        if kind not in TYPES:
            must(kind.keys() == DECIMAL and kind["logicalType"] == "decimal", "its type")
            must(0 <= kind["scale"] <= kind["precision"] <= 38, "the decimal")
    return fastavro.parse_schema(whole)


# --- hashes and trees (§3) --------------------------------------------------------------------


def moment(text: bytes) -> datetime:
    must(re.fullmatch(rb"[0-9]{14}([.][0-9]{1,6})?Z", text), "not a time")
    return datetime.strptime(f"{text[:14].decode()}Z", "%Y%m%d%H%M%S%z")


def h(suite: str, *parts: bytes) -> bytes:
    return hashlib.new(suite.rpartition("-")[2], b"".join(parts)).digest()


def tree(suite: str, level: list[bytes]) -> bytes:
    while len(level) > 1:
        pairs = [h(suite, b"\1", a, b) for a, b in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[len(pairs) * 2 :]
    return level[0] if level else h(suite)


def climb(suite: str, leaf: bytes, index: int, size: int, path: bytes) -> bytes:
    """Compute the root from a leaf and its path, as RFC 6962 §2.1.1 makes the path."""
    must(index < size and (size == 1) == (not path), "the path has another length")
    left, below, sibling = 1 << (size - 1).bit_length() >> 1, path[:-32], path[-32:]
    if not left:
        return leaf
    if index < left:
        return h(suite, b"\1", climb(suite, leaf, index, left, below), sibling)
    return h(suite, b"\1", sibling, climb(suite, leaf, index - left, size - left, below))


# --- signatures, certificates, seals (§6) -----------------------------------------------------


def suite_of(signer: bytes) -> str:
    curve = Certificate.load(signer).public_key["algorithm"]["parameters"].chosen.contents.hex()
    (suite,) = (name for name, (_, its, *_) in SUITES.items() if its == curve)
    return suite


@cache
def signed(signer: bytes, data: bytes, signature: bytes) -> str:
    """Verify a signature by the key of a certificate; return the suite of the key."""
    key, suite = Certificate.load(signer, strict=True).public_key, suite_of(signer)
    options = {"sm2-sm3": "sm3 -pkeyopt distid:1234567812345678"}.get(suite, "sha256")
    command = "openssl pkeyutl -verify -pubin -keyform DER -inkey key -in data -sigfile signature"
    with tempfile.TemporaryDirectory() as folder:
        for file, content in {"key": key.dump(), "data": data, "signature": signature}.items():
            Path(folder, file).write_bytes(content)
        whole = [*command.split(), "-rawin", "-digest", *options.split()]
        result = subprocess.run(whole, cwd=folder, capture_output=True, check=False)
    must(result.returncode == 0, "a signature does not hold")
    return suite


def fit(data: bytes, at: datetime, below: int) -> Certificate:
    """Check that a certificate may sign at that time, above so many others of a path."""
    read = Certificate.load(data, strict=True)
    usage, limit = read.key_usage_value, read.max_path_length if read.ca else 0
    roles = {"key_cert_sign"} if below else {"digital_signature", "non_repudiation"}
    must(read.not_valid_before <= at <= read.not_valid_after, "a certificate was not valid")
    must(read.critical_extensions <= {"key_usage", "basic_constraints"}, "a critical extension")
    must(usage is None or roles & usage.native, "the key usage")
    must(not below or (read.ca and (limit is None or limit >= below - 1)), "no such authority")
    return read


def way(
    tip: bytes, at: datetime, pool: list[bytes], roots: list[bytes], below: int = 0
) -> set[bytes]:
    """Find the path from a certificate to a root, in which all are fit at that time."""
    read = fit(tip, at, below)
    if tip in roots:
        return {tip}
    body, algorithm, value = sequence(tip, "30 30 03")
    must(read["tbs_certificate"]["signature"].dump() == algorithm and not value[0], "algorithm")
    above = [other for other in pool if other != tip]
    for issuer in roots + above:
        if Certificate.load(issuer).subject.dump() == read.issuer.dump() and below < 6:
            with suppress(ValueError):  # another of this name may have signed it
                suite = signed(issuer, body, value[1:])
                must(sequence(algorithm)[0].hex() == SUITES[suite][2], "another algorithm")
                return {tip} | way(issuer, at, above, roots, below + 1)
    raise ValueError("no path to a trusted root")


class Verifier:
    """Whom to trust; and the statements that held so far, for their receipts."""

    def __init__(self, roots: list[bytes], province: list[bytes]) -> None:
        self.roots, self.province = roots, province
        self.statements: dict[tuple[str, str], Any] = {}

    def seal(self, seal: str, content: bytes, suite: str, name: str, **by: Any) -> None:
        """Verify a seal (§6) of this suite on content of this name, ``by`` its chain and roots."""
        pool, roots = [unbase64(text) for text in by["chain"]], by["roots"]
        signing, signer, oid, value = sequence(unbase64(seal), "30 04 06 03")
        version, eseal, time, digest, about = sequence(signing, "02 30 18 03 16")
        result, maker, made_oid, made_value = sequence(eseal, "30 04 06 03")
        header, _, properties, picture = sequence(result, "30 16 30 30")
        mark, made_version, _ = sequence(header, "16 02 16")
        _, _, kind, listed, *times = sequence(properties, "02 0c 02 30 18 18 18")
        sequence(picture, "16 04 02 02")
        must(mark == b"ES" and b"\4" <= made_version <= version <= b"\5", "the versions")
        must(signed(signer, signing, value[1:]) == suite, "another suite")
        its = SUITES[signed(maker, result, made_value[1:])]
        must((oid.hex(), made_oid.hex()) == (SUITES[suite][2], its[2]), "the algorithms")
        must(value[0] == made_value[0] == 0, "signatures of whole bytes")
        must(digest == b"\0" + h(suite, content), "the seal is on something else")
        must(about.decode() == name, "the seal names something else")
        values = {name: h(own, signer) for own, row in SUITES.items() for name in row[3]}
        digests = [sequence(entry, "13 04") for entry in sequence(listed)] if kind == b"\2" else []
        named = kind == b"\1" and signer in sequence(listed)  # certListType
        named |= any(values.get(hash_name.lower()) == value for hash_name, value in digests)
        must(named, "the seal is not for its signer")
        at, created, start, end = map(moment, (time, *times))
        must(start <= at <= end and created <= min(at, end), "the seal was not valid")
        used = way(signer, at, pool, roots) | way(maker, created, pool, roots)
        must(set(pool) <= used and len(set(pool)) == len(pool) <= 8, "certificates of no path")

    def statement(self, it: Any, schema: str, seal: str, chain: list[str]) -> Any:
        """Verify the seal of a statement, and the schema that it names; return the schema."""
        name = f"urn:gds:batch:{it['resource']}/{it['batch_no']};canon=jcs"
        self.seal(seal, canonical(it), it["suite"], name, chain=chain, roots=self.roots)
        must(it["schema"] == "sm3:" + h("sm3", schema.encode()).hex(), "another schema")
        return schema_of(schema)

    def batch(self, data: bytes) -> None:
        """Verify a file of §5."""
        must(len(data) <= 8 << 20, "too large")
        magic, metadata, sync, rows, payload, end = decoded(data, FILE).values()
        must(magic == b"Obj\1" and list(metadata) == METADATA, "not a batch")
        schema, codec, text, seal, pems, seed, lengths = metadata.values()
        statement = parsed(text.encode(), STATEMENT)
        suite = statement["suite"]
        must(codec == "zstandard" and h(suite, payload).hex() == statement["payload"], "payload")
        unpack = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: 26})
        plain = unpack.decompress(payload, (64 << 20) + 1)
        must(unpack.eof and not unpack.unused_data, "not one frame of 64 MiB")
        sizes = [ord(char) - 0x800 * (char > "\udfff") for char in lengths]
        must(0 < statement["rows"] == rows == len(sizes) <= 65536, "the number of rows")
        must(sum(sizes) == len(plain) and re.fullmatch("[0-9a-f]{32}", seed), "lengths, or seed")
        stream = BytesIO(plain)
        records = [stream.read(size) for size in sizes]
        salts = Cipher(SUITES[suite][0](bytes.fromhex(seed)), modes.CTR(bytes(16))).encryptor()
        root = tree(suite, [h(suite, b"\0", salts.update(bytes(16)), data) for data in records])
        must(root.hex() == statement["root"] and root[:16] == sync == end, "the root")
        chain = [text.replace("\n", "") for text in re.findall("-\n([^-]+)-", pems)]
        again = b"".join(pem.armor("CERTIFICATE", unbase64(text)) for text in chain)
        must(again == pems.encode(), "the chain is not in its one form")
        avro = self.statement(statement, schema, seal, chain)
        operations = [decoded(record, avro)["cd_operation"] for record in records]
        counts = {"inserts": "I", "updates": "U", "deletes": "D"}.items()
        must(all(statement[key] == operations.count(o) for key, o in counts), "the operations")
        self.statements[statement["resource"], statement["batch_no"]] = statement

    def proof(self, data: bytes) -> Any:
        """Verify a proof of §7; return its statement."""
        proof = parsed(data, PROOF, 4 << 20)
        statement = parsed(canonical(proof["statement"]), STATEMENT)
        suite, record = statement["suite"], unbase64(proof["record"])
        must(all(re.fullmatch(HEX, text) for text in proof["path"]), "the path")
        leaf = h(suite, b"\0", bytes.fromhex(proof["salt"]), record)
        path = bytes.fromhex("".join(proof["path"]))
        root = climb(suite, leaf, proof["index"], proof["size"], path).hex()
        must(root == statement["root"] and proof["size"] == statement["rows"], "not in the batch")
        avro = self.statement(statement, proof["schema"], proof["seal"], proof["chain"])
        decoded(record, avro)
        self.statements[statement["resource"], statement["batch_no"]] = statement
        return statement
