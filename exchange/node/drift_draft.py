"""A draft of a catalog change, when columns appear in a source (``drift: draft``)."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from exchange.durable import write_file
from exchange.text import BEIJING

if TYPE_CHECKING:
    from polars import DataFrame

    from exchange.catalog.model import Catalog, Resource


def write_draft(
    path: Path, frame: DataFrame, resource: Resource, catalog: Catalog, now: datetime
) -> None:
    """Write the catalog entry that fits what a source brings now, for a person to compare.

    The catalog itself is changed by people alone.
    """
    from exchange.validate.draft.proposal import Facts, draft
    from exchange.validate.draft.text import catalog_text

    proposal = draft(
        frame,
        Facts(name=resource.name, title=resource.title),
        name=resource.name,
        code=resource.code,
        department=resource.department,
        today=now.astimezone(BEIJING).date(),
        taken=frozenset(catalog.tables),
    )
    write_file(path, catalog_text(proposal, "zh").encode())
