"""Secrets as settings: kept by reference, read at the moment of use, never shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from pydantic_core import PydanticCustomError, core_schema

from exchange.secrets import REFERENCES

Resolver = Callable[[str], str]
"""Reads the secret behind a reference (``env:NAME``, ``file:path``)."""

_HIDDEN = "***"
_MIN_HIDDEN = 3
"""Shorter values are not worth hiding and would blank ordinary text."""


class Secret:
    """A secret (密钥) that a setting refers to.

    Settings give ``env:NAME`` or ``file:path``. The one literal allowed is an address without
    a password in it, such as ``sqlite:///cases.db``.
    """

    def __init__(self, reference: str, resolve: Resolver) -> None:
        self.reference = reference
        self._resolve = resolve

    def __repr__(self) -> str:
        return f"Secret({self.reference!r})"

    def reveal(self) -> str:
        """Read the value; raises what the resolver raises, naming the reference only."""
        if self.reference.startswith(REFERENCES):
            return self._resolve(self.reference)
        return self.reference

    def parts(self) -> list[str]:
        """Return every spelling that must not appear in a text, longest first."""
        if not self.reference.startswith(REFERENCES):
            return []
        value = self.reveal()
        password = _password(value) or ""
        spellings = {value, password, unquote(password)}
        return sorted((s for s in spellings if len(s) >= _MIN_HIDDEN), key=len, reverse=True)

    def hide(self, text: str) -> str:
        """Return ``text`` with the secret blanked out."""
        for part in self.parts():
            text = text.replace(part, _HIDDEN)
        return text

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> core_schema.CoreSchema:
        """Let settings models read a secret; the resolver comes in as validation context."""
        return core_schema.with_info_plain_validator_function(
            _validate, serialization=core_schema.to_string_ser_schema()
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, _core: Any, _handler: Any) -> dict[str, Any]:
        """Describe a secret for JSON Schema: a reference, or an address without a password."""
        return {"type": "string", "pattern": "^(?:env|file):.+|://", "writeOnly": True}


def _validate(value: object, info: core_schema.ValidationInfo) -> Secret:
    if isinstance(value, Secret):
        return value
    if isinstance(value, str) and (value.startswith(REFERENCES) or _open_address(value)):
        return Secret(value, cast("Resolver", info.context))
    # The message must not repeat the value: it may be the secret itself.
    raise PydanticCustomError(
        "secret_literal", "a secret stands here by reference only: env:NAME or file:path"
    )


def _open_address(value: str) -> bool:
    return "://" in value and _password(value) is None


def _password(address: str) -> str | None:
    try:
        parts = urlsplit(address)
    except ValueError:
        return address
    for item in parts.query.split("&"):
        name, _, value = item.partition("=")
        if name.lower() in {"password", "passwd", "pwd", "sslpassword"}:
            return value
    return parts.password
