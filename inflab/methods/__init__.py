"""Methods: frozen settings with one method, `fit(problem) -> Influence`; one method a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from inflab.errors import StoreError
from inflab.methods.base import LayerMethod
from inflab.methods.diagonal import Diagonal
from inflab.methods.ekfac import EKFAC
from inflab.methods.identity import Identity
from inflab.methods.kfac import KFAC

__all__ = ["EKFAC", "KFAC", "Diagonal", "Identity", "of_attrs"]

_METHODS = {method.__name__: method for method in (EKFAC, KFAC, Diagonal, Identity)}


def of_attrs(attrs: Mapping[Any, Any]) -> LayerMethod:
    """The method with its settings, from the attrs of what it fitted.

    Returns:
        A method whose `fit` would fit the same again.

    Raises:
        StoreError: when no method has that name.
    """
    name = str(attrs["method"])
    if name not in _METHODS:
        raise StoreError(f"method={name!r} is not one of {', '.join(_METHODS)}; it was saved by another version")
    return _METHODS[name](**json.loads(attrs["settings"]))
