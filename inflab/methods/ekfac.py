"""EK-FAC: eigenvalue-corrected Kronecker-factored curvature (George et al. 2018; GB23 section 2.2, eqs. 16-21)."""

from __future__ import annotations

from dataclasses import dataclass

from inflab.errors import check_count
from inflab.factors import LayerFactors
from inflab.methods.base import LayerMethod
from inflab.run.fitting import Fitting

__all__ = ["EKFAC"]


@dataclass(frozen=True, kw_only=True)
class EKFAC(LayerMethod):
    """Kronecker-factored eigenbasis with exact second moments along its axes.

    One pass for the covariances A and S, an eigendecomposition of each, and one pass for
    `Lambda_ij = E[((Q_S^T G Q_A)_ij)^2]` with the same pseudo-labels.

    Args:
        blocks: cut A and S into so many diagonal blocks before the eigendecomposition (GB23 App. A); 1 cuts nothing.
            The attrs `activation_share_kept` and `gradient_share_kept` of each layer's factors say how much of the
            squared norm of A and of S the blocks hold.

    Example:
        >>> ekfac = inflab.EKFAC(layers="*.mlp.*", damping=0.1).fit(problem)
        >>> list(ekfac.factors.children)[0]
        'transformer.h.0.mlp.c_fc'
        >>> dict(ekfac.score(queries)["influence"].sizes)
        {'query': 3, 'train': 60}
    """

    blocks: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("blocks", self.blocks)

    def _factors(self, fitting: Fitting) -> dict[str, LayerFactors]:
        bases = fitting.bases(self.blocks, keep=True)
        squares = fitting.squares(bases)
        n = fitting.examples
        return {name: fitting.factors_of(name, basis, squares[f"{name}/squares"] / n) for name, basis in bases.items()}
