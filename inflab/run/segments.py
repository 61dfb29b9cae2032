"""The way of a query's gradient back through segments of training (Bae et al. 2024; see `inflab.methods.source`).

Where the passes and the mathematics of a layer expect one model and an inverse, these stand in: a pass that asks the
final model about queries and a checkpoint about training sequences, and a product of functions of several curvatures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from inflab import kronecker
from inflab.capture import Quantity
from inflab.corpus import corpus_dim
from inflab.kronecker import Curvature
from inflab.layer import Layer
from inflab.layout import Tokens
from inflab.problem import Problem
from inflab.run.local import BatchSink, Pass
from inflab.run.queries import query_blocks, query_gradients

__all__ = ["Following", "Propagated", "averaged", "filter_of", "following", "own_influence", "propagated"]


@dataclass(frozen=True)
class Following(Pass):
    """Passes over training sequences with the model of a checkpoint, over queries with the final one.

    Attributes:
        final: the pass of the final model.
        asked: what is differentiated of a query.
    """

    final: Pass | None = None
    asked: Quantity = "measurement"

    def over(
        self,
        corpus: xr.Dataset,
        quantity: Quantity,
        sink: BatchSink,
        *,
        what: str,
        positions: np.ndarray | None = None,
    ) -> None:
        """One pass over the rows of a corpus, by the model that is asked about it."""
        if corpus_dim(corpus) == "train" or self.final is None:
            super().over(corpus, quantity, sink, what=what, positions=positions)
            return
        final = replace(self.final, memory=self.memory, batch_size=self.batch_size, progress=self.progress)
        final.over(corpus, self.asked, sink, what=what, positions=positions)


@dataclass(frozen=True)
class Propagated(Curvature):
    """`F_l [prod S_k]` in the place of the inverse, from the last segment's eigenbasis and back to it.

    Attributes:
        chain: for each segment, the last first: what turns gradients and activations from the basis before into its
            own, and what it multiplies there, `(o, i)`.
        home: what turns both back into the last segment's basis.
    """

    chain: tuple[tuple[Tensor | None, Tensor | None, Tensor], ...] = ()
    home: tuple[Tensor | None, Tensor | None] = (None, None)

    def divide(self, rotated_boi: Tensor) -> Tensor:
        """The product with matrices in the last segment's eigenbasis."""
        for gradient, activation, weight_oi in self.chain:
            rotated_boi = kronecker.rotate(rotated_boi, gradient, activation) * weight_oi
        return kronecker.rotate(rotated_boi, *self.home)


def following(final: Pass, there: Problem) -> Following:
    """The pass of a segment, from that of the final model and the problem at a checkpoint of the segment."""
    shown = {field.name: getattr(final, field.name) for field in dataclasses.fields(final)}
    return Following(**shown | {"problem": there}, final=final)


def propagated(back: Sequence[tuple[Curvature, float]]) -> Propagated:
    """What takes the place of the inverse in a segment.

    Args:
        back: curvature, whose damping is added to every eigenvalue, and `eta K` of each segment that a query goes back
            through, the last first; the segment itself is at the end.

    Returns:
        A curvature in the eigenbasis of the last segment.
    """
    first = here = back[0][0]
    chain = []
    for number, (curvature, time) in enumerate(back):
        chain.append((*_turns(here, curvature), filter_of(curvature, time, is_passed=number < len(back) - 1)))
        here = curvature
    given = {field.name: getattr(first, field.name) for field in dataclasses.fields(Curvature)}
    return Propagated(**given, chain=tuple(chain), home=_turns(here, first))


def filter_of(curvature: Curvature, time: float, *, is_passed: bool) -> Tensor:
    """`exp(-eta K s)` of a segment that is only passed, `(1 - exp(-eta K s)) / s` of the one itself, `(o, i)`.

    Args:
        curvature: s is its eigenvalues and its damping.
        time: `eta K`.
        is_passed: which of the two.

    Returns:
        `(o, i)`; `eta K` where s is zero.
    """
    assert curvature.eigenvalues is not None
    x_oi = time * (curvature.eigenvalues + curvature.damping)
    if is_passed:
        return torch.exp(-x_oi)
    is_tiny = x_oi < torch.finfo(x_oi.dtype).eps
    return time * torch.where(is_tiny, 1 - x_oi / 2, -torch.expm1(-x_oi) / torch.where(is_tiny, 1, x_oi))


def _turns(before: Curvature, after: Curvature) -> tuple[Tensor | None, Tensor | None]:
    """What turns a matrix from one eigenbasis into another, on either side; None where both are the same."""

    def turn(old: Tensor | None, new: Tensor | None) -> Tensor | None:
        if old is new:
            return None
        assert old is not None and new is not None
        return old.T @ new

    gradient = turn(before.gradient_basis, after.gradient_basis)
    return gradient, turn(before.activation_basis, after.activation_basis)


def own_influence(run: Following, curvatures: Mapping[str, Curvature], train: xr.Dataset) -> np.ndarray:
    """Influence of each sequence's gradient in a segment on its own log-probability at the end, `(train, layer)`."""
    n = train.sizes["train"]
    place = {layer.name: row for row, layer in enumerate(run.layers)}
    value_tl = np.zeros((n, len(run.layers)), dtype=np.float64 if run.itemsize() == 8 else np.float32)
    asking, asked = replace(run, asked="loss"), train.rename(train="query")
    for rows in query_blocks(run, n):
        ready = query_gradients(asking, curvatures, asked, rows)

        def add(index: np.ndarray, layer: Layer, tokens: Tokens, ready: Any = ready, rows: np.ndarray = rows) -> None:
            matrix_boi = ready[layer.name].to_dense(torch.from_numpy(np.searchsorted(rows, index)))
            value_bt = kronecker.token_influence(matrix_boi, tokens.activation, tokens.gradient)
            value_tl[index, place[layer.name]] = value_bt.sum(1).cpu().numpy()

        run.over(train, "loss", add, what="self-influence", positions=rows)
        del ready, add
    return value_tl


def averaged(nodes: Sequence[Any]) -> xr.Dataset:
    """One layer's factors as the mean of several fits: of A, of S, and of the EK-FACs along the axes of these."""
    last: xr.Dataset = nodes[-1].to_dataset(inherit=False)
    if len(nodes) == 1:
        return last
    found: dict[str, Tensor] = {}
    turns: dict[str, list[Tensor]] = {}
    for side in ("activation", "gradient"):
        name = f"{side}_eigenvectors"
        values = [torch.tensor(node[f"{side}_eigenvalues"].to_numpy()) for node in nodes]
        if name not in last:  # one-hot activations: the covariance is diagonal
            found[f"{side}_eigenvalues"] = torch.stack(values).mean(0)
            turns[side] = [torch.eye(len(values[0]), dtype=values[0].dtype)] * len(nodes)
            continue
        vectors = [torch.tensor(node[name].to_numpy()) for node in nodes]
        moment = torch.stack([q * v @ q.T for q, v in zip(vectors, values, strict=True)]).mean(0)
        basis, found[f"{side}_eigenvalues"] = kronecker.eigenbasis(moment)
        assert basis is not None
        found[name] = basis
        turns[side] = [(basis.T @ q).square() for q in vectors]
    squares = zip(turns["gradient"], nodes, turns["activation"], strict=True)
    parts = [left @ torch.tensor(node["eigenvalues"].to_numpy()) @ right.T for left, node, right in squares]
    found["eigenvalues"] = torch.stack(parts).mean(0)
    return last.assign({name: last[name].copy(data=value.numpy()) for name, value in found.items()})
