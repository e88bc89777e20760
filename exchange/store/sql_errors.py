"""The one place where errors of SQLAlchemy and its drivers turn into ours."""

from __future__ import annotations

import re
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import exc

from exchange.errors import Denied, ExchangeError, Integrity, Misconfigured, Rejected, Transient
from exchange.foreign import original
from exchange.sqlite_codes import Cause, cause_of
from exchange.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    ErrorMaker = Callable[[str, Text], ExchangeError]


@contextmanager
def map_errors(where: str) -> Iterator[None]:
    """Map what the libraries raise; ``where`` is the address without its password."""
    try:
        yield
    except exc.StatementError as error:
        first = _first(error)
        if isinstance(first.orig, ExchangeError):  # a column type refused a value
            raise first.orig from error
        verdict = _of_driver(first)
        if verdict is None:  # a mistake in our own SQL or values: a bug stays visible
            raise
        raise verdict(where, _detail(first.orig)) from first
    except (exc.ArgumentError, exc.NoSuchModuleError, ModuleNotFoundError) as error:
        raise _address(where, original(error)) from error
    except exc.TimeoutError as error:  # the pool has no connection left
        raise _away(where, Text("连接已用完", "all connections are in use")) from error


def sqlite_error(where: str, error: sqlite3.Error) -> Exception:
    """Return ours for an error of SQLite; the error itself where it is a bug of ours."""
    maker = _sqlite_verdict(error)
    return error if maker is None else maker(where, _detail(error))


def _sqlite_verdict(error: BaseException) -> ErrorMaker | None:
    cause = cause_of(error)
    return None if cause is None else SQLITE_VERDICTS[cause]


def _first(error: exc.StatementError) -> exc.StatementError:
    """Find what happened first: a roll-back that fails afterwards only hides it.

    SQLite, for one, drops the whole transaction when the disk is full, savepoints included.
    """
    link: BaseException | None = error
    while link is not None and not isinstance(link, ExchangeError):  # that one was dealt with
        if isinstance(link, exc.StatementError):
            error = link
        link = link.__context__
    return error


def _of_driver(error: exc.StatementError) -> ErrorMaker | None:
    cause = error.orig
    if isinstance(cause, sqlite3.Error):
        return _sqlite_verdict(cause)
    state = getattr(cause, "sqlstate", None)
    if state:
        return next((v for prefix, v in SQLSTATE_VERDICTS if state.startswith(prefix)), None)
    if not isinstance(error, exc.DBAPIError):
        return None
    # A connection that never came about carries no state, only the server's words.
    if isinstance(error, exc.OperationalError | exc.InterfaceError):
        words = str(cause)
        return next((v for pattern, v in CONNECT_VERDICTS if re.search(pattern, words)), _away)
    return _damaged if isinstance(error, exc.IntegrityError) else None


def _detail(cause: object) -> Text:
    """Take the driver's message, without PostgreSQL's DETAIL, which shows the row."""
    primary = getattr(getattr(cause, "diag", None), "message_primary", None)
    return original(str(primary or cause)[:500])


def _away(where: str, detail: Text) -> ExchangeError:
    return Transient(
        Text(
            f"存储 {where} 暂时不可用：{detail.zh}", f"store {where} is away or busy: {detail.en}"
        ),
        hint=Text(
            "检查数据库服务与网络,稍后重试", "check the database and the network, then try again"
        ),
    )


def _full(where: str, detail: Text) -> ExchangeError:
    return Transient(
        Text(
            f"存储 {where} 空间已满：{detail.zh}", f"store {where} has no space left: {detail.en}"
        ),
        hint=Text("清理磁盘空间后重试", "free some space and try again"),
    )


def _denied(where: str, detail: Text) -> ExchangeError:
    return Denied(
        Text(f"存储 {where} 拒绝访问：{detail.zh}", f"store {where} denies access: {detail.en}"),
        hint=Text(
            "检查用户名、密码与权限;SQLite 还要求其目录可写",
            "check user, password and rights; SQLite also needs a writable folder",
        ),
    )


def _address(where: str, detail: Text) -> ExchangeError:
    return Misconfigured(
        Text(
            f"存储地址 {where} 不可用：{detail.zh}",
            f"store address {where} cannot serve: {detail.en}",
        ),
        hint=Text(
            "核对存储地址;PostgreSQL 需要安装 gov-exchange[postgres]",
            "check the address of the store; PostgreSQL needs gov-exchange[postgres]",
        ),
    )


def _schema(where: str, detail: Text) -> ExchangeError:
    return Misconfigured(
        Text(
            f"存储 {where} 的表结构不符：{detail.zh}",
            f"tables of store {where} differ: {detail.en}",
        ),
        hint=Text(
            "先升级存储的表结构：exchange migrate",
            "bring the store's schema up to date first: `exchange migrate`",
        ),
    )


def _refused(where: str, detail: Text) -> ExchangeError:
    return Rejected(
        Text(
            f"存储 {where} 不接受该值：{detail.zh}", f"store {where} refuses the value: {detail.en}"
        ),
        hint=Text("检查该值的长度与字符", "check the value's length and characters"),
    )


def _damaged(where: str, detail: Text) -> ExchangeError:
    return Integrity(
        Text(
            f"存储 {where} 自相矛盾：{detail.zh}", f"store {where} contradicts itself: {detail.en}"
        ),
        hint=Text(
            "停止写入,保留现场,核对日志后恢复或重建存储",
            "stop writing, keep the database as it is, compare with the log, restore or rebuild",
        ),
    )


SQLITE_VERDICTS: Mapping[Cause, ErrorMaker] = {
    Cause.BUSY: _away,
    Cause.FAILING: _away,
    Cause.FULL: _full,
    Cause.DENIED: _denied,
    Cause.DAMAGED: _damaged,
    Cause.SCHEMA: _schema,
    Cause.TOO_LARGE: _refused,
}

SQLSTATE_VERDICTS: tuple[tuple[str, ErrorMaker], ...] = (
    ("28", _denied),  # invalid authorization
    ("42501", _denied),  # insufficient privilege
    ("25006", _denied),  # read-only transaction
    ("3D", _address),  # no such database
    ("3F", _schema),  # no such schema
    ("42", _schema),  # undefined table or column
    ("22", _refused),  # data exception
    ("54", _refused),  # program limit
    ("23", _damaged),  # constraint
    ("XX001", _damaged),  # data corrupted
    ("XX002", _damaged),  # index corrupted
    ("53100", _full),  # disk full
    ("08", _away),  # connection
    ("25", _away),  # transaction state, after a lost connection
    ("40", _away),  # serialization, deadlock
    ("53", _away),  # out of resources
    ("55", _away),  # lock not available
    ("57", _away),  # shutdown, cancelled, statement timeout
    ("58", _away),  # system error
    ("XX", _away),
)
"""By SQLSTATE, first prefix that fits (ISO/IEC 9075-2 clause 24, PostgreSQL appendix A)."""

CONNECT_VERDICTS: tuple[tuple[str, ErrorMaker], ...] = (
    (r"authentication|password|pg_hba\.conf|role \".*\" does not exist", _denied),
    (r"database \".*\" does not exist", _address),
)
