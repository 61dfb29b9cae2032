"""Methods: frozen settings with one method, `fit(problem) -> Influence`; one method a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from inflab.errors import StoreError
from inflab.methods.astra import ASTRA
from inflab.methods.base import LayerMethod
from inflab.methods.bm25 import BM25
from inflab.methods.cg import CG
from inflab.methods.cosine import Cosine
from inflab.methods.diagonal import Diagonal
from inflab.methods.ekfac import EKFAC
from inflab.methods.embedding import Embedding
from inflab.methods.identity import Identity
from inflab.methods.kfac import KFAC
from inflab.methods.lissa import LiSSA
from inflab.methods.similarity import Similarity
from inflab.methods.source import SOURCE
from inflab.methods.tracin import TracIn

__all__ = [
    "ASTRA", "BM25", "CG", "EKFAC", "KFAC", "SOURCE", "Cosine", "Diagonal", "Embedding", "Identity", "LiSSA", "TracIn",
    "of_attrs",
]  # fmt: skip

_LAYERED = (EKFAC, KFAC, Diagonal, Identity, LiSSA, CG, ASTRA, Cosine, TracIn, SOURCE)
_METHODS: dict[str, type[LayerMethod | Similarity]] = {m.__name__: m for m in (*_LAYERED, BM25, Embedding)}


def of_attrs(attrs: Mapping[Any, Any]) -> LayerMethod | Similarity:
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
