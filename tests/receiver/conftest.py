from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.receiver.province import Province
from tests.receiver.province import province as open_province


@pytest.fixture
def province(tmp_path: Path) -> Iterator[Province]:
    with open_province(tmp_path) as opened:
        yield opened
