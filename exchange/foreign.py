"""What the operating system and libraries say, in both languages.

A text that has no translation is quoted as it came: a maintainer searches for it word by word.
In Chinese it stands behind ``原文``.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any, Final

from exchange.text import Text

_SYSTEM: Final[Mapping[int, str]] = {
    errno.ENOENT: "没有这个文件或目录",
    errno.EACCES: "没有权限",
    errno.EPERM: "不允许此操作",
    errno.EEXIST: "已经存在",
    errno.ENOTDIR: "路径中有一段不是目录",
    errno.EISDIR: "这是目录，不是文件",
    errno.ENOTEMPTY: "目录不是空的",
    errno.ENOSPC: "磁盘已满",
    errno.EDQUOT: "超过磁盘配额",
    errno.EROFS: "磁盘只读",
    errno.EFBIG: "文件过大",
    errno.EMFILE: "打开的文件过多",
    errno.ENFILE: "打开的文件过多",
    errno.ENAMETOOLONG: "名称过长",
    errno.ELOOP: "符号链接过多",
    errno.EINVAL: "参数不可用",
    errno.EIO: "磁盘读写出错",
    errno.EBUSY: "正被占用",
    errno.ETXTBSY: "正被占用",
    errno.ECONNREFUSED: "拒绝连接",
    errno.ECONNRESET: "连接被对方中断",
    errno.EPIPE: "连接被对方中断",
    errno.EHOSTUNREACH: "没有到该主机的路由",
    errno.ENETUNREACH: "网络不通",
    errno.ETIMEDOUT: "超时",
    errno.EADDRINUSE: "端口已被占用",
    errno.EADDRNOTAVAIL: "本机没有这个地址",
}
"""Reasons by number; in English the system's own words stand."""
_OURS: Final[Mapping[str, str]] = {"not a regular file": "不是普通文件"}
"""Reasons that we give ourselves where the system would only give a number."""
_CERTIFICATE: Final[Mapping[int, Text]] = {
    10: Text("证书已过期", "the certificate has expired"),
    9: Text("证书尚未生效", "the certificate is not valid yet"),
    18: Text("自签名证书", "a self-signed certificate"),
    19: Text("证书链中有不受信任的自签名证书", "a self-signed certificate in its chain"),
    20: Text("签发机构不受信任", "its issuer is not trusted"),
    21: Text("证书链不完整", "its chain is not complete"),
    23: Text("证书已撤销", "the certificate is revoked"),
    62: Text("证书不是该主机的", "the certificate is of another host"),
    64: Text("证书不是该地址的", "the certificate is of another address"),
}
"""Reasons by OpenSSL's number (x509_vfy.h)."""
_NETWORK: Final[Mapping[str, Text]] = {
    "ConnectTimeout": Text("连接超时", "the connection timed out"),
    "ReadTimeout": Text("等待应答超时", "the answer timed out"),
    "Timeout": Text("超时", "it timed out"),
    "TimeoutError": Text("超时", "it timed out"),
    "ConnectionError": Text("连接失败或中断", "the connection failed or was cut"),
    "ConnectionResetError": Text("连接被对方中断", "the other side cut the connection"),
    "ConnectionRefusedError": Text("拒绝连接", "the connection is refused"),
    "ChunkedEncodingError": Text("应答中断", "the answer was cut"),
    "ContentDecodingError": Text("应答的压缩有误", "the answer is wrongly compressed"),
    "ProxyError": Text("代理无应答", "the proxy does not answer"),
    "SSLError": Text("TLS 握手失败", "the TLS handshake failed"),
}
"""What a library of HTTP raises, by the name of the class."""
_PYDANTIC: Final[Mapping[str, Text]] = {
    "missing": Text("缺少该项", "it is missing"),
    "extra_forbidden": Text("没有这一项", "there is no such setting"),
    "string_type": Text("应为文本", "it must be a text"),
    "string_too_short": Text("至少 {min_length} 个字符", "at least {min_length} characters"),
    "string_too_long": Text("至多 {max_length} 个字符", "at most {max_length} characters"),
    "string_pattern_mismatch": Text("格式应为 {pattern}", "it must be like {pattern}"),
    "int_type": Text("应为整数", "it must be a whole number"),
    "int_parsing": Text("应为整数", "it must be a whole number"),
    "int_parsing_size": Text("数字过大", "the number is too large"),
    "int_from_float": Text("应为整数", "it must be a whole number"),
    "float_type": Text("应为数字", "it must be a number"),
    "float_parsing": Text("应为数字", "it must be a number"),
    "finite_number": Text("应为有限的数字", "it must be a finite number"),
    "bool_type": Text("应为 true 或 false", "it must be true or false"),
    "bool_parsing": Text("应为 true 或 false", "it must be true or false"),
    "greater_than": Text("须大于 {gt}", "it must be greater than {gt}"),
    "greater_than_equal": Text("须不小于 {ge}", "it must be {ge} or more"),
    "less_than": Text("须小于 {lt}", "it must be less than {lt}"),
    "less_than_equal": Text("须不大于 {le}", "it must be {le} or less"),
    "literal_error": Text("可用：{expected}", "it must be one of: {expected}"),
    "enum": Text("可用：{expected}", "it must be one of: {expected}"),
    "list_type": Text("应为列表", "it must be a list"),
    "tuple_type": Text("应为列表", "it must be a list"),
    "too_short": Text("至少 {min_length} 项", "at least {min_length} items"),
    "too_long": Text("至多 {max_length} 项", "at most {max_length} items"),
    "dict_type": Text("应为映射（键: 值）", "it must be a mapping (key: value)"),
    "mapping_type": Text("应为映射（键: 值）", "it must be a mapping (key: value)"),
    "model_type": Text("应为映射（键: 值）", "it must be a mapping (key: value)"),
    "model_attributes_type": Text("应为映射（键: 值）", "it must be a mapping (key: value)"),
    "path_type": Text("应为路径", "it must be a path"),
    "date_from_datetime_parsing": Text("应为日期，如 2026-01-31", "a date, such as 2026-01-31"),
    "date_parsing": Text("应为日期，如 2026-01-31", "a date, such as 2026-01-31"),
    "datetime_parsing": Text(
        "应为时间，如 2026-01-31T08:00:00+08:00", "a time, such as 2026-01-31T08:00:00+08:00"
    ),
    "datetime_from_date_parsing": Text(
        "应为时间，如 2026-01-31T08:00:00+08:00", "a time, such as 2026-01-31T08:00:00+08:00"
    ),
    "timezone_aware": Text("时间须带时区，如 +08:00", "the time needs its zone, such as +08:00"),
    "time_delta_parsing": Text("应为时长，如 30s、15m、2h", "a duration, such as 30s, 15m, 2h"),
    "time_delta_type": Text("应为时长，如 30s、15m、2h", "a duration, such as 30s, 15m, 2h"),
}
"""What pydantic refuses, by its type of error."""

