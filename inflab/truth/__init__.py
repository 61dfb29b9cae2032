"""Ground truth to hold any method against: responses, retraining, exact derivatives through training."""

from inflab.truth.bank import retrain_bank
from inflab.truth.curves import removal_curve
from inflab.truth.leave import leave_out
from inflab.truth.magic import magic, reweighted
from inflab.truth.mislabels import mislabel_curve
from inflab.truth.pbrf import pbrf
from inflab.truth.recipe import Recipe, Trained

__all__ = [
    "Recipe",
    "Trained",
    "leave_out",
    "magic",
    "mislabel_curve",
    "pbrf",
    "removal_curve",
    "retrain_bank",
    "reweighted",
]
