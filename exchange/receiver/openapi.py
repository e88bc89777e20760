"""The receiver's services as an OpenAPI document, for callers that ask for it."""

from __future__ import annotations

from typing import Any

from exchange.cascade.profiles import BATCH_HEADER, DEPARTMENT_HEADER, RESOURCE_HEADER
from exchange.cascade.signing import BODY_SIGN_HEADER
from exchange.cascade.witness import FORMAT
from exchange.receiver.options import ReceiverOptions

_ANSWERS = {
    "200": "接收成功 taken, data.receipt is the receipt; a repeat gets the same one",
    "400": "请求头与声明不一致 a header contradicts the statement",
    "401": "身份、签名或时间不正确 caller, signature or time is not right",
    "403": "超出调用方的授权范围 outside of what the caller may do: data.scope",
    "408": "请求体超时 the body took too long",
    "409": "批次号已用于另一份内容 the number is in use for another content",
    "413": "请求体过大 the body is too large",
    "422": "未通过验证 does not verify: data.failed names the checks",
    "424": "不接续上一批 the batch before this one is missing: data.expected",
    "425": "封签时间在未来 sealed in the future: come again after Retry-After",
    "429": "请求过多 too many requests at once: Retry-After",
    "503": "暂时无法保存 cannot keep it now: Retry-After",
}


def openapi(settings: ReceiverOptions) -> dict[str, Any]:
    """Describe the services under the addresses of the settings."""
    family = settings.family
    signed = [_header(f"{family}_{name}") for name in ("rid", "sid", "rtime", "sign")]
    signed.append(_header(BODY_SIGN_HEADER, required=False))
    claims = (BATCH_HEADER, RESOURCE_HEADER, DEPARTMENT_HEADER)
    claimed = [_header(name, required=False) for name in claims]
    origin = {"name": "origin", "in": "query", "required": True, "schema": {"type": "string"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "exchange receiver", "version": "1"},
        "paths": {
            f"/sysapi/{settings.path}": {
                "post": _service("报送批次 deliver a sealed batch", signed + claimed, _ANSWERS)
                | {"requestBody": _body("application/avro", settings.max_body)}
            },
            f"/sysapi/{settings.witness}": {
                "post": _service(
                    f"见证检查点 sign a checkpoint along ({FORMAT})",
                    signed,
                    _only("200", "401", "403", "425")
                    | {
                        "409": "上次见证的长度不同 another size was seen last: data.size",
                        "422": "不接续见过的历史 does not continue what was seen",
                    },
                )
                | {"requestBody": _body("application/json", settings.max_body)},
                "get": _service("见过什么 what was seen of a log", [*signed, origin], _only("200")),
            },
            "/sysapi/openapi": {"get": _service("本文档 this document", signed, _only("200"))},
            "/healthz": {"get": _service("健康检查 alive", [], _only("200"))},
        },
    }


def _only(*codes: str) -> dict[str, str]:
    return {code: _ANSWERS[code] for code in codes}


def _service(
    summary: str, parameters: list[dict[str, Any]], answers: dict[str, str]
) -> dict[str, Any]:
    responses = {code: {"description": text} for code, text in answers.items()}
    return {"summary": summary, "parameters": parameters, "responses": responses}


def _header(name: str, *, required: bool = True) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": required, "schema": {"type": "string"}}


def _body(media: str, limit: int) -> dict[str, Any]:
    schema = {"type": "string", "format": "binary", "maxLength": limit}
    return {"required": True, "content": {media: {"schema": schema}}}
