"""Oracle 5: scores by eq. 21 equal a dense solve with the explicit Kronecker matrix.

`grad f^T (S (x) A + lambda I)^-1 grad L`, with gradients from autograd. With one example and one output, K-FAC is
the whole Gauss-Newton block of any network.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from inflab import EKFAC, KFAC, CausalLM, Diagonal, Influence, Problem, adapters

from .builders import (
    KINDS,
    NoisyRegression,
    double,
    enumerate_noise,
    normal,
    of_kind,
    regression,
    text_corpus,
    tiny_lm,
    token_rows,
)
from .references import assert_close, covariance, dense_curvature, expected_gradients, gauss_newton, scores, squared

DAMPINGS = [(0.1, "relative"), (0.05, "absolute")]


def solved(problem: Problem, queries: Any, dense: dict[str, Tensor], damping: float, kind: str) -> np.ndarray:
    """`(query, train, layer)` by dense solves; relative damping is times the mean eigenvalue, trace / size."""
    names = list(dense)
    grad_f = expected_gradients(problem, names, "measurement", queries)
    grad_l = expected_gradients(problem, names)
    columns = []
    for name, matrix in dense.items():
        size = len(matrix)
        absolute = damping * (matrix.trace() / size if kind == "relative" else 1.0)
        inverse_bp = torch.linalg.solve(matrix + absolute * torch.eye(size).double(), grad_l[name].flatten(1).T)
        columns.append(-grad_f[name].flatten(1) @ inverse_bp)
    return torch.stack(columns, -1).numpy()


def check(influence: Influence, queries: Any, dense: dict[str, Tensor], damping: float, kind: str) -> None:
    expected = solved(influence.problem, queries, dense, damping, kind)
    found = influence.score(queries, by="layer", progress=False)
    assert list(found["layer"].to_numpy()) == list(dense)
    assert_close(found["influence"], expected)
    assert_close(scores(influence, queries), expected.sum(-1))


def kronecker_matrix(influence: Influence, name: str) -> Tensor:
    node = influence.factors[name]
    return torch.kron(covariance(node, "gradient"), covariance(node, "activation"))


@pytest.mark.parametrize(("damping", "damping_kind"), DAMPINGS)
@pytest.mark.parametrize("method", [KFAC, EKFAC, Diagonal])
@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_a_dense_solve(kind: str, method: type, damping: float, damping_kind: str) -> None:
    model, value = of_kind(kind)
    problem = regression(model, value)
    asked = value[::2] if value.dtype.kind == "i" else value[::2] + 1
    queries = adapters.from_arrays(asked, normal(len(asked), 3, seed=8), dim="query")
    influence = method(layers="*", damping=damping, damping_kind=damping_kind).fit(problem, progress=False)
    matrix = kronecker_matrix if method is KFAC else dense_curvature
    dense = {name: matrix(influence, name) for name in influence.factors.children}
    check(influence, queries, dense, damping, damping_kind)


@pytest.mark.parametrize(("damping", "damping_kind"), DAMPINGS)
def test_scores_of_a_language_model_after_another_damping(damping: float, damping_kind: str) -> None:
    """Prompts and padding on both sides; damped anew without a new fit."""
    train = text_corpus(token_rows((3, 6, 4, 5)), side="left")
    queries = text_corpus(token_rows((5, 4), seed=6), "query", prompts=(3, 1))
    problem = Problem(tiny_lm("gpt2"), CausalLM(), train)
    influence = KFAC(damping=7.0).fit(problem, progress=False).with_damping(damping, damping_kind)
    dense = {name: kronecker_matrix(influence, name) for name in influence.factors.children}
    check(influence, queries, dense, damping, damping_kind)


def _deep() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3, bias=False), nn.GELU(), nn.Linear(3, 1))


@pytest.mark.parametrize("method", [KFAC, EKFAC])
@pytest.mark.parametrize("embedded", [False, True], ids=["Linear", "Embedding"])
def test_one_example_and_one_output_make_kfac_exact(embedded: bool, method: type) -> None:
    model = nn.Sequential(nn.Embedding(5, 4), nn.Tanh(), _deep()) if embedded else _deep()
    value = np.array([3]) if embedded else normal(1, 4)
    problem = regression(double(model), value, 1, NoisyRegression("output"))
    problem.corpus = enumerate_noise(problem.corpus, 1)
    queries = adapters.from_arrays(
        np.array([3, 1]) if embedded else normal(2, 4, seed=5), np.zeros((2, 1)), dim="query"
    )
    influence = method(layers="*", damping=0.01, damping_kind="absolute").fit(problem, progress=False)
    dense = gauss_newton(problem, list(influence.factors.children), squared)
    check(influence, queries, dense, 0.01, "absolute")
