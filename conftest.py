"""What the examples in the docstrings find: the names of the README's ten lines, at a smaller size.

They are made once, when the first example runs; tests get nothing of them. Each example runs in a folder of its own.
"""

from __future__ import annotations

from typing import Any

import pytest


def pytest_itemcollected(item: pytest.Item) -> None:
    """Forward-mode differentiation loads rules that torch still compiles with torch.jit."""
    if isinstance(item, pytest.DoctestItem):
        item.add_marker(pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning"))


@pytest.fixture(scope="session")
def shared() -> dict[str, Any]:
    """Name -> object, for every example."""
    import numpy as np
    import torch
    import transformers
    import xarray as xr
    from torch import nn

    import inflab

    torch.set_num_threads(1)  # these models are too small to share
    options = {"n_facts": 40, "n_distractors": 20}
    corpus = inflab.datasets.load("facts", **options)
    tokenizer = inflab.datasets.tokenizer("facts", **options)
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=2, n_positions=64, resid_pdrop=0.0, embd_pdrop=0.0,
        attn_pdrop=0.0, bos_token_id=tokenizer.eos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    model = inflab.models.train(config, corpus, epochs=20, progress=False).model
    problem = inflab.Problem(model, inflab.CausalLM(), corpus)
    ekfac = inflab.EKFAC(layers="*.mlp.*").fit(problem, progress=False)
    queries = inflab.datasets.fact_queries(corpus, tokenizer=tokenizer, facts=[0, 1, 2])
    scores = ekfac.score(queries, progress=False)
    best = inflab.top(scores, 10)

    # The same with a table: three classes, and a network that trains in a moment.
    flowers = inflab.datasets.load("wine", standardize=True)
    table = flowers.isel(train=slice(0, None, 4))
    asked = flowers.isel(train=slice(1, None, 40)).rename(train="query")
    recipe = inflab.truth.Recipe(
        model=lambda seed: nn.Sequential(nn.Linear(13, 6), nn.Tanh(), nn.Linear(6, 3)),
        task=inflab.Classification(), epochs=10, batch_size=8, learning_rate=0.1,
    )  # fmt: skip
    trained = recipe.train(table, keep=2, progress=False)
    followed = inflab.Problem(trained.model, inflab.Classification(), table, checkpoints=trained.checkpoints)
    return {
        "inflab": inflab, "np": np, "torch": torch, "xr": xr, "nn": nn,
        "corpus": corpus, "tokenizer": tokenizer, "config": config, "model": model, "problem": problem, "ekfac": ekfac,
        "queries": queries, "scores": scores, "best": best, "tokens": ekfac.attribute(queries, best, progress=False),
        "table": table, "asked": asked, "recipe": recipe, "trained": trained, "followed": followed,
        "bank": inflab.truth.retrain_bank(recipe, table, asked, subsets=6, seeds=2, progress=False),
    }  # fmt: skip


@pytest.fixture(autouse=True)
def example(request: pytest.FixtureRequest) -> None:
    """Give an example its names and an empty folder to write to; do nothing for a test."""
    if isinstance(request.node, pytest.DoctestItem):
        request.getfixturevalue("monkeypatch").chdir(request.getfixturevalue("tmp_path"))
        request.getfixturevalue("doctest_namespace").update(request.getfixturevalue("shared"))
