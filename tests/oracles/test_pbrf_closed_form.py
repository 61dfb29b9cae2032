"""`truth.pbrf` finds the minimum of the proximal Bregman objective (oracle 2).

On a linear-Gaussian model that is known at any eps. On small networks its derivative at eps = 0 is a dense solve with
the joint Gauss-Newton matrix, and at a finite eps another minimiser finds it from the objective written out, with the
divergence in the form that knows no labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import torch
import xarray as xr
from torch import Tensor, nn
from torch.func import functional_call

from inflab import EKFAC, CausalLM, Classification, Problem, Regression, adapters, truth
from inflab.layer import select_layers

from .builders import (
    NoisyRegression,
    as_queries,
    double,
    enumerate_noise,
    normal,
    of_kind,
    regression,
    text_corpus,
    tiny_lm,
    token_rows,
)
from .references import assert_close, expected_gradients, joint_gauss_newton, softmax, squared

# Forward-mode differentiation loads rules that torch still compiles with torch.jit.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning")

N, FEATURES, OUTPUTS, LAMBDA = 10, 4, 2, 0.2
QUIET = {"progress": False}


def linear() -> tuple[Problem, xr.Dataset, np.ndarray, np.ndarray, np.ndarray]:
    x, y, asked = (normal(*shape, seed=i) for i, shape in enumerate([(N, FEATURES), (N, OUTPUTS), (3, FEATURES)]))
    model = double(nn.Sequential(nn.Linear(FEATURES, OUTPUTS, bias=False)))
    queries = adapters.from_arrays(asked, np.zeros((3, OUTPUTS)), dim="query")
    return Problem(model, Regression("output"), adapters.from_arrays(x, y)), queries, x, y, asked


def closed_form(eps: float) -> np.ndarray:
    """`-grad f^T r / (1 + eps s)`, `(query, train)`."""
    problem, _, x, y, asked = linear()
    matrix = x.T @ x / N + LAMBDA * np.eye(FEATURES)
    r = np.linalg.solve(matrix, x.T)
    residual = (x @ problem.model[0].weight.detach().numpy().T - y).sum(1)  # type: ignore[index, union-attr]
    return -(asked @ r) * residual / (1 + eps * (x.T * r).sum(0))


@pytest.mark.parametrize("eps", [-1 / N, 1e-6, None, 1.0, 30.0])
def test_linear_model_at_any_eps(eps: float | None) -> None:
    problem, queries, *_ = linear()
    exact = 1e-6 if eps == 1e-6 else 1e-9  # rounding of a small difference
    found = truth.pbrf(problem, queries, damping=LAMBDA, eps=eps, tolerance=exact / 100, **QUIET)
    assert bool(found["is_converged"].all())
    assert_close(found["influence"], closed_form(1 / N if eps is None else eps), exact)


@pytest.mark.parametrize("eps", [None, 1.0])
def test_linear_model_by_adam(eps: float | None) -> None:
    problem, queries, *_ = linear()
    found = truth.pbrf(problem, queries, damping=LAMBDA, eps=eps, tolerance=1e-5, optimizer="adam", **QUIET)
    assert bool(found["is_converged"].all())
    assert_close(found["influence"], closed_form(1 / N if eps is None else eps), 1e-3)


def test_both_signs_together_are_even_in_eps() -> None:
    problem, queries, *_ = linear()
    found = truth.pbrf(problem, queries, damping=LAMBDA, symmetric=True, tolerance=1e-11, **QUIET)
    assert_close(found["influence"], (closed_form(1 / N) + closed_form(-1 / N)) / 2)


def test_its_limit_is_the_score() -> None:
    linear_problem, queries, *_ = linear()
    corpus = enumerate_noise(linear_problem.corpus, OUTPUTS)  # K-FAC's factors are G
    problem = Problem(linear_problem.model, NoisyRegression("output"), corpus)
    found = truth.pbrf(problem, queries, damping=LAMBDA, eps=1e-6, symmetric=True, tolerance=1e-8, **QUIET)
    score = EKFAC(damping=LAMBDA, damping_kind="absolute").fit(problem, **QUIET).score(queries, **QUIET)
    assert_close(found["influence"], score["influence"].transpose(*found["influence"].dims), 1e-6)


def classification() -> Problem:
    model = double(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)))
    return Problem(model, Classification(), adapters.from_arrays(normal(7, 4), np.arange(7) % 3))


def language(family: str, attention: str) -> Problem:
    corpus = text_corpus(token_rows((3, 6, 4, 3, 5)), side="left", prompts=(0, 2, 0, 1, 0))
    return Problem(tiny_lm(family, attention), CausalLM(), corpus)


SMALL: dict[str, tuple[Callable[[], Problem], Any]] = {
    "regression": (lambda: regression(*of_kind("Linear")), squared),
    "convolution": (lambda: regression(*of_kind("Conv2d")), squared),
    "embedding": (lambda: regression(*of_kind("Embedding")), squared),
    "shared weights": (lambda: regression(*of_kind("two Linear share")), squared),
    "classification": (classification, softmax),
    "gpt2": (lambda: language("gpt2", "eager"), softmax),
    "gpt_neox": (lambda: language("gpt_neox", "sdpa"), softmax),
}


@pytest.mark.parametrize(("build", "hessian"), SMALL.values(), ids=SMALL)
def test_derivative_is_a_dense_solve(build: Callable[[], Problem], hessian: Any) -> None:
    problem = build()
    names = [layer.name for layer in select_layers(problem.model, "*")]
    queries = as_queries(problem.corpus.isel(train=slice(0, 3)))
    found = truth.pbrf(
        problem, queries, layers="*", damping=0.05, eps=1e-5, symmetric=True, tolerance=1e-9, **QUIET
    )  # fmt: skip
    assert bool(found["is_converged"].all())
    dense = joint_gauss_newton(problem, names, hessian)
    gradients = expected_gradients(problem, names)
    loss_mp = torch.cat([gradients[name].flatten(1) for name in names], dim=1)
    solved = torch.linalg.solve(dense + 0.05 * torch.eye(len(dense), dtype=dense.dtype), loss_mp.T)
    assert_close(found["influence"].transpose("query", "train"), loss_mp[:3] @ solved, 1e-6)


def half_square(output: Tensor, start: Tensor) -> Tensor:
    return 0.5 * (output - start).square().sum(-1)


def divergence_of_softmax(output: Tensor, start: Tensor) -> Tensor:
    p = start.softmax(-1)
    return (p * (p.log() - output.log_softmax(-1))).sum(-1)


FINITE: dict[str, tuple[Callable[[], Problem], Callable[[Tensor, Tensor], Tensor]]] = {
    "regression": (lambda: regression(double(nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))),
                                      normal(7, 4), 2), half_square),
    "classification": (classification, divergence_of_softmax),
}  # fmt: skip


def minimised(problem: Problem, bregman: Callable[[Tensor, Tensor], Tensor], m: int, eps: float) -> np.ndarray:
    """Responses of all examples as queries, by scipy's BFGS from the objective written out."""
    model, task = problem.model, problem.task
    x, y = (torch.from_numpy(problem.corpus[name].to_numpy()) for name in ("input", "target"))
    shapes = {name: p.shape for name, p in model.named_parameters()}
    origin = torch.cat([p.detach().flatten() for p in model.parameters()])
    start = model(x).detach()

    def outputs(theta: Tensor) -> Tensor:
        parts = theta.split([shape.numel() for shape in shapes.values()])
        values: Mapping[str, Tensor] = {n: p.view(s) for (n, s), p in zip(shapes.items(), parts, strict=True)}
        return functional_call(model, dict(values), (x,))

    def objective(delta: np.ndarray) -> tuple[float, np.ndarray]:
        theta = (origin + torch.from_numpy(delta)).requires_grad_()
        found = outputs(theta)
        value = (
            bregman(found, start).mean()
            + eps * task.loss(found, {"target": y})[m]
            + 0.05 / 2 * (theta - origin).square().sum()
        )
        (slope,) = torch.autograd.grad(value, theta)
        return value.item(), slope.numpy()

    found = scipy.optimize.minimize(objective, np.zeros(len(origin)), jac=True, method="BFGS", options={"gtol": 1e-10})
    after = outputs(origin + torch.from_numpy(found.x))
    batch = {"target": y}
    return ((task.measure(after, batch) - task.measure(start, batch)) / eps).numpy()


