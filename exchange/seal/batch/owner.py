"""Whose seal, whose data: the seal's owner has to be the department of the statement.

The owner is the unit (统一社会信用代码) that the signer's certificate names. Where it names
another one, a delegation that the reader brings may answer for it. Where it names none, nobody
can tell from the file: that is noted, or fails where the reader asks for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from exchange.errors import Integrity
from exchange.seal.batch.statement import Statement
from exchange.seal.checks import Check
from exchange.seal.eseal.structures import read_seal, read_signature
from exchange.seal.pki.trust import Delegation, Trust, printed
from exchange.seal.pki.x509 import read_certificate
from exchange.text import Text

NAME: Final = "seal.owner"
_SAME: Final = Text("印章属于声明中的部门", "the seal's owner is the department of the statement")
_UNNAMED: Final = Text(
    "未核对印章归属：签章者证书没有写明单位代码",
    "not checked: the signer's certificate does not say which unit owns the seal",
)


def find_delegation(
    delegations: Sequence[Delegation], seal: str, department: str, at: datetime | None
) -> Delegation | None:
    """Find the delegation that lets ``seal`` (its number) seal for ``department`` at ``at``."""
    for each in delegations:
        named = (each.seal, each.department) == (seal, department)
        if named and at is not None and at < each.until:
            return each
    return None


@dataclass(frozen=True, slots=True)
class SealOwner:
    """Who put a seal on a batch, as signature, seal and certificate say."""

    signer: str
    """The certificate's subject, for people."""
    unit: str
    """统一社会信用代码 of the unit that the certificate names; empty: it names none."""
    seal: str
    """印章标识."""
    name: str
    """印章名称."""
    at: datetime | None

    @classmethod
    def of(cls, signature: bytes) -> SealOwner | None:
        """Read a signature (DER SES_Signature), unchecked; None for one that cannot be read."""
        try:
            read = read_signature(signature)
            certificate, info = read_certificate(read.certificate), read_seal(read.eseal).info
        except Integrity:
            return None
        return cls(certificate.title, certificate.unit, info.es_id, info.name, read.time)

    def facts(self) -> dict[str, object]:
        """Return what a person wants to know, as JSON values."""
        return {
            "signer": self.signer,
            "seal_name": self.name,
            "seal_number": self.seal,
            "seal_owner": self.unit,
        }

    def check(self, statement: Statement, trust: Trust) -> Check:
        """Compare the owner with the statement's department."""
        expected = statement.department
        if self.unit == expected:
            return Check(NAME, ok=True, text=_SAME, expected=expected, found=expected)
        found = f"{self.unit or '-'} ({self.signer})"[:400]
        delegation = find_delegation(trust.delegations, self.seal, expected, self.at)
        text, note = _SAME, False
        if delegation is not None:
            until, note = printed(delegation.until), True
            text = Text(
                f"受托代章：{delegation.reason}（至 {until}）",
                f"sealed by delegation: {delegation.reason} (until {until})",
            )
        elif not self.unit and not trust.require_owner:
            text, note = _UNNAMED, True
        return Check(NAME, ok=note, text=text, expected=expected, found=found, note=note)
