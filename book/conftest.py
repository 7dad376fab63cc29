"""Lets `pytest --nbval-lax book/` compare the stored outputs, which are kept without execution counts."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Counts each cell that has outputs as executed: nbval refuses to compare the others."""
    for item in items:
        cell = getattr(item, "cell", None)
        if cell is not None and cell.get("outputs"):
            cell.execution_count = 1
