"""A real model behind the widgets: a small GPT that has learned invented facts, fitted once."""

from __future__ import annotations

from types import SimpleNamespace

import pytest


@pytest.fixture(scope="session")
def facts() -> SimpleNamespace:
    """Corpus, tokenizer, problem, a fitted EK-FAC, and four queries."""
    import torch

    import inflab

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    corpus = inflab.datasets.load("facts")
    model, tokenizer = inflab.models.load("facts-gpt")
    problem = inflab.Problem(model, inflab.CausalLM(), corpus)
    influence = inflab.EKFAC(layers="*.mlp.*").fit(problem, progress=False)
    queries = inflab.datasets.fact_queries(corpus, tokenizer=tokenizer).isel(query=slice(4))
    torch.set_num_threads(threads)
    return SimpleNamespace(
        corpus=corpus, tokenizer=tokenizer, model=model, problem=problem, influence=influence, queries=queries
    )
