"""Methods: frozen settings with one method, `fit(problem) -> Influence`; one method a file."""

from inflab.methods.diagonal import Diagonal
from inflab.methods.ekfac import EKFAC
from inflab.methods.identity import Identity
from inflab.methods.kfac import KFAC

__all__ = ["EKFAC", "KFAC", "Diagonal", "Identity"]
