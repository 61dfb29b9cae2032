"""Oracle 10: every split of an influence sums to the whole, and every approximation ends in the exact thing.

Layers x tokens, token x token, predicted tokens; rank up to full; one diagonal block; and each part is what an
independent derivative says it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor, nn

from inflab import EKFAC, CausalLM, Influence, Problem, top

from .builders import VOCABULARY, as_queries, double, of_kind, regression, text_corpus, tiny_lm, token_rows
from .references import (
    alone,
    assert_close,
    basis,
    covariance,
    dense_curvature,
    expected_gradients,
    gradient_matrices,
    relative_error,
    scores,
    tensor,
)

LENGTHS = (3, 6, 4, 2, 5)


class RecurrentLM(nn.Module):
    """A language model that takes no mask, whose one Linear is used at two depths of a causal mean."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix, self.head = nn.Embedding(VOCABULARY, 4), nn.Linear(4, 4), nn.Linear(4, VOCABULARY)

    def forward(self, token_id: Tensor) -> Tensor:
        value = self.embed(token_id)
        for _ in range(2):
            steps = torch.arange(1, value.shape[1] + 1)[:, None]
            value = torch.tanh(self.mix(value.cumsum(1) / steps)) + value
        return self.head(value)


def fitted(name: str, train_side: str = "right") -> tuple[Influence, xr.Dataset]:
    model = double(RecurrentLM()) if name == "tied" else tiny_lm(name, "sdpa")
    train = text_corpus(token_rows(LENGTHS), side=train_side, prompts=(0, 2, 0, 1, 0))
    query_side = "right" if name == "tied" else "left"
    queries = text_corpus(token_rows((5, 3, 6), seed=6), "query", query_side, prompts=(3, 1, 4))
    return EKFAC(layers="*").fit(Problem(model, CausalLM(), train), progress=False), queries


CASES = [("gpt2", "right"), ("gpt2", "left"), ("llama", "left"), ("gpt_neox", "right"), ("tied", "right")]
# torch compiles its forward-mode rules on first use, and warns of its own compiler.
forward_mode = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
by_case = pytest.mark.parametrize(("name", "side"), CASES)


def everything(scores_qt: xr.Dataset) -> xr.Dataset:
    """Every training sequence ranked, for every query."""
    return top(scores_qt, scores_qt.sizes["train"], sign="absolute")


def rank_of(ranked_r: xr.Dataset, train: int) -> int:
    """Where a training sequence stands in one query's list."""
    return int(np.flatnonzero(ranked_r["train"].to_numpy() == train)[0])


@by_case
def test_layers_and_tokens_sum_to_the_score(name: str, side: str) -> None:
    influence, queries = fitted(name, side)
    by_layer = influence.score(queries, by="layer", progress=False)
    assert_close(by_layer["influence"].sum("layer"), scores(influence, queries))
    ranked = everything(by_layer)
    tokens = influence.attribute(queries, ranked, progress=False)
    assert_close(tokens["influence"].sum(["layer", "token"]), ranked["influence"])
    wanted = by_layer["influence"].sel(train=ranked["train"])
    assert_close(tokens["influence"].sum("token"), wanted.transpose("query", "rank", "layer"))
    assert not tokens["influence"].where(~tokens["is_text"], 0.0).any()


@by_case
def test_token_by_token_sums_to_both_sides(name: str, side: str) -> None:
    """Over query tokens: the attribution to training tokens; over training tokens: that of the roles exchanged."""
    influence, queries = fitted(name, side)
    ranked = everything(influence.score(queries, progress=False))
    pairs = influence.attribute(queries, ranked, pairs=True, progress=False)["influence"]
    one_sided = influence.attribute(queries, ranked, progress=False)["influence"]
    assert_close(pairs.sum("query_token"), one_sided.transpose(*pairs.sum("query_token").dims))

    asked, scored = as_queries(influence.problem.corpus), queries.rename(query="train")
    exchanged = everything(influence.score(asked, train=scored, progress=False))
    other = influence.attribute(asked, exchanged, train=scored, progress=False)
    for query in queries["query"].to_numpy():
        for rank in ranked["rank"].to_numpy():
            train = ranked["train"].sel(query=query, rank=rank).item()
            expected = other["influence"].sel(query=train).isel(rank=rank_of(exchanged.sel(query=train), query))
            found = pairs.sel(query=query, rank=rank).sum("token")
            columns = found["query_token"].isin(other["token"])
            assert not found.isel(query_token=~columns.to_numpy()).any()
            assert_close(found.sel(query_token=other["token"].to_numpy()).T, expected.transpose("token", "layer"))


