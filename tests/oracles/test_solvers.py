"""Oracle 7: what is solved for iteratively is the dense solve with the joint matrix, and truncation has a closed form.

`grad f^T (G + lambda I)^-1 grad L` with G over all layers together. With relative damping lambda I is a lambda for each
layer. LiSSA after J steps on the full batch is `alpha sum_{j <= J} (I - alpha A)^j v`; ASTRA's first step from zero is
EK-FAC.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor, nn

from inflab import ASTRA, CG, EKFAC, CausalLM, Classification, Influence, LiSSA, Problem, adapters

from .builders import KINDS, as_queries, double, normal, of_kind, regression, text_corpus, tiny_lm, token_rows
from .references import assert_close, expected_gradients, joint_gauss_newton, relative_error, scores, softmax, squared

# Forward-mode differentiation loads rules that torch still compiles with torch.jit.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning")

EXACTLY: dict[str, Any] = {"steps": 300, "tolerance": 1e-12, "layers": "*"}
DAMPINGS = [(0.5, "relative"), (0.05, "absolute")]


def classification() -> Problem:
    model = double(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)))
    return Problem(model, Classification(), adapters.from_arrays(normal(9, 4), np.arange(9) % 3))


def language(**config: Any) -> Problem:
    corpus = text_corpus(token_rows((3, 6, 4, 5)), side="left", prompts=(0, 2, 0, 1))
    return Problem(tiny_lm("gpt2", "sdpa", **config), CausalLM(), corpus)


PROBLEMS: dict[str, tuple[Callable[[], Problem], Any, Any]] = {
    "classification": (classification, softmax, "*"),
    "gpt2": (language, softmax, "auto"),
    "gpt2, tied head": (lambda: language(tie_word_embeddings=True), softmax, "*.mlp.*"),
    "called twice": (lambda: regression(*of_kind("Linear called twice")), squared, "*"),
    "shared by two": (lambda: regression(*of_kind("two Linear share")), squared, "*"),
    "convolutions": (lambda: regression(*of_kind("Conv2d")), squared, "*"),
    "embedding": (lambda: regression(*of_kind("Embedding")), squared, "*"),
}


def flat(problem: Problem, names: list[str], quantity: str, corpus: xr.Dataset | None = None) -> Tensor:
    found = expected_gradients(problem, names, quantity, corpus)
    return torch.cat([found[name].flatten(1) for name in names], dim=1)


def damped(influence: Influence, hessian: Any) -> tuple[list[str], Tensor]:
    """The layers, and `G + lambda I` with each layer's own lambda."""
    names = list(influence.factors.children)
    dense = joint_gauss_newton(influence.problem, names, hessian)
    nodes = [influence.factors[name] for name in names]
    sizes = [node["eigenvalues"].size for node in nodes]
    lambdas = [
        torch.full((size,), node.attrs["damping"], dtype=torch.float64) for size, node in zip(sizes, nodes, strict=True)
    ]
    return names, dense + torch.diag(torch.cat(lambdas))


@pytest.mark.parametrize(("build", "hessian", "layers"), PROBLEMS.values(), ids=PROBLEMS)
@pytest.mark.parametrize(("damping", "kind"), DAMPINGS)
def test_cg_is_a_dense_solve(build: Any, hessian: Any, layers: Any, damping: float, kind: Any) -> None:
    problem = build()
    influence = CG(**EXACTLY | {"layers": layers}, damping=damping, damping_kind=kind).fit(problem, progress=False)
    names, matrix = damped(influence, hessian)
    queries = as_queries(problem.corpus).isel(query=[2, 0])
    grad_f, grad_l = flat(problem, names, "measurement", queries), flat(problem, names, "loss")
    found = influence.score(queries, progress=False)
    assert_close(found["influence"], -grad_f @ torch.linalg.solve(matrix, grad_l.T))
    assert found["solver_residual"].dims == ("query",) and float(found["solver_residual"].max()) < 1e-9
    own = influence.self_influence(progress=False)
    assert_close(own["influence"], (grad_l * torch.linalg.solve(matrix, grad_l.T).T).sum(1))
    assert float(own["solver_residual"].max()) < 1e-9 and own["solver_residual"].dims == ("train",)
    apart = influence.score(queries, by="layer", progress=False)["influence"]
    assert_close(apart.sum("layer"), found["influence"])
    x_qp = torch.linalg.solve(matrix, grad_f.T).T
    last = expected_gradients(problem, names)[names[-1]].flatten(1)
    assert_close(apart.sel(layer=names[-1]), -x_qp[:, -last.shape[1] :] @ last.T)


