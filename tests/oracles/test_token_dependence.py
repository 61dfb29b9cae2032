"""Oracle 6: what the tokens of a sequence share, K-FAC cannot see and Lambda counts.

K-FAC takes tokens as independent draws and averages over them: `L_A L_S` is the curvature of one token. A sequence
sums its T tokens: identical tokens add up to T^2 of it, tokens with independent labels to T.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from inflab import EKFAC, KFAC, Problem, Regression, adapters

from .builders import NoisyRegression, double, normal, repeat
from .references import assert_close, found_gradients, tensor

TOKENS, FEATURES, OUTPUTS = 4, 3, 2


def network() -> nn.Module:
    """The same linear network at every token: `(example, token, features) -> (example, token, outputs)`."""
    return double(nn.Sequential(nn.Linear(FEATURES, 4), nn.Linear(4, OUTPUTS, bias=False)))


def check(value_ntf: np.ndarray, noise_kto: np.ndarray, ratio: float) -> None:
    """Every input meets every noise, so that the two are exactly independent."""
    n, k = len(value_ntf), len(noise_kto)
    corpus = adapters.from_arrays(value_ntf, np.zeros((n, TOKENS, OUTPUTS)))
    problem = Problem(network(), NoisyRegression(), repeat(corpus, k, noise=np.tile(noise_kto, (n, 1, 1))))
    ekfac, kfac = (method(layers="*").fit(problem, progress=False).factors for method in (EKFAC, KFAC))
    for name in ("0", "1"):
        assert_close(ekfac[name]["eigenvalues"], ratio * kfac[name]["eigenvalues"])


def test_identical_tokens_count_as_their_number_squared() -> None:
    value_ntf = np.repeat(normal(7, 1, FEATURES), TOKENS, axis=1)
    noise_kto = np.repeat(np.sqrt(OUTPUTS) * np.eye(OUTPUTS)[:, None], TOKENS, axis=1)
    check(value_ntf, noise_kto, TOKENS**2)


def test_tokens_with_independent_labels_count_as_their_number() -> None:
    every = np.eye(TOKENS * OUTPUTS).reshape(-1, TOKENS, OUTPUTS)
    check(normal(7, TOKENS, FEATURES), np.sqrt(TOKENS * OUTPUTS) * every, TOKENS)


@pytest.mark.parametrize("seed", range(3))
def test_independent_tokens_by_sampling(seed: int) -> None:
    """Random inputs and labels drawn by the task: tr Lambda / (tr A tr S) is T within 5 standard errors.

    The error is that of the mean of |G_n|^2 over sequences; it is below 5 percent, so T^2 and 1 are far away.
    """
    n = 4000
    corpus = adapters.from_arrays(normal(n, TOKENS, FEATURES, seed=seed), np.zeros((n, TOKENS, OUTPUTS)))
    problem = Problem(network(), Regression(), corpus)
    factors = EKFAC(layers="*").fit(problem, progress=False, seed=seed).factors
    gradients = found_gradients(problem, "*", "pseudo_loss", seed=seed)
    for name in ("0", "1"):
        parts = "eigenvalues", "activation_eigenvalues", "gradient_eigenvalues"
        total, a, s = (float(tensor(factors[name], part).sum()) for part in parts)
        square_n = gradients[name].square().sum((1, 2))
        error = float(square_n.std() / square_n.mean() / np.sqrt(n))
        assert error < 0.05
        assert abs(total / (a * s * TOKENS) - 1) < 5 * error
        assert torch.isclose(square_n.mean(), torch.tensor(total, dtype=torch.float64))
