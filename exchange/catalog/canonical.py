"""One text for one content, and its SM3 digest."""

from __future__ import annotations

import hashlib
import json

from exchange.catalog.model import Catalog
from exchange.errors import Misconfigured
from exchange.text import Text


def canonical(value: object) -> str:
    """Return JSON with sorted keys and no blanks; equal content gives equal text."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def sm3(text: str) -> str:
    """Return ``sm3:<hex>`` over the UTF-8 bytes (GB/T 32905); raises Misconfigured without SM3."""
    try:
        digest = hashlib.new("sm3", text.encode())
    except ValueError as error:
        raise Misconfigured(
            Text("本机的 OpenSSL 不支持 SM3", "the OpenSSL of this machine has no SM3"),
            hint=Text(
                "请使用带国密算法的 OpenSSL 3", "install an OpenSSL 3 built with SM2 and SM3"
            ),
        ) from error
    return f"sm3:{digest.hexdigest()}"


def catalog_digest(catalog: Catalog) -> str:
    """Return the digest of everything in a catalog but its digest."""
    return sm3(canonical(catalog.model_dump(mode="json", exclude={"digest"})))
