"""A planted bug that chaos must notice. In `make soak` alone: a minute for what changes little."""

from __future__ import annotations

import re

import pytest

from tests.chaos.__main__ import main


@pytest.mark.soak
def test_a_commit_before_the_write_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    planted = ["--seeds", "1", "--seconds", "1", "--plant", "commit-before-write"]
    assert main(planted) == 1
    assert re.search(r"lost [1-9]\d*, duplicated 0, unverifiable 0", capsys.readouterr().out)
