"""Seals of a file: the picture for the front, names, times and certificates for the annex."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from exchange.evidence.files import Mark
from exchange.evidence.report.html import Html, both, facts_table, moment, quiet, table, tag
from exchange.evidence.report.pictures import picture_source
from exchange.foreign import subject
from exchange.seal.eseal.structures import Seal, SealInfo, read_seal, read_signature
from exchange.seal.pki.timestamp import read_token
from exchange.seal.pki.x509 import Certificate, read_certificate
from exchange.text import Text

_MAX_MILLIMETRES: Final = 80


@dataclass(frozen=True, slots=True)
class _Sealed:
    """A mark taken apart, as far as it can be."""

    seal: Seal | None = None
    signer: bytes | None = None
    at: datetime | None = None
    stamped: datetime | None = None


def _open(mark: Mark) -> _Sealed:
    signature = quiet(lambda: read_signature(mark.signature))
    if signature is None:
        return _Sealed(quiet(lambda: read_seal(mark.signature)))
    stamp = signature.stamp
    token = quiet(lambda: read_token(stamp)) if stamp else None
    return _Sealed(
        quiet(lambda: read_seal(signature.eseal)),
        signature.certificate,
        signature.time,
        token.time if token else None,
    )


def details(mark: Mark) -> Html:
    """Show one seal's name, times and certificates."""
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
                f"{moment(info.valid_from)} – {moment(info.valid_until)}",
            ),
        ]
    signer = quiet(lambda: read_certificate(opened.signer or b""))
    if signer is not None:
        rows.append((Text("签章者", "signed by"), subject(signer.title).zh))
    if opened.at is not None:
        rows.append(
            (Text("签章时间（签章者所称）", "signed at (says the signer)"), moment(opened.at))
        )
    if opened.signer is not None:
        none = Text("无：没有第三方证明签章时间", "none: no third party vouches for the time")
        stamped = moment(opened.stamped) if opened.stamped else f"{none.zh} {none.en}"
        rows.append((Text("时间戳", "time stamp"), stamped))
    return tag("div", tag("h3", both(mark.role)), facts_table(rows), _certificates(mark, opened))


def figure(mark: Mark, *, ok: bool) -> Html:
    """Show one seal on the front: its picture, whose it is, when it was put on."""
    opened = _open(mark)
    info = opened.seal.info if opened.seal else None
    lines = [both(mark.role)]
    if info is not None:
        lines += [Html("<br>"), tag("span", info.name)]
    if opened.at is not None:
        lines += [Html("<br>"), tag("span", moment(opened.at))]
    return _figure(info, tag("figcaption", *lines), ok=ok)


def _figure(info: SealInfo | None, caption: Html, *, ok: bool) -> Html:
    """Embed a seal's picture; with words across it where the file does not verify."""
    picture = info.picture if info else None
    source = picture_source(picture, info.name) if picture and info else None
    if picture is None or source is None:
        kind = f" ({picture.type}, {len(picture.data):,} B)" if picture else ""
        missing = Text(f"没有可显示的印章图像{kind}", f"no picture that can be shown{kind}")
        return tag("figure", tag("p", both(missing)), caption, css="none")
    width = f"{min(max(picture.width, 10), _MAX_MILLIMETRES)}mm"
    image = Html(f'<img src="{source}" alt="" style="width:{width}">')
    if ok:
        return tag("figure", image, caption)
    void = Text("未通过验证", "NOT VERIFIED")
    return tag("figure", image, tag("b", both(void)), caption, css="void")


def _certificates(mark: Mark, opened: _Sealed) -> Html:
    given: list[tuple[Text, bytes]] = []
    if opened.signer is not None:
        given.append((Text("签章者", "signer"), opened.signer))
    if opened.seal is not None:
        given.append((Text("制章者", "maker of the seal"), opened.seal.maker))
    given += [(Text("上级", "above them"), each) for each in mark.chain]
    rows: dict[bytes, Html] = {}
    for role, data in given:
        found = quiet(lambda data=data: read_certificate(data))  # type: ignore[misc]
        if found is not None and data not in rows:
            rows[data] = _certificate(role, found)
    heads = (
        Text("证书", "certificate"),
        Text("持有者 / 签发者", "holder / issuer"),
        Text("序列号、有效期、指纹", "serial number, validity, fingerprint"),
    )
    return table(heads, list(rows.values()), css="certificates") if rows else Html("")


def _certificate(role: Text, found: Certificate) -> Html:
    return tag(
        "tr",
        tag("td", both(role)),
        tag(
            "td",
            subject(found.title).zh,
            Html("<br>"),
            "← ",
            subject(found.issuer_title).zh,
        ),
        tag(
            "td",
            f"{found.serial:x}",
            Html("<br>"),
            f"{moment(found.not_before)} – {moment(found.not_after)}",
            Html("<br>"),
            f"SHA-256 {found.fingerprint}",
        ),
    )
