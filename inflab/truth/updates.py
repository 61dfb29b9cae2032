"""One step of an optimiser: the learning rate at each step, torch's optimisers, and the same updates as pure functions.

`advance` follows `torch.optim` (SGD with momentum, Adam, AdamW; betas .9 and .999, eps 1e-8, weight decay on every
parameter) to rounding, out of place, so that a training can be differentiated through (`inflab.truth.magic`). The root
in Adam's denominator has no derivative at 0, where a parameter never had a gradient: there it is taken as 0, which is
exact as long as that parameter still gets none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from inflab.truth.recipe import Recipe

__all__ = ["Slots", "Tensors", "advance", "empty_slots", "optimizer", "rates", "shortened"]

Tensors = Mapping[str, Tensor]
#: What an optimiser remembers: name of the memory -> parameter -> tensor.
Slots = Mapping[str, Tensors]

_BETAS = (0.9, 0.999)
_EPS = 1e-8
CLIP_EPS = 1e-6  # as torch.nn.utils.clip_grad_norm_


def rates(recipe: Recipe, n_steps: int) -> np.ndarray:
    """The learning rate of each step, `(step,)`.

    A warm-up multiplies by `(t + 1) / warmup` while that is below 1; "linear" by `1 - t / n_steps`, "cosine" by
    `(1 + cos(pi t / n_steps)) / 2`.

    Returns:
        Positive numbers.
    """
    t = np.arange(n_steps)
    shape = {
        "constant": np.ones(n_steps),
        "linear": 1 - t / n_steps,
        "cosine": 0.5 * (1 + np.cos(np.pi * t / n_steps)),
    }[recipe.schedule]
    found: np.ndarray = recipe.learning_rate * shape * np.minimum(1.0, (t + 1) / max(1, recipe.warmup))
    return found


def optimizer(recipe: Recipe, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    """Torch's optimiser of a recipe. Every update is elementwise, so stacked models are trained as each alone."""
    given = list(parameters)
    # One kernel for each parameter where there is one: the updates of small models are otherwise mostly overhead.
    fused = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in given)
    rate, decay = recipe.learning_rate, recipe.weight_decay
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(given, lr=rate, momentum=recipe.momentum, weight_decay=decay, fused=fused)
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(given, lr=rate, betas=_BETAS, eps=_EPS, weight_decay=decay, fused=fused)


def empty_slots(recipe: Recipe, parameters: Tensors) -> Slots:
    """What the optimiser remembers before the first step."""
    names = {"sgd": ("momentum",) if recipe.momentum else ()}.get(recipe.optimizer, ("mean", "square"))
    return {name: {key: torch.zeros_like(value) for key, value in parameters.items()} for name in names}


def shortened(gradients: Tensors, longest: float | None) -> Tensors:
    """Gradients whose common length is at most `longest`."""
    if longest is None:
        return gradients
    length = torch.sqrt(torch.stack([value.square().sum() for value in gradients.values()]).sum())
    factor = (longest / (length + CLIP_EPS)).clamp(max=1.0)
    return {name: value * factor for name, value in gradients.items()}


def advance(
    recipe: Recipe, parameters: Tensors, slots: Slots, gradients: Tensors, rate: float, step: int
) -> tuple[Tensors, Slots]:
    """Parameters and memories after one update, as new tensors.

    Args:
        recipe: optimiser, momentum, weight decay.
        parameters: before the step.
        slots: before the step; `empty_slots` at the first.
        gradients: of the loss, already shortened.
        rate: the learning rate.
        step: its number, from 0.

    Returns:
        Parameters and slots after it.
    """
    decay = recipe.weight_decay
    if decay and recipe.optimizer == "adamw":
        parameters = {name: value * (1 - rate * decay) for name, value in parameters.items()}
    elif decay:
        gradients = {name: value + decay * parameters[name] for name, value in gradients.items()}
    if recipe.optimizer == "sgd":
        if recipe.momentum:
            gradients = {n: recipe.momentum * slots["momentum"][n] + value for n, value in gradients.items()}
            slots = {"momentum": gradients}
        return {name: value - rate * gradients[name] for name, value in parameters.items()}, slots
    first, second = _BETAS
    mean = {name: first * slots["mean"][name] + (1 - first) * value for name, value in gradients.items()}
    square = {name: second * slots["square"][name] + (1 - second) * value * value for name, value in gradients.items()}
    bias, root_bias = 1 - first ** (step + 1), (1 - second ** (step + 1)) ** 0.5
    moved = {
        name: value - (rate / bias) * mean[name] / (_root(square[name]) / root_bias + _EPS)
        for name, value in parameters.items()
    }
    return moved, {"mean": mean, "square": square}


def _root(value: Tensor) -> Tensor:
    """The square root, with derivative 0 at 0."""
    is_zero = value == 0
    return torch.where(is_zero, 0.0, torch.where(is_zero, 1.0, value).sqrt())
