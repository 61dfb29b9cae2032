"""Queries held ready for scoring give `P * G` summed, wherever their sides wait and however they are held.

Against the product of written-out matrices; truncation against Eckart and Young, in the norm it minimises.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from inflab import preconditioned, products
from inflab.kronecker import Curvature, rotate
from inflab.preconditioned import Preconditioned, Sides, choose_sides, low_rank, truncation_weights

O, I, Q, B = 5, 4, 3, 7  # noqa: E741 - outputs, inputs, queries, batch
SIDES = [Sides(*pair) for pair in itertools.product([False, True], repeat=2)]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def curvature() -> Curvature:
    bases = torch.linalg.qr(normal(O, O, seed=1))[0], torch.linalg.qr(normal(I, I, seed=2))[0]
    values = normal(O, seed=3).square(), normal(I, seed=4).square()
    return Curvature(*bases, normal(O, I, seed=5).square(), 0.3, *values)


def held(rotated_qoi: Tensor, layer: Curvature, sides: Sides, rank: int | None) -> Preconditioned:
    assert layer.gradient_basis is not None
    assert layer.activation_basis is not None
    left = None if sides.gradient else layer.gradient_basis.T
    right = None if sides.activation else layer.activation_basis.T
    if rank is None:
        return Preconditioned(layer, sides, dense=rotate(rotated_qoi, left, right))
    u, v, lost, whole = low_rank(rotated_qoi, rank)
    return Preconditioned(
        layer, sides, left=rotate(u, left, None), right=rotate(v, None, right), lost=lost, whole=whole
    )


@pytest.mark.parametrize("tokens", [1, 2, 30])
@pytest.mark.parametrize("rank", [None, 1, 4])
@pytest.mark.parametrize("sides", SIDES, ids=str)
def test_scores_are_sums_of_products_of_matrices(sides: Sides, rank: int | None, tokens: int) -> None:
    layer, query_qoi = curvature(), normal(Q, O, I, seed=6)
    a, g = normal(B, tokens, I, seed=7), normal(B, tokens, O, seed=8)
    assert layer.gradient_basis is not None
    assert layer.activation_basis is not None
    wanted = query_qoi if rank is None else torch.stack([truncated(m, rank) for m in query_qoi])
    back_qoi = layer.gradient_basis @ wanted @ layer.activation_basis.T
    expected = torch.einsum("qoi,bto,bti->qb", back_qoi, g, a)
    ready = held(query_qoi.clone(), layer, sides, rank)
    found = ready.scores(ready.meet(a, g, I))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def truncated(matrix: Tensor, rank: int) -> Tensor:
    u, size, v = torch.linalg.svd(matrix, full_matrices=False)
    return u[:, :rank] * size[:rank] @ v[:rank]


@pytest.mark.parametrize("takes", [False, True], ids=["gradients", "tokens"])
def test_low_rank_queries_give_the_same_by_either_route(takes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, sides = curvature(), Sides(gradient=True, activation=True)
    ready = held(normal(Q, O, I, seed=6), layer, sides, 2)
    a, g = normal(B, 2, I, seed=7), normal(B, 2, O, seed=8)
    expected = (
        ready.to_dense().flatten(1)
        @ (g @ layer.gradient_basis).transpose(1, 2).matmul(a @ layer.activation_basis).flatten(1).T
    )
    monkeypatch.setattr(Preconditioned, "_takes_tokens", lambda *_: takes)
    torch.testing.assert_close(ready.scores(ready.meet(a, g, I)), expected, rtol=1e-10, atol=1e-10)


def test_many_queries_meet_training_tokens_in_the_eigenbasis_and_few_do_not() -> None:
    layer = curvature()
    assert choose_sides(layer, (O, I), queries=1, examples=1000, tokens=2) == Sides(gradient=False, activation=False)
    assert choose_sides(layer, (O, I), queries=10_000, examples=10, tokens=2) == Sides(gradient=True, activation=True)
    plain = Curvature(None, None, None, 0.0)
    assert choose_sides(plain, (O, I), queries=10_000, examples=10, tokens=2) == Sides(gradient=False, activation=False)


@given(
    st.integers(1, 6),
    st.integers(1, 6),
    st.integers(1, 7),
    st.sampled_from([torch.float32, torch.float64]),
    st.booleans(),
)
def test_low_rank_leaves_the_smallest_singular_values(
    outputs: int, width: int, rank: int, dtype: torch.dtype, weighted: bool
) -> None:
    """Eckart and Young: the error of the best matrix of that rank is the norm of the rest."""
    value = normal(2, outputs, width, seed=outputs + 10 * width).to(dtype)
    weights = (normal(outputs, seed=1).to(dtype).abs() + 0.1, normal(width, seed=2).to(dtype).abs() + 0.1)
    left, right, lost, whole = low_rank(value, rank, weights if weighted else None)
    scale = weights[0][:, None] * weights[1] if weighted else torch.ones(outputs, width)
    seen = (value * scale).double()
    size = torch.linalg.svdvals(seen)
    rest = size[:, rank:].square().sum(1)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-12
    total = size.square().sum(1)
    error = ((left @ right).double() * scale - seen).square().sum((1, 2))
    assert left.shape[2] == min(rank, outputs, width)
    for found in (error, lost.double()):
        assert ((found - rest).abs() <= tolerance * total).all()
    torch.testing.assert_close(whole.double(), total, rtol=1e-5, atol=0)


def test_whitened_truncation_has_the_smaller_error_of_scores() -> None:
    """Training gradients drawn with covariance S (x) A: the expected squared error of scores is the whitened norm."""
    layer = curvature()
    weights = truncation_weights(layer)
    assert weights is not None
    query_qoi = normal(200, O, I, seed=9)
    errors = []
    for given_weights in (weights, None):
        left, right, *_ = low_rank(query_qoi, 2, given_weights)
        gap = (left @ right - query_qoi) * weights[0][:, None] * weights[1]
        errors.append(gap.square().sum((1, 2)))
    assert (errors[0] <= errors[1] * (1 + 1e-12)).all()
    assert (errors[0] < 0.99 * errors[1]).float().mean() > 0.9


def test_a_singular_covariance_still_gives_finite_queries() -> None:
    values = torch.tensor([0.0, 1e-20, 1.0]), torch.tensor([0.0, 2.0])
    weights = truncation_weights(Curvature(None, None, torch.ones(3, 2), 0.1, *values))
    left, right, *_ = low_rank(normal(2, 3, 2).float(), 1, weights)
    assert torch.isfinite(left).all()
    assert torch.isfinite(right).all()
    assert truncation_weights(Curvature(None, None, torch.ones(3, 2), 0.1)) is None
    assert np.isfinite(float((left @ right).abs().max()))


def test_chunks_of_queries_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, sides = curvature(), SIDES[0]
    ready = held(normal(Q, O, I, seed=6), layer, sides, 2)
    met = ready.meet(normal(B, 30, I, seed=7), normal(B, 30, O, seed=8), I)
    expected = ready.scores(met)
    monkeypatch.setattr(preconditioned, "FAR", 1)
    monkeypatch.setattr(preconditioned, "chunks", lambda n, each, size=1, device=None: products.chunks(n, each, 1))
    torch.testing.assert_close(ready.scores(met), expected, rtol=1e-12, atol=1e-12)
