"""The verification certificate (可视化验章): one HTML page that says what was checked and found.

In: verdicts. Out: a page that needs nothing else, prints on A4 in black and white, and tells
pass from failure by words and shapes. It runs no script and loads nothing: pictures of seals
are embedded, those that browsers could be harmed by are left out. Every text comes from files
of strangers: all of it is escaped, and characters that change the reading order are shown as
what they are. Raises nothing for whatever the files contain.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Final, TypeVar

from exchange.errors import ExchangeError
from exchange.evidence.files import KINDS, FileVerdict, Mark
from exchange.seal.checks import Check
from exchange.seal.eseal.drawing import MAX_NAME, draw_round
from exchange.seal.eseal.structures import Picture, Seal, SealInfo, read_seal, read_signature
from exchange.seal.pki.timestamp import read_token
from exchange.seal.pki.trust import Trust
from exchange.seal.pki.x509 import Certificate, read_certificate
from exchange.text import Text, beijing

T = TypeVar("T")

MAX_PICTURE: Final = 256 * 1024
"""Bytes of a picture that is shown."""
MAX_SIDE: Final = 4096
"""Pixels along a side of a picture that is shown."""
_MAX_MILLIMETRES: Final = 80
_MAX_TEXT: Final = 2000

_HIDDEN: Final = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)
"""Characters without a shape of their own, among them those that turn the reading order."""


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, *inner: str, css: str = "", **attributes: str) -> Html:
    """Make an element; what is not :class:`Html` is escaped."""
    given = {**({"class": css} if css else {}), **attributes}
    opening = "".join(f' {key}="{_escape(value)}"' for key, value in given.items())
    body = "".join(each if isinstance(each, Html) else _escape(each) for each in inner)
    return Html(f"<{name}{opening}>{body}</{name}>")


def _escape(text: str) -> str:
    shown = text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…"
    shown = _HIDDEN.sub(lambda found: f"\\u{{{ord(found[0]):x}}}", shown)
    return escape(shown.encode("utf-8", "replace").decode())


def _both(text: Text) -> Html:
    return Html(tag("span", text.zh, lang="zh") + " " + tag("span", text.en, lang="en"))


def certificate(
    verdicts: Sequence[FileVerdict],
    *,
    at: datetime,
    version: str,
    trust: Trust,
    province: Trust,
) -> str:
    """Write the page; ``at`` is when the checks were made, the rest what they were made with."""
    good = all(each.ok for each in verdicts)
    title = Text("电子印章与存证验证书", "Verification certificate")
    head = Html(
        '<meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
    ) + tag("title", f"{title.zh} {title.en}")
    body = [
        tag("h1", _both(title)),
        _stamp(ok=good, notes=sum(len(each.verification.notes) for each in verdicts)),
        _facts(
            [
                (Text("验证时间", "checked at"), _time(at)),
                (Text("验证程序", "checked by"), f"exchange {version}"),
                (Text("文件", "files"), str(sum(each.kind != "together" for each in verdicts))),
                *_trusted(trust, province),
            ]
        ),
        *(_section(verdict) for verdict in verdicts),
        tag("footer", _both(_MEANING)),
    ]
    style = f"<style>{_STYLE}</style>"
    page = tag("html", Html(f"<head>{head}{style}</head>"), tag("body", *body), lang="zh")
    return f"<!doctype html>\n{page}\n"


_MEANING: Final = Text(
    "本页是验证结果的说明，本身不是证据：任何人都可以用同样的文件和信任根，离线重新验证。"
    "“注意”表示该项通过，但有读者应当知道的保留。",
    "This page explains a result and is no evidence itself: anybody can check the same files "
    "offline, with the same trusted roots. A note means that a check passed with a reservation.",
)
_GOOD: Final = Text("成立：全部检查通过", "VERIFIED: all checks passed")
_BAD: Final = Text("不成立", "DOES NOT VERIFY")


def _stamp(*, ok: bool, notes: int = 0) -> Html:
    """Say the verdict: ✓ in a round frame, ✗ in a double one with corners."""
    text = _GOOD if ok else _BAD
    said = [tag("b", "✓" if ok else "✗", css="sign"), Html(" "), _both(text)]
    if notes:
        said.append(_both(Text(f"（{notes} 项注意）", f"({notes} noted)")))
    return tag("p", *said, css="verdict good" if ok else "verdict bad")


def _trusted(trust: Trust, province: Trust) -> Iterator[tuple[Text, Html]]:
    same = list(trust.anchors) == list(province.anchors)
    sides = [(Text("信任根", "trusted roots"), trust)]
    if not same:
        sides = [
            (Text("信任根（部门、节点）", "trusted roots (departments, node)"), trust),
            (Text("信任根（省级）", "trusted roots (province)"), province),
        ]
    for label, side in sides:
        lines = [_root(each) for each in side.anchors] or [
            _both(Text("没有给出信任根", "no trusted roots were given"))
        ]
        yield label, Html("<br>".join(lines))
    yield Text("撤销列表", "revocation lists"), Html(_escape(str(len(trust.crls))))


def _root(data: bytes) -> Html:
    found = _quiet(lambda: read_certificate(data))
    return Html(_escape(f"{found.title} · SHA-256 {found.fingerprint}" if found else "?"))


def _section(verdict: FileVerdict) -> Html:
    found = verdict.verification
    name = tag("code", verdict.name) if verdict.name else Html("")
    parts: list[Html] = [
        tag("h2", _both(KINDS[verdict.kind]), Html(" "), name),
        _stamp(ok=found.ok, notes=len(found.notes)),
    ]
    failed = [_why(each) for each in found.failed if not each.found.startswith("not reached")]
    if failed:
        reasons = list(dict.fromkeys(failed))
        parts.append(tag("ul", *(tag("li", _both(each)) for each in reasons), css="why"))
    parts += [_mark(mark, ok=found.ok) for mark in verdict.marks]
    parts.append(_facts(list(_said(verdict))))
    if verdict.record is not None:
        parts += [
            tag("h3", _both(_VEILED if verdict.veiled else Text("记录", "the record"))),
            _facts(list(_record(verdict.record, verdict.schema))),
        ]
    parts += [tag("h3", _both(Text("检查", "checks"))), _checks(found.checks)]
    return tag("section", *parts)


def _facts(rows: Iterable[tuple[Text, str]]) -> Html:
    lines = [tag("tr", tag("th", _both(name)), tag("td", value)) for name, value in rows if value]
    return tag("table", *lines, css="facts") if lines else Html("")


# --- what the files say ---------------------------------------------------------------------


_SAID: Final[Mapping[str, Text]] = {
    "department": Text("部门（统一社会信用代码）", "department (its code)"),
    "resource": Text("资源", "resource"),
    "title": Text("资源名称", "title of the resource"),
    "resource_code": Text("资源代码", "code of the resource"),
    "batch_no": Text("批次号", "batch number"),
    "rows": Text("记录数", "records"),
    "operations": Text("增 / 改 / 删", "inserts / updates / deletes"),
    "sealed_at": Text("封签时间", "sealed at"),
    "pulled_at": Text("采集时间", "pulled at"),
    "source": Text("来源", "source"),
    "catalog_version": Text("目录版本", "version of the catalog"),
    "catalog_digest": Text("目录摘要", "digest of the catalog"),
    "root": Text("树根", "root of the tree"),
    "statement": Text("声明摘要", "digest of the statement"),
    "previous": Text("前一批次声明摘要", "digest of the statement before"),
    "receipt_no": Text("回执编号", "receipt number"),
    "province": Text("接收方", "received by"),
    "received_at": Text("接收时间", "received at"),
    "rows_sent": Text("发送条数", "records sent"),
    "rows_accepted": Text("接收条数", "records accepted"),
    "rows_rejected": Text("拒收条数", "records rejected"),
    "code": Text("结果码", "result"),
    "message": Text("说明", "message"),
    "log": Text("存证日志", "evidence log"),
    "log_size": Text("日志条数", "entries of the log"),
    "checkpoint_at": Text("检查点时间", "checkpoint made at"),
    "witnesses": Text("见证方", "witnesses"),
    "names": Text("所签内容的名称", "name of what was signed"),
}
"""Facts in the order in which they are shown."""
_VEILED: Final = Text(
    "记录（值已隐去；verify --reveal 显示）",
    "the record (values are hidden; verify --reveal shows them)",
)
_TIMES: Final = frozenset({"sealed_at", "pulled_at", "received_at", "checkpoint_at"})


def _said(verdict: FileVerdict) -> Iterator[tuple[Text, str]]:
    """List what a file says of itself; of an evidence package, what its receipt says as well."""
    facts = dict(verdict.verification.facts)
    receipt = facts.get("receipt")
    if isinstance(receipt, Mapping):
        facts = {**receipt, **facts}
    if verdict.statement is not None:
        said = verdict.statement
        facts["operations"] = f"{said.inserts} / {said.updates} / {said.deletes}"
        facts["statement"] = said.digest
    facts["title"] = _titles(verdict.schema).get("", "")
    if verdict.kind != "seal":
        for key, label in _SAID.items():
            value = facts.get(key)
            if isinstance(value, Sequence) and not isinstance(value, str):
                value = ", ".join(map(str, value))
            if value not in (None, ""):
                yield label, _stated(str(value)) if key in _TIMES else str(value)
    if verdict.size:
        yield Text("文件大小", "size of the file"), f"{verdict.size:,} B"
    for name, digest in verdict.digests.items():
        yield Text(f"文件摘要 {name.upper()}", f"{name.upper()} of the file"), digest


def _record(record: Mapping[str, object], schema: str) -> Iterator[tuple[Text, str]]:
    titles = _titles(schema)
    for name, value in record.items():
        yield Text(titles.get(name, ""), name), "—" if value is None else str(value)


def _titles(schema: str) -> dict[str, str]:
    """Return the titles in an Avro schema: the record's under the empty name, then the fields'."""
    declared = _quiet(lambda: json.loads(schema))
    if not isinstance(declared, dict):
        return {}
    fields = declared.get("fields")
    named = [each for each in fields if isinstance(each, dict)] if isinstance(fields, list) else []
    found = {"": declared.get("doc")} | {str(each.get("name")): each.get("doc") for each in named}
    return {name: doc for name, doc in found.items() if isinstance(doc, str)}


def _stated(at: str) -> str:
    found = _quiet(lambda: datetime.fromisoformat(at))
    return _time(found) if found and found.tzinfo else at


def _time(at: datetime) -> str:
    try:
        local = beijing(at)
        universal = at.astimezone(UTC).isoformat(timespec="seconds")
    except (OverflowError, ValueError):
        return str(at)
    return f"{local} 北京时间 ({universal.replace('+00:00', 'Z')})"


# --- seals and certificates -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Sealed:
    """A mark taken apart, as far as it can be."""

    seal: Seal | None = None
    signer: bytes | None = None
    at: datetime | None = None
    stamped: datetime | None = None


def _open(mark: Mark) -> _Sealed:
    signature = _quiet(lambda: read_signature(mark.signature))
    if signature is None:
        return _Sealed(_quiet(lambda: read_seal(mark.signature)))
    stamp = signature.stamp
    token = _quiet(lambda: read_token(stamp)) if stamp else None
    return _Sealed(
        _quiet(lambda: read_seal(signature.eseal)),
        signature.certificate,
        signature.time,
        token.time if token else None,
    )


def _mark(mark: Mark, *, ok: bool) -> Html:
    """Show one seal: picture, name, times, certificates."""
    opened = _open(mark)
    seal = opened.seal
    rows: list[tuple[Text, str]] = []
    if seal is not None:
        info = seal.info
        rows += [
            (Text("印章名称", "name of the seal"), info.name),
            (Text("印章编码", "seal number"), info.es_id),
            (Text("版本", "version"), f"{seal.version} · {info.vendor}"),
            (
                Text("印章有效期", "the seal is valid"),
                f"{_time(info.valid_from)} – {_time(info.valid_until)}",
            ),
        ]
    signer = _quiet(lambda: read_certificate(opened.signer or b""))
    if signer is not None:
        rows.append((Text("签章者", "signed by"), signer.title))
    if opened.at is not None:
        rows.append(
            (Text("签章时间（签章者所称）", "signed at (says the signer)"), _time(opened.at))
        )
    if opened.signer is not None:
        none = Text("无：没有第三方证明签章时间", "none: no third party vouches for the time")
        stamped = _time(opened.stamped) if opened.stamped else f"{none.zh} {none.en}"
        rows.append((Text("时间戳", "time stamp"), stamped))
    shown = [
        tag("h3", _both(mark.role)),
        tag("div", _figure(seal.info if seal else None, ok=ok), _facts(rows), css="mark"),
        _certificates(mark, opened),
    ]
    return tag("div", *shown)


def _figure(info: SealInfo | None, *, ok: bool) -> Html:
    """Embed a seal's picture; with words across it where the file does not verify."""
    caption = Text("印章图像", "picture of the seal")
    picture = info.picture if info else None
    source = picture_source(picture, info.name) if picture and info else None
    if picture is None or source is None:
        kind = f" ({picture.type}, {len(picture.data):,} B)" if picture else ""
        caption = Text(f"没有可显示的印章图像{kind}", f"no picture that can be shown{kind}")
        return tag("figure", tag("figcaption", _both(caption)), css="none")
    width = f"{min(max(picture.width, 10), _MAX_MILLIMETRES)}mm"
    image = Html(f'<img src="{source}" alt="" style="width:{width}">')
    if ok:
        return tag("figure", image, tag("figcaption", _both(caption)))
    void = Text("未通过验证", "NOT VERIFIED")
    return tag(
        "figure", image, tag("b", _both(void)), tag("figcaption", _both(caption)), css="void"
    )


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
    sides = _quiet(lambda: _pixels(kind, data))
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