@forward_mode
@by_case
def test_predicted_tokens_sum_to_the_score(name: str, side: str) -> None:
    influence, queries = fitted(name, side)
    ranked = everything(influence.score(queries, progress=False))
    output = influence.attribute(queries, ranked, view="output", progress=False)["influence"]
    assert_close(output.sum("token"), ranked["influence"])


def preconditioned(influence: Influence, queries: xr.Dataset, names: list[str]) -> dict[str, Tensor]:
    """`(G + lambda I)^-1 grad f` by dense solves, `(q, o, i)` a layer."""
    found = {}
    for name, grad_qoi in expected_gradients(influence.problem, names, "measurement", queries).items():
        g = dense_curvature(influence, name)
        damped = g + influence.factors[name].attrs["damping"] * torch.eye(len(g)).double()
        found[name] = torch.linalg.solve(damped, grad_qoi.flatten(1).T).T.reshape(grad_qoi.shape)
    return found


@pytest.mark.parametrize("side", ["right", "left"])
def test_each_token_is_the_derivative_in_its_own_copy_of_the_weight(side: str) -> None:
    """Give every position its own copy of a matrix: its gradient is what that position adds to the whole."""
    influence, queries = fitted("gpt2", side)
    ranked = everything(influence.score(queries, progress=False))
    tokens = influence.attribute(queries, ranked, progress=False)
    names = [f"transformer.h.{block}.mlp.{part}" for block in (0, 1) for part in ("c_fc", "c_proj")]
    ready = preconditioned(influence, queries, names)
    problem = influence.problem
    for position, one in enumerate(alone(problem.corpus)):
        for name in names:
            module = problem.model.get_submodule(name)
            length = one["token_id"].shape[1]
            copies = torch.zeros(length, *ready[name].shape[1:], dtype=torch.float64, requires_grad=True)

            def own_copy(module: nn.Module, given: tuple[Tensor], out: Tensor, copies: Tensor = copies) -> Tensor:
                a_ti = torch.cat([given[0], torch.ones_like(given[0][..., :1])], -1)
                return out + torch.einsum("bti,toi->bto", a_ti, copies)

            hook = module.register_forward_hook(own_copy)
            loss_b = problem.task.loss(problem.task.forward(problem.model, one), one)
            hook.remove()
            (grad_toi,) = torch.autograd.grad(loss_b[0], copies)
            expected_qt = -torch.einsum("qoi,toi->qt", ready[name], grad_toi)
            for query in range(queries.sizes["query"]):
                rank = rank_of(ranked.isel(query=query), position)
                found = tokens.isel(query=query, rank=rank).sel(layer=name)
                assert_close(found["influence"].to_numpy()[found["is_text"].to_numpy()], expected_qt[query])


@forward_mode
@pytest.mark.parametrize("side", ["right", "left"])
def test_each_predicted_token_is_the_derivative_of_its_log_probability(side: str) -> None:
    """`d log p(y_t) = grad log p(y_t) . (G + lambda I)^-1 grad f`, one reverse pass a token (GB23 eq. 36)."""
    influence, queries = fitted("gpt2", side)
    ranked = everything(influence.score(queries, progress=False))
    output = influence.attribute(queries, ranked, view="output", progress=False)
    names = list(influence.factors.children)
    ready = preconditioned(influence, queries, names)
    for position, one in enumerate(alone(influence.problem.corpus)):
        log_p = influence.problem.task.forward(influence.problem.model, one)[0].log_softmax(-1)
        expected_qt = torch.zeros(queries.sizes["query"], len(log_p)).double()
        for t in torch.nonzero(one["is_target"][0]).flatten().tolist():
            grads = gradient_matrices(influence.problem.model, names, log_p[t - 1, one["token_id"][0, t]])
            expected_qt[:, t] = sum((ready[name] * grads[name]).sum((1, 2)) for name in names)
        for query in range(queries.sizes["query"]):
            rank = rank_of(ranked.isel(query=query), position)
            found = output.isel(query=query, rank=rank)
            assert_close(found["influence"].to_numpy()[found["is_text"].to_numpy()], expected_qt[query])


