"""Cosine, TracIn and ensembles against loops over examples, layers and checkpoints with autograd.

`cos = grad f . grad log p / (|grad f| |grad log p|)`; TracIn is `sum_k eta_k grad f(theta_k) . grad log p(theta_k)`;
the mean over members. log p is minus the loss.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from inflab import EKFAC, Checkpoint, Cosine, Identity, Problem, TracIn, ensemble, top

from .builders import KINDS, as_queries, of_kind, regression, text_corpus, tiny_lm, token_rows
from .references import assert_close, expected_gradients

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning")

RATES, STEPS = (0.3, 0.05, 0.7), (2, 5, 1)


def checkpoints(model: torch.nn.Module) -> list[Checkpoint]:
    """Three other sets of weights for the model."""
    found = []
    for seed, (rate, steps) in enumerate(zip(RATES, STEPS, strict=True), 3):
        draw = torch.Generator().manual_seed(seed)
        state = {
            n: p + 0.2 * torch.randn(p.shape, generator=draw, dtype=p.dtype) for n, p in model.state_dict().items()
        }
        found.append(Checkpoint(state, rate, steps))
    return found


def language(family: str = "gpt2") -> tuple[Problem, xr.Dataset]:
    from inflab import CausalLM

    model = tiny_lm(family)
    train = text_corpus(token_rows((5, 3, 6, 4), seed=1), ids=list("abcd"))
    queries = text_corpus(token_rows((4, 6), seed=2), "query", prompts=(2, 3), ids=("q", "r"))
    return Problem(model, CausalLM(), train, checkpoints=checkpoints(model)), queries


def table(kind: str = "Linear") -> tuple[Problem, xr.Dataset]:
    model, value = of_kind(kind)
    problem = regression(model, value)
    queries = as_queries(problem.corpus).isel(query=[4, 1])
    return Problem(model, problem.task, problem.corpus, checkpoints=checkpoints(model)), queries


PROBLEMS = {
    **{kind: lambda kind=kind: table(kind) for kind in KINDS},
    "gpt2": language,
    "llama": lambda: language("llama"),
}


def parts(problem: Problem, queries: xr.Dataset, names: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Products `(query, train, layer)` of grad f and grad log p, and both squared lengths `(example, layer)`."""
    f, loss = (expected_gradients(problem, names, *what) for what in (("measurement", queries), ("loss",)))
    products = [-torch.einsum("qoi,boi->qb", f[name], loss[name]) for name in names]
    squares = [torch.stack([g[name].square().sum((1, 2)) for name in names], -1).numpy() for g in (f, loss)]
    return torch.stack(products, -1).numpy(), squares[0], squares[1]


def asked(influence: Any, queries: xr.Dataset, **settings: Any) -> np.ndarray:
    found: np.ndarray = influence.score(queries, progress=False, **settings)["influence"].to_numpy()
    return found


@pytest.mark.parametrize("name", PROBLEMS)
def test_cosine_is_the_cosine_of_all_covered_gradients(name: str) -> None:
    problem, queries = PROBLEMS[name]()
    influence = Cosine(layers="*").fit(problem, progress=False)
    products, square_q, square_t = parts(problem, queries, list(influence.factors.children))
    lengths = np.sqrt(np.outer(square_q.sum(1), square_t.sum(1)))
    assert_close(asked(influence, queries), products.sum(2) / lengths)
    assert_close(asked(influence, queries, by="layer"), products / lengths[..., None])
    assert_close(influence.self_influence(progress=False)["influence"], np.ones(len(square_t)))
    shares = influence.self_influence(by="layer", progress=False)["influence"]
    assert_close(shares, square_t / square_t.sum(1, keepdims=True))


@pytest.mark.parametrize("steps", [False, True])
@pytest.mark.parametrize("name", PROBLEMS)
def test_tracin_is_a_loop_over_checkpoints(name: str, steps: bool) -> None:
    problem, queries = PROBLEMS[name]()
    influence = TracIn(layers="*", steps=steps).fit(problem, progress=False)
    names = list(influence.factors.children)
    weights = [rate * (n if steps else 1) for rate, n in zip(RATES, STEPS, strict=True)]
    found = [parts(problem.at(checkpoint), queries, names) for checkpoint in problem.checkpoints]
    products = sum(weight * part[0] for weight, part in zip(weights, found, strict=True))
    own = sum(weight * part[2] for weight, part in zip(weights, found, strict=True))
    assert_close(asked(influence, queries), products.sum(2))
    assert_close(asked(influence, queries, by="layer"), products)
    assert_close(influence.self_influence(progress=False)["influence"], own.sum(1))
    assert_close(influence.self_influence(by="layer", progress=False)["influence"], own)


