"""Nats and percent on least squares, where removing, adding and weighing an example have closed forms.

`removal` is the derivative of the measurement in the weight of a whole group; for one example it is leave-one-out
shrunk by one minus the leverage, `h_i = x_i^T (X^T X)^-1 x_i`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats
from torch import nn

from inflab import EKFAC, Influence, Problem, adapters, effect, removal
from inflab.truth import Recipe, leave_out

from .builders import normal
from .references import assert_close
from .test_ridge import Signs

N, FEATURES = 12, 3
X_NI, Y_N = np.sqrt(N) * np.linalg.qr(normal(N, FEATURES, seed=1))[0], normal(N, seed=2)  # well conditioned
ASKED_QI, ANSWERS_Q = normal(4, FEATURES, seed=3), normal(4, seed=4)
GROUPS = [[0], [7], [2, 5, 11], [1, 3]]


def solve(weight_n: np.ndarray) -> np.ndarray:
    """The weighted least squares solution."""
    return np.linalg.solve(X_NI.T @ (weight_n[:, None] * X_NI), X_NI.T @ (weight_n * Y_N))


def measure(weight_n: np.ndarray, measurement: str) -> np.ndarray:
    output_q = ASKED_QI @ solve(weight_n)
    return output_q if measurement == "output" else stats.norm.logpdf(ANSWERS_Q, output_q)


def left_out(members: list[int]) -> np.ndarray:
    return np.where(np.isin(np.arange(N), members), 0.0, 1.0)


LEVERAGE_N = np.einsum("ni,ij,nj->n", X_NI, np.linalg.inv(X_NI.T @ X_NI), X_NI)
QUERIES = adapters.from_arrays(ASKED_QI, ANSWERS_Q[:, None], dim="query")


def fitted(measurement: Any) -> Influence:
    layer = nn.Linear(FEATURES, 1, bias=False).double()
    layer.weight.data = torch.from_numpy(solve(np.ones(N)))[None]
    problem = Problem(nn.Sequential(layer), Signs(measurement), adapters.from_arrays(X_NI, Y_N[:, None]))
    return EKFAC(damping=0.0, damping_kind="absolute").fit(problem, progress=False)


def recipe(measurement: Any) -> Recipe:
    def made(seed: int) -> nn.Module:
        return nn.Sequential(nn.Linear(FEATURES, 1, bias=False)).double()

    return Recipe(model=made, task=Signs(measurement), epochs=200, batch_size=N, learning_rate=0.7)


@pytest.mark.parametrize("measurement", ["output", "log_probability"])
def test_a_removal_is_the_derivative_in_the_weight_of_the_group(measurement: str) -> None:
    scores = fitted(measurement).score(QUERIES, progress=False)
    step = 1e-4
    expected = [
        measure(1 - step * (1 - left_out(members)), measurement)
        - measure(1 + step * (1 - left_out(members)), measurement)
        for members in GROUPS
    ]
    found = removal(scores, GROUPS)["effect"].transpose("group", "query")
    assert_close(found, np.array(expected) / (2 * step), 1e-5)


@pytest.mark.parametrize("copies", [1, -1, 4])
def test_an_effect_of_copies_is_the_derivative_in_their_weight(copies: int) -> None:
    found = effect(fitted("output").score(QUERIES, progress=False), copies=copies)["effect"]
    step = 1e-4
    for member in (0, 7):
        more = step * (1 - left_out([member]))
        expected = copies * (measure(1 + more, "output") - measure(1 - more, "output")) / (2 * step)
        assert_close(found.sel(train=member), expected, 1e-5)


def test_beside_the_prediction_stands_the_closed_form_and_they_differ_by_the_leverage() -> None:
    scores = fitted("output").score(QUERIES, progress=False)
    groups = [[member] for member in range(N)]
    change = np.stack([measure(left_out(members), "output") - measure(np.ones(N), "output") for members in groups])
    measured = xr.Dataset({"change": (("group", "query"), change)}, coords={"group": range(N), "query": range(4)})
    found = removal(scores, groups, measured=measured)
    assert_close(found["effect"], (1 - LEVERAGE_N) * found["measured"])
    assert LEVERAGE_N.max() > 0.3, "with no leverage the gap would go untested"


def test_retraining_measures_the_closed_form_and_percent_is_the_ratio_of_densities() -> None:
    scores = fitted("log_probability").score(QUERIES, progress=False)
    asked = leave_out(
        recipe("log_probability"), fitted("output").problem.corpus, QUERIES, GROUPS, seeds=2, progress=False
    )
    found = removal(scores, GROUPS, measured=asked)
    output_gq = np.stack([ASKED_QI @ solve(left_out(members)) for members in GROUPS])
    ratio = stats.norm.pdf(ANSWERS_Q, output_gq) / stats.norm.pdf(ANSWERS_Q, ASKED_QI @ solve(np.ones(N)))
    assert_close(found["measured_percent"].transpose("group", "query"), 100 * (ratio - 1), 1e-6)
    assert (found["measured_se"] < 1e-9).all(), "every seed ends at the same solution"


def test_a_report_says_what_was_predicted_and_what_happened() -> None:
    influence = fitted("output")
    report = influence.trust(QUERIES, k=1, splits=0, recipe=recipe("output"), trainings=2, progress=False)
    member = report["train"].values[:, 0]
    expected = [measure(left_out([i]), "output")[q] - measure(np.ones(N), "output")[q] for q, i in enumerate(member)]
    assert_close(report["measured"], expected, 1e-6)
    assert_close(report["predicted"], (1 - LEVERAGE_N[member]) * report["measured"], 1e-6)
    assert "predicted_percent" not in report, "an output has no probability"
    for q, sentence in enumerate(report["sentence"].values):
        assert f"predicted to lower the output by {-report['predicted'].values[q]:.2g}" in sentence
        assert f"lowered it by {-report['measured'].values[q]:.2g} ±" in sentence
        assert "does not confirm" not in sentence
