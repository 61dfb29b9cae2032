"""Oracle 3: in a deep linear network with squared loss each K-FAC block is its Gauss-Newton block.

The gradient at a layer's output, `W^T noise`, does not depend on the input, so activations and gradients are
independent and `E[a a^T] (x) E[Ds Ds^T]` loses nothing. With a nonlinearity it does.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from torch import nn
from transformers.pytorch_utils import Conv1D

from inflab import EKFAC, KFAC

from .builders import NoisyRegression, double, enumerate_noise, normal, regression
from .references import assert_close, dense_curvature, gauss_newton, relative_error, squared

N, OUTPUTS = 6, 3


def linear(between: type[nn.Module] = nn.Identity) -> nn.Module:
    layers = nn.Linear(4, 5), nn.Linear(5, 4, bias=False), nn.Linear(4, OUTPUTS)
    return nn.Sequential(layers[0], between(), layers[1], between(), layers[2])


MODELS: dict[str, tuple[Callable[[], nn.Module], np.ndarray]] = {
    "Linear": (linear, normal(N, 4)),
    "Conv1D": (lambda: nn.Sequential(Conv1D(5, 4), Conv1D(OUTPUTS, 5)), normal(N, 4)),
    "Conv2d at one place": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 5, 1, bias=False), nn.Flatten(), nn.Linear(5, OUTPUTS)),
        normal(N, 2, 3, 3),
    ),
    "Embedding": (
        lambda: nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.Linear(4, OUTPUTS)),
        np.array([0, 1, 1, 3, 4, 4]),
    ),
}


@pytest.mark.parametrize("method", [KFAC, EKFAC])
@pytest.mark.parametrize(("model", "value"), MODELS.values(), ids=MODELS.keys())
def test_kfac_is_gauss_newton(model: Callable[[], nn.Module], value: np.ndarray, method: type) -> None:
    problem = regression(double(model()), value, OUTPUTS, NoisyRegression())
    problem.corpus = enumerate_noise(problem.corpus, OUTPUTS)
    influence = method(layers="*").fit(problem, progress=False)
    for name, expected in gauss_newton(problem, list(influence.factors.children), squared).items():
        assert_close(dense_curvature(influence, name), expected)


def test_kfac_is_not_gauss_newton_with_a_nonlinearity() -> None:
    problem = regression(double(linear(nn.Tanh)), normal(N, 4), OUTPUTS, NoisyRegression())
    problem.corpus = enumerate_noise(problem.corpus, OUTPUTS)
    influence = KFAC(layers="*").fit(problem, progress=False)
    expected = gauss_newton(problem, ["0"], squared)["0"]
    assert relative_error(dense_curvature(influence, "0"), expected) > 1e-3
