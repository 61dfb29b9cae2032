"""Oracle 11: self-influence is the diagonal of the pairwise scores; copies tie; heavy damping ends in a dot product.

The query's measurement being minus the loss, a sequence asked about itself has positive influence.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from inflab import EKFAC, KFAC, CausalLM, Diagonal, Identity, Problem

from .builders import KINDS, as_queries, of_kind, regression, text_corpus, tiny_lm, token_rows
from .references import assert_close, relative_error, scores

METHODS = [EKFAC, KFAC, Diagonal, Identity]


def problem_of(kind: str) -> Problem:
    if kind in KINDS:
        return regression(*of_kind(kind))
    family, side = kind.split()
    corpus = text_corpus(token_rows((3, 6, 4, 3, 5)), side=side, prompts=(0, 2, 0, 1, 0))
    return Problem(tiny_lm(family, "sdpa"), CausalLM(), corpus)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", [*KINDS, "gpt2 right", "gpt2 left", "llama left"])
def test_self_influence_is_the_diagonal(kind: str, method: Any) -> None:
    influence = method(layers="*").fit(problem_of(kind), progress=False)
    pairwise = influence.score(as_queries(influence.problem.corpus), by="layer", progress=False)["influence"]
    found = influence.self_influence(by="layer", progress=False)["influence"]
    assert (found > 0).all(), "no gradient here is zero"
    assert_close(found, np.diagonal(pairwise.transpose("query", "train", "layer")).T)
    assert_close(influence.self_influence(progress=False)["influence"], found.sum("layer"))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_copies_tie(kind: str, method: Any, side: str) -> None:
    """Under other ids, in another batch, beside other neighbours."""
    rows = token_rows((3, 6, 4, 2, 5))
    ids = ["a", "b", "c", "d", "e", "c again", "a again", "c once more"]
    corpus = text_corpus([*rows, rows[2], rows[0], rows[2]], side=side, ids=ids)
    influence = method(layers="*").fit(Problem(tiny_lm(kind, "sdpa"), CausalLM(), corpus), progress=False)
    for batch_size in (1, 2, 5):
        settings = {"batch_size": batch_size, "progress": False}
        found = influence.score(as_queries(corpus), **settings)["influence"]
        alone = influence.self_influence(**settings)["influence"]
        for copy, original in (("c again", "c"), ("a again", "a"), ("c once more", "c")):
            assert_close(found.sel(train=copy), found.sel(train=original))
            assert_close(found.sel(query=copy), found.sel(query=original))
            assert_close(alone.sel(train=copy), alone.sel(train=original))


@pytest.mark.parametrize("method", [EKFAC, KFAC, Diagonal])
@pytest.mark.parametrize("kind", [*KINDS, "gpt2 left"])
def test_heavy_damping_is_the_dot_product(kind: str, method: Any) -> None:
    """lambda x influence -> grad f . grad L; the rest shrinks as 1 / lambda."""
    problem = problem_of(kind)
    queries = as_queries(problem.corpus)
    dot = scores(Identity(layers="*").fit(problem, progress=False), queries)
    influence = method(layers="*").fit(problem, progress=False)
    errors = []
    for heavy in (1e3, 1e5, 1e12):
        damped = influence.with_damping(heavy, "absolute")
        errors.append(relative_error(heavy * scores(damped, queries), dot))
    assert errors[0] > 10 * errors[1] > 0
    assert errors[2] <= 1e-9
    assert relative_error(scores(influence, queries), dot) > 0.1