_SUBJECT: Final[Mapping[str, str]] = {
    "Organization Identifier": "统一社会信用代码",
    "Organizational Unit": "部门",
    "Organization": "单位",
    "Common Name": "名称",
    "Country": "国家",
    "State/Province": "省",
    "Locality": "地",
    "Serial Number": "序号",
    "Email Address": "邮箱",
}
"""The attributes of a subject, by the words of asn1crypto."""
EXTRAS: Final[Mapping[str, str]] = {
    "cryptography": "base",
    "numpy": "base",
    "pydantic": "base",
    "rich": "base",
    "yaml": "base",
    "alembic": "node",
    "charset_normalizer": "node",
    "croniter": "node",
    "fastavro": "node",
    "lxml": "node",
    "polars": "node",
    "pyarrow": "node",
    "requests": "node",
    "sqlalchemy": "node",
    "xlrd": "node",
    "xlsxwriter": "node",
    "fastapi": "receiver",
    "uvicorn": "receiver",
    "adbc_driver_manager": "postgres",
    "adbc_driver_postgresql": "postgres",
    "psycopg": "postgres",
    "pymysql": "mysql",
    "kafka": "kafka",
    "paramiko": "sftp",
    "zeep": "soap",
    "prometheus_client": "metrics",
}
"""The extra that installs a package, by the package's import name."""


def original(text: object) -> Text:
    """Quote what somebody else's program says."""
    line = " ".join(str(text).split())
    return Text(f"原文：{line}" if line else "没有说明", line or "without a reason")


def os_reason(error: OSError) -> Text:
    """Say why the operating system refused."""
    if hasattr(error, "verify_code"):  # of ssl, which is not imported for this alone
        return _CERTIFICATE.get(error.verify_code) or original(getattr(error, "verify_message", ""))
    number = errno.ETIMEDOUT if isinstance(error, TimeoutError) else error.errno or 0
    english = original(error.strerror or error)
    chinese = _OURS.get(error.strerror or "") or _SYSTEM.get(number)
    return Text(chinese, english.en) if chinese else english


def network_reason(error: BaseException) -> Text:
    """Say why a request came to nothing; no address is in it, and no header."""
    if hasattr(error, "verify_code") and isinstance(error, OSError):
        return os_reason(error)
    names = [kind.__name__ for kind in type(error).__mro__]
    return next((_NETWORK[name] for name in names if name in _NETWORK), original(names[0]))


def setting_reason(item: Mapping[str, Any]) -> Text:
    """Say what pydantic refuses of a setting; ``item`` is one of ``ValidationError.errors()``.

    A validator of ours brings its own sentences: ``zh`` and ``en`` of the context.
    """
    context: Mapping[str, Any] = item.get("ctx", {})
    if "zh" in context:
        return Text(str(context["zh"]), str(item["msg"]))
    text = _PYDANTIC.get(str(item["type"]))
    if text is None:
        return original(item["msg"])
    values = {key: str(value).replace(" or ", ", ") for key, value in context.items()}
    return Text(text.zh.format(**values), text.en.format(**values))


def subject(title: str) -> Text:
    """Write the subject of a certificate, as the ASN.1 library does, in both languages."""
    chinese = title
    for english, word in _SUBJECT.items():
        chinese = chinese.replace(f"{english}: ", f"{word} ")
    return Text(chinese.replace(", ", "，"), title)


def missing_package(error: ModuleNotFoundError) -> tuple[Text, Text] | None:
    """Say which package is missing, and the command that installs the extra that brings it.

    None for a package of no extra.
    """
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        return None
    command = f"pip install 'gov-exchange[{EXTRAS[package]}]'"
    return (
        Text(f"缺少 Python 包 {package}", f"the package {package} is not installed"),
        Text(f"请运行 {command}", f"run {command}"),
    )


def program_reason(error: BaseException) -> Text:
    """Say what went wrong in somebody's Python code."""
    if isinstance(error, KeyError) and error.args:
        return Text(f"没有名为“{error.args[0]}”的键", f"there is no key {error.args[0]!r}")
    if isinstance(error, OSError) and error.errno:
        reason = os_reason(error)
        name = "" if error.filename is None else str(error.filename)
        return Text(f"{name}：{reason.zh}", f"{name}: {reason.en}") if name else reason
    kind = type(error)
    name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    return original(f"{name}: {error}")
