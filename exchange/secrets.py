"""Secrets by reference: ``env:NAME`` or ``file:path``, read at the moment of use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from exchange.durable import read_file
from exchange.errors import Misconfigured
from exchange.text import Text

REFERENCES = ("env:", "file:")
_MAX_BYTES = 64 * 1024


def read_secret(reference: str, folder: Path, environ: Mapping[str, str]) -> str:
    """Read a secret; one trailing line end of a file is dropped.

    A relative path counts from ``folder``. Raises Misconfigured, which names the reference only.
    """
    scheme, _, rest = reference.partition(":")
    if scheme == "env" and rest in environ:
        return environ[rest]
    if scheme == "file":
        path = folder / rest
        try:
            return read_file(path, _MAX_BYTES).decode().removesuffix("\n").removesuffix("\r")
        except (OSError, UnicodeDecodeError) as error:
            raise _unreadable(reference) from error
    raise _unreadable(reference)


def _unreadable(reference: str) -> Misconfigured:
    return Misconfigured(
        Text(f"读不到密钥引用 {reference}", f"cannot read the secret at {reference}"),
        hint=Text(
            "请设置该环境变量，或检查该文件是否存在、可读、不超过 64 KiB",
            "set that environment variable, or check that the file exists, is readable and "
            "is at most 64 KiB",
        ),
    )