@pytest.mark.parametrize("method", [Cosine(layers="*"), TracIn(layers="*")])
def test_sums_over_layers_and_tokens_are_the_scores(method: Any) -> None:
    problem, queries = language()
    influence = method.fit(problem, progress=False)
    scores = influence.score(queries, progress=False)
    chosen = top(scores, 3, sign="absolute")
    cases = (
        ({}, ["layer", "token"]),
        ({"pairs": True}, ["layer", "token", "query_token"]),
        ({"view": "output"}, ["token"]),
    )
    for settings, dims in cases:
        tokens = influence.attribute(queries, chosen, progress=False, **settings)
        assert_close(tokens["influence"].sum(dims), chosen["influence"])
        assert tokens["influence"].attrs["units"] == scores["influence"].attrs["units"] != "nat per unit weight"


def test_zero_gradients_have_cosine_zero() -> None:
    problem, queries = table()
    with torch.no_grad():
        problem.model.head.weight.zero_()  # nothing flows back to the body
    influence = Cosine(layers="body.*").fit(problem, progress=False)
    assert (asked(influence, queries) == 0).all()
    assert (influence.self_influence(progress=False)["influence"] == 0).all()


def test_an_ensemble_is_the_mean_of_its_members() -> None:
    problem, queries = language()
    members = [
        EKFAC(layers="*", damping=0.1 * (n + 1)).fit(problem.at(c), progress=False)
        for n, c in enumerate(problem.checkpoints)
    ]
    found = ensemble(members)
    expected = np.mean([asked(member, queries) for member in members], axis=0)
    assert_close(asked(found, queries), expected)
    assert_close(
        asked(found, queries, by="layer"), np.mean([asked(member, queries, by="layer") for member in members], axis=0)
    )
    own = [member.self_influence(progress=False)["influence"].to_numpy() for member in members]
    assert_close(found.self_influence(progress=False)["influence"], np.mean(own, axis=0))
    chosen = top(found.score(queries, progress=False), 3, sign="absolute")
    assert_close(
        found.attribute(queries, chosen, progress=False)["influence"].sum(["layer", "token"]), chosen["influence"]
    )
    assert_close(
        asked(found.with_damping(2.0), queries), np.mean([asked(m.with_damping(2.0), queries) for m in members], axis=0)
    )
    one = ensemble(members[:1])
    assert np.array_equal(asked(one, queries), asked(members[0], queries))


def test_members_of_an_aligned_ensemble_have_the_same_say() -> None:
    problem, queries = language()
    members = [
        method.fit(problem, progress=False) for method in (EKFAC(layers="*"), Identity(layers="*"), Cosine(layers="*"))
    ]
    found = ensemble(members, align="std")
    each = [asked(member, queries) for member in members]
    assert np.std(each[0]) > 10 * np.std(each[1]), "members of like size would test nothing"
    assert_close(asked(found, queries), np.mean([s / s.std(1, keepdims=True) for s in each], axis=0))
    chosen = top(found.score(queries, progress=False), 3, sign="absolute")
    assert_close(
        found.attribute(queries, chosen, progress=False)["influence"].sum(["layer", "token"]), chosen["influence"]
    )
    own = [member.self_influence(progress=False)["influence"].to_numpy() for member in members[:2]]
    pair = ensemble(members[:2], align="std").self_influence(progress=False)["influence"]
    assert_close(pair, np.mean([s / s.std() for s in own], axis=0))


def test_at_gives_the_weights_of_a_checkpoint() -> None:
    problem, _ = table()
    before = {name: value.clone() for name, value in problem.model.state_dict().items()}
    there = problem.at(problem.checkpoints[1])
    for name, value in there.model.state_dict().items():
        assert torch.equal(value, problem.checkpoints[1].state[name])
        assert torch.equal(before[name], problem.model.state_dict()[name])
    assert there.corpus is problem.corpus and there.checkpoints == ()
