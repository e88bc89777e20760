"""The error map: what a connector or its library raises becomes one of our errors.

One table by the exception's full class name (its bases count too), so that no library needs to
be imported here. What is in no table is refused with the cause kept and its type named.
"""

from __future__ import annotations

import re
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from exchange.errors import Denied, ExchangeError, Misconfigured, Rejected, Transient
from exchange.foreign import missing_package, original, program_reason
from exchange.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from exchange.connect.secrets import Secret

_AGAIN = Text(
    "请检查对方是否在运行、网络是否可达；系统会自动重试",
    "check that the other side runs and can be reached; the pull is tried again",
)
_DATABASE_AGAIN = Text(
    "请检查数据库是否在运行、网络是否可达；系统会从断点继续",
    "check that the database runs and can be reached; the next pull goes on from here",
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
    "paramiko.ssh_exception.AuthenticationException": (Denied, _RIGHTS),
    "paramiko.ssh_exception.SSHException": (Transient, _AGAIN),
    "paramiko.sftp.SFTPError": (Transient, _AGAIN),
    "kafka.errors.KafkaError": (Transient, _AGAIN),
    "kafka.errors.AuthorizationError": (Denied, _RIGHTS),
    "kafka.errors.TopicAuthorizationFailedError": (Denied, _RIGHTS),
    "kafka.errors.ClusterAuthorizationFailedError": (Denied, _RIGHTS),
    "kafka.errors.SaslAuthenticationFailedError": (Denied, _RIGHTS),
    "kafka.errors.UnsupportedSaslMechanismError": (Misconfigured, _EDIT),
    "kafka.errors.IllegalSaslStateError": (Misconfigured, _EDIT),
    "kafka.errors.KafkaConfigurationError": (Misconfigured, _EDIT),
    "kafka.errors.UnsupportedVersionError": (Misconfigured, _EDIT),
    "kafka.errors.UnsupportedCodecError": (Misconfigured, _EDIT),
    "kafka.errors.InvalidTopicError": (Misconfigured, _EDIT),
    "kafka.errors.CorruptRecordError": (Rejected, _REPORT),
    "builtins.EOFError": (Transient, _AGAIN),
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


_SQLSTATES: Mapping[str, type[ExchangeError]] = {
    # By the longest beginning that fits.
    "28": Denied,  # authorization
    "42501": Denied,  # privilege
    "3D": Misconfigured,  # catalog
    "3F": Misconfigured,  # schema
    "42": Misconfigured,  # syntax, names
    "08": Transient,  # connection
    "40": Transient,  # conflict
    "53": Transient,  # resources
    "55": Transient,  # not ready
    "57": Transient,  # stopped by a person
    "58": Transient,  # system
}
_MYSQL: Mapping[type[ExchangeError], tuple[int, ...]] = {
    # Access to a server, database, table, column, privilege, routine, account; passwords.
    Denied: (1044, 1045, 1130, 1142, 1143, 1227, 1370, 1410, 1698, 1820, 1862),
    # Unknown database, table, column, option; syntax; TLS and log-in that the server has not.
    Misconfigured: (1049, 1051, 1054, 1064, 1115, 1146, 1193, 1251, 2026, 2059, 3159),
    # Too many connections, shutdown, locks, network, resources, stopped, too slow; unreachable.
    Transient: (
        *(1040, 1053, 1158, 1159, 1160, 1161, 1203, 1205, 1213, 1226, 1317),
        *(1927, 1969, 3024),
        *(2002, 2003, 2005, 2006, 2013, 2014, 2055),
    ),
}
_WRAPPED = (None, 2003, 2013)
"""Numbers that say no more than that there is no connection."""
_NO_STATE = ("", "HY000")
_TOLD: tuple[tuple[type[ExchangeError], tuple[str, ...]], ...] = (
    # What a client library says before there is a code: names of programs' own, which a
    # server's language does not change, or both languages.
    (Denied, ("pg_hba.conf", "authentication failed", "认证失败", "no password supplied")),
    (
        Misconfigured,
        (
            *("does not support SSL", "sslmode", "ertificate verify failed", "rtificate file"),
            *("SSL: WRONG_VERSION_NUMBER", "CERTIFICATE_VERIFY_FAILED", "not match host name"),
            *("invalid URI", "invalid connection option", "invalid integer value"),
            *("invalid port number", "unrecognized configuration parameter", "invalid percent"),
            *("no such table", "no such column", "syntax error", "file is not a database"),
            *("unable to open database file", "unexpected keyword argument"),
        ),
    ),
)
_NO_DATABASE = re.compile('(database|数据库) *".*" *(does not exist|不存在)')
_NO_ROLE = re.compile('(role|角色) *".*" *(does not exist|不存在|is not permitted)')


def database_error(
    locator: str,
    text: str,
    *,
    state: str = "",
    code: int | None = None,
    lost_connection: bool = True,
) -> ExchangeError:
    """Return our error for what a database or its driver said.

    ``state`` is the SQLSTATE, ``code`` a number of MySQL's; without either ``text`` decides, and
    at last ``lost_connection``: whether the driver means the connection, not the statement.
    """
    # MySQL's numbers say more than its states: 42000 is a wrong name and a missing right.
    verdict = _by_text(text) if code in _WRAPPED and state in _NO_STATE else None
    verdict = verdict or _by_code(code) or _by_state(state)
    verdict = verdict or (Transient if lost_connection and state in _NO_STATE else Rejected)
    hint = {Transient: _DATABASE_AGAIN, Denied: _RIGHTS}.get(verdict, _EDIT)
    why = original(text[:_MAX_TEXT])
    return verdict(
        Text(f"读取 {locator} 失败：{why.zh}", f"cannot read {locator}: {why.en}"), hint=hint
    )


def _by_state(state: str) -> type[ExchangeError] | None:
    fitting = [part for part in _SQLSTATES if state.startswith(part)]
    return _SQLSTATES[max(fitting, key=len)] if fitting else None


def _by_code(code: int | None) -> type[ExchangeError] | None:
    return next((verdict for verdict, codes in _MYSQL.items() if code in codes), None)


def _by_text(text: str) -> type[ExchangeError] | None:
    if _NO_ROLE.search(text):
        return Denied
    if _NO_DATABASE.search(text):
        return Misconfigured
    return next((v for v, parts in _TOLD if any(part in text for part in parts)), None)


def _is_panic(error: BaseException) -> bool:
    return type(error).__name__ == "PanicException"


def translate(error: BaseException, connector: str, secrets: Sequence[Secret]) -> ExchangeError:
    """Return our error for a foreign one; its text is shortened and without secrets."""
    verdict: type[ExchangeError] = Rejected
    hint = _REPORT
    for base in type(error).__mro__:
        entry = ERROR_MAP.get(f"{base.__module__}.{base.__qualname__}")
        if entry is not None:
            verdict, hint = entry
            break
    place = place_of(error) if verdict is Rejected else ""
    if isinstance(error, ModuleNotFoundError) and (missing := missing_package(error)) is not None:
        return Misconfigured(missing[0], hint=missing[1])
    why = program_reason(error)
    zh, en = (_hidden(text, secrets)[:_MAX_TEXT] for text in why)
    return verdict(
        Text(
            f"连接器 {connector} 出错：{zh}" + (f"（{place}）" if place else ""),
            f"{connector} failed: {en}" + (f" ({place})" if place else ""),
        ),
        hint=hint,
    )


def place_of(error: BaseException) -> str:
    """Return file and line where the author's code raised, or called what raised; else empty.

    The author's code is what the plugin surface calls first, and what lies in its folder.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}:{error.lineno}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<") and Path(frame.filename).parent != _SURFACE
    ]
    if not frames:
        return ""
    folder = Path(frames[0].filename).parent
    last = [frame for frame in frames if Path(frame.filename).parent == folder][-1]
    return f"{Path(last.filename).name}:{last.lineno}"


_SURFACE = Path(__file__).parent


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
    except BaseException as error:
        # A panic of a library in Rust, and sys.exit() in somebody's code, are no Exception: they
        # end this source's pull, not the node. What stops the node does not come from here.
        if not isinstance(error, Exception | SystemExit) and not _is_panic(error):
            raise
        translation = translate(error, connector, secrets)
        text = str(error)
        if _hidden(text, secrets) != text:
            raise translation from None
        raise translation from error


def _hidden(text: str, secrets: Sequence[Secret]) -> str:
    for secret in secrets:
        try:
            text = secret.hide(text)
        except ExchangeError:
            # A secret that cannot be read has not leaked either.
            continue
    return text
