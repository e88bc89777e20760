"""A schema registry to test against: the REST interface of Confluent's, kept in memory.

No registry server can be had from a package registry (docs/publish.md says what was looked
for), so this is a small one of our own: subjects, versions, numbers, compatibility by Avro's
rules, error codes as documented. ``EXCHANGE_TEST_REGISTRY=url`` names another one instead; what
only ours can be told to do (``wipe``, ``forbid``) is then left out, see ``ours``.

Source: Confluent documentation, "Schema Registry API Reference".
"""

from __future__ import annotations

import json
import os
import secrets
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import fastavro
import requests
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from tests.publish.avro import differences
from tests.support.receivers import background

VARIABLE = "EXCHANGE_TEST_REGISTRY"
TYPE = "application/vnd.schemaregistry.v1+json"
LEVELS = ("NONE", "BACKWARD", "FORWARD", "FULL")


class Problem(Exception):
    """An answer that says what is wrong."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass
class Store:
    """What the registry knows."""

    level: str = "BACKWARD"
    levels: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    """Schema → number, the same under every subject."""
    subjects: dict[str, list[str]] = field(default_factory=dict)
    """Subject → its versions, 1 first."""
    asked: list[str] = field(default_factory=list)
    """Every request: ``METHOD /path``."""
    login: tuple[str, str] | None = None
    forbid: str = ""
    """Paths that end so are forbidden (403)."""
    first: int = 1

    def wipe(self) -> None:
        """Forget all schemas, as a registry does that was made anew; other numbers follow."""
        self.first += len(self.numbers) + 100
        self.numbers.clear()
        self.subjects.clear()

    def versions(self, subject: str) -> list[str]:
        if subject not in self.subjects:
            raise Problem(404, 40401, f"Subject '{subject}' not found.")
        return self.subjects[subject]

    def find(self, subject: str, schema: str) -> dict[str, Any]:
        versions = self.versions(subject)
        if schema not in versions:
            raise Problem(404, 40403, "Schema not found")
        return self.told(subject, versions.index(schema) + 1)

    def told(self, subject: str, version: int) -> dict[str, Any]:
        versions = self.versions(subject)
        if not 1 <= version <= len(versions):
            raise Problem(404, 40402, f"Version {version} not found.")
        schema = versions[version - 1]
        number = self.numbers[schema]
        return {"subject": subject, "version": version, "id": number, "schema": schema}

    def number(self, version: str, subject: str) -> int:
        if version == "latest":
            return len(self.versions(subject))
        if not version.isdecimal() or int(version) == 0:
            raise Problem(
                422, 42202, f"The specified version '{version}' is not a valid version id."
            )
        return int(version)

    def register(self, subject: str, schema: str) -> int:
        versions = self.subjects.get(subject, [])
        if schema not in versions:
            if versions and (details := self.incompatible(subject, schema, versions[-1])):
                text = f'incompatible with an earlier schema for subject "{subject}"'
                text += f", details: {details}"
                raise Problem(409, 409, f"Schema being registered is {text}")
            self.subjects.setdefault(subject, []).append(schema)
            self.numbers.setdefault(schema, self.first + len(self.numbers))
        return self.numbers[schema]

    def incompatible(self, subject: str, schema: str, before: str) -> list[str]:
        level = self.levels.get(subject, self.level)
        new, old = json.loads(schema), json.loads(before)
        found = differences(new, old) if level in ("BACKWARD", "FULL") else []
        return found + (differences(old, new) if level in ("FORWARD", "FULL") else [])


def canonical(body: Any) -> str:
    """Read the schema of a request: one text for one schema."""
    text = body.get("schema") if isinstance(body, dict) else None
    try:
        schema = json.loads(text)  # type: ignore[arg-type]
        fastavro.parse_schema(schema)
    except (TypeError, ValueError, KeyError, fastavro.schema.SchemaParseException) as error:
        raise Problem(422, 42201, f"Invalid schema: {error}") from error
    if body.get("schemaType", "AVRO") != "AVRO":
        raise Problem(422, 42201, "Invalid schema type")
    return json.dumps(schema, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def create_app(store: Store) -> FastAPI:
    app = FastAPI()
    _guard(app, store)
    _read(app, store)
    _write(app, store)
    return app


def _guard(app: FastAPI, store: Store) -> None:
    """Let in who may come in, and answer problems as JSON."""

    @app.exception_handler(Problem)
    async def problem(_: Request, error: Problem) -> JSONResponse:
        content = {"error_code": error.code, "message": str(error)}
        return JSONResponse(content, error.status, media_type=TYPE)

    @app.exception_handler(RequestValidationError)
    async def unreadable(_: Request, _error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"error_code": 422, "message": "Unrecognized"}, 422, media_type=TYPE)

    @app.middleware("http")
    async def admit(request: Request, call_next: Any) -> Any:
        store.asked.append(f"{request.method} {request.url.path}")
        status = _refused(store, request)
        if status:
            content = {"error_code": status, "message": {401: "Unauthorized"}.get(status, "Denied")}
            return JSONResponse(content, status, media_type=TYPE)
        return await call_next(request)


def _read(app: FastAPI, store: Store) -> None:
    @app.get("/subjects")
    async def subjects() -> Any:
        return sorted(store.subjects)

    @app.get("/subjects/{subject}/versions")
    async def versions(subject: str) -> Any:
        return list(range(1, len(store.versions(subject)) + 1))

    @app.get("/subjects/{subject}/versions/{version}")
    async def one(subject: str, version: str) -> Any:
        return store.told(subject, store.number(version, subject))

    @app.get("/schemas/ids/{number}")
    async def schema(number: int) -> Any:
        for text, item in store.numbers.items():
            if item == number:
                return {"schema": text}
        raise Problem(404, 40403, f"Schema {number} not found")

    @app.get("/config")
    async def level() -> Any:
        return {"compatibilityLevel": store.level}


def _write(app: FastAPI, store: Store) -> None:
    @app.post("/subjects/{subject}")
    async def look_up(subject: str, request: Request) -> Any:
        return store.find(subject, canonical(await request.json()))

    @app.post("/subjects/{subject}/versions")
    async def register(subject: str, request: Request) -> Any:
        return {"id": store.register(subject, canonical(await request.json()))}

    @app.post("/compatibility/subjects/{subject}/versions/{version}")
    async def check(subject: str, version: str, request: Request, *, verbose: bool = False) -> Any:
        before = store.told(subject, store.number(version, subject))["schema"]
        result = store.incompatible(subject, canonical(await request.json()), before)
        return {"is_compatible": not result} | ({"messages": result} if verbose else {})

    @app.put("/config/{subject}")
    async def relax(subject: str, request: Request) -> Any:
        answer = (await request.json()).get("compatibility")
        if answer not in LEVELS:
            raise Problem(422, 42203, "Invalid compatibility level.")
        store.levels[subject] = answer
        return {"compatibility": answer}


def _refused(store: Store, request: Request) -> int:
    """Return the status of a refusal; 0 when the request may go on."""
    if store.login is not None:
        kind, _, result = request.headers.get("authorization", "").partition(" ")
        if kind != "Basic":
            return 401
        user, _, password = b64decode(result).decode().partition(":")
        if not secrets.compare_digest(
            f"{user}:{password}".encode(), ":".join(store.login).encode()
        ):
            return 401
    return 403 if store.forbid and request.url.path.endswith(store.forbid) else 0


@dataclass(frozen=True)
class Running:
    """A registry that runs; ``store`` is None when it is not ours."""

    url: str
    store: Store | None = None

    @property
    def ours(self) -> Store:
        if self.store is None:
            raise AssertionError(f"needs the registry of the tests: unset {VARIABLE}")
        return self.store

    def schema(self, number: int) -> Any:
        """Read a schema by its number, as any program outside does."""
        answer = requests.get(f"{self.url}/schemas/ids/{number}", timeout=10)
        answer.raise_for_status()
        return json.loads(answer.json()["schema"])

    def relax(self, subject: str, level: str) -> None:
        answer = requests.put(
            f"{self.url}/config/{subject}", json={"compatibility": level}, timeout=10
        )
        answer.raise_for_status()


@contextmanager
def running() -> Iterator[Running]:
    """Run a registry, or name the one of the environment."""
    if answer := os.environ.get(VARIABLE):
        yield Running(answer.rstrip("/"))
        return
    store = Store()
    with background(create_app(store)) as url:
        yield Running(url, store)
