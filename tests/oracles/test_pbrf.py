"""Oracle 2: on a linear-Gaussian model the proximal Bregman response is known at any eps, away from any optimum.

`theta(eps) - theta = -eps r / (1 + eps s)`, `r = (G + lambda)^-1 grad L(z_m)`, `s = x_m^T (G + lambda)^-1 x_m`;
its derivative at eps = 0 is the influence (GB23 eqs. 7-9). The response is found here by minimising eq. 7 itself:
it is quadratic, so one Newton step from autograd's own gradient and Hessian is exact.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian

from inflab import EKFAC, KFAC, Problem, adapters

from .builders import NoisyRegression, double, enumerate_noise, normal
from .references import assert_close

N, FEATURES, OUTPUTS, LAMBDA, M = 10, 4, 2, 0.2, 3
X_NI = torch.from_numpy(normal(N, FEATURES, seed=1))
Y_NO = torch.from_numpy(normal(N, OUTPUTS, seed=2))
X_QI = torch.from_numpy(normal(3, FEATURES, seed=3))
MODEL = double(nn.Sequential(nn.Linear(FEATURES, OUTPUTS, bias=False)))
START_OI = MODEL[0].weight.detach()


def objective(theta: Tensor, eps: Tensor) -> Tensor:
    """GB23 eq. 7 for the squared loss, whose Bregman divergence is half the squared distance of the outputs."""
    theta = theta.reshape(OUTPUTS, FEATURES)
    bregman = 0.5 * ((theta - START_OI) @ X_NI.T).square().sum() / N
    loss_m = 0.5 * (theta @ X_NI[M] - Y_NO[M]).square().sum()
    return bregman + eps * loss_m + LAMBDA / 2 * (theta - START_OI).square().sum()


def response(eps: Tensor) -> Tensor:
    """Change of each query's measurement, the sum of its outputs, when eq. 7 is minimised."""
    start = START_OI.flatten().clone().requires_grad_()
    (slope,) = torch.autograd.grad(objective(start, eps), start, create_graph=True)
    step = -torch.linalg.solve(hessian(lambda theta: objective(theta, eps), start.detach(), create_graph=True), slope)
    return (step.reshape(OUTPUTS, FEATURES) @ X_QI.T).sum(0)


def influences(method: type, asked: Tensor) -> np.ndarray:
    """Influence of z_m on the sum of outputs at each input."""
    train = adapters.from_arrays(X_NI.numpy(), Y_NO.numpy())
    problem = Problem(MODEL, NoisyRegression("output"), enumerate_noise(train, OUTPUTS))
    queries = adapters.from_arrays(asked.numpy(), np.zeros((len(asked), OUTPUTS)), dim="query")
    fitted = method(damping=LAMBDA, damping_kind="absolute").fit(problem, progress=False)
    return fitted.score(queries, train=train.isel(train=[M]), progress=False)["influence"].to_numpy()[:, 0]


@pytest.mark.parametrize("method", [EKFAC, KFAC])
@pytest.mark.parametrize("eps", [-1 / N, 1 / N, 1.0, 30.0])
def test_response_in_closed_form(method: type, eps: float) -> None:
    influence_q = influences(method, X_QI)
    # s, from inflab too: the influence of z_m on its own outputs is -s times its residual.
    residual = float((START_OI @ X_NI[M] - Y_NO[M]).sum())
    s = -influences(method, X_NI[M : M + 1])[0] / residual
    assert_close(eps * influence_q / (1 + eps * s), response(torch.tensor(eps, dtype=torch.float64)).detach())


@pytest.mark.parametrize("method", [EKFAC, KFAC])
def test_its_derivative_is_the_influence(method: type) -> None:
    slope_q = torch.autograd.functional.jacobian(response, torch.zeros((), dtype=torch.float64))
    assert_close(influences(method, X_QI), slope_q)
