"""Oracle 4: with labels enumerated, Lambda is the diagonal of the Gauss-Newton block in the Kronecker eigenbasis.

`Lambda = diag(Q^T G Q)`, `sum Lambda = tr G`, and no other diagonal in that basis is nearer to G:
`|G - EK-FAC|_F <= |G - K-FAC|_F`. G is autograd's, one output at a time; of a shared weight it holds all uses.
"""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from inflab import EKFAC, KFAC, Diagonal, Influence, Problem, adapters

from .builders import (
    KINDS,
    EnumeratedClassification,
    NoisyRegression,
    enumerate_classes,
    enumerate_noise,
    normal,
    of_kind,
)
from .references import assert_close, dense_basis, dense_curvature, gauss_newton, softmax, squared, tensor

CLASSES = 3


def classes(kind: str) -> tuple[Problem, xr.Dataset]:
    """A classification problem with every label written out, and the corpus without copies."""
    model, value = of_kind(kind, CLASSES)
    corpus = adapters.from_arrays(value, np.arange(len(value)) % CLASSES)
    return Problem(model, EnumeratedClassification(), enumerate_classes(corpus, CLASSES)), corpus


def check(influence: Influence, dense: dict) -> None:
    assert set(dense) == set(influence.factors.children)
    for name, g in dense.items():
        node = influence.factors[name]
        q = dense_basis(node)
        assert_close(tensor(node, "eigenvalues").flatten(), (q.T @ g @ q).diagonal())
        assert_close(tensor(node, "eigenvalues").sum(), g.trace())


@pytest.mark.parametrize("method", [EKFAC, Diagonal])
@pytest.mark.parametrize("kind", KINDS)
def test_lambda_of_a_softmax(kind: str, method: type) -> None:
    problem, corpus = classes(kind)
    influence = method(layers="*").fit(problem, progress=False)
    check(influence, gauss_newton(problem, list(influence.factors.children), softmax, corpus))


@pytest.mark.parametrize("kind", KINDS)
def test_lambda_of_a_squared_loss(kind: str) -> None:
    model, value = of_kind(kind, 2)
    corpus = adapters.from_arrays(value, normal(len(value), 2, seed=9))
    problem = Problem(model, NoisyRegression(), enumerate_noise(corpus, 2))
    influence = EKFAC(layers="*").fit(problem, progress=False)
    check(influence, gauss_newton(problem, list(influence.factors.children), squared, corpus))


@pytest.mark.parametrize("kind", KINDS)
def test_ekfac_is_nearer_than_kfac(kind: str) -> None:
    problem, corpus = classes(kind)
    ekfac, kfac = (method(layers="*").fit(problem, progress=False) for method in (EKFAC, KFAC))
    for name, g in gauss_newton(problem, list(ekfac.factors.children), softmax, corpus).items():
        far, near = ((g - dense_curvature(influence, name)).norm() for influence in (kfac, ekfac))
        assert near < far
        assert near > 1e-3 * g.norm(), "a block that is exactly Kronecker would not tell them apart"
