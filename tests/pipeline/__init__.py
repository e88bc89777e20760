"""The whole node; what :mod:`tests.pipeline.place` asserts is explained like a test's own."""

import pytest

pytest.register_assert_rewrite("tests.pipeline.place")
