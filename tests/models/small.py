"""A corpus, a config and a recipe that train in a fraction of a second."""

from __future__ import annotations

import functools
from typing import Any

import torch
import xarray as xr
from transformers import GPT2Config

from inflab import datasets
from inflab.models.recipes import Recipe

OPTIONS = {"n_facts": 8, "n_distractors": 3}
SIZES = {"n_positions": 32, "n_embd": 16, "n_layer": 1, "n_head": 2}
TINY = Recipe(
    name="tiny",
    title="a model for tests",
    dataset="facts",
    family="gpt2",
    config=SIZES,
    training={"steps": 6, "batch_size": 4, "threads": 1},
)


@functools.cache
def corpus() -> xr.Dataset:
    return datasets.load("facts", **OPTIONS)


def config(**more: Any) -> GPT2Config:
    n = len(datasets.tokenizer("facts", **OPTIONS))
    return GPT2Config(vocab_size=n, bos_token_id=0, eos_token_id=0, **SIZES | more)


def weights(model: Any) -> dict[str, Any]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def same(one: Any, other: Any) -> bool:
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
