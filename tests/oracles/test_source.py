"""SOURCE against the derivative of a whole training, and against its formula with dense matrices.

On least squares with one output and labels one above or below the output, EK-FAC is the Hessian: then SOURCE differs
from the derivative of gradient descent in a sequence's weight only by what a finite step makes, and goes down with it.
Elsewhere: `sum_l grad f^T [prod_{k>l} exp(-t_k G_k)] G_l^-1 (1 - exp(-t_l G_l)) grad log p_l`, with `t = eta K`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from inflab import EKFAC, SOURCE, CausalLM, Checkpoint, Identity, Problem, TracIn, adapters, load, top
from inflab.errors import NumericsError
from tests import tiny

from .builders import KINDS, as_queries, normal, of_kind, regression, text_corpus, tiny_lm, token_rows
from .references import assert_close, dense_curvature, expected_gradients, relative_error, scores
from .test_ridge import Signs

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning")

N, FEATURES = 12, 3


# --- least squares ------------------------------------------------------------------------------------------------


def descent(rate: float, steps: int, each: int = 1) -> tuple[Problem, xr.Dataset, np.ndarray]:
    """Full-batch gradient descent on the mean loss, with a checkpoint after every `each` steps.

    Returns:
        The problem, queries, and the derivative of each query's output in `eps` of `mean_i L_i + eps L_m`.
    """
    x_ni = np.hstack([normal(N, FEATURES, seed=1), np.ones((N, 1))])
    y_n = normal(N, seed=2)
    layer = nn.Linear(FEATURES, 1).double()
    weight_i = normal(FEATURES + 1, seed=3)
    response_in = np.zeros((FEATURES + 1, N))  # d weight / d eps of each sequence
    hessian = x_ni.T @ x_ni / N
    states = []
    for step in range(steps):
        grad_in = (x_ni * (x_ni @ weight_i - y_n)[:, None]).T
        response_in = response_in - rate * (hessian @ response_in + grad_in)
        weight_i = weight_i - rate * grad_in.mean(1)
        if (step + 1) % each == 0:
            tensors = (torch.from_numpy(weight_i[None, :FEATURES].copy()), torch.from_numpy(weight_i[FEATURES:].copy()))
            states.append(dict(zip(("0.weight", "0.bias"), tensors, strict=True)))
    model = nn.Sequential(layer)
    model.load_state_dict(states[-1])
    asked_qi = normal(4, FEATURES, seed=4)
    queries = adapters.from_arrays(asked_qi, np.zeros((4, 1)), dim="query")
    corpus = adapters.from_arrays(x_ni[:, :FEATURES], y_n[:, None])
    problem = Problem(model, Signs("output"), corpus, checkpoints=[Checkpoint(s, rate, each) for s in states])
    return problem, queries, np.hstack([asked_qi, np.ones((4, 1))]) @ response_in


def test_source_is_the_derivative_of_gradient_descent_as_steps_go_to_zero() -> None:
    errors = []
    for steps in (5, 10, 20):  # the same time
        problem, queries, expected = descent(1.6 / steps, steps)
        errors.append(relative_error(scores(SOURCE().fit(problem, progress=False), queries), expected))
    assert errors[0] < 0.4
    assert all(0.4 < small / large < 0.6 for large, small in zip(errors, errors[1:], strict=False)), errors


def test_dot_products_along_training_are_not() -> None:
    problem, queries, expected = descent(1.6 / 32, 32)
    found = relative_error(scores(TracIn(steps=True).fit(problem, progress=False), queries), expected)
    assert found > 0.5, "a training too short to tell curvature from none would test nothing"


def test_at_the_end_of_a_long_training_source_is_ekfac_without_damping() -> None:
    problem, queries, expected = descent(0.2, 2000, each=2000)
    ekfac = EKFAC(damping=0.0, damping_kind="absolute").fit(problem, progress=False)
    found = scores(SOURCE().fit(problem, progress=False), queries)
    assert_close(found, scores(ekfac, queries))
    assert_close(found, expected)


# --- limits -------------------------------------------------------------------------------------------------------


def one_segment(rate: float) -> tuple[Problem, xr.Dataset]:
    problem = regression(*of_kind("Conv1D"))
    queries = as_queries(problem.corpus).isel(query=[3, 0])
    state = problem.model.state_dict()
    return Problem(problem.model, problem.task, problem.corpus, checkpoints=[Checkpoint(state, rate, 3)]), queries


def test_long_training_inverts_and_short_training_multiplies() -> None:
    problem, queries = one_segment(1e12)
    damped = {"layers": "*", "damping": 0.02, "damping_kind": "absolute"}
    found = scores(SOURCE(**damped).fit(problem, progress=False), queries)
    assert_close(found, scores(EKFAC(**damped).fit(problem, progress=False), queries))
    problem, queries = one_segment(1e-12)
    found = scores(SOURCE(layers="*").fit(problem, progress=False), queries)
    assert_close(found, 3e-12 * scores(Identity(layers="*").fit(problem, progress=False), queries))


def test_a_singular_layer_needs_no_damping() -> None:
    problem, queries = one_segment(1e-9)
    with torch.no_grad():
        problem.model.head.weight[:, 1] = 0  # nothing reaches the unit under it
    problem = Problem(
        problem.model, problem.task, problem.corpus, checkpoints=[Checkpoint(problem.model.state_dict(), 1e-9, 3)]
    )
    with pytest.raises(NumericsError, match="singular"):
        EKFAC(layers="*", damping=0.0).fit(problem, progress=False)
    found = scores(SOURCE(layers="*").fit(problem, progress=False), queries)
    assert_close(found, 3e-9 * scores(Identity(layers="*").fit(problem, progress=False), queries), 1e-6)


# --- the formula --------------------------------------------------------------------------------------------------

SEGMENTS = ((0.5, 2), (0.2, 3), (1.0, 1))


def followed(problem: Problem) -> Problem:
    """With three checkpoints around its weights."""
    states = []
    for seed in range(3):
        draw = torch.Generator().manual_seed(seed)
        own = problem.model.state_dict().items()
        states.append({name: p + 0.2 * torch.randn(p.shape, generator=draw, dtype=p.dtype) for name, p in own})
    found = [Checkpoint(state, *segment) for state, segment in zip(states, SEGMENTS, strict=True)]
    return Problem(problem.model, problem.task, problem.corpus, checkpoints=found)


def table(kind: str) -> tuple[Problem, xr.Dataset]:
    problem = followed(regression(*of_kind(kind)))
    return problem, as_queries(problem.corpus).isel(query=[4, 1])


def language() -> tuple[Problem, xr.Dataset]:
    train = text_corpus(token_rows((5, 3, 6, 4), seed=1))
    queries = text_corpus(token_rows((4, 6), seed=2), "query", prompts=(2, 3))
    return followed(Problem(tiny_lm("gpt2"), CausalLM(), train)), queries


PROBLEMS: dict[str, Any] = {**{kind: lambda kind=kind: table(kind) for kind in KINDS}, "gpt2": language}


def function(matrix: torch.Tensor, of: Any) -> torch.Tensor:
    """A function of a symmetric matrix."""
    value, vector = torch.linalg.eigh(matrix)
    return vector * of(value.clamp(min=0)) @ vector.T


def filtered(value: torch.Tensor, time: float) -> torch.Tensor:
    return torch.where(value * time > 1e-9, (1 - (-value * time).exp()) / value.clamp(min=1e-30), time)


@pytest.mark.parametrize("name", PROBLEMS)
def test_segments_are_followed_back_from_the_final_model(name: str) -> None:
    problem, queries = PROBLEMS[name]()
    influence = SOURCE(layers="*").fit(problem, progress=False)
    names = list(influence.factors.children)
    there = [problem.at(checkpoint) for checkpoint in problem.checkpoints]
    fits = [EKFAC(layers="*").fit(one, progress=False) for one in there]
    f = expected_gradients(problem, names, "measurement", queries)
    g = [expected_gradients(one, names) for one in there]
    expected = []
    for layer in names:
        row_qp, total = f[layer].flatten(1), 0.0
        for (rate, steps), fit, grads in reversed(list(zip(SEGMENTS, fits, g, strict=True))):
            dense, time = dense_curvature(fit, layer), rate * steps
            total = total - row_qp @ function(dense, lambda v, t=time: filtered(v, t)) @ grads[layer].flatten(1).T
            row_qp = row_qp @ function(dense, lambda v, t=time: (-v * t).exp())
        expected.append(total)
    found = scores(influence, queries, by="layer")
    assert_close(found, torch.stack(expected, -1).numpy())
    assert_close(scores(influence, queries), found.sum(-1))
    assert_close(scores(influence, queries, rank=50), found.sum(-1))


@pytest.mark.parametrize("name", ["Conv2d", "Embedding"])
def test_checkpoints_of_one_segment_are_averaged(name: str) -> None:
    problem, queries = PROBLEMS[name]()
    influence = SOURCE(layers="*", segments=1).fit(problem, progress=False)
    names = list(influence.factors.children)
    there = [problem.at(checkpoint) for checkpoint in problem.checkpoints]
    fits = [EKFAC(layers="*").fit(one, progress=False) for one in there]
    f = expected_gradients(problem, names, "measurement", queries)
    g = [expected_gradients(one, names) for one in there]
    time, total = sum(rate * steps for rate, steps in SEGMENTS), 0.0
    for layer in names:
        node = influence.factors[layer]
        vectors = []
        for side in ("gradient", "activation"):
            if f"{side}_eigenvectors" not in node:
                vectors.append(torch.eye(node["eigenvalues"].sizes[f"{side}_eigen"]).double())
                continue
            q = [torch.tensor(fit.factors[layer][f"{side}_eigenvectors"].to_numpy()) for fit in fits]
            v = [torch.tensor(fit.factors[layer][f"{side}_eigenvalues"].to_numpy()) for fit in fits]
            mean = sum(a * b @ a.T for a, b in zip(q, v, strict=True)) / 3
            vectors.append(torch.linalg.eigh(mean)[1])
        basis = torch.kron(*(v.contiguous() for v in vectors))
        mean = sum(dense_curvature(fit, layer) for fit in fits) / 3
        along = filtered((basis.T @ mean @ basis).diagonal(), time)
        train_bp = sum(grads[layer].flatten(1) for grads in g) / 3
        total = total - f[layer].flatten(1) @ (basis * along) @ basis.T @ train_bp.T
    assert_close(scores(influence, queries), total, 1e-7)


def test_one_checkpoint_twice_is_one_segment_of_both_lengths() -> None:
    problem, queries = one_segment(0.2)
    twice = Problem(problem.model, problem.task, problem.corpus, checkpoints=problem.checkpoints * 2)
    once = Checkpoint(problem.model.state_dict(), 0.2, 6)
    both = Problem(problem.model, problem.task, problem.corpus, checkpoints=[once])
    expected = scores(SOURCE(layers="*").fit(both, progress=False), queries)
    assert_close(scores(SOURCE(layers="*", segments=1).fit(twice, progress=False), queries), expected)
    # S F + F of the same curvature is F of the whole time.
    assert_close(scores(SOURCE(layers="*").fit(twice, progress=False), queries), expected)


# --- other questions ----------------------------------------------------------------------------------------------


def test_sums_and_the_diagonal() -> None:
    problem, queries = language()
    influence = SOURCE(layers="*").fit(problem, progress=False)
    chosen = top(influence.score(queries, progress=False), 3, sign="absolute")
    for settings, dims in (({}, ["layer", "token"]), ({"view": "output"}, ["token"])):
        tokens = influence.attribute(queries, chosen, progress=False, **settings)["influence"]
        assert_close(tokens.sum(dims), chosen["influence"])
    own = influence.self_influence(progress=False, memory="20kB")["influence"]
    assert_close(own, scores(influence, as_queries(problem.corpus)).diagonal())
    assert_close(influence.self_influence(by="layer", progress=False)["influence"].sum("layer"), own)


def test_damping_is_added_to_every_eigenvalue(tmp_path: Any) -> None:
    problem, queries = table("Linear")
    influence = SOURCE(layers="*").fit(problem, progress=False)
    for damping, kind in ((0.3, "absolute"), (0.5, "relative")):
        again = SOURCE(layers="*", damping=damping, damping_kind=kind).fit(problem, progress=False)
        expected = scores(again, queries)
        assert_close(scores(influence.with_damping(damping, kind), queries), expected)
        assert relative_error(scores(influence, queries), expected) > 1e-3
        again.save(tmp_path / kind)
        opened = load(tmp_path / kind, problem)
        assert opened.method == again.method
        assert np.array_equal(scores(opened, queries), expected)


def test_stores_go_on_and_the_model_is_left_alone(tmp_path: Any) -> None:
    problem, queries = language()
    with tiny.untouched(problem.model):
        influence = SOURCE(layers="*").fit(problem, progress=False, store=tmp_path / "fit")
        found = influence.score(queries, progress=False, store=tmp_path / "scores")
        influence.self_influence(progress=False)
    assert_close(found["influence"], scores(influence, queries))
    again = SOURCE(layers="*").fit(problem, progress=False, store=tmp_path / "fit")
    resumed = again.score(queries, progress=False, store=tmp_path / "scores")
    assert resumed.attrs["shards_computed"] == 0 < resumed.attrs["shards_resumed"]
    assert np.array_equal(resumed["influence"], found["influence"])
    other = SOURCE(layers="*", damping=0.5).fit(problem, progress=False)
    with pytest.raises(ValueError, match="settings"):
        other.score(queries, progress=False, store=tmp_path / "scores")
