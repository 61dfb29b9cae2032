"""Factors as labelled arrays: from tensors of one fit to a DataTree, and back to what inverts.

One child a layer under `/factors`: eigenvectors and eigenvalues of the two covariances, the corrected eigenvalues,
and the absolute damping in its attrs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from inflab.errors import NumericsError, SettingError, is_finite_number
from inflab.schema import variable_attrs

if TYPE_CHECKING:
    from torch import Tensor, nn

    from inflab.kronecker import Curvature
    from inflab.layer import Layer

__all__ = ["LayerFactors", "curvatures", "layer_node", "layer_of", "shared_with", "with_damping"]


@dataclass(frozen=True)
class LayerFactors:
    """What one layer's fit leaves behind.

    Attributes:
        eigenvalues: `(o, i)`, or None for the identity.
        activation_eigenvectors: `(i, i)`, or None for the standard basis; likewise `gradient_eigenvectors (o, o)`.
        activation_eigenvalues: `(i,)`, or None; likewise `gradient_eigenvalues (o,)`.
        tokens: number of tokens averaged over.
        examples: number of examples averaged over.
        shares_input_with: the first layer that reads the same input, or "" for the layer itself.
        activation_share: how much of A its diagonal blocks keep, of its squared norm; likewise `gradient_share` of S.
    """

    eigenvalues: Tensor | None = None
    activation_eigenvectors: Tensor | None = None
    gradient_eigenvectors: Tensor | None = None
    activation_eigenvalues: Tensor | None = None
    gradient_eigenvalues: Tensor | None = None
    tokens: int = 0
    examples: int = 0
    shares_input_with: str = ""
    activation_share: float = 1.0
    gradient_share: float = 1.0


_VARIABLES = {
    "activation_eigenvectors": (
        ("activation", "activation_eigen"),
        "Q_A",
        "1",
        "eigenvectors of A, in columns",
    ),
    "activation_eigenvalues": (
        ("activation_eigen",),
        "L_A",
        "1",
        "eigenvalues of A = E[a_bar a_bar^T] over tokens",
    ),
    "gradient_eigenvectors": (("gradient", "gradient_eigen"), "Q_S", "1", "eigenvectors of S, in columns"),
    "gradient_eigenvalues": (
        ("gradient_eigen",),
        "L_S",
        "nat^2",
        "eigenvalues of S = E[Ds Ds^T] over tokens",
    ),
    "eigenvalues": (
        ("gradient_eigen", "activation_eigen"),
        "Lambda",
        "nat^2",
        "curvature along each eigenvector: mean squared rotated gradient of an example (EK-FAC), or its approximation",
    ),
}


def layer_node(layer: Layer, found: LayerFactors) -> xr.Dataset:
    """One layer's factors as a dataset; its attrs describe the layer."""
    variables: dict[str, Any] = {}
    sizes = {"activation": layer.width, "activation_eigen": layer.width}
    sizes |= {"gradient": layer.outputs, "gradient_eigen": layer.outputs}
    used: set[str] = set()
    for name, (dims, long_name, units, description) in _VARIABLES.items():
        value = getattr(found, name)
        if value is not None:
            variables[name] = (dims, value.cpu().numpy(), variable_attrs(long_name, units, description))
            used |= set(dims)
    return xr.Dataset(
        variables,
        coords={dim: np.arange(size) for dim, size in sizes.items() if dim in used},
        attrs={
            "kind": layer.kind,
            "block": layer.block,
            "role": layer.role,
            "modules": list(layer.modules),
            "inputs": layer.inputs,
            "outputs": layer.outputs,
            "has_bias": int(layer.has_bias),
            "parameters": layer.parameters,
            "tokens": found.tokens,
            "examples": found.examples,
            "activation_share_kept": found.activation_share,
            "gradient_share_kept": found.gradient_share,
            "shares_input_with": found.shares_input_with or layer.name,
            "basis": "standard" if found.gradient_eigenvectors is None else "eigen",
        },
    )


