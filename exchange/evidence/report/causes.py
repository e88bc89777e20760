"""Why a check fails, in words for who is no engineer."""

from __future__ import annotations

import re
from typing import Final

from exchange.seal.checks import Check
from exchange.text import Text

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


def why(check: Check) -> Text:
    """Say in plain words why a check fails."""
    name = check.name.removeprefix("receipt.")
    return next((text for pattern, text in _REASONS if re.fullmatch(pattern, name)), _OTHER)
