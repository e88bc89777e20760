"""The round picture of a pilot's seal, for every length of a name."""

from __future__ import annotations

import re
from datetime import timedelta
from itertools import pairwise
from math import radians
from xml.etree import ElementTree as ET

import pytest

from exchange.errors import Misconfigured, Rejected
from exchange.seal.crypto.suites import SUITES
from exchange.seal.eseal.drawing import draw_round
from exchange.seal.eseal.pilot import make_unit_seal
from exchange.seal.eseal.structures import read_seal
from tests.seal.parties import NOW, entropy, parties

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("length", range(1, 41))
def test_the_characters_stand_in_the_ring_side_by_side(length: int) -> None:
    name = ("大兴安岭地区<&\"'>行署" * 4)[:length]
    drawn = ET.fromstring(draw_round(name))  # noqa: S314 - made by us
    texts = drawn.findall(f".//{SVG}text")
    assert "".join(text.text or "" for text in texts) == name
    group = drawn.find(f"{SVG}g")
    assert group is not None
    size = float(group.get("font-size", "0"))
    turns = [
        float(re.findall(r"rotate\(([-.\d]+) ", text.get("transform", ""))[0]) for text in texts
    ]
    feet = {float(text.get("y", "0")) for text in texts}
    assert len(feet) == 1
    radius = 20 - feet.pop()
    assert radius > 8  # outside the star
    assert radius + 0.9 * size < 18.6  # inside the ring
    assert sum(turns) == pytest.approx(0, abs=0.1)
    for left, right in pairwise(turns):
        assert radians(right - left) * radius >= size
    assert len(draw_round(name)) < 8192


@pytest.mark.parametrize("version", [4, 5])
def test_a_seal_lists_the_certificates_before_it(version: int) -> None:
    root = parties(SUITES["sm2-sm3"]).root
    values = {"now": NOW, "entropy": entropy("pilot")}
    first, _ = make_unit_seal(root, "局", "1", **values)  # type: ignore[arg-type]
    second, eseal = make_unit_seal(
        root,
        "局",
        "1",
        version=version,
        years=1,
        also=(first.certificate,),
        **values,  # type: ignore[arg-type]
    )
    seal = read_seal(eseal)
    assert seal.version == version
    assert seal.info.certificates == (second.certificate, first.certificate)
    assert seal.info.valid_until == NOW.replace(microsecond=0) + timedelta(days=364)


def test_what_cannot_be_made_is_refused() -> None:
    root = parties(SUITES["sm2-sm3"]).root
    for name in ("", "长" * 41):
        with pytest.raises(Rejected):
            make_unit_seal(root, name, "1", now=NOW, entropy=entropy("x"))
    with pytest.raises(Misconfigured):
        make_unit_seal(root, "局", "1", now=NOW, entropy=entropy("x"), years=11)