def _certificates(mark: Mark, opened: _Sealed) -> Html:
    given: list[tuple[Text, bytes]] = []
    if opened.signer is not None:
        given.append((Text("签章者", "signer"), opened.signer))
    if opened.seal is not None:
        given.append((Text("制章者", "maker of the seal"), opened.seal.maker))
    given += [(Text("上级", "above them"), each) for each in mark.chain]
    rows: dict[bytes, Html] = {}
    for role, data in given:
        found = _quiet(lambda data=data: read_certificate(data))  # type: ignore[misc]
        if found is not None and data not in rows:
            rows[data] = _certificate(role, found)
    heads = (
        Text("证书", "certificate"),
        Text("持有者 / 签发者", "holder / issuer"),
        Text("序列号、有效期、指纹", "serial number, validity, fingerprint"),
    )
    return _table(heads, list(rows.values()), css="certificates") if rows else Html("")


def _table(heads: Iterable[Text], rows: Iterable[Html], *, css: str) -> Html:
    """Make a table whose head is repeated on every page."""
    head = tag("thead", tag("tr", *(tag("th", _both(each)) for each in heads)))
    return tag("table", head, tag("tbody", *rows), css=css)


def _certificate(role: Text, found: Certificate) -> Html:
    return tag(
        "tr",
        tag("td", _both(role)),
        tag("td", found.title, Html("<br>"), "← ", found.issuer_title),
        tag(
            "td",
            f"{found.serial:x}",
            Html("<br>"),
            f"{found.not_before:%Y-%m-%d %H:%M} – {found.not_after:%Y-%m-%d %H:%M} UTC",
            Html("<br>"),
            f"SHA-256 {found.fingerprint}",
        ),
    )