def layer_of(name: str, node: xr.DataTree) -> Layer:
    """The layer a child of `/factors` describes."""
    from inflab.layer import Layer

    at = node.attrs
    modules = tuple(str(module) for module in at["modules"])
    sizes = int(at["inputs"]), int(at["outputs"])
    return Layer(name, modules, str(at["kind"]), *sizes, bool(at["has_bias"]), int(at["parameters"]))


def with_damping(nodes: Mapping[str, xr.Dataset], damping: float, kind: str) -> dict[str, xr.Dataset]:
    """The same factors with each layer's absolute damping set.

    Args:
        nodes: layer name -> factors.
        damping: not negative.
        kind: "relative" (times the layer's mean eigenvalue, GB23 section 2.2) or "absolute".

    Returns:
        Layer name -> factors, with `damping` in attrs.

    Raises:
        SettingError: when damping is negative or not finite, or the kind is unknown.
        NumericsError: when a layer stays singular; it is named.
    """
    if kind not in ("relative", "absolute"):
        raise SettingError(f"damping_kind={kind!r} is not one of 'relative', 'absolute'")
    if not (is_finite_number(damping) and damping >= 0):
        raise SettingError(f"damping={damping!r} must be a finite number, zero or more; the paper's is 0.1, relative")
    damped = {}
    for name, node in nodes.items():
        value = node["eigenvalues"].to_numpy() if "eigenvalues" in node else None
        absolute = (
            0.0 if value is None else float(damping * (value.mean(dtype=np.float64) if kind == "relative" else 1))
        )
        # A damping that underflows in the eigenvalues' dtype is none.
        adds_nothing = value is not None and absolute < np.finfo(value.dtype).tiny
        if value is not None and adds_nothing and value.min() <= np.finfo(value.dtype).eps * value.max():
            raise NumericsError(
                f"layer {name!r} is singular: its smallest eigenvalue is {value.min():.3g}, its largest "
                f"{value.max():.3g}, and damping={damping!r} ({kind}) adds nothing; use a positive damping"
                + (", absolute," if value.max() == 0 else "")
                + " or leave the layer out with layers="
            )
        damped[name] = node.assign_attrs(damping=absolute)
    return damped


def curvatures(factors: xr.DataTree, layers: Sequence[Layer], model: nn.Module) -> dict[str, Curvature]:
    """Each layer's curvature as tensors beside the layer's own weights; on the CPU they share the arrays' memory."""
    import torch

    from inflab.device import model_device
    from inflab.kronecker import Curvature
    from inflab.products import as_right_side

    found: dict[str, Curvature] = {}
    for layer in layers:
        node = factors[layer.name]
        weight: Any = model.get_submodule(layer.name).weight
        device = model_device(model) if weight.is_meta else weight.device

        def tensor(name: str, node: Any = node, device: Any = device) -> Tensor | None:
            if name not in node:
                return None
            value = node[name].to_numpy()
            there = torch.from_numpy(value if value.flags.writeable else value.copy()).to(device)
            return as_right_side(there) if name.endswith("eigenvectors") else there

        leader = shared_with(node, layer.name)  # one tensor for all layers that share an input: rotated once
        basis = found[leader].activation_basis if leader in found else tensor("activation_eigenvectors")
        found[layer.name] = Curvature(
            gradient_basis=tensor("gradient_eigenvectors"),
            activation_basis=basis,
            eigenvalues=tensor("eigenvalues"),
            damping=float(node.attrs["damping"]),
            gradient_eigenvalues=tensor("gradient_eigenvalues"),
            activation_eigenvalues=tensor("activation_eigenvalues"),
        )
    return found


def shared_with(node: xr.DataTree | xr.DataArray, name: str) -> str:
    """The layer whose activations, and so their covariance and eigenbasis, are those of this layer: often itself."""
    return str(node.attrs.get("shares_input_with", name))
