"""inflab: influence functions for transformers, as labelled arrays and live widgets.

Every public name is loaded on first use, so that opening a saved result imports neither torch nor
transformers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inflab import analysis, datasets, models, plot, truth, widgets
    from inflab.agreement import lds
    from inflab.candidates import filter_candidates
    from inflab.combined import ensemble
    from inflab.corpus import encode
    from inflab.effects import effect, removal
    from inflab.generation import complete, log_probability
    from inflab.index import Index
    from inflab.influence import Influence
    from inflab.layer import layers
    from inflab.methods import (
        ASTRA,
        BM25,
        CG,
        EKFAC,
        KFAC,
        SOURCE,
        Cosine,
        Diagonal,
        Embedding,
        Identity,
        LiSSA,
        TracIn,
    )
    from inflab.problem import Checkpoint, Problem
    from inflab.relevance import kappa
    from inflab.reopen import load
    from inflab.schema import validate
    from inflab.select import top
    from inflab.store import save
    from inflab.tails import tail
    from inflab.tasks import CausalLM, Classification, Regression, Task
    from inflab.widgets import Explorer

__version__ = "0.1.0"

# Public name -> the room it lives in; a room that maps to itself is a public module.
_HOME = {
    "ASTRA": "methods",
    "BM25": "methods",
    "CG": "methods",
    "CausalLM": "tasks",
    "Checkpoint": "problem",
    "Classification": "tasks",
    "Cosine": "methods",
    "Diagonal": "methods",
    "EKFAC": "methods",
    "Embedding": "methods",
    "Explorer": "widgets",
    "Identity": "methods",
    "Index": "index",
    "Influence": "influence",
    "KFAC": "methods",
    "LiSSA": "methods",
    "Problem": "problem",
    "Regression": "tasks",
    "SOURCE": "methods",
    "Task": "tasks",
    "TracIn": "methods",
    "analysis": "analysis",
    "complete": "generation",
    "datasets": "datasets",
    "effect": "effects",
    "encode": "corpus",
    "ensemble": "combined",
    "filter_candidates": "candidates",
    "kappa": "relevance",
    "layers": "layer",
    "lds": "agreement",
    "load": "reopen",
    "log_probability": "generation",
    "models": "models",
    "plot": "plot",
    "removal": "effects",
    "save": "store",
    "tail": "tails",
    "top": "select",
    "truth": "truth",
    "validate": "schema",
    "widgets": "widgets",
}

__all__ = [
    "ASTRA",
    "BM25",
    "CG",
    "EKFAC",
    "KFAC",
    "SOURCE",
    "CausalLM",
    "Checkpoint",
    "Classification",
    "Cosine",
    "Diagonal",
    "Embedding",
    "Explorer",
    "Identity",
    "Index",
    "Influence",
    "LiSSA",
    "Problem",
    "Regression",
    "Task",
    "TracIn",
    "__version__",
    "analysis",
    "complete",
    "datasets",
    "effect",
    "encode",
    "ensemble",
    "filter_candidates",
    "kappa",
    "layers",
    "lds",
    "load",
    "log_probability",
    "models",
    "plot",
    "removal",
    "save",
    "tail",
    "top",
    "truth",
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
