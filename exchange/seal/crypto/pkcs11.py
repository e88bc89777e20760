"""Keys in devices (密码机, 签名验签服务器, UKey) through PKCS#11 v2.40, addressed by RFC 7512.

``pkcs11:token=…;object=…?module-path=…&pin-source=file:…`` names a private key of a token. In:
the address and the certificate of its key. Out: a Signer that asks the device for each
signature: ECDSA over the SHA-256 digest (CKM_ECDSA); SM2 by the vendor's mechanism number.

By ctypes and not by a wrapper: wrappers know the standard's key types and mechanisms only, and
those of SM2 are each vendor's own. A session is opened again after a fork, or when the token
was away. A wrong PIN is never tried twice: tokens lock after a few. Raises Misconfigured for
addresses and keys, Denied for PINs, Transient while the device does not answer.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Mapping, Sequence
from ctypes import POINTER, byref, c_char, c_ubyte, c_ulong, c_void_p
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from asn1crypto import core, keys

from exchange.errors import Denied, ExchangeError, Misconfigured, Transient
from exchange.foreign import original
from exchange.seal.crypto.der import sequence
from exchange.seal.crypto.libcrypto import USER_ID
from exchange.seal.crypto.suites import SM2_SM3, Suite
from exchange.text import Text

CKM_ECDSA: Final = 0x1041
_FUNCTIONS: Final[Mapping[str, tuple[int, list[Any]]]] = {
    "C_Initialize": (0, [c_void_p]),
    "C_GetSlotList": (4, [c_ubyte, c_void_p, c_void_p]),
    "C_GetTokenInfo": (6, [c_ulong, c_void_p]),
    "C_OpenSession": (12, [c_ulong, c_ulong, c_void_p, c_void_p, c_void_p]),
    "C_CloseSession": (13, [c_ulong]),
    "C_CloseAllSessions": (14, [c_ulong]),
    "C_Login": (18, [c_ulong, c_ulong, c_void_p, c_ulong]),
    "C_FindObjectsInit": (26, [c_ulong, c_void_p, c_ulong]),
    "C_FindObjects": (27, [c_ulong, c_void_p, c_ulong, c_void_p]),
    "C_FindObjectsFinal": (28, [c_ulong]),
    "C_SignInit": (42, [c_ulong, c_void_p, c_ulong]),
    "C_Sign": (43, [c_ulong, c_void_p, c_ulong, c_void_p, c_void_p]),
}
"""Place in CK_FUNCTION_LIST and arguments (PKCS#11 v2.40 §5); every result is a CK_RV."""
_LIST_SIZE: Final = 68
_OK, _LOGGED_IN, _INITIALIZED = 0, 0x100, 0x191
_SERIAL_SESSION, _USER, _OS_LOCKING = 4, 1, 2
_CLASS, _LABEL, _ID, _PRIVATE_KEY = 0, 3, 0x102, 3
_PIN_LOW, _PIN_LAST, _PIN_LOCKED = 0x10000, 0x20000, 0x40000
_PIN_ERRORS: Final = frozenset({0xA0, 0xA1, 0xA2, 0xA3, 0xA4})
_MAX_SLOTS, _MAX_SIGNATURE, _HALF = 4096, 256, 32
_PATH: Final = frozenset({"token", "serial", "manufacturer", "model", "object", "id", "type"})
_QUERY: Final = frozenset({"module-path", "pin-source", "x-mechanism", "x-input"})


class _Attribute(ctypes.Structure):
    _fields_ = (("type", c_ulong), ("value", c_void_p), ("size", c_ulong))


class _Mechanism(ctypes.Structure):
    _fields_ = (("mechanism", c_ulong), ("parameter", c_void_p), ("size", c_ulong))


class _InitializeArgs(ctypes.Structure):
    _fields_ = (("mutexes", c_void_p * 4), ("flags", c_ulong), ("reserved", c_void_p))


class _TokenInfo(ctypes.Structure):
    _fields_ = (
        ("label", c_char * 32),
        ("manufacturer", c_char * 32),
        ("model", c_char * 16),
        ("serial", c_char * 16),
        ("flags", c_ulong),
        ("numbers", c_ulong * 10),
        ("versions", c_ubyte * 4),
        ("time", c_char * 16),
    )


class _FunctionList(ctypes.Structure):
    _fields_ = (("version", c_ubyte * 2), ("functions", c_void_p * _LIST_SIZE))


class _Failed(Exception):
    """A call of the module said no."""

    def __init__(self, name: str, code: int) -> None:
        super().__init__(f"{name}: {code:#x}")
        self.code = code


class Module:
    """A vendor's library, initialized for this process."""

    def __init__(self, path: str) -> None:
        """Load it; raises Misconfigured."""
        try:
            listing = ctypes.CDLL(path).C_GetFunctionList
        except (OSError, AttributeError) as error:
            raise Misconfigured(
                Text(f"无法加载 PKCS#11 模块 {path}", f"cannot load the PKCS#11 module {path}"),
                hint=Text(
                    "请安装厂商的库，并核对 module-path",
                    "install the vendor's library and check module-path",
                ),
            ) from error
        listing.restype, listing.argtypes = c_ulong, [c_void_p]
        found = POINTER(_FunctionList)()
        if listing(byref(found)) != _OK or not found:
            raise Misconfigured(
                Text(f"{path} 不是 PKCS#11 模块", f"{path} is no PKCS#11 module"),
                hint=Text("请核对 module-path", "check module-path"),
            )
        self._functions: dict[str, Any] = {
            name: ctypes.CFUNCTYPE(c_ulong, *arguments)(found.contents.functions[place])
            for name, (place, arguments) in _FUNCTIONS.items()
        }
        options = _InitializeArgs(flags=_OS_LOCKING)
        self.call("C_Initialize", byref(options), also=(_INITIALIZED,))

    def call(self, name: str, *arguments: Any, also: Sequence[int] = ()) -> int:
        """Call by name; raises :class:`_Failed` for a result that is neither OK nor ``also``."""
        code: int = self._functions[name](*arguments)
        if code != _OK and code not in also:
            raise _Failed(name, code)
        return code

    def tokens(self) -> list[tuple[int, _TokenInfo]]:
        """List the tokens that are there, with their slots."""
        count = c_ulong(_MAX_SLOTS)
        slots = (c_ulong * _MAX_SLOTS)()
        self.call("C_GetSlotList", 1, slots, byref(count))
        found = []
        for slot in slots[: count.value]:
            info = _TokenInfo()
            self.call("C_GetTokenInfo", slot, byref(info))
            found.append((slot, info))
        return found


@dataclass(frozen=True, slots=True)
class KeyAddress:
    """An address of RFC 7512, decoded; ``mechanism`` and what it takes are ours (x-…)."""

    attributes: Mapping[str, bytes]
    module: str
    pin_source: str = ""
    mechanism: int | None = None
    message: bool = False
    """The mechanism takes the whole message and not its digest."""

    def __str__(self) -> str:
        """Name token and object, nothing that could be secret."""
        shown = (
            f"{name}={value.decode(errors='replace') if name != 'id' else value.hex()}"
            for name, value in self.attributes.items()
        )
        return "pkcs11:" + ";".join(shown)


def parse(rest: str) -> KeyAddress:
    """Read what follows ``pkcs11:``; raises Misconfigured, quoting nothing but names."""
    path, _, query = rest.partition("?")
    attributes = _pairs(path, ";", _PATH)
    options = {
        name: value.decode(errors="replace") for name, value in _pairs(query, "&", _QUERY).items()
    }
    if attributes.pop("type", b"private") != b"private":
        raise _unreadable("type")
    if not options.get("module-path"):
        raise _unreadable("module-path")
    if not attributes.keys() & {"object", "id"}:
        raise _unreadable("object")
    try:
        mechanism = int(options["x-mechanism"], 0) if "x-mechanism" in options else None
    except ValueError as error:
        raise _unreadable("x-mechanism") from error
    takes = options.get("x-input", "digest")
    if takes not in {"digest", "message"}:
        raise _unreadable("x-input")
    return KeyAddress(
        attributes,
        options["module-path"],
        options.get("pin-source", ""),
        mechanism,
        takes == "message",
    )


def _pairs(text: str, separator: str, known: frozenset[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for part in filter(None, text.split(separator)):
        name, equals, value = part.partition("=")
        if name not in known or not equals or name in found:
            raise _unreadable(name if name in {*known, "pin-value", "slot-id"} else "")
        found[name] = unquote_to_bytes(value)
    return found


def _unreadable(name: str) -> Misconfigured:
    return Misconfigured(
        Text(f"pkcs11: 地址中的 {name} 有误", f"the pkcs11: address is wrong at {name or '?'}"),
        hint=Text(
            "写法：pkcs11:token=…;object=…?module-path=…&pin-source=file:…；口令不得写在地址中",
            "write pkcs11:token=…;object=…?module-path=…&pin-source=file:…; "
            "a PIN never stands in the address",
        ),
    )


@dataclass(slots=True)
class _Open:
    module: Module
    session: int
    key: int
    process: int


@dataclass(slots=True)
class DeviceSigner:
    """Signs with a key that never leaves its device; safe to share between threads.

    ``public`` is the SubjectPublicKeyInfo of the key, which SM2's digest needs.
    """

    suite: Suite
    certificate: bytes = field(repr=False)
    public: bytes = field(repr=False)
    address: KeyAddress
    pin: bytes = field(repr=False)
    software: bool = False
    _opened: _Open | None = field(default=None, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse an SM2 key without its vendor's mechanism."""
        if self.suite is SM2_SM3 and self.address.mechanism is None:
            raise Misconfigured(
                Text(
                    "SM2 设备需要厂商的机制编号",
                    "an SM2 device needs its vendor's mechanism number",
                ),
                hint=Text(
                    "在地址末尾加 &x-mechanism=0x…（见厂商手册），"
                    "机制自己计算 SM3 时再加 &x-input=message",
                    "add &x-mechanism=0x… (the vendor's manual has it), and &x-input=message "
                    "when the mechanism hashes by itself",
                ),
            )

    def sign(self, data: bytes) -> bytes:
        """Sign ``data``; returns DER ``SEQUENCE { r, s }``.

        A session that broke is opened again, once. Raises Transient when that does not help.
        """
        content = data if self.address.message else self._digest(data)
        if self._opened is not None and self._opened.process != os.getpid():
            # A forked child: the parent's session and lock are not ours.
            self._opened, self._lock = None, threading.Lock()
        with self._lock:
            try:
                return self._sign(content)
            except _Failed:
                self._opened = None
            try:
                return self._sign(content)
            except _Failed as error:
                self._opened = None
                raise _away(self.address, error) from error

    def _digest(self, data: bytes) -> bytes:
        if self.suite is not SM2_SM3:
            return self.suite.digest(data)
        return self.suite.digest(sm2_identity(self.public) + data)

    def _sign(self, content: bytes) -> bytes:
        opened = self._opened = self._opened or self._open()
        number = self.address.mechanism
        mechanism = _Mechanism(CKM_ECDSA if number is None else number, None, 0)
        opened.module.call("C_SignInit", opened.session, byref(mechanism), opened.key)
        buffer, size = (c_ubyte * _MAX_SIGNATURE)(), c_ulong(_MAX_SIGNATURE)
        opened.module.call("C_Sign", opened.session, content, len(content), buffer, byref(size))
        value = bytes(buffer[: size.value])
        if len(value) != 2 * _HALF:
            raise Misconfigured(
                Text(
                    f"设备的签名有 {len(value)} 字节，应为 64 字节",
                    f"the device's signature has {len(value)} bytes instead of 64",
                ),
                hint=Text("请核对 x-mechanism", "check x-mechanism"),
            )
        halves = (int.from_bytes(value[:_HALF]), int.from_bytes(value[_HALF:]))
        return sequence(*(core.Integer(half).dump() for half in halves))

    def _open(self) -> _Open:
        module = Module(self.address.module)
        slot, info = self._token(module)
        handle = c_ulong()
        module.call("C_OpenSession", slot, _SERIAL_SESSION, None, None, byref(handle))
        try:
            self._login(module, handle.value, info.flags)
            return _Open(module, handle.value, self._find(module, handle.value), os.getpid())
        except BaseException:
            module.call("C_CloseSession", handle, also=range(1, 0x200))
            raise

    def _token(self, module: Module) -> tuple[int, _TokenInfo]:
        asked = self.address.attributes
        names = {
            "token": "label",
            "serial": "serial",
            "manufacturer": "manufacturer",
            "model": "model",
        }
        found = [
            (slot, info)
            for slot, info in module.tokens()
            if all(
                getattr(info, field_).rstrip(b" ") == asked[name]
                for name, field_ in names.items()
                if name in asked
            )
        ]
        if not found:
            raise _away(self.address, None)
        if len(found) > 1:
            raise Misconfigured(
                Text(
                    f"有 {len(found)} 个令牌符合 {self.address}",
                    f"{len(found)} tokens are {self.address}",
                ),
                hint=Text("请用 token 或 serial 指明一个", "name one by token or serial"),
            )
        return found[0]

    def _login(self, module: Module, session: int, flags: int) -> None:
        """Log in, unless the token says that a wrong PIN was given since the last right one."""
        if flags & (_PIN_LOW | _PIN_LAST | _PIN_LOCKED):
            raise _refused(self.address, locked=bool(flags & _PIN_LOCKED))
        try:
            module.call("C_Login", session, _USER, self.pin, len(self.pin), also=(_LOGGED_IN,))
        except _Failed as error:
            if error.code in _PIN_ERRORS:
                raise _refused(self.address, locked=False) from None
            raise

    def _find(self, module: Module, session: int) -> int:
        asked = self.address.attributes
        kind = c_ulong(_PRIVATE_KEY)
        template = [(_CLASS, bytes(kind))]
        template += [
            (number, asked[name])
            for name, number in (("object", _LABEL), ("id", _ID))
            if name in asked
        ]
        buffers = [ctypes.create_string_buffer(value, len(value)) for _, value in template]
        attributes = (_Attribute * len(template))(
            *(
                _Attribute(number, ctypes.addressof(buffer), len(buffer))
                for (number, _), buffer in zip(template, buffers, strict=True)
            )
        )
        module.call("C_FindObjectsInit", session, attributes, len(template))
        handles, count = (c_ulong * 2)(), c_ulong()
        module.call("C_FindObjects", session, handles, 2, byref(count))
        module.call("C_FindObjectsFinal", session)
        if count.value != 1:
            raise Misconfigured(
                Text(
                    f"{self.address} 对应 {'多个' if count.value else '零个'}私钥，应为一个",
                    f"{'several private keys are' if count.value else 'no private key is'} "
                    f"{self.address}",
                ),
                hint=Text("请核对 object 与 id", "check object and id"),
            )
        return handles[0]


def sm2_identity(spki: bytes) -> bytes:
    """Return Z_A of a key and the default user id (GB/T 32918.2 §5.5)."""
    curve = (
        "FFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFC"
        "28E9FA9E9D9F5E344D5A9E4BCF6509A7F39789F515AB8F92DDBCBD414D940E93"
        "32C4AE2C1F1981195F9904466A39C9948FE30BBFF2660BE1715A4589334C74C7"
        "BC3736A2F4F6779C59BDCEE36B692153D0A9877CC62A474002DF32E52139F0A0"
    )
    point = bytes(keys.PublicKeyInfo.load(spki)["public_key"])[1:]
    size = (len(USER_ID) * 8).to_bytes(2)
    return SM2_SM3.digest(size + USER_ID + bytes.fromhex(curve) + point)


def _away(address: KeyAddress, error: _Failed | None) -> ExchangeError:
    why = Text("", "") if error is None else original(error)
    return Transient(
        Text(
            f"密码设备没有应答 {address} {why.zh}".rstrip(),
            f"the device does not answer: {address} {why.en}".rstrip(),
        ),
        hint=Text(
            "请检查设备、令牌名称和连线；恢复后自动继续",
            "check the device, the token's name and the line; it goes on by itself",
        ),
    )


def _refused(address: KeyAddress, *, locked: bool) -> Denied:
    if locked:
        return Denied(
            Text(f"令牌的口令已锁定：{address}", f"the token's PIN is locked: {address}"),
            hint=Text("请由设备管理员解锁", "have the device's officer unlock it"),
        )
    return Denied(
        Text(f"令牌口令不对：{address}", f"a wrong PIN was given to the token: {address}"),
        hint=Text(
            "不会再试，以免锁定。请改正 pin-source 指向的口令，再用设备自带工具登录一次",
            "it is not tried again, for tokens lock. Correct the PIN that pin-source names, then "
            "log in once with the device's own tool",
        ),
    )


def resolve(path: str, folder: Path) -> str:
    """Return where a module lies; a bare name is left to the dynamic linker."""
    return str(folder / path) if "/" in path else path
