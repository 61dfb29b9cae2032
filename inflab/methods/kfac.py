"""K-FAC: Kronecker-factored approximate curvature (Martens & Grosse 2015; GB23 section 2.2, eqs. 13-16)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from inflab.factors import LayerFactors
from inflab.methods.base import LayerMethod
from inflab.run.fitting import Fitting

__all__ = ["KFAC"]


@dataclass(frozen=True, kw_only=True)
class KFAC(LayerMethod):
    """`G = A (x) S`, tokens taken as independent: the eigenvalues are products of those of A and S.

    Their scale is that of one token: for sequences of T independent tokens, EK-FAC's eigenvalues are T times as large,
    and each group of a grouped convolution counts as a token of its own. Relative damping is not affected.
    """

    def _factors(self, fitting: Fitting) -> dict[str, LayerFactors]:
        bases = fitting.bases()
        return {
            name: LayerFactors(
                eigenvalues=torch.outer(basis.gradient_eigenvalues, basis.activation_eigenvalues),
                activation_eigenvectors=basis.activation,
                activation_eigenvalues=basis.activation_eigenvalues,
                gradient_eigenvectors=basis.gradient,
                gradient_eigenvalues=basis.gradient_eigenvalues,
                tokens=basis.tokens,
                examples=fitting.examples,
                shares_input_with=fitting.run.shared.get(name, name),
            )
            for name, basis in bases.items()
        }
