"""Inverse products with the joint Gauss-Newton matrix, in the place of curvatures that are inverted layer by layer.

Whoever passes curvatures on to `inflab.run.queries.query_gradients` may pass a `Solved` instead: then the gradients of
a block of queries are solved for together, over all layers, and what comes after is the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from inflab import kronecker
from inflab.capture import Quantity
from inflab.device import model_device
from inflab.kronecker import Curvature
from inflab.layer import Layer
from inflab.layout import Tokens
from inflab.memory import query_block
from inflab.run.gauss_newton import GaussNewton, by_layer, width_of
from inflab.run.ledger import Arrays
from inflab.run.local import Pass
from inflab.run.solvers import Solver, System

__all__ = ["Solved", "raw_gradients", "solved_self_influence"]


@dataclass(frozen=True, eq=False)
class Solved(Mapping[str, Curvature]):
    """Curvatures of single layers, and what solves `(G + lambda I) x = v` for all layers jointly.

    Attributes:
        curvatures: each layer's lambda, its preconditioner, and the eigenbasis in which queries are truncated.
        solver: how it is solved.
        positions: the training examples of G.
    """

    curvatures: dict[str, Curvature]
    solver: Solver
    positions: np.ndarray

    def __getitem__(self, name: str) -> Curvature:
        return self.curvatures[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.curvatures)

    def __len__(self) -> int:
        return len(self.curvatures)

    def blocks(self, run: Pass, n: int) -> Iterator[slice]:
        """Vectors in blocks whose solution fits the memory budget.

        Yields:
            Which of them.
        """
        each = self.solver.vectors
        size = query_block(run.problem.model, run.layers, run.itemsize(), run.budget(), n * each)
        for start in range(0, n, max(1, size // each)):
            yield slice(start, min(start + max(1, size // each), n))

    def solve(self, run: Pass, value_qp: Tensor) -> tuple[Tensor, Tensor]:
        """Solve for some vectors.

        Args:
            run: the pass.
            value_qp: the vectors, in the layers' own bases.

        Returns:
            `(q, p)` solutions, and `(q,)` relative residuals.
        """
        with torch.inference_mode(False), torch.no_grad(), GaussNewton(run, self.positions) as matrix:
            system = System(matrix, self.curvatures, run.seed, run.progress)
            found = self.solver.solve(system, value_qp)
            return found, system.residual(found, value_qp, self.solver.checked(len(self.positions)))


def raw_gradients(run: Pass, corpus: xr.Dataset, quantity: Quantity, positions: np.ndarray, what: str) -> Tensor:
    """Gradients of some examples over all layers, in the layers' own bases.

    Args:
        run: the pass.
        corpus: training corpus or query batch.
        quantity: what is differentiated.
        positions: which examples.
        what: text of the progress bar.

    Returns:
        `(example, p)`, rows in the order of `positions`.
    """
    dtype = torch.float64 if run.itemsize() == 8 else torch.float32
    with torch.inference_mode(False):
        found = torch.zeros(len(positions), width_of(run.layers), dtype=dtype, device=model_device(run.problem.model))
    parts = by_layer(run.layers, found)
    row_of = {int(position): row for row, position in enumerate(positions)}

    def keep(index: np.ndarray, layer: Layer, tokens: Tokens) -> None:
        rows = torch.tensor([row_of[int(position)] for position in index])
        parts[layer.name][rows] = kronecker.example_gradients(tokens.activation, tokens.gradient, tokens.width).to(
            found
        )

    run.over(corpus, quantity, keep, what=what, positions=positions)
    return found


def solved_self_influence(
    run: Pass, solved: Solved, train: xr.Dataset, positions: np.ndarray, *, by_layers: bool
) -> Arrays:
    """`g^T (G + lambda I)^-1 g` of each sequence's gradient, solved for in blocks.

    Args:
        run: the pass.
        solved: curvatures and solver.
        train: the sequences.
        positions: which of them.
        by_layers: whether layers are kept apart.

    Returns:
        `influence (position[, layer])`, and `solver_residual (position,)`.
    """
    dtype = np.float64 if run.itemsize() == 8 else np.float32
    values, residuals = np.zeros((len(positions), len(run.layers)), dtype), np.zeros(len(positions), np.float32)
    for part in solved.blocks(run, len(positions)):
        value_qp = raw_gradients(run, train, "loss", positions[part], "self-influence")
        found, residual = solved.solve(run, value_qp)
        for column, value in enumerate(by_layer(run.layers, found.mul_(value_qp)).values()):
            values[part, column] = value.sum((1, 2)).cpu().numpy()
        residuals[part] = residual.cpu().numpy()
    return {"influence": values if by_layers else values.sum(axis=1), "solver_residual": residuals}
