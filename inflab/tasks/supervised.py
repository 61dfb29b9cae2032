"""Classification and regression on tables and images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from torch import Tensor, nn

from inflab.corpus import corpus_dim
from inflab.errors import CorpusError
from inflab.tasks.base import Batch, Draws, Task, at_least_float32, check_choice, draw_class, margin, refuse

__all__ = ["Classification", "Regression"]


@dataclass(frozen=True)
class Classification(Task):
    """Softmax classification: L = -log p(class), f = log p(class) or its margin.

    Args:
        measurement: "log_probability", or "margin": log(p / (1 - p)).

    Example:
        >>> task = inflab.Classification()
        >>> task.measure(torch.zeros(1, 4), {"target": torch.tensor([2])})  # log(1/4)
        tensor([-1.3863])
    """

    measurement: Literal["log_probability", "margin"] = "log_probability"

    def __post_init__(self) -> None:
        check_choice("measurement", self.measurement, ("log_probability", "margin"))

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """-log p of the class.

        Returns:
            `(example,)`, in nats.

        Raises:
            CorpusError: a class is beyond the model's outputs.
        """
        target, classes = batch["target"].long(), outputs.shape[-1]
        if outputs.ndim == 2 and int(target.max()) >= classes:
            raise CorpusError(f"target holds class {int(target.max())}, the model has {classes} outputs, from 0")
        return F.cross_entropy(at_least_float32(outputs), target, reduction="none")

    def sample(self, outputs: Tensor, batch: Batch, draws: Draws) -> Batch:
        """Classes drawn from softmax(logits)."""
        return {**batch, "target": draw_class(at_least_float32(outputs), draws.uniform().to(outputs.device))}

    def measure(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Log-probability (nat) or margin of the class, `(example,)`."""
        if self.measurement == "log_probability":
            return -self.loss(outputs, batch)
        return margin(at_least_float32(outputs), batch["target"].long())

    def check(self, model: nn.Module, corpus: xr.Dataset) -> None:
        """Refuse missing variables, negative classes and non-finite inputs."""
        super().check(model, corpus)
        dim = corpus_dim(corpus)
        refuse_non_finite(corpus, dim)
        target = corpus["target"].to_numpy()
        if target.ndim != 1 or not np.array_equal(target, np.round(target)):
            raise CorpusError(
                f"target has shape {target.shape} and dtype {target.dtype}; classes are one whole number an example"
            )
        refuse(corpus[dim].to_numpy(), target < 0, dim, "negative classes", "number the classes from 0")
        coarsest = max((torch.finfo(p.dtype).eps for p in model.parameters() if p.is_floating_point()), default=0.0)
        if target.dtype.kind == "f" and target.max() * coarsest > 2:  # read in the model's dtype
            raise CorpusError(f"target has class {target.max():.0f} as {target.dtype}; use whole numbers: astype(int)")


@dataclass(frozen=True)
class Regression(Task):
    """Squared loss `L = |y - f|^2 / 2`, the log-likelihood of a Gaussian of unit variance up to a constant.

    Args:
        measurement: "log_probability" (minus the loss), or "output": the prediction itself, summed over outputs.

    Example:
        >>> task = inflab.Regression()
        >>> task.loss(torch.tensor([[1.0]]), {"target": torch.tensor([3.0])})
        tensor([2.])
    """

    measurement: Literal["log_probability", "output"] = "log_probability"

    def __post_init__(self) -> None:
        check_choice("measurement", self.measurement, ("log_probability", "output"))

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Half the squared error, summed over outputs.

        Returns:
            `(example,)`, in nats.

        Raises:
            CorpusError: the targets are not as many as the outputs.
        """
        target = batch["target"]
        if target.numel() != outputs.numel():
            raise CorpusError(
                f"target has shape {tuple(target.shape[1:])} an example, the model's output "
                f"{tuple(outputs.shape[1:])}; they must agree"
            )
        error = at_least_float32(outputs) - at_least_float32(target).reshape(outputs.shape)
        return 0.5 * error.square().reshape(len(error), -1).sum(1)

    def sample(self, outputs: Tensor, batch: Batch, draws: Draws) -> Batch:
        """Targets drawn from N(output, 1)."""
        noise = draws.normal(*outputs.shape[1:]).to(outputs.device, outputs.dtype)
        return {**batch, "target": outputs.detach() + noise}

    def measure(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Minus the loss, or the prediction, `(example,)`."""
        return outputs.reshape(len(outputs), -1).sum(1) if self.measurement == "output" else -self.loss(outputs, batch)

    def check(self, model: nn.Module, corpus: xr.Dataset) -> None:
        """Refuse missing variables and non-finite numbers."""
        super().check(model, corpus)
        refuse_non_finite(corpus, corpus_dim(corpus))


def refuse_non_finite(corpus: xr.Dataset, dim: str) -> None:
    for name in ("input", "target"):
        value = corpus[name].transpose(dim, ...).to_numpy()
        if value.dtype.kind not in "biuf":
            raise CorpusError(f"{name} has dtype {value.dtype}; the model reads numbers")
        is_bad = ~np.isfinite(value.reshape(len(value), -1)).all(axis=1)
        refuse(corpus[dim].to_numpy(), is_bad, dim, f"NaN or infinity in {name}", "mend or remove these rows")
