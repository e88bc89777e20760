"""A service's description from a file: what it can be asked, and its requests (owner of ``zeep``).

Nothing is fetched: the file and what it imports lie in one folder. Document types and entities
are refused, sizes are bounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from exchange.connect import Misconfigured, Text, original, suggest
from exchange.connectors.rest.json_path import Path as JsonPath

_ADDRESSING = "http://www.w3.org/2005/08/addressing"
_MAX_BYTES = 16 * 1024 * 1024
_EDIT = Text("请修改该数据源的配置", "edit the settings of this source")


@dataclass(frozen=True, slots=True)
class SoapSecurity:
    """WS-Security: a user and a password, in the clear or as a digest."""

    kind: Literal["text", "digest"]
    user: str
    password: str

    def __repr__(self) -> str:
        return f"SoapSecurity({self.kind!r}, {self.user!r})"


class _Folder:
    """Loads what a description imports: files of its folder, and nothing else."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()

    def load(self, url: object) -> bytes:
        """Return the content of a file; raises Misconfigured for anything else."""
        parts = urlsplit(str(url))
        path = Path(unquote(parts.path)).resolve()
        if (
            parts.scheme not in ("", "file")
            or parts.netloc
            or not path.is_relative_to(self._folder)
        ):
            raise Misconfigured(
                Text(f"WSDL 引用了别处的 {str(url)[:200]}", f"the WSDL imports {str(url)[:200]}"),
                hint=Text(
                    "请把它存到 WSDL 所在文件夹，并把“schemaLocation”或“location”改为文件名",
                    "save it into the folder of the WSDL, and name the file in schemaLocation or "
                    "location",
                ),
            )
        with path.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise Misconfigured(
                Text(
                    f"{path.name} 超过 {_MAX_BYTES} 字节", f"{path.name} exceeds {_MAX_BYTES} bytes"
                ),
                hint=_EDIT,
            )
        return data


class Description:
    """A WSDL: its operations, and the messages that ask for them."""

    def __init__(self, file: Path, service: str, port: str, security: SoapSecurity | None) -> None:
        """Read it; raises Misconfigured for what cannot be read or names other things."""
        zeep = _library()
        from lxml import etree
        from zeep.wsse.username import UsernameToken

        wsse = None
        if security is not None:
            digest = security.kind == "digest"
            token: Any = UsernameToken  # the library has no types for it
            wsse = token(security.user, security.password, use_digest=digest)
        settings = zeep.Settings(strict=True, xml_huge_tree=False, forbid_dtd=True)
        try:
            self._client = zeep.Client(
                str(file.resolve()), wsse, _Folder(file.parent), settings=settings
            )
            self._proxy = self._client.bind(service or None, port or None)
        except (zeep.exceptions.Error, etree.LxmlError, ValueError, KeyError, LookupError) as error:
            raise _unread(file, f"{type(error).__name__}: {error}") from error
        if self._proxy is None:
            raise _unread(file, "it describes no service")
        self._binding = self._proxy._binding  # noqa: SLF001 - zeep tells of it in no other way

    def operations(self) -> dict[str, list[tuple[str, str]]]:
        """Return the operations, each with the names and types of its parameters."""
        found = {}
        for name, operation in sorted(self._binding.all().items()):
            body = operation.input.body
            kind = getattr(body, "type", None)
            elements = getattr(kind, "elements", ())
            found[str(name)] = [(str(n), _type_name(e.type)) for n, e in elements]
        return found

    def check(self, operation: str) -> None:
        """Raise Misconfigured where there is no such operation."""
        names = sorted(map(str, self._binding.all()))
        if not operation:
            raise Misconfigured(
                Text("缺少 operation", "operation is missing"),
                hint=Text(f"可选：{', '.join(names)}", f"there are {', '.join(names)}"),
            )
        if operation not in names:
            near = suggest(operation, names)
            raise Misconfigured(
                Text(f"WSDL 没有操作 {operation}", f"the WSDL has no operation {operation}"),
                hint=near,
            )

    def check_path(self, operation: str, path: JsonPath) -> None:
        """Raise Misconfigured where an answer never holds what a path leads to."""
        kind = getattr(self._binding.get(operation).output.body, "type", None)
        for step in path:
            elements = dict(getattr(kind, "elements", ()))
            if not elements or not isinstance(step, str):
                return  # of any content: only an answer tells
            if step not in elements:
                near = suggest(step, sorted(elements))
                raise Misconfigured(
                    Text(
                        f"{operation} 的应答中没有 {step}", f"answers of {operation} have no {step}"
                    ),
                    hint=near,
                )
            kind = elements[step].type

    def message(
        self, operation: str, parameters: Mapping[str, Any], address: str
    ) -> tuple[bytes, dict[str, str]]:
        """Return a request and its headers; raises Misconfigured for wrong parameters."""
        zeep = _library()
        from lxml import etree

        try:
            envelope = self._client.create_message(self._proxy, operation, **parameters)
        except (zeep.exceptions.Error, TypeError, ValueError, AttributeError, KeyError) as error:
            takes = ", ".join(f"{n} ({k})" for n, k in self.operations()[operation]) or "-"
            raise Misconfigured(
                Text(
                    f"{operation} 不接受这些参数：{original(error).zh}",
                    f"{operation} does not take these parameters: {original(error).en}",
                ),
                hint=Text(f"它的参数：{takes}", f"it takes {takes}"),
            ) from error
        for target in envelope.iter(f"{{{_ADDRESSING}}}To"):
            target.text = address  # and not what the WSDL was published with
        action = str(self._binding.get(operation).soapaction or "").replace('"', "")
        body = etree.tostring(envelope, xml_declaration=True, encoding="utf-8")
        if isinstance(self._binding, zeep.wsdl.bindings.soap.Soap12Binding):
            kind = f'application/soap+xml; charset=utf-8; action="{action}"'
            return body, {"content-type": kind, "accept": "application/soap+xml"}
        return body, {
            "content-type": "text/xml; charset=utf-8",
            "accept": "text/xml",
            "soapaction": f'"{action}"',
        }


def _library() -> Any:
    try:
        import zeep
        import zeep.exceptions
        import zeep.wsdl.bindings.soap
    except ModuleNotFoundError as error:
        raise Misconfigured(
            Text("缺少 zeep", "zeep is not installed"),
            hint=Text("pip install 'gov-exchange[soap]'", "pip install 'gov-exchange[soap]'"),
        ) from error
    return zeep


def _type_name(kind: Any) -> str:
    return str(getattr(kind, "name", "") or "any")


def _unread(file: Path, why: str) -> Misconfigured:
    return Misconfigured(
        Text(
            f"{file.name} 不是可用的 WSDL：{why[:400]}",
            f"{file.name} is no usable WSDL: {why[:400]}",
        ),
        hint=Text(
            "请向对方索取 WSDL 及其引用的 xsd，存到同一文件夹；检查 service 和 port",
            "ask for the WSDL and the xsd files it imports, in one folder; check service and port",
        ),
    )
