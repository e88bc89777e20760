"""The catalog (政务数据目录) as frozen values: everybody reads them, nobody changes them.

A resource (政务数据资源) belongs to a department, has fields of business types, and rules over
its rows. Everything else is derived from here: Avro schema, checks, masking, topic names.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict

from exchange.errors import Rejected
from exchange.text import Text

TODAY: Final = "today"
"""The one name a rule may use beside its fields: the day of the check, a Date."""
OPERATION: Final = "cd_operation"
"""操作类型, the first column of every record: I insert, U update, D delete."""


class Frozen(BaseModel):
    """Base of the catalog's values: immutable, closed content."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Physical(StrEnum):
    """How a value is held in frames and on the wire."""

    STRING = "string"
    LONG = "long"
    DECIMAL = "decimal"
    DATE = "date"
    TIMESTAMP = "timestamp-millis"
    BOOLEAN = "boolean"
    DOUBLE = "double"


class Sensitivity(StrEnum):
    """数据分级: public, internal, personal or commercial, sensitive personal."""

    S1 = "S1"
    S2 = "S2"
    S3 = "S3"
    S4 = "S4"


class ShareType(IntEnum):
    """共享类型, 政务数据共享条例 art. 14."""

    UNCONDITIONAL = 1
    CONDITIONAL = 2
    NOT_SHARED = 3


class UpdateCycle(StrEnum):
    """更新周期, fastest first; irregular promises nothing."""

    REALTIME = "realtime"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    QUARTERLY = "quarterly"
    HALF_YEARLY = "half_yearly"
    YEARLY = "yearly"
    IRREGULAR = "irregular"


class BusinessType(Frozen):
    """What a field holds: physical type, shape, check digit and masking at once."""

    name: str
    physical: Physical
    max_chars: int | None = None
    """Length limit in characters, for strings."""
    precision: int | None = None
    scale: int | None = None
    pattern: str | None = None
    """Regular expression anchored with ^ and $, in the syntax common to Python and Rust."""
    check: str | None = None
    """Check-digit kernel: uscc, resident_id, licence_id."""
    table: str | None = None
    """Code table whose codes are the allowed values."""
    mask: str | None = None
    """Masking rule: see exchange.catalog.masking."""

    argument: str = ""
    """What stands in the brackets of the catalog's text."""

    @property
    def spec(self) -> str:
        """The type as one writes it in the catalog: ``text(200)``."""
        return f"{self.name}({self.argument})" if self.argument else self.name


class Field(Frozen):
    """A data item (数据项)."""

    name: str
    title: str
    type: BusinessType
    required: bool = False
    sensitivity: Sensitivity = Sensitivity.S2
    required_when: str | None = None
    """SQL over the record's fields; where it is true the value must be there."""
    doc: str = ""


class Rule(Frozen):
    """A condition on one record: SQL over field names and ``today``; true or NULL passes."""

    id: str
    expression: str
    message: Text
    fields: tuple[str, ...]
    """The fields it reads, in catalog order."""


class Department(Frozen):
    """A providing department (提供方), named by its USCC."""

    id: str
    code: str
    name: str


class CodeTable(Frozen):
    """A code table (代码表): code → label; ``edition`` changes when codes change their meaning."""

    name: str
    title: str
    edition: str = ""
    values: Mapping[str, str]


class Limits(Frozen):
    """When a source has gone bad: so many refused records, or percent of a window of rows."""

    max_count: int | None = None
    max_percent: float | None = None
    window_rows: int | None = None


class Area(Frozen):
    """The prefecture, by its GB/T 2260 code."""

    code: str
    name: str


class Resource(Frozen):
    """A data resource (政务数据资源): one kind of record."""

    name: str
    """Slug, ``[a-z][a-z0-9_]*``: part of topic and file names."""
    code: str
    """资源代码, e.g. 307001/1."""
    title: str
    department: Department
    fields: tuple[Field, ...]
    key: tuple[str, ...]
    """Primary key: together unique among the records of the resource."""
    unique: tuple[tuple[str, ...], ...] = ()
    rules: tuple[Rule, ...] = ()
    version: int = 1
    share_type: ShareType = ShareType.UNCONDITIONAL
    share_condition: str = ""
    update_cycle: UpdateCycle = UpdateCycle.IRREGULAR
    limits: Limits = Limits()
    columns: Mapping[str, str] = {}
    """Source column → field name, where they differ."""
    abstract: str = ""

    def field(self, name: str) -> Field:
        """Return the field of this name; raises KeyError."""
        for item in self.fields:
            if item.name == name:
                return item
        raise KeyError(name)


class Catalog(Frozen):
    """The whole contract of a node; ``digest`` is over everything else in it."""

    version: str
    area: Area
    digest: str = ""
    """``sm3:<hex>`` of the canonical content."""
    departments: Mapping[str, Department]
    tables: Mapping[str, CodeTable]
    resources: Mapping[str, Resource]

    def resource(self, name: str) -> Resource:
        """Return a resource; raises Rejected naming the ones there are."""
        if name in self.resources:
            return self.resources[name]
        names = ", ".join(sorted(self.resources))
        raise Rejected(
            Text(f"目录中没有资源 {name}", f"the catalog has no resource {name}"),
            hint=Text(f"目录中的资源：{names}", f"resources: {names}"),
        )
