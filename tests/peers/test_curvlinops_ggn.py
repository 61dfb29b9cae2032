"""inflab's joint Gauss-Newton products are curvlinops', to relative 1e-6 in float64.

The second witness: a linear operator over all parameters, written by others. Scales as in `test_curvlinops`: for
cross-entropy its mean loss is ours, its `MSELoss` over C outputs has 2 / C of our matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import inflab
from inflab.functional import directions, matrices, parameter_names
from inflab.layer import select_layers
from inflab.run.gauss_newton import GaussNewton, by_layer, width_of
from inflab.run.local import Pass

if TYPE_CHECKING:
    from tests.peers.conftest import Case

# Forward-mode differentiation loads rules that torch still compiles with torch.jit.
pytestmark = [
    pytest.mark.peer,
    pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning"),
]


@pytest.mark.parametrize("name", ["mlp-classification", "mlp-regression", "cnn"])
def test_products(name: str, build_case: Callable[[str], Case], agree: Callable[..., None]) -> None:
    curvlinops = pytest.importorskip("curvlinops")
    case = build_case(name)
    is_class = isinstance(case.problem.task, inflab.Classification)
    parameters = dict(case.peer_model.named_parameters())
    peer = curvlinops.GGNLinearOperator(
        case.peer_model,
        nn.CrossEntropyLoss() if is_class else nn.MSELoss(),
        list(parameters.values()),
        list(DataLoader(case.peer_train, batch_size=case.batch_size)),
    )
    peer_of_ours = 1.0 if is_class else 2 / case.peer_train.tensors[1].shape[1]

    layers = select_layers(case.problem.model, case.layers)
    modules = dict(case.problem.model.named_modules())
    assert parameter_names(layers) == list(parameters), "curvlinops takes them in the model's order"
    value_qp = torch.randn(3, width_of(layers), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    as_parameters = directions(layers, modules, by_layer(layers, value_qp))
    flat_qn = torch.cat([as_parameters[name].flatten(1) for name in parameters], dim=1)
    theirs_nq = peer @ flat_qn.T / peer_of_ours
    parts = theirs_nq.T.split([p.numel() for p in parameters.values()], dim=1)
    values = {n: part.reshape(3, *p.shape) for part, (n, p) in zip(parts, parameters.items(), strict=True)}
    found = matrices(layers, modules, values, n_batch=1)
    expected_qp = torch.cat([found[layer.name].flatten(1) for layer in layers], dim=1)

    run = Pass(case.problem, layers, batch_size=case.batch_size, progress=False)
    with GaussNewton(run, np.arange(case.problem.corpus.sizes["train"])) as matrix:
        agree(matrix.product(value_qp).numpy(), expected_qp.detach().numpy())