def test_the_same_system_is_not_block_diagonal() -> None:
    """What a joint solve adds can be seen, so that the tests above can fail."""
    problem = classification()
    queries = as_queries(problem.corpus)
    joint = scores(CG(**EXACTLY).fit(problem, progress=False), queries)
    assert relative_error(joint, scores(EKFAC(layers="*").fit(problem, progress=False), queries)) > 0.05


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize(("build", "hessian", "layers"), [PROBLEMS["classification"], PROBLEMS["gpt2"]])
def test_lissa_is_its_truncated_series(build: Any, hessian: Any, layers: Any, steps: int) -> None:
    problem = build()
    method = LiSSA(layers=layers, steps=steps, batch_size=100, repeats=2, alpha=0.1, damping=0.05)
    influence = method.fit(problem, progress=False)
    names, matrix = damped(influence, hessian)
    queries = as_queries(problem.corpus)
    grad_f, grad_l = flat(problem, names, "measurement", queries), flat(problem, names, "loss")
    term, total = grad_f.T, torch.zeros_like(grad_f.T)
    for _ in range(steps + 1):
        total, term = total + 0.1 * term, term - 0.1 * matrix @ term
    found = influence.score(queries, progress=False)
    assert_close(found["influence"], -total.T @ grad_l.T)
    assert_close(found["solver_residual"], (matrix @ total - grad_f.T).norm(dim=0) / grad_f.norm(dim=1))


def test_the_limit_of_lissa_and_astra_is_the_dense_solve() -> None:
    problem = classification()
    queries = as_queries(problem.corpus)
    settings: dict[str, Any] = {"layers": "*", "damping": 5, "batch_size": 100}
    expected = scores(CG(**EXACTLY, damping=5).fit(problem, progress=False), queries)
    lissa = LiSSA(**settings, steps=150).fit(problem, progress=False)
    names, matrix = damped(lissa, softmax)
    grad_f, grad_l = flat(problem, names, "measurement", queries), flat(problem, names, "loss")
    assert_close(scores(lissa, queries), -grad_f @ torch.linalg.solve(matrix, grad_l.T), 1e-6)
    for momentum in (0.0, 0.9):
        astra = ASTRA(**settings, steps=500, momentum=momentum).fit(problem, progress=False)
        assert_close(scores(astra, queries), expected, 1e-5)


@pytest.mark.parametrize("build", [classification, language])
@pytest.mark.parametrize("kind", ["relative", "absolute"])
def test_astra_from_zero_is_ekfac_after_one_step(build: Any, kind: Any) -> None:
    problem, settings = build(), {"damping": 0.1, "damping_kind": kind}
    queries = as_queries(problem.corpus)
    expected = scores(EKFAC(**settings).fit(problem, progress=False), queries)
    once = ASTRA(**settings, start="zero", alpha=1, steps=1, batch_size=2).fit(problem, progress=False)
    assert_close(scores(once, queries), expected)


def test_astra_begins_where_ekfac_ends() -> None:
    problem = classification()
    queries = as_queries(problem.corpus)
    expected = scores(EKFAC().fit(problem, progress=False), queries)
    barely = ASTRA(alpha=1e-12, steps=1, momentum=0).fit(problem, progress=False)
    assert_close(scores(barely, queries), expected)


@pytest.mark.parametrize("kind", [*KINDS, "gpt2"])
def test_heavy_damping_is_the_dot_product(kind: str) -> None:
    problem = language() if kind == "gpt2" else regression(*of_kind(kind))
    names_of = CG(layers="*").fit(problem, progress=False).with_damping(1e9, "absolute")
    names = list(names_of.factors.children)
    queries = as_queries(problem.corpus)
    expected = -flat(problem, names, "measurement", queries) @ flat(problem, names, "loss").T
    assert_close(1e9 * scores(names_of, queries), expected, 1e-6)
