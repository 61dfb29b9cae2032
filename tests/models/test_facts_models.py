"""The facts models know their facts, and EK-FAC names the sentence that taught each of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import inflab
from inflab import datasets, models

pytestmark = pytest.mark.slow


def n_first(method: Any, problem: inflab.Problem, queries: Any) -> int:
    """Of how many questions the teaching sentence comes first."""
    scores = method.fit(problem, progress=False).score(queries, progress=False)["influence"]
    first = scores["train"].to_numpy()[scores.transpose("query", "train").to_numpy().argmax(axis=1)]
    return int((first == queries["taught_by"].to_numpy()).sum())


@pytest.mark.parametrize("name", ["facts-gpt", "facts-llama"])
def test_the_sentence_that_taught_a_fact_comes_first(name: str, tmp_path: Path) -> None:
    model, _ = models.load(name, cache=tmp_path, progress=False)
    corpus = datasets.load("facts")
    queries = datasets.fact_queries(corpus)
    task = inflab.CausalLM()
    batch = {key: torch.from_numpy(queries[key].to_numpy()) for key in ("token_id", "is_text", "is_target")}
    batch["token_id"] = batch["token_id"].long()
    with torch.no_grad():
        loss = task.loss(task.forward(model, batch), batch).numpy()
    # Known: the whole answer has a probability above 90% on average, and no other answer is likelier.
    assert np.exp(-loss.mean()) > 0.9
    assert np.exp(-loss).min() > 0.5

    problem = inflab.Problem(model, task, corpus)
    by_ekfac = n_first(inflab.EKFAC(), problem, queries)
    by_dot = n_first(inflab.Identity(), problem, queries)
    assert queries.sizes["query"] == 100
    assert by_ekfac >= 95
    assert by_dot <= 80
    if name == "facts-gpt":
        ranks_lose_little_and_whitened_ones_less(problem, queries.isel(query=slice(0, 100, 4)))


def ranks_lose_little_and_whitened_ones_less(problem: inflab.Problem, queries: Any) -> None:
    """Rank 32 orders the sequences as full rank does (GB23 section 3.2.2)."""
    ekfac = inflab.EKFAC().fit(problem, progress=False)
    exact = ekfac.score(queries, progress=False)["influence"].to_numpy()

    def median(rank: int, truncation: Any) -> float:
        found = ekfac.score(queries, rank=rank, truncation=truncation, progress=False)["influence"].to_numpy()
        return float(np.median([stats.spearmanr(a, b)[0] for a, b in zip(found, exact, strict=True)]))

    by_rank = {rank: (median(rank, "plain"), median(rank, "whitened")) for rank in (1, 4, 16, 32)}
    assert all(whitened >= plain for plain, whitened in by_rank.values()), by_rank
    for side in zip(*by_rank.values(), strict=True):
        assert list(side) == sorted(side)
        assert side[-1] >= 0.99
