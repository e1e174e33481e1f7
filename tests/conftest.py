"""The order of the tests: whole runs first, so that with two processes the long file and all short ones end together."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Stable: within and after the whole runs the order stays."""
    items.sort(key=lambda item: item.path.name != "test_end_to_end.py")
