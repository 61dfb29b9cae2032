"""Diagonal Fisher: second moments of each parameter's gradient, in the standard basis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inflab.capture import Quantity
from inflab.factors import LayerFactors
from inflab.methods.base import LayerMethod
from inflab.run.fit import square_sums
from inflab.run.local import Pass

__all__ = ["Diagonal"]


@dataclass(frozen=True, kw_only=True)
class Diagonal(LayerMethod):
    """`diag(E[G^2])`: parameters taken as independent."""

    def _factors(self, run: Pass, quantity: Quantity, positions: np.ndarray) -> dict[str, LayerFactors]:
        squares = square_sums(run, quantity, positions, None)
        n = len(positions)
        return {
            layer.name: LayerFactors(eigenvalues=squares[f"{layer.name}/squares"] / n, examples=n)
            for layer in run.layers
        }
