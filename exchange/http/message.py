"""A request and its response, as values: no library of HTTP is needed to make or read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Request:
    """A POST or, with an empty body, a GET; ready to send."""

    url: str
    headers: Mapping[str, str]
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Response:
    """What came back; header names are lower-case, the body is whole and of bounded size."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