# --- checks ---------------------------------------------------------------------------------


_STATES: Final = {
    "good": Text("✓ 通过", "ok"),
    "note": Text("! 注意", "note"),
    "fail": Text("✗ 未通过", "FAILED"),
}


def _checks(checks: Sequence[Check]) -> Html:
    heads = (
        Text("序号", "no."),
        Text("结果", "result"),
        Text("代号", "code"),
        Text("内容", "what is checked"),
    )
    rows: list[Html] = []
    for number, check in enumerate(checks, start=1):
        state = "fail" if not check.ok else "note" if check.note else "good"
        told = [_both(check.text)]
        if state != "good":
            found = (Text("应为", "expected"), check.expected), (Text("实为", "found"), check.found)
            lines = [
                tag("div", _both(label), Html(": "), tag("code", it)) for label, it in found if it
            ]
            told += lines
        rows.append(
            tag(
                "tr",
                tag("td", str(number)),
                tag("td", _both(_STATES[state])),
                tag("td", tag("code", check.name)),
                tag("td", *told),
                css=state,
            )
        )
    return _table(heads, rows, css="checks")


_CHANGED: Final = Text(
    "文件在封签之后被改动、截断或损坏，不是当初封签的字节。",
    "The file was changed, cut or damaged after it was sealed: these are not the sealed bytes.",
)
_RECORDS: Final = Text(
    "记录与当初封签的不一致：有记录被改动、增加、删除或调换了次序。",
    "The records are not those that were sealed: some were changed, added, dropped or moved.",
)
_OTHER: Final = Text(
    "该项没有通过；应为与实为见下表。", "This check failed; the table says what was expected."
)
_REASONS: Final[tuple[tuple[str, Text], ...]] = (
    (r"container|statement|proof|package|format|lengths|block|sync|schema", _CHANGED),
    (
        r"(statement\.suite|suite)",
        Text(
            "所用的密码套件不是声明的套件，或不受支持。",
            "The cipher suite is not the one stated, or is unknown.",
        ),
    ),
    (r"schema\.fingerprint|payload|records?|rows|operations|root|size", _RECORDS),
    (
        r".*value|seal\.signature|.*stamp_signature|checkpoint\.signature|witness\.signature",
        Text(
            "签名不是用所示证书的密钥对这些内容做出的：内容或签名被改动，或者是伪造的。",
            "The signature was not made with the key of the certificate over this content: "
            "content or signature were changed, or it is forged.",
        ),
    ),
    (
        r"signature\.(digest|range)",
        Text(
            "无论签章真伪，都不是盖在这份内容上的：内容被改动，或签章从别处移来。",
            "Whatever the seal is worth, it was not put on this content: the content was "
            "changed, or the seal was taken from elsewhere.",
        ),
    ),
    (
        r".*chain",
        Text(
            "没有您信任的机构为这张证书作保：信任根没有给对，或证书来自别的机构，或夹带了无关证书。",
            "Nobody you trust vouches for a certificate: the right root was not given, or it is "
            "of another authority, or certificates came along that belong to nobody.",
        ),
    ),
    (
        r".*revocation",
        Text(
            "证书已被撤销，或要求有撤销信息而没有列表可以回答。",
            "A certificate was revoked; or no list says that it was not, and that was required.",
        ),
    ),
    (
        r".*validity|signature\.time|seal\.time|seal\.created",
        Text(
            "签章时证书或印章尚未生效、已经过期，或时间前后矛盾。",
            "Certificate or seal were not valid yet, or no longer, when it was signed; or the "
            "times contradict each other.",
        ),
    ),
    (
        r".*usage",
        Text("证书不是用来做这种签名的。", "The certificate is not for signatures of this kind."),
    ),
    (
        r"signer\.in_seal",
        Text(
            "签章者不在印章的证书列表中：他无权使用这枚印章。",
            "The seal does not list the signer: he has no right to use it.",
        ),
    ),
    (
        r"(seal|signature)\..*|signer\..*",
        Text(
            "电子印章或签章的结构有误或被改动。",
            "The seal, or the signature, is malformed or was changed.",
        ),
    ),
    (
        r"batch|counts|code|time",
        Text(
            "回执说的不是这个批次，或者省级平台没有全部接收。",
            "The receipt is not about this batch, or the province did not accept all of it.",
        ),
    ),
    (
        r"log\.(statement|receipt)",
        Text(
            "存证日志中没有这份声明或回执：它事后才出现，或日志被改写。",
            "The evidence log does not have this statement or receipt: it was made afterwards, "
            "or the log was rewritten.",
        ),
    ),
    (
        r"log\..*|checkpoint.*|witness.*",
        Text(
            "存证日志的历史前后矛盾，或没有可信的见证：可能有人向不同的人出示不同的历史。",
            "The history of the evidence log contradicts itself, or nobody trusted witnessed it: "
            "two parties may have been shown two histories.",
        ),
    ),
    (
        r"batches\.previous",
        Text(
            "批次前后不相接：中间缺少批次，或有批次被替换。",
            "The batches do not follow each other: one between them is left out, or was replaced.",
        ),
    ),
    (
        r"certificates|revocation|crls|anchors|tsa_anchors",
        Text(
            "随附的或您给出的证书、撤销列表中，有的无法读取或与本文件无关。",
            "Some of the certificates or lists that came along, or that you gave, cannot be "
            "read or have nothing to do with this file.",
        ),
    ),
)


