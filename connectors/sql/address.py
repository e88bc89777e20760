"""Addresses of databases: which are allowed, and what in one could harm or leak.

An address is refused before any library reads it: a library that cannot split one prints the
part of the password that it took for a host or a port.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

from exchange.connect import Misconfigured, Text, suggest

POSTGRES = ("postgresql", "postgres")
"""Schemes that are read as columns; ``postgresql+psycopg`` asks for the universal way."""
UNIVERSAL = ("sqlite", "mysql", "mariadb", "oracle", "mssql", "postgresql", "dm", "kingbase")
"""Database kinds of the universal way: a list, so that a setting cannot reach other schemes."""

_RAW = re.compile(r"[/?#@\[\]\s\\]|%(?![0-9A-Fa-f]{2})")
"""What ends a user or password early, or is no percent-encoding."""
_PORTS = re.compile(r"(?:\[[0-9A-Fa-f:.%]*\]|[^\[\]:,]*)(?::[0-9]*)?")
_ENCODE = Text(
    "用户名和密码中的特殊字符要写成百分号编码：@ 写 %40，/ 写 %2F，# 写 %23，? 写 %3F，% 写 %25",
    "percent-encode special characters of user and password: "
    "@ is %40, / is %2F, # is %23, ? is %3F, % is %25",
)


def checked_scheme(url: str) -> str:
    """Return the scheme of an allowed address, such as ``mysql+pymysql``.

    Raises :class:`Misconfigured`, which never repeats a part of the address.
    """
    scheme, found, rest = url.partition("://")
    scheme = scheme.lower()
    if not found or not (scheme in POSTGRES or scheme.partition("+")[0] in UNIVERSAL):
        known = ", ".join(UNIVERSAL)
        raise Misconfigured(
            Text("数据库地址的类型不受支持", "this kind of database address is not supported"),
            hint=Text(f"地址以下列之一开头：{known}", f"an address starts with one of: {known}"),
        )
    if not scheme.startswith("sqlite"):
        _check_authority(rest)
        _check_encoding(scheme, url)
    return scheme


def _check_authority(rest: str) -> None:
    """Refuse raw special characters in user, password, host and port."""
    user, _, host = rest.rpartition("@")
    place = re.split(r"[/?#]", host, maxsplit=1)[0]
    ports = all(_PORTS.fullmatch(part) for part in place.split(","))
    if _RAW.search(user) or not ports:
        raise Misconfigured(
            Text(
                "数据库地址写法不对：密码或端口中有未编码的特殊字符",
                "the database address cannot be read: a special character stands raw in it",
            ),
            hint=_ENCODE,
        )


_ENCODINGS = {
    # By kind of database: the option that would change the session's encoding, and what is in
    # force here in any case.
    "mysql": ("charset", ("utf8mb4",)),
    "mariadb": ("charset", ("utf8mb4",)),
    "postgresql": ("client_encoding", ("utf8", "utf-8", "unicode")),
    "postgres": ("client_encoding", ("utf8", "utf-8", "unicode")),
}


def _check_encoding(scheme: str, url: str) -> None:
    """Refuse an encoding of the session that would not be honoured."""
    kind = scheme.partition("+")[0]
    if kind not in _ENCODINGS:
        return
    option, same = _ENCODINGS[kind]
    given = [value.lower() for name, value in parse_qsl(urlsplit(url).query) if name == option]
    if any(value not in same for value in given):
        raise Misconfigured(
            Text(
                f"地址中的 {option} 不能改：文本总是由数据库转成 {same[0]} 再读取",
                f"{option} cannot be chosen in the address: the database turns all text "
                f"into {same[0]}",
            ),
            hint=Text(
                f"请去掉 {option}；某列的字节与它声明的编码不符时，用 query 转换，"
                "见 docs/connectors.md",
                f"drop {option}; for a column whose bytes are not in its declared encoding use "
                "`query`, see docs/connectors.md",
            ),
        )


def near(name: str, known: list[str]) -> Text:
    """Return what to do about a name that is not there."""
    found = suggest(name, known)
    return Text(f"请修改配置。{found.zh}", f"edit the settings: {found.en}")
