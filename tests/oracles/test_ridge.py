"""Oracle 1: on ridge regression, influence is leave-one-out, shrunk by one minus the leverage.

`influence_i / N = (1 - h_i) x (f(w) - f(w without i))`, `h_i = x_i^T (X^T X + N mu I)^-1 x_i`, for the objective
`(1/N) sum |y - x w|^2 / 2 + (mu/2) |w|^2`. Without the penalty, influences at the optimum sum to zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from inflab import EKFAC, KFAC, Problem, Regression, adapters, effect

from .builders import normal
from .references import assert_close

N, FEATURES, MU = 12, 4, 0.3


class Signs(Regression):
    """Pseudo-targets one above or below the output: their second moment is one in every sample."""

    def sample(self, outputs: Tensor, batch: Mapping[str, Tensor], draws: Any) -> Mapping[str, Tensor]:
        return {**batch, "target": outputs.detach() + (draws.uniform(1) - 0.5).sign()}


def data(bias: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, inputs with the bias column, targets."""
    x_ni = normal(N, FEATURES, seed=1)
    return x_ni, np.hstack([x_ni, np.ones((N, 1))]) if bias else x_ni, normal(N, seed=2)


def solve(x_ni: np.ndarray, y_n: np.ndarray, mu: float) -> np.ndarray:
    """The minimum over the given rows; the penalty is that of all N."""
    return np.linalg.solve(x_ni.T @ x_ni + N * mu * np.eye(x_ni.shape[1]), x_ni.T @ y_n)


def at_optimum(bias: bool, mu: float) -> Problem:
    x_ni, full_ni, y_n = data(bias)
    w_i = torch.from_numpy(solve(full_ni, y_n, mu))
    layer = nn.Linear(FEATURES, 1, bias=bias).double()
    layer.weight.data = w_i[None, :FEATURES]
    if bias:
        layer.bias.data = w_i[FEATURES:]
    return Problem(nn.Sequential(layer), Signs("output"), adapters.from_arrays(x_ni, y_n[:, None]))


@pytest.mark.parametrize("method", [EKFAC, KFAC])
@pytest.mark.parametrize("bias", [True, False])
def test_influence_is_leave_one_out_shrunk_by_leverage(method: Any, bias: bool) -> None:
    problem = at_optimum(bias, MU)
    asked_qi = normal(3, FEATURES, seed=3)
    queries = adapters.from_arrays(asked_qi, np.zeros((3, 1)), dim="query")
    influence = method(damping=MU, damping_kind="absolute").fit(problem, progress=False)
    found = effect(influence.score(queries, progress=False))["effect"]

    _, x_ni, y_n = data(bias)
    asked_qi = np.hstack([asked_qi, np.ones((3, 1))]) if bias else asked_qi
    whole_i = solve(x_ni, y_n, MU)
    left_out_ni = np.stack([solve(np.delete(x_ni, i, 0), np.delete(y_n, i), MU) for i in range(N)])
    change_qn = asked_qi @ (whole_i - left_out_ni).T
    inverse = np.linalg.inv(x_ni.T @ x_ni + N * MU * np.eye(x_ni.shape[1]))
    leverage_n = np.einsum("ni,ij,nj->n", x_ni, inverse, x_ni)
    assert_close(found, (1 - leverage_n) * change_qn)
    assert leverage_n.max() > 0.1, "with no leverage the shrinkage would go untested"


@pytest.mark.parametrize("bias", [True, False])
def test_unregularised_influences_at_the_optimum_sum_to_zero(bias: bool) -> None:
    problem = at_optimum(bias, 0.0)
    queries = adapters.from_arrays(normal(3, FEATURES, seed=3), np.zeros((3, 1)), dim="query")
    influence = EKFAC(damping=0.0, damping_kind="absolute").fit(problem, progress=False)
    found_qn = influence.score(queries, progress=False)["influence"].to_numpy()
    assert (np.abs(found_qn.sum(1)) <= 1e-9 * np.abs(found_qn).sum(1)).all()
    assert (np.abs(found_qn).sum(1) > 1e-3).all()
