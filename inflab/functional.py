"""A model as a function of some of its parameters, and layers' matrices as directions in them.

What differentiates or trains beside the usual pass needs it: forward-mode views, Gauss-Newton products, responses,
retraining. The model itself is never written to.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from inflab.layer import Layer

__all__ = ["bound", "directions", "matrices", "parameter_names"]


def bound(model: nn.Module, parameters: Mapping[str, Tensor]) -> nn.Module:
    """A module that runs `model` with some parameters replaced, and shows its `forward` signature."""
    shell = nn.Module()

    @functools.wraps(model.forward)
    def forward(*args: Any, **kwargs: Any) -> Any:
        return functional_call(model, dict(parameters), args, kwargs)

    shell.forward = forward
    return shell


def parameter_names(layers: Sequence[Layer]) -> list[str]:
    """Names of the parameters that the layers cover, weight before bias."""
    return [
        f"{layer.name}.{kind}" for layer in layers for kind in ("weight", "bias") if kind == "weight" or layer.has_bias
    ]


def directions(
    layers: Sequence[Layer], modules: Mapping[str, nn.Module], matrices: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Each layer's matrix `(..., o, i)` as directions of its own weight and bias, by parameter name."""
    tangents: dict[str, Tensor] = {}
    for layer in layers:
        module, matrix = modules[layer.name], matrices[layer.name]
        weight: Any = module.weight
        if layer.has_bias:
            tangents[f"{layer.name}.bias"] = matrix[..., -1].to(weight.dtype).contiguous()
            matrix = matrix[..., :-1]
        if layer.kind in ("Conv1D", "Embedding"):  # these store the transpose
            matrix = matrix.transpose(-1, -2)
        tangents[f"{layer.name}.weight"] = (
            matrix.to(weight.dtype).reshape(*matrix.shape[:-2], *weight.shape).contiguous()
        )
    return tangents


def matrices(
    layers: Sequence[Layer], modules: Mapping[str, nn.Module], values: Mapping[str, Tensor], n_batch: int = 0
) -> dict[str, Tensor]:
    """The inverse of `directions`: numbers at weights and biases as each layer's matrix `(..., o, i)`.

    Args:
        layers: the covered layers.
        modules: module name -> module.
        values: parameter name -> numbers of its shape, after `n_batch` axes of their own.
        n_batch: how many axes come before those of the parameter.

    Returns:
        Layer name -> `(..., o, i)`, the bias in the last column.
    """
    found = {}
    for layer in layers:
        weight = values[f"{layer.name}.weight"]
        if layer.kind in ("Conv1D", "Embedding"):
            matrix = weight.transpose(-1, -2)
        else:
            matrix = weight.flatten(n_batch + 1)
        if layer.has_bias:
            matrix = torch.cat([matrix, values[f"{layer.name}.bias"].unsqueeze(-1)], dim=-1)
        found[layer.name] = matrix
    return found
