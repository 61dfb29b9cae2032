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

    Example:
        >>> kfac = inflab.KFAC(layers="*.mlp.c_fc").fit(problem)
        >>> kfac.factors["transformer.h.0.mlp.c_fc"]["eigenvalues"].dims
        ('gradient_eigen', 'activation_eigen')
    """

    def _factors(self, fitting: Fitting) -> dict[str, LayerFactors]:
        return {
            name: fitting.factors_of(name, b, torch.outer(b.gradient_eigenvalues, b.activation_eigenvalues))
            for name, b in fitting.bases().items()
        }
