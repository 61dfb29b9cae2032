"""MAGIC is the derivative of training: finite differences of training itself, and oracle 8 where training converges.

On ridge regression by gradient descent to convergence, `df/dw_i` is the influence function over N, which is exact
leave-one-out shrunk by one minus the leverage (oracle 1).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import inflab
from inflab import CausalLM, Classification, Regression, adapters, effect, truth
from inflab.errors import CorpusError, ModelError, NumericsError, SettingError
from inflab.truth import Recipe

from .builders import normal, text_corpus, tiny_lm, token_rows
from .references import assert_close

N, FEATURES, MU, STEP = 11, 3, 0.3, 1e-4
Task = tuple[Recipe, xr.Dataset, xr.Dataset]


def deep(**changed: Any) -> Task:
    """A small classifier; two full batches and a short one an epoch."""
    plain: dict[str, Any] = {"epochs": 4, "batch_size": 4, "learning_rate": 0.2}
    recipe = Recipe(
        model=lambda seed: nn.Sequential(nn.Linear(FEATURES, 5), nn.Tanh(), nn.Linear(5, 4)).double(),
        task=Classification(), **plain | changed,
    )  # fmt: skip
    draw = np.random.default_rng(0)
    train = adapters.from_arrays(normal(N, FEATURES, seed=1), draw.integers(0, 4, N))
    queries = adapters.from_arrays(normal(3, FEATURES, seed=2), draw.integers(0, 4, 3), dim="query")
    return recipe, train, queries


def line(**changed: Any) -> Task:
    plain: dict[str, Any] = {"epochs": 4, "batch_size": 4, "learning_rate": 0.1}
    recipe = Recipe(model=lambda seed: nn.Linear(FEATURES, 2).double(), task=Regression(), **plain | changed)
    train = adapters.from_arrays(normal(N, FEATURES, seed=1), normal(N, 2, seed=3))
    return recipe, train, adapters.from_arrays(normal(3, FEATURES, seed=2), normal(3, 2, seed=4), dim="query")


def language(**changed: Any) -> Task:
    """Texts of unequal length: batches are padded, and an example's place in them matters not."""
    plain: dict[str, Any] = {"epochs": 2, "batch_size": 3, "learning_rate": 0.05}
    recipe = Recipe(model=lambda seed: tiny_lm("gpt2"), task=CausalLM(), **plain | changed)
    rows = token_rows([5, 3, 6, 4, 2, 6, 3, 4, 5, 6, 4])
    return recipe, text_corpus(rows), text_corpus(token_rows([5, 4, 6], seed=1), "query", prompts=[2, 1, 3])


def differences(task: Task) -> np.ndarray:
    """Central differences of the measurement by each example's weight, `(query, train)`."""
    change = STEP * np.eye(N)
    weights = np.concatenate([1 + change, 1 - change])
    found = truth.reweighted(*task, weights, seed=5, progress=False)["measurement"].to_numpy()
    return (found[:N] - found[N:]).T / (2 * STEP)


def derivatives(task: Task, **settings: Any) -> xr.DataArray:
    return effect(truth.magic(*task, seed=5, progress=False, **settings))["effect"]


MOVED = {"momentum": 0.9, "schedule": "cosine", "warmup": 3, "weight_decay": 0.01}
CASES: dict[str, Task] = {
    "sgd": deep(),
    "momentum": deep(momentum=0.9),
    "momentum, cosine, warm-up, decay": deep(**MOVED),
    "clip": deep(clip=0.3, momentum=0.5),
    "adam": deep(optimizer="adam", learning_rate=0.02, weight_decay=0.1),
    "adamw, linear": deep(optimizer="adamw", learning_rate=0.02, weight_decay=0.1, schedule="linear"),
    "linear regression": line(),
    "linear regression, momentum, cosine, warm-up, decay": line(**MOVED),
    "language model": language(),
    "language model, adamw": language(optimizer="adamw", learning_rate=0.01),
}


@pytest.mark.parametrize("task", CASES.values(), ids=CASES)
def test_it_is_the_limit_of_finite_differences(task: Task) -> None:
    assert_close(derivatives(task), differences(task), 1e-6)


def test_a_parameter_without_gradient_stays_out_of_the_root_of_adam() -> None:
    """A dead unit: its second moment is 0, where the root has no derivative."""

    def model(seed: int) -> nn.Module:
        made = nn.Sequential(nn.Linear(FEATURES, 5), nn.ReLU(), nn.Linear(5, 4)).double()
        made[0].bias.data[0] = -100.0
        return made

    recipe, train, queries = deep(optimizer="adam", learning_rate=0.001)
    task = Recipe(**{**vars(recipe), "model": model}), train, queries
    assert_close(derivatives(task), differences(task), 1e-5)


@pytest.mark.parametrize("every", [1, 2, 5, 100])
def test_kept_states_change_no_number(every: int) -> None:
    task = deep(**MOVED)
    assert np.array_equal(derivatives(task, checkpoint_every=every), derivatives(task))