@pytest.mark.parametrize(("build", "bregman"), FINITE.values(), ids=FINITE)
@pytest.mark.parametrize("eps", [1 / 7, -0.05, 0.5])
def test_another_minimiser_finds_the_same(
    build: Callable[[], Problem], bregman: Callable[[Tensor, Tensor], Tensor], eps: float
) -> None:
    problem = build()
    queries = as_queries(problem.corpus)
    found = truth.pbrf(problem, queries, [2, 5], damping=0.05, eps=eps, tolerance=1e-9, **QUIET)["influence"]
    expected = np.stack([minimised(problem, bregman, m, eps) for m in (2, 5)], axis=1)
    assert_close(found.transpose("query", "train"), expected, 1e-5)


def test_labels_of_the_other_examples_do_not_matter() -> None:
    problem = classification()
    queries = as_queries(problem.corpus)
    target = problem.corpus["target"].copy(data=(problem.corpus["target"].to_numpy() + [1, 2, 0, 1, 2, 1, 2]) % 3)
    other = Problem(problem.model, problem.task, problem.corpus.assign(target=target))
    found = [truth.pbrf(p, queries, [2], damping=0.05, tolerance=1e-9, **QUIET)["influence"] for p in (problem, other)]
    assert_close(*found, 1e-6)
