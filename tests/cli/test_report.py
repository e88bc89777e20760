"""The verification certificate: whole, harmless whatever files say, told by words and shapes."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from exchange.evidence import files as kinds
from exchange.evidence.files import FileVerdict, Mark
from exchange.evidence.report import MAX_PICTURE, certificate, picture_source
from exchange.seal.batch.statement import Statement
from exchange.seal.checks import Check, Verification
from exchange.seal.crypto.suites import SM2_SM3
from exchange.seal.eseal.drawing import draw_round
from exchange.seal.eseal.structures import Picture, read_signature
from exchange.seal.eseal.test_authority import draw_picture, issue, make_seal
from exchange.seal.pki.trust import Trust
from exchange.text import Text
from tests.cli.conftest import Run
from tests.cli.strangers import FORMATS, Stranger, stranger
from tests.seal.parties import parties
from tests.seal.samples import sealed

NOW = datetime(2026, 11, 23, 1, 2, 3, tzinfo=UTC)
HOSTILE = "</td><script>alert(1)</script><img src=x onerror=alert(2)>\"'&lt;\u202e\u0000{{7*7}}"


class Page(HTMLParser):
    """Reads a page, and complains about what a certificate never has."""

    TAGS = frozenset(
        re.findall(
            r"\w+",
            "html head meta title style body section footer div h1 h2 h3 p b span br code ul li "
            "table thead tbody tr th td figure figcaption img",
        )
    )
    ATTRIBUTES = frozenset(
        ("lang", "class", "charset", "content", "http-equiv", "name", "style", "src", "alt")
    )

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.images: list[str] = []
        self.metas: dict[str, str] = {}
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.TAGS, tag
        result = dict(attrs)
        assert result.keys() <= self.ATTRIBUTES, attrs
        assert tag == "img" or not {"src", "style"} & result.keys()
        if tag == "img":
            self.images.append(result["src"] or "")
            assert re.fullmatch(r"width:\d+mm", result["style"] or "")
        if tag == "meta":
            self.metas[result.get("http-equiv") or result.get("name") or "charset"] = (
                result.get("content") or ""
            )
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text.append(data)

    def __contains__(self, text: str) -> bool:
        return text in "".join(self.text)


def page(*verdicts: FileVerdict, trust: Trust | None = None) -> Page:
    none = Trust(())
    html = certificate(verdicts, at=NOW, version="1", trust=trust or none, province=none)
    for fetched in ("http:", "https:", "url(", "@import", "<script", "<link", "javascript:"):
        assert fetched not in html.replace("&lt;script", ""), fetched
    return Page(html)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stranger:
    monkeypatch.chdir(tmp_path)
    return stranger(tmp_path)


def test_one_page_for_every_kind(files: Stranger, run: Run) -> None:
    result = run("verify", *files.kinds.values(), *files.options, "--report", "report.html")
    assert (result.code, "certificate: report.html" in result.err) == (0, True)
    html = Path("report.html").read_text(encoding="utf-8")
    answer = Page(html)
    assert answer.metas["Content-Security-Policy"] == (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    )
    assert len(html) < 400_000
    for text in (
        *("VERIFIED", "成立", "signer.chain", "电子印章与存证验证书"),
        *("hotline_order", "2026112300001", "3 / 1 / 1", "2026.11", "11232700MB1234567A"),
        *("加**", "verify --reveal", "data.dxal.example/evidence", "2026-11-23 09:02:04 北京时间"),
        *("大兴安岭 专用章", "nobody can tell whether it was revoked"),
    ):
        assert text in answer, text
    assert "王芳芳" not in answer
    for kind, title in kinds.KINDS.items():
        assert title.zh in answer, kind
        assert title.en in answer, kind
    # batch, proof, package: the department's; package, receipt: the province's; seal, signature;
    # audit: the node's
    assert len(answer.images) == 8
    assert all(image.startswith("data:image/png;base64,") for image in answer.images)
    assert "✗" not in answer
    assert "@page { size: A4" in html


def test_a_failure_is_told_by_words_and_shapes(files: Stranger, run: Run) -> None:
    data = bytearray(files.kinds["batch"].read_bytes())
    data[-30] ^= 1
    files.kinds["batch"].write_bytes(data)
    result = run("verify", files.kinds["batch"], *files.options, "--report", "report.html")
    assert result.code == 6
    answer = Page(Path("report.html").read_text(encoding="utf-8"))
    for text in (
        *("✗", "DOES NOT VERIFY", "不成立", "FAILED", "未通过", "NOT VERIFIED", "expected"),
        "The records are not those that were sealed",
        "记录与当初封签的不一致",
    ):
        assert text in answer, text


def hostile_verdict() -> FileVerdict:
    """Put the hostile text wherever a stranger can put text."""
    own = parties(SM2_SM3)
    signer = issue(own.ca, "<b>signer</b>", now=NOW, entropy=lambda size: bytes(range(size)))
    seal = make_seal(
        own.maker,
        (signer.certificate,),
        name=HOSTILE,
        es_id="<script>",
        created=NOW,
        valid_until=NOW + timedelta(days=1),
        picture=Picture(b"<svg onload=alert(1)>", 10, 10, "SVG"),
    )
    ses = replace(own.sealer, signer=signer.signer, eseal=seal).seal(
        b"", property_info="<i>", at=NOW
    )
    statement = replace(
        Statement.from_bytes(_statement()),
        resource_code=HOSTILE, catalog_version=HOSTILE, source=HOSTILE, pull=HOSTILE,
    )  # fmt: skip
    check = Check(HOSTILE, ok=False, text=Text(HOSTILE, HOSTILE), expected=HOSTILE, found=HOSTILE)
    facts: dict[str, Any] = {
        **dict.fromkeys(("province", "message", "log", "names", "received_at"), HOSTILE),
        "resource_code": HOSTILE,
        "witnesses": [HOSTILE],
        "receipt": {"receipt_no": HOSTILE},
        "record": {HOSTILE: HOSTILE, "name": None},
    }
    return FileVerdict(
        HOSTILE,
        "package",
        Verification((check,), facts=facts),
        marks=(Mark(Text(HOSTILE, HOSTILE), ses, (b"nonsense", signer.certificate)),),
        statement=statement,
        schema='{"doc": "<script>", "fields": [{"name": "name", "doc": "<u>"}, 7]}',
        size=1,
        digests={"sm3": HOSTILE},
    )


def _statement() -> bytes:
    from exchange.seal.batch.container import Container

    return Container.from_bytes(sealed().data).statement


def test_texts_of_strangers_do_no_harm() -> None:
    result = page(hostile_verdict())
    whole = "".join(result.text)
    answer = HOSTILE.replace("\u202e", "\\u{202e}").replace("\u0000", "\\u{0}")
    assert whole.count(answer) >= 15
    assert "\u202e" not in whole
    assert "\u0000" not in whole
    assert "SVG" in result
    assert result.images == []


def test_what_cannot_be_read_is_left_out() -> None:
    nothing = Verification((Check("format", ok=False, text=Text("格式", "format")),))
    broken = FileVerdict("x", "signature", nothing, marks=(Mark(Text("章", "seal"), b"0\x80"),))
    signature = read_signature(FORMATS["signature v4"])
    cut = Mark(Text("章", "seal"), FORMATS["signature v4"], (signature.certificate, b""))
    result = page(
        broken,
        FileVerdict("y", "signature", nothing, marks=(cut,), schema="[" * 100_000),
        FileVerdict("z", "batch", nothing, schema='{"doc": 7, "fields": 8}'),
        trust=Trust([b"no certificate", FORMATS["root"]]),
    )
    assert "no picture that can be shown" in result
    assert "?" in result
    assert "测试根" in result


def picture(data: bytes, kind: str = "PNG", name: str = "") -> str | None:
    return picture_source(Picture(data, 40, 40, kind), name)


def test_the_seal_that_we_draw_is_shown_and_no_other_drawing() -> None:
    name = "大兴安岭地区<行署>"
    drawn = draw_round(name)
    assert picture(drawn, "SVG", name) == (
        f"data:image/svg+xml;base64,{base64.b64encode(drawn).decode()}"
    )
    assert picture(drawn, "SVG", "大兴安岭地区") is None
    assert picture(drawn.replace(b"<polygon", b"<script/><polygon"), "SVG", name) is None


def test_pictures_that_are_shown() -> None:
    png = draw_picture(32)
    gif = b"GIF89a" + (3).to_bytes(2, "little") + (4).to_bytes(2, "little") + b"rest"
    bmp = b"BM" + bytes(16) + (3).to_bytes(4, "little") + (-4).to_bytes(4, "little", signed=True)
    jpeg = bytes.fromhex("ffd8 ffe0 0004 0000 ffc0 000b 08 0003 0004 01 00 00 00")
    for data, kind in ((png, "png"), (gif, "gif"), (bmp, "bmp"), (jpeg, "jpeg")):
        source = picture(data, "OFD")  # the name of the type says nothing
        assert source == f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<svg xmlns='x'><script>alert(1)</script></svg>",
        b"<?xml version='1.0'?><svg/>",
        b"PK\x03\x04 an OFD document",
        draw_picture(32)[:20],
        draw_picture(32)[:16] + (100_000).to_bytes(4) + (100_000).to_bytes(4) + bytes(20),
        draw_picture(32)[:16] + bytes(30),
        draw_picture(32) + bytes(MAX_PICTURE),
        b"GIF89a",
        b"BM",
        bytes.fromhex("ffd8ff"),
        bytes.fromhex("ffd8ffe00000"),
        bytes.fromhex("ffd8ffe00004ffff00"),
    ],
)
def test_pictures_that_are_not(data: bytes) -> None:
    assert picture(data) is None


def test_a_report_that_cannot_be_written(files: Stranger, run: Run) -> None:
    options = [*files.options, "--report", "no/such/report.html"]
    assert run("verify", files.kinds["batch"], *options).code == 3
