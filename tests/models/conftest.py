"""A recipe that trains in a fraction of a second, and a cache of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from inflab.models import recipes
from inflab.models.recipes import Recipe
from tests.models.small import TINY


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Recipe:
    """A recipe named "tiny" among the others, and a cache of its own."""
    monkeypatch.setitem(recipes.RECIPES, "tiny", TINY)
    monkeypatch.setenv("INFLAB_CACHE", str(tmp_path))
    return TINY