def test_full_rank_is_exact() -> None:
    influence, queries = fitted("gpt2")
    exact = scores(influence, queries)
    errors = [relative_error(scores(influence, queries, rank=rank), exact) for rank in (1, 2, 3, 12)]
    assert errors[0] > 1e-3
    assert errors[-1] <= 1e-9


@pytest.mark.parametrize("truncation", ["plain", "whitened"])
@pytest.mark.parametrize("rank", [1, 2])
def test_each_rank_is_the_best_of_that_rank(rank: int, truncation: str) -> None:
    """By layer: the preconditioned query gradient P cut by numpy's own SVD; whitened: `S^1/2 P A^1/2`, mapped back."""
    influence, queries = fitted("gpt2")
    asked = influence.score(queries, by="layer", rank=rank, truncation=truncation, progress=False)
    names = list(influence.factors.children)
    grad_l = expected_gradients(influence.problem, names)
    lost_q, whole_q = np.zeros(len(queries["query"])), np.zeros(len(queries["query"]))
    for name, value_qoi in preconditioned(influence, queries, names).items():
        roots = [root(influence.factors[name], side, truncation) for side in ("gradient", "activation")]
        seen_qoi = roots[0] @ value_qoi.numpy() @ roots[1]
        left, size, right = np.linalg.svd(seen_qoi, full_matrices=False)
        whole_q += (size**2).sum(1)
        lost_q += (size[:, rank:] ** 2).sum(1)
        size[:, rank:] = 0
        cut_qoi = np.linalg.inv(roots[0]) @ (left * size[:, None] @ right) @ np.linalg.inv(roots[1])
        expected = -np.einsum("qoi,boi->qb", cut_qoi, grad_l[name].numpy())
        assert_close(asked["influence"].sel(layer=name), expected, 1e-7 if truncation == "whitened" else 1e-9)
    assert_close(asked["truncation_error"], np.sqrt(lost_q / whole_q), 1e-7)


def root(node: Any, side: str, truncation: str) -> np.ndarray:
    """The square root of a covariance, its axes of least variance held up as inflab holds them; else the identity."""
    q, values = basis(node, side).numpy(), node[f"{side}_eigenvalues"].to_numpy()
    if truncation == "plain":
        values = np.ones_like(values)
    return q * np.sqrt(np.maximum(values, 1e-6 * values.max())) @ q.T


@pytest.mark.parametrize("kind", ["Linear", "Conv2d"])
@pytest.mark.parametrize("blocks", [2, 3])
def test_blocks_are_those_of_the_covariances(kind: str, blocks: int) -> None:
    """Within blocks the covariances are kept, across them nothing is (GB23 App. A); scores are the dense solve."""
    problem = regression(*of_kind(kind))
    whole, cut = (EKFAC(blocks=n).fit(problem, progress=False) for n in (1, blocks))
    queries = as_queries(problem.corpus)
    expected = np.zeros((6, 6))
    for name, node in cut.factors.children.items():
        for side in ("activation", "gradient"):
            full = covariance(whole.factors[name], side)
            member = torch.zeros(len(full), dtype=torch.long)
            for block, place in enumerate(np.array_split(np.arange(len(full)), blocks)):
                member[place] = block
            same = member[:, None] == member[None]
            assert not basis(node, side)[~same].any()
            assert_close(covariance(node, side), full * same)
            share = float((full * same).square().sum() / full.square().sum())
            assert_close(node.attrs[f"{side}_share_kept"], share)
            assert whole.factors[name].attrs[f"{side}_share_kept"] == 1
        g = dense_curvature(cut, name) + node.attrs["damping"] * torch.eye(tensor(node, "eigenvalues").numel()).double()
        grad_bp = expected_gradients(problem, [name])[name].flatten(1)
        expected += (grad_bp @ torch.linalg.solve(g, grad_bp.T)).numpy()
    assert_close(scores(cut, queries), expected)
    assert relative_error(scores(cut, queries), scores(whole, queries)) > 1e-4


def test_one_block_is_the_whole() -> None:
    problem = regression(*of_kind("Linear"))
    first, second = (EKFAC(**given).fit(problem, progress=False) for given in ({}, {"blocks": 1}))
    queries = as_queries(problem.corpus)
    np.testing.assert_array_equal(scores(first, queries), scores(second, queries))
