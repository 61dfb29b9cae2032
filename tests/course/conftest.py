"""The course's own modules, imported as its notebooks import them."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

COURSE = Path(__file__).resolve().parents[2] / "notebooks" / "course"


@pytest.fixture(scope="session")
def make() -> ModuleType:
    """notebooks/course/make.py."""
    spec = importlib.util.spec_from_file_location("course_make", COURSE / "make.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def lessons() -> Iterator[None]:
    """`import lessons` finds notebooks/course/lessons."""
    sys.path.insert(0, str(COURSE))
    yield
    sys.path.remove(str(COURSE))