def _why(check: Check) -> Text:
    """Say in plain words why a check fails."""
    name = check.name.removeprefix("receipt.")
    return next((why for pattern, why in _REASONS if re.fullmatch(pattern, name)), _OTHER)


def _quiet(read: Callable[[], T]) -> T | None:
    """Read a part whose faults the checks name."""
    try:
        return read()
    except (ValueError, IndexError, RecursionError, OverflowError, ExchangeError):
        return None


_STYLE: Final = """
@page { size: A4; margin: 15mm }
body { font: 10.5pt/1.45 "Noto Serif CJK SC", "Source Han Serif SC", SimSun, serif;
  color: #000; background: #fff; max-width: 180mm; margin: 0 auto; padding: 4mm }
h1 { font-size: 18pt; text-align: center; margin: 0 0 4mm }
h2 { font-size: 13pt; border-top: 2px solid #000; padding-top: 3mm; margin: 8mm 0 2mm }
h3 { font-size: 11pt; margin: 4mm 0 1mm; break-after: avoid }
h2, tr, figure, .verdict, .why { break-inside: avoid; break-after: auto }
h2 { break-after: avoid }
code { font: 9pt/1.4 "DejaVu Sans Mono", Consolas, monospace; overflow-wrap: anywhere }
span[lang=en] { font-family: "DejaVu Serif", "Times New Roman", serif; font-size: 88% }
.verdict { display: inline-block; padding: 1.5mm 4mm; margin: 1mm 0; font-weight: bold }
.verdict.good { border: 2px solid #000; border-radius: 6mm }
.verdict.bad { border: 6px double #000; text-transform: none }
.sign { font-size: 14pt }
.why { border-left: 4px solid #000; margin: 2mm 0; padding: 1mm 4mm 1mm 8mm }
table { border-collapse: collapse; width: 100%; margin: 1mm 0 }
th, td { border: 1px solid #888; padding: .8mm 1.6mm; text-align: left; vertical-align: top;
  overflow-wrap: anywhere; font-size: 9.5pt }
th { font-weight: normal; color: #333 }
.facts th { width: 34% }
.checks td:nth-child(1) { width: 9mm; text-align: right }
.checks td:nth-child(2) { width: 23mm; white-space: nowrap }
.checks td:nth-child(3) { width: 38mm }
.checks .fail td { border-top: 2px solid #000; border-bottom: 2px solid #000; font-weight: bold }
.checks .fail td:nth-child(2) { outline: 2px solid #000; outline-offset: -3px }
.checks .note td:nth-child(2) { text-decoration: underline }
.certificates td:nth-child(1) { width: 24mm }
.certificates td:nth-child(2) { width: 62mm }
.mark { display: flex; gap: 4mm; align-items: flex-start }
figure { margin: 0; text-align: center; flex: 0 0 auto; max-width: 60mm; position: relative }
figure img { max-width: 100%; height: auto; display: block; margin: 0 auto }
figcaption { font-size: 8.5pt }
figure.none { border: 1px dashed #000; padding: 4mm; max-width: 36mm }
figure.void img { filter: grayscale(1); opacity: .3 }
figure.void b { position: absolute; top: 30%; left: 0; right: 0; border: 3px double #000;
  background: #fff; padding: 1mm }
footer { border-top: 1px solid #000; margin-top: 8mm; padding-top: 2mm; font-size: 9pt }
"""
