"""The picture of a seal that this project makes itself. A verifier draws it again to know it."""

from __future__ import annotations

from html import escape
from math import radians
from typing import Final

MAX_NAME: Final = 40
"""Characters of a seal's name."""
_RED: Final = "#d11"


def draw_round(name: str) -> bytes:
    """Draw the round red seal (圆形印章): ring, five-pointed star, the name along the ring.

    SVG of 40 mm: the reader's own fonts write the characters, so that no font is carried and
    the picture stays below 8 KB for the longest name.
    """
    span = min(260.0, 22.0 * len(name))
    step = span / max(len(name) - 1, 1)
    # As large as neighbours allow where they are closest, at their feet.
    turn = 0.95 * radians(step)
    size = min(5.2, 17.4 * turn / (1 + 0.9 * turn))
    feet = 2.6 + 0.9 * size
    letters = "".join(
        f'<text transform="rotate({(number * step - span / 2) if len(name) > 1 else 0:.2f}'
        f' 20 20)" x="20" y="{feet:.2f}">{escape(character)}</text>'
        for number, character in enumerate(name)
    )
    star = "20,13 21.571,17.837 26.657,17.837 22.543,20.826 24.114,25.663 20,22.674 "
    star += "15.886,25.663 17.457,20.826 13.343,17.837 18.429,17.837"
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" width="40mm" height="40mm" viewBox="0 0 40 40">'
        f'<circle cx="20" cy="20" r="19.2" fill="none" stroke="{_RED}" stroke-width="1.2"/>'
        f'<polygon points="{star}" fill="{_RED}"/>'
        f'<g fill="{_RED}" font-family="FangSong,SimSun,serif" font-size="{size:.2f}"'
        f' text-anchor="middle">{letters}</g></svg>'
    ).encode()
