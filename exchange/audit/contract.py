"""The contract: the applied catalog and the released schemas."""

from __future__ import annotations

import json
from pathlib import Path

from exchange.audit.findings import Findings
from exchange.catalog.avro import schema_file, schema_text
from exchange.catalog.canonical import canonical, sm3
from exchange.catalog.model import Catalog
from exchange.catalog.plan import APPLIED, read_applied
from exchange.errors import Integrity


def read_schemas(folder: Path, findings: Findings) -> dict[str, str]:
    """Return the released schemas: file name by fingerprint; one that cannot be read is a fault."""
    found: dict[str, str] = {}
    for path in sorted(folder.glob("*-v*.avsc")) if folder.is_dir() else ():
        try:
            found[sm3(canonical(json.loads(path.read_bytes())))] = path.name
        except ValueError as error:
            findings.fault("schemas.released", path.name, "a schema", f"unreadable: {error}"[:80])
    return found


def check_contract(
    state: Path, schemas: Path, current: Catalog | None, newest: str, findings: Findings
) -> None:
    """Check the applied catalog and its schemas.

    ``current`` is the catalog as it is written now, None where it cannot be read; ``newest`` the
    digest of the catalog that the newest batch was sealed under, empty where there is none.
    """
    try:
        applied = read_applied(state)
    except Integrity as error:
        findings.fault("catalog.applied", APPLIED, "as it was applied", error.what.en)
        return
    if applied is None:
        if newest:
            findings.fault("catalog.applied", APPLIED, "the catalog of the batches", "no file")
        return
    if newest and applied.digest != newest:
        if current is not None and current.digest == applied.digest:
            findings.note("catalog.applied", "no batch was sealed under it yet")
        else:
            findings.fault("catalog.applied", f"{APPLIED} digest", newest, applied.digest)
    for resource in applied.resources.values():
        path = schemas / schema_file(resource)
        try:
            text = canonical(json.loads(path.read_bytes()))
        except FileNotFoundError:
            findings.fault("schemas.released", path.name, "a file", "no file")
            continue
        except ValueError:
            continue  # told where the schemas were read
        expected = sm3(schema_text(resource))
        findings.equal("schemas.released", path.name, expected, sm3(text))