def ridge() -> tuple[Task, np.ndarray, np.ndarray, np.ndarray]:
    x_ni, y_n, asked_qi = normal(N, FEATURES, seed=1), normal(N, seed=2), normal(3, FEATURES, seed=3)
    top = np.linalg.eigvalsh(x_ni.T @ x_ni / N + MU * np.eye(FEATURES))
    recipe = Recipe(
        model=lambda seed: nn.Linear(FEATURES, 1, bias=False).double(), task=Regression("output"), epochs=150,
        batch_size=N, learning_rate=2 / (top[0] + top[-1]), weight_decay=MU,
    )  # fmt: skip
    train = adapters.from_arrays(x_ni, y_n[:, None])
    return (recipe, train, adapters.from_arrays(asked_qi, np.zeros((3, 1)), dim="query")), x_ni, y_n, asked_qi


def test_on_converged_ridge_regression_it_is_the_influence_function() -> None:
    task, x_ni, y_n, asked_qi = ridge()
    hessian_ij = x_ni.T @ x_ni / N + MU * np.eye(FEATURES)
    w_i = np.linalg.solve(hessian_ij, x_ni.T @ y_n / N)
    grad_ni = (x_ni @ w_i - y_n)[:, None] * x_ni
    expected_qn = -asked_qi @ np.linalg.solve(hessian_ij, grad_ni.T)
    assert_close(truth.magic(*task, progress=False)["influence"], expected_qn)

    # Oracle 1: IF / N is exact leave-one-out, shrunk by one minus the leverage.
    leverage_n = np.einsum("ni,ij,nj->n", x_ni, np.linalg.inv(N * hessian_ij), x_ni)
    without = truth.reweighted(*task, 1 - np.eye(N), progress=False)["measurement"].to_numpy()
    whole_q = asked_qi @ w_i
    assert_close(derivatives(task), ((1 - leverage_n)[:, None] * (whole_q - without)).T)
    assert leverage_n.max() > 0.1, "with no leverage the shrinkage would go untested"


def test_weights_of_zero_are_examples_taken_out() -> None:
    task, x_ni, y_n, asked_qi = ridge()
    found = truth.reweighted(*task, 1 - np.eye(N), progress=False)["measurement"]
    expected = []
    for i in range(N):
        x, y = np.delete(x_ni, i, 0), np.delete(y_n, i)  # the penalty stays that of all N
        expected.append(asked_qi @ np.linalg.solve(x.T @ x + N * MU * np.eye(FEATURES), x.T @ y))
    assert_close(found, expected)


def test_weights_are_matched_by_id() -> None:
    recipe, train, queries = deep()
    weights = xr.DataArray(np.random.default_rng(0).random((2, N)), dims=("set", "train"), coords={"train": range(N)})
    expected = truth.reweighted(recipe, train, queries, weights.to_numpy(), progress=False)
    shuffled = weights.isel(train=np.random.default_rng(1).permutation(N)).transpose()
    found = truth.reweighted(recipe, train, queries, shuffled, progress=False)
    assert np.array_equal(found["measurement"], expected["measurement"])
    inflab.validate(found)


def test_scores_that_everything_else_takes() -> None:
    recipe, train, queries = language()
    found = truth.magic(recipe, train, queries, seed=2, progress=False)
    inflab.validate(found)
    assert found.attrs["method"] == "MAGIC"
    assert inflab.top(found, 2)["influence"].shape == (3, 2)
    trained = recipe.train(train, seed=2, progress=False).model
    assert found.attrs["model_fingerprint"] == inflab.Problem(trained, CausalLM(), train).model_fingerprint()


def test_the_surroundings_stay_as_they_were() -> None:
    before = torch.get_rng_state()
    with torch.inference_mode():
        found = derivatives(deep())
        assert torch.is_inference_mode_enabled()
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(found, derivatives(deep()))


def test_bad_settings_are_refused() -> None:
    recipe, train, queries = deep()

    def dropping(seed: int) -> nn.Module:
        return nn.Sequential(nn.Linear(FEATURES, 4), nn.Dropout(0.5)).double()

    with pytest.raises(ModelError, match="dropout"):
        truth.magic(Recipe(**{**vars(recipe), "model": dropping}), train, queries)
    with pytest.raises(SettingError, match="checkpoint_every=0"):
        truth.magic(recipe, train, queries, checkpoint_every=0)
    with pytest.raises(NumericsError, match="loss is inf at step 1 on train"):
        truth.magic(*line(learning_rate=1e200), progress=False)
    for weights, error, message in [
        (np.ones(N), SettingError, "shape"),
        (np.ones((2, N + 1)), SettingError, "11 columns"),
        (np.full((1, N), np.nan), SettingError, "NaN"),
        (
            xr.DataArray(np.ones((1, 2)), dims=("set", "train"), coords={"train": [0, 1]}),
            CorpusError,
            "none for train 2",
        ),
        (xr.DataArray(np.ones((1, N)), dims=("group", "train")), SettingError, "dims"),
    ]:
        with pytest.raises(error, match=message):
            truth.reweighted(recipe, train, queries, weights)
