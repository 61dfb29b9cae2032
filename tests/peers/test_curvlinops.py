"""inflab's EK-FAC and K-FAC matrices and their damped inverses are curvlinops', to relative 1e-6 in float64.

The second witness: linear operators over all parameters, written by others, and gradients of single examples by
plain autograd. Empirical Fisher, weight and bias of a layer together.

curvlinops takes the mean of torch's losses. For cross-entropy that is our loss. Its `MSELoss` is |y - f|^2 over the C
outputs and enters with 1 / sqrt(C) in each gradient, ours is |y - f|^2 / 2: its gradients are 2 / sqrt(C) of ours,
its matrix 4 / C of ours, and so is the damping that means the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn
from torch.utils.data import DataLoader

import inflab

if TYPE_CHECKING:
    from tests.peers.conftest import Case

pytestmark = pytest.mark.peer

DAMPING = 1e-3
#: Without K-FAC of the CNN: where positions share a weight, curvlinops sums S over them and inflab takes the mean.
PAIRS = [f"mlp-{kind} {method}" for kind in ("classification", "regression") for method in ("EKFAC", "KFAC")]
PAIRS.append("cnn EKFAC")


@pytest.fixture(scope="session")
def build_operator(build_case: Callable[[str], Case]) -> Callable[[str, str], SimpleNamespace]:
    curvlinops = pytest.importorskip("curvlinops")

    @functools.cache
    def build(name: str, method: str) -> SimpleNamespace:
        case = build_case(name)
        is_class = isinstance(case.problem.task, inflab.Classification)
        peer_of_ours = 1.0 if is_class else 4 / case.peer_train.tensors[1].shape[1]
        matrix = getattr(curvlinops, f"{method}LinearOperator")(
            case.peer_model,
            nn.CrossEntropyLoss() if is_class else nn.MSELoss(),
            list(case.peer_model.parameters()),
            list(DataLoader(case.peer_train, batch_size=case.batch_size)),
            fisher_type="empirical",
            separate_weight_and_bias=False,
        )
        inverse = curvlinops.KFACInverseLinearOperator(matrix, damping=peer_of_ours * DAMPING, use_exact_damping=True)
        eye_nn = torch.eye(matrix.shape[0], dtype=torch.float64)
        ours = getattr(inflab, method)(
            layers=case.layers, fisher="empirical", damping=DAMPING, damping_kind="absolute"
        ).fit(case.problem, batch_size=case.batch_size, progress=False)
        return SimpleNamespace(
            case=case,
            ours=ours,
            matrix_nn=((matrix @ eye_nn) / peer_of_ours).detach().numpy(),
            inverse_nn=((inverse @ eye_nn) * peer_of_ours).detach().numpy(),
        )

    return build


@pytest.fixture(params=PAIRS)
def pair(request: pytest.FixtureRequest, build_operator: Callable[[str, str], SimpleNamespace]) -> SimpleNamespace:
    """Our fit, and curvlinops' matrix and damped inverse over all parameters, on the scale of our loss."""
    return build_operator(*request.param.split())


def test_matrix(pair: SimpleNamespace, agree: Callable[..., None]) -> None:
    places = _places(pair.case)
    ours_nn = np.zeros_like(pair.matrix_nn)
    for layer, place_oi in places.items():
        n = place_oi.ravel()
        ours_nn[np.ix_(n, n)] = _dense(pair.ours.factors[layer])
    agree(ours_nn, pair.matrix_nn)


def test_pairwise_scores(pair: SimpleNamespace, agree: Callable[..., None]) -> None:
    """`grad L_q^T (G + lambda I)^-1 grad L`: the query's f is -L_q, so both minus signs cancel."""
    ours = pair.ours.score(pair.case.queries, progress=False)["influence"].transpose("query", "train")
    query_qn, train_tn = (_gradients(pair.case, data) for data in (pair.case.peer_queries, pair.case.peer_train))
    agree(ours, query_qn @ pair.inverse_nn @ train_tn.T)


def test_scores_by_layer(pair: SimpleNamespace, agree: Callable[..., None]) -> None:
    ours = pair.ours.score(pair.case.queries, by="layer", progress=False)["influence"]
    query_qn, train_tn = (_gradients(pair.case, data) for data in (pair.case.peer_queries, pair.case.peer_train))
    for layer, place_oi in _places(pair.case).items():
        n = place_oi.ravel()
        theirs = query_qn[:, n] @ pair.inverse_nn[np.ix_(n, n)] @ train_tn[:, n].T
        agree(ours.sel(layer=layer).transpose("query", "train"), theirs)


def test_self_influence(pair: SimpleNamespace, agree: Callable[..., None]) -> None:
    ours = pair.ours.self_influence(progress=False)["influence"]
    train_tn = _gradients(pair.case, pair.case.peer_train)
    agree(ours, np.einsum("tn,nm,tm->t", train_tn, pair.inverse_nn, train_tn))


def _places(case: Case) -> dict[str, np.ndarray]:
    """Where each entry of a layer's matrix `(gradient, activation)` is among all parameters, bias column last."""
    places: dict[str, np.ndarray] = {}
    start = 0
    for name, parameter in case.peer_model.named_parameters():
        layer, _, kind = name.rpartition(".")
        place = np.arange(start, start + parameter.numel()).reshape(len(parameter), -1)
        places[layer] = place if kind == "weight" else np.hstack([places[layer], place])
        start += parameter.numel()
    assert sorted(places) == sorted(case.layers)
    return places


def _dense(node: xr.DataTree) -> np.ndarray:
    """`sum_oi Lambda_oi (q_o p_i^T)(q_o p_i^T)^T` over the rows of the layer's matrix one after another."""
    vectors = np.kron(
        node["gradient_eigenvectors"].transpose("gradient", "gradient_eigen"),
        node["activation_eigenvectors"].transpose("activation", "activation_eigen"),
    )
    eigenvalues = node["eigenvalues"].transpose("gradient_eigen", "activation_eigen").to_numpy()
    return vectors * eigenvalues.ravel() @ vectors.T


def _gradients(case: Case, data: Any) -> np.ndarray:
    """Gradient of each example's loss by autograd, `(example, parameter)`."""
    parameters = list(case.peer_model.parameters())
    rows = []
    for tensors in data:
        loss = case.peer_loss([tensor[None] for tensor in tensors], case.peer_model)
        rows.append(torch.cat([grad.flatten() for grad in torch.autograd.grad(loss, parameters)]))
    return torch.stack(rows).numpy()
