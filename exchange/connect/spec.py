"""Settings of a connector, read off its signature: one declaration parses, lints and documents.

A parameter's annotation is its type; ``Annotated[int, Text("…", "…"), Field(ge=1)]`` adds the
help in both languages and limits. Unknown keys are refused with a suggestion.
"""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from exchange.connect.secrets import Resolver, Secret
from exchange.errors import Misconfigured
from exchange.foreign import setting_reason
from exchange.text import Text, suggest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_REFERENCE = "secret (env:NAME or file:path)"
GIVEN = ("cursor", "now", "sleep", "base")
"""Parameters that are no settings: they are handed in by name when a connector asks for them."""

_SEE = Text(
    "运行 exchange connector list 查看该连接器的配置项",
    "run `exchange connector list` for the settings of this connector",
)


def settings_model(name: str, function: Callable[..., Any]) -> type[BaseModel]:
    """Build the settings model (配置规格) of a connector function."""
    # Only the settings' own types are resolved: the others may be there for type checkers only.
    own = {n: t for n, t in function.__annotations__.items() if n not in (*GIVEN, "return")}
    hints = get_type_hints(
        SimpleNamespace(__annotations__=own), function.__globals__, include_extras=True
    )
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in GIVEN:
            continue
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            raise TypeError(f"connector {name}: *{parameter.name} cannot be a setting")
        if parameter.name not in hints:
            raise TypeError(f"connector {name}: parameter {parameter.name} needs a type")
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (hints[parameter.name], default)
    config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)
    model: type[BaseModel] = create_model(f"{name}_settings", __config__=config, **fields)
    return model


def parse(
    connector: str, model: type[BaseModel], settings: Mapping[str, Any], resolve: Resolver
) -> BaseModel:
    """Check ``settings``; raises Misconfigured that names every wrong key at once."""
    try:
        return model.model_validate(dict(settings), context=resolve)
    except ValidationError as error:
        problems = [_problem(item, list(model.model_fields)) for item in error.errors()]
        zh = "；".join(text.zh for text in problems)
        en = "; ".join(text.en for text in problems)
        mistakes = Text(
            f"连接器 {connector} 的配置有误：{zh}", f"settings of connector {connector}: {en}"
        )
        # The cause would print the values, and a value may be a secret.
        raise Misconfigured(mistakes, hint=_SEE) from None


def secrets_of(settings: BaseModel) -> tuple[Secret, ...]:
    """Return the secrets among the settings."""
    return tuple(v for v in settings.__dict__.values() if isinstance(v, Secret))


def describe(model: type[BaseModel]) -> list[dict[str, Any]]:
    """Describe the settings, JSON-able: name, type, required, default, help in zh and en."""
    out = []
    for name, field in model.model_fields.items():
        texts = [item for item in field.metadata if isinstance(item, Text)]
        limits = [repr(item) for item in field.metadata if not isinstance(item, Text)]
        default = None if field.is_required() else field.default
        out.append(
            {
                "name": name,
                "type": type_name(field.annotation),
                "required": field.is_required(),
                "default": default if isinstance(default, int | float | str) else _plain(default),
                "limits": limits,
                "zh": texts[0].zh if texts else "",
                "en": texts[0].en if texts else "",
            }
        )
    return out


def json_schema(model: type[BaseModel], title: str, doc: str) -> dict[str, Any]:
    """Return the settings as JSON Schema, the help in both languages as descriptions."""
    schema = model.model_json_schema()
    for item in describe(model):
        described = schema["properties"][item["name"]]
        described["description"] = " / ".join(filter(None, (item["zh"], item["en"])))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": title,
        "description": doc,
    }


def type_name(annotation: Any) -> str:
    """Spell a type as a person would write it in the documentation."""
    if get_origin(annotation) is Annotated:
        return type_name(get_args(annotation)[0])
    if annotation is Secret:
        return _REFERENCE
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation.__name__
    name = str(annotation).replace(f"{Secret.__module__}.{Secret.__qualname__}", _REFERENCE)
    return name.replace("typing.", "").replace("pathlib.", "")


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, list | dict):
        return value
    if isinstance(value, tuple | frozenset | set):
        return list(value)
    return str(value)


def _problem(item: Mapping[str, Any], names: list[str]) -> Text:
    where = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        near = suggest(where, names)
        return Text(f"没有 {where} 这一项（{near.zh}）", f"{where} is unknown ({near.en})")
    if item["type"] == "missing":
        return Text(f"缺少 {where}", f"{where} is missing")
    why = setting_reason(item)
    return Text(f"{where}：{why.zh}", f"{where}: {why.en}")
