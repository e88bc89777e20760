"""The embedded driver passes the contract."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from exchange.log.embedded import EmbeddedLog
from tests.log.contract import LogContract, Opener

if TYPE_CHECKING:
    from pathlib import Path


class TestEmbedded(LogContract):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        return lambda: EmbeddedLog(tmp_path / "log.sqlite3", now=lambda: datetime.now(UTC))
