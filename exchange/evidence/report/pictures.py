"""Pictures of seals that a browser may show: told by their bytes, bounded, never a program."""

from __future__ import annotations

from base64 import b64encode
from typing import Final

from exchange.evidence.report.html import quiet
from exchange.seal.eseal.drawing import MAX_NAME, draw_round
from exchange.seal.eseal.structures import Picture

MAX_PICTURE: Final = 256 * 1024
"""Bytes of a picture that is shown."""
MAX_SIDE: Final = 4096
"""Pixels along a side of a picture that is shown."""

_SIGNATURES: Final[tuple[tuple[bytes, str], ...]] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
)


def picture_source(picture: Picture, name: str) -> str | None:
    """Return a ``data:`` address for a picture that is what a browser may show, else None.

    What it is is seen from its bytes, never from the type that the seal names; drawings that
    can hold a program (SVG, OFD) are none of these. The one SVG that is shown is what this
    project draws for a seal of that ``name``, to the byte.
    """
    data = picture.data
    if data.startswith(b"<svg") and len(name) <= MAX_NAME and data == draw_round(name):
        return f"data:image/svg+xml;base64,{b64encode(data).decode()}"
    kind = next((kind for start, kind in _SIGNATURES if data.startswith(start)), None)
    if kind is None or len(data) > MAX_PICTURE:
        return None
    sides = quiet(lambda: _pixels(kind, data))
    if sides is None or not all(0 < side <= MAX_SIDE for side in sides):
        return None
    return f"data:{kind};base64,{b64encode(data).decode()}"


def _pixels(kind: str, data: bytes) -> tuple[int, int]:
    """Read width and height; raises ValueError."""
    match kind:
        case "image/png" if data[12:16] == b"IHDR" and len(data) > 24:  # noqa: PLR2004
            return int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
        case "image/gif":
            return int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
        case "image/bmp":
            width, height = data[18:22], data[22:26]
            return int.from_bytes(width, "little"), abs(
                int.from_bytes(height, "little", signed=True)
            )
        case "image/jpeg":
            # ITU-T T.81 B.2: segments of marker and length up to the start of a frame.
            at = 2
            while data[at] == 0xFF:  # noqa: PLR2004
                if data[at + 1] in range(0xC0, 0xD0) and data[at + 1] not in {0xC4, 0xC8, 0xCC}:
                    height, width = data[at + 5 : at + 7], data[at + 7 : at + 9]
                    return int.from_bytes(width), int.from_bytes(height)
                at += 2 + max(int.from_bytes(data[at + 2 : at + 4]), 2)
    raise ValueError("no size")
