"""Who may call, and what each caller may deliver and show (D13). What is not named is refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from exchange.seal.batch.statement import Statement
from exchange.seal.pki.trust import Trust
from exchange.text import Text

Names = frozenset[str] | Literal["any"]
"""What is allowed by name; ``any`` is everything, an empty set nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a caller may deliver and show; nothing unless named."""

    departments: Names = frozenset()
    """统一社会信用代码 of the departments whose batches it may deliver."""
    resources: Names = frozenset()
    seals: Names = frozenset()
    """印章标识 of the seals that may stand on them."""
    origins: Names = frozenset()
    """Names of the evidence logs that it may show to the witness, and ask about."""

    @property
    def empty(self) -> bool:
        """Whether no batch can ever be within it."""
        return not (self.departments and self.resources and self.seals)

    def refusal(self, statement: Statement, seal: str) -> OutOfScope | None:
        """Say what of a batch the caller may not deliver; None: it may."""
        for part, names, name, zh, en in (
            ("department", self.departments, statement.department, "部门", "department"),
            ("resource", self.resources, statement.resource, "资源", "resource"),
            ("seal", self.seals, seal, "印章", "seal"),
        ):
            if not allows(names, name):
                what = Text(f"调用方无权报送{zh} {name}", f"the caller may not deliver {en} {name}")
                return OutOfScope(part, what)
        return None


def allows(names: Names, name: str) -> bool:
    """Whether ``name`` is among what is allowed."""
    return names == "any" or name in names


@dataclass(frozen=True, slots=True)
class OutOfScope:
    """Which part of the scope a batch is outside of (``department``, ``resource``, ``seal``)."""

    part: str
    what: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """One caller: its identity (rid), its secret, whom we trust for it, what it may do."""

    rid: str
    secret: str = field(repr=False)
    trust: Trust = field(repr=False)
    """Roots of the seals on its batches and of its evidence logs; delegations of its seals."""
    scope: Scope
    signs_body: bool = False
    """Whether every request of it must have its body signed."""
