"""The error map: what a connector or its library raises becomes one of our errors.

One table by the exception's full class name (its bases count too), so that no library needs to
be imported here. What is in no table is refused with the cause kept and its type named.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from exchange.errors import Denied, ExchangeError, Misconfigured, Rejected, Transient
from exchange.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from exchange.connect.secrets import Secret

_AGAIN = Text(
    "请检查对方是否在运行、网络是否可达；系统会自动重试",
    "check that the other side runs and can be reached; the pull is tried again",
)
_RIGHTS = Text(
    "请检查账号、密码和读取权限", "check the account, its password and its right to read"
)
_EDIT = Text("请修改该数据源的配置", "edit the settings of this source")
_REPORT = Text(
    "请检查连接器的代码，或运行 exchange connector check 查看",
    "look into the connector's code, or run `exchange connector check`",
)

ERROR_MAP: Mapping[str, tuple[type[ExchangeError], Text]] = {
    "sqlalchemy.exc.OperationalError": (Transient, _AGAIN),
    "sqlalchemy.exc.InterfaceError": (Transient, _AGAIN),
    "sqlalchemy.exc.DisconnectionError": (Transient, _AGAIN),
    "sqlalchemy.exc.TimeoutError": (Transient, _AGAIN),
    "sqlalchemy.exc.NoSuchTableError": (Misconfigured, _EDIT),
    "sqlalchemy.exc.NoSuchModuleError": (Misconfigured, _EDIT),
    "sqlalchemy.exc.ArgumentError": (Misconfigured, _EDIT),
    "sqlalchemy.exc.ProgrammingError": (Misconfigured, _EDIT),
    "requests.exceptions.ConnectionError": (Transient, _AGAIN),
    "requests.exceptions.Timeout": (Transient, _AGAIN),
    "requests.exceptions.ChunkedEncodingError": (Transient, _AGAIN),
    "builtins.ConnectionError": (Transient, _AGAIN),
    "builtins.TimeoutError": (Transient, _AGAIN),
    "builtins.PermissionError": (Denied, _RIGHTS),
    "builtins.FileNotFoundError": (Misconfigured, _EDIT),
    "builtins.NotADirectoryError": (Misconfigured, _EDIT),
    "builtins.IsADirectoryError": (Misconfigured, _EDIT),
    "builtins.ModuleNotFoundError": (Misconfigured, _EDIT),
    "builtins.OSError": (Transient, _AGAIN),
}
_MAX_TEXT = 600


def translate(error: Exception, connector: str, secrets: Sequence[Secret]) -> ExchangeError:
    """Return our error for a foreign one; its text is shortened and without secrets."""
    verdict: type[ExchangeError] = Rejected
    hint = _REPORT
    for base in type(error).__mro__:
        found = ERROR_MAP.get(f"{base.__module__}.{base.__qualname__}")
        if found is not None:
            verdict, hint = found
            break
    name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    told = _hidden(str(error), secrets)[:_MAX_TEXT]
    return verdict(
        Text(
            f"连接器 {connector} 出错：{name}：{told}",
            f"{connector} raised {name}: {told}",
        ),
        hint=hint,
    )


@contextmanager
def map_errors(connector: str, secrets: Sequence[Secret]) -> Iterator[None]:
    """Turn foreign exceptions of the block into ours, the cause kept.

    A cause whose own text holds a secret is cut off: tracebacks print causes.
    """
    try:
        yield
    except ExchangeError as error:
        what = Text(_hidden(error.what.zh, secrets), _hidden(error.what.en, secrets))
        if what != error.what:
            raise type(error)(what, hint=error.hint) from None
        raise
    except Exception as error:
        ours = translate(error, connector, secrets)
        told = str(error)
        if _hidden(told, secrets) != told:
            raise ours from None
        raise ours from error


def _hidden(text: str, secrets: Sequence[Secret]) -> str:
    for secret in secrets:
        try:
            text = secret.hide(text)
        except ExchangeError:
            # A secret that cannot be read has not leaked either.
            continue
    return text
