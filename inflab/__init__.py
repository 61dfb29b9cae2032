"""inflab: influence functions for transformers, as labelled arrays and live widgets.

Every public name is loaded on first use, so that opening a saved result imports neither torch nor
transformers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inflab import datasets, models, plot, widgets
    from inflab.candidates import filter_candidates
    from inflab.corpus import encode
    from inflab.index import Index
    from inflab.influence import Influence
    from inflab.layer import layers
    from inflab.methods import EKFAC, KFAC, Diagonal, Identity
    from inflab.problem import Problem
    from inflab.reopen import load
    from inflab.schema import validate
    from inflab.select import effect, top
    from inflab.store import save
    from inflab.tasks import CausalLM, Classification, Regression, Task
    from inflab.widgets import Explorer

__version__ = "0.1.0"

# Public name -> the room it lives in; a room that maps to itself is a public module.
_HOME = {
    "CausalLM": "tasks",
    "Classification": "tasks",
    "Diagonal": "methods",
    "EKFAC": "methods",
    "Explorer": "widgets",
    "Identity": "methods",
    "Index": "index",
    "Influence": "influence",
    "KFAC": "methods",
    "Problem": "problem",
    "Regression": "tasks",
    "Task": "tasks",
    "datasets": "datasets",
    "effect": "select",
    "encode": "corpus",
    "filter_candidates": "candidates",
    "layers": "layer",
    "load": "reopen",
    "models": "models",
    "plot": "plot",
    "save": "store",
    "top": "select",
    "validate": "schema",
    "widgets": "widgets",
}

__all__ = [
    "EKFAC",
    "KFAC",
    "CausalLM",
    "Classification",
    "Diagonal",
    "Explorer",
    "Identity",
    "Index",
    "Influence",
    "Problem",
    "Regression",
    "Task",
    "__version__",
    "datasets",
    "effect",
    "encode",
    "filter_candidates",
    "layers",
    "load",
    "models",
    "plot",
    "save",
    "top",
    "validate",
    "widgets",
]


def __getattr__(name: str) -> Any:
    """Import the room a public name lives in, on first use (PEP 562)."""
    room = _HOME.get(name)
    if room is None:
        raise AttributeError(f"module 'inflab' has no attribute {name!r}")
    module = import_module(f"inflab.{room}")
    value = module if room == name else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
