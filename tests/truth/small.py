"""Recipes, corpora and queries that train in a blink, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import transformers
import xarray as xr
from torch import nn

from inflab import CausalLM, Classification, Regression, adapters
from inflab.truth import Recipe
from tests import tiny

torch.set_num_threads(1)

N = 14


def perceptron(seed: int) -> nn.Module:
    """3 features, 4 outputs; torch's random numbers are seeded by the recipe."""
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4)).double()


def gpt(seed: int) -> nn.Module:
    config = transformers.GPT2Config(
        vocab_size=320, n_embd=8, n_layer=1, n_head=2, n_positions=64, embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config).double()


def recipe(**changed: Any) -> Recipe:
    """Two full batches and a short one an epoch."""
    plain: dict[str, Any] = {
        "model": perceptron, "task": Classification(), "epochs": 3, "batch_size": 6, "learning_rate": 0.1,
    }  # fmt: skip
    return Recipe(**plain | changed)


def classes(n: int = N, dim: str = "train", seed: int = 0, **more: Any) -> xr.Dataset:
    draw = np.random.default_rng(seed)
    return adapters.from_arrays(draw.standard_normal((n, 3)), draw.integers(0, 4, n), dim=dim, **more)


def values(n: int = N, dim: str = "train", seed: int = 0, **more: Any) -> xr.Dataset:
    """A regression corpus."""
    draw = np.random.default_rng(seed)
    return adapters.from_arrays(draw.standard_normal((n, 3)), draw.standard_normal((n, 1)), dim=dim, **more)


def asked(n: int = 4) -> xr.Dataset:
    return classes(n, "query", seed=1)


def language() -> tuple[Recipe, xr.Dataset, xr.Dataset]:
    """A recipe for texts of unequal length, which are padded."""
    made = recipe(model=gpt, task=CausalLM(), batch_size=3, epochs=2, learning_rate=0.01, optimizer="adamw")
    return made, tiny.corpus(), tiny.queries()


def line(outputs: int = 1, **changed: Any) -> Recipe:
    """A linear regression."""
    return recipe(model=lambda seed: nn.Linear(3, outputs).double(), task=Regression("output"), **changed)


#: Every way to update that differs.
UPDATES: dict[str, dict[str, Any]] = {
    "sgd": {},
    "decay": {"weight_decay": 0.1},
    "momentum, cosine, warm-up": {"momentum": 0.9, "schedule": "cosine", "warmup": 3, "weight_decay": 0.01},
    "adam": {"optimizer": "adam", "learning_rate": 0.01, "weight_decay": 0.1},
    "adamw, linear": {"optimizer": "adamw", "learning_rate": 0.01, "weight_decay": 0.1, "schedule": "linear"},
    "clip": {"clip": 0.3, "momentum": 0.5},
    "adam, clip": {"optimizer": "adam", "learning_rate": 0.01, "clip": 0.3},
}
